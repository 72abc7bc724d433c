"""Writes tests/assets/question_answering: scores and answers computed by other packages.

    pip install "transformers<5" torch torchmetrics nltk
    python tools/tasks/qa_goldens.py

- scores.json: answers with their scores. SQuAD 1.1: computed by torchmetrics. SQuAD 2.0 with best
  thresholds: by the official scorer in transformers. CMRC: computed here with the word tokenizer of
  NLTK and the longest match of difflib.
- a tiny random BertForQuestionAnswering, and answers.json: its five best spans by the pipeline of
  transformers. (transformers 5 has neither the pipeline nor the scorer.)
"""

import difflib
import json
import pathlib
import random
import re
import shutil
from types import SimpleNamespace

import torch
from nltk.tokenize.destructive import NLTKWordTokenizer
from torchmetrics.functional.text.squad import squad
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizerFast, pipeline
from transformers.data.metrics.squad_metrics import squad_evaluate

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "assets" / "question_answering"

ENGLISH = [
    ("the Norman Conquest", ["Norman conquest", "the conquest of 1066"]),
    ("in 1066.", ["1066"]),
    ("1066", ["in 1066", "year 1066"]),
    ("The", ["the"]),
    ("the", ["a", "an apple"]),
    ("...", ["!"]),
    ("", ["something"]),
    ("Rollo's men, and an army", ["Rollos men and army", "Rollo"]),
    ("a a b b", ["a b b c"]),
    ("b b b", ["b c b"]),
    ("3.5 percent", ["3.5%", "35 percent"]),
    ("Zoë  in\tNew-York", ["zoë in newyork"]),
    ("completely other words", ["nothing shared"]),
    ("anthem theatre", ["them theatre", "anthem"]),
    ("ÜBER   alles", ["über alles"]),
    ("‘quoted’ text", ["quoted text"]),
]
CHINESE = [
    ("308分", ["308 分", "三百零八分"]),
    ("卡万·肖特", ["卡万肖特"]),
    ("防守端锋科尼·伊利", ["科尼·伊利", "科尼·伊利（Kony Ealy）"]),
    ("在1850年左右", ["1850年"]),
    ("美国国家橄榄球联盟 (NFL)", ["国家橄榄球联盟 (NFL)", "NFL"]),
    ("新英格兰爱国者队", ["丹佛野马队"]),
    ("约3.5亿美元", ["3.5亿", "3.5亿美元"]),
    ("超级碗 50", ["第 50 届超级碗", "超级碗"]),
    ("“黄金”超级碗", ["黄金超级碗"]),
    ("1,200 人", ["1,200人", "1200 人"]),
    ("Von Miller 和 Derek Wolfe", ["derek wolfe", "von miller"]),
    ("", ["二月七日"]),
    ("。。", ["，"]),
    ("……", ["…"]),
    ("约 1,200.5 km, (45%) U.S.A.", ["1,200.5 km", "45%", "U.S.A. 约"]),
]
# Tokens that are words or pieces of words.
WORDS = "the a of in was king war city river north 12 4 ##th ##s born died rome paris , . ( ) ! ?"


def cmrc(prediction: str, references: list[str]) -> dict[str, float]:
    removed = re.compile(r"[-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』]")

    def clean(text: str) -> str:
        return removed.sub("", text.lower().strip())

    def segments(text: str) -> list[str]:
        result = []
        for part in re.split(r"([\u4e00-\u9fa5])", clean(text)):
            chinese = re.fullmatch(r"[\u4e00-\u9fa5]", part)
            result += [part] if chinese else NLTKWordTokenizer().tokenize(part)
        return result

    best = 0.0
    for reference in references:
        left, right = segments(prediction), segments(reference)
        run = difflib.SequenceMatcher(None, left, right, autojunk=False).find_longest_match().size
        if run:
            best = max(best, 2 * run / (len(left) + len(right)))
    exact = float(any(clean(prediction) == clean(reference) for reference in references))
    return {"exact_match": exact, "f1": best}


def squad_1(prediction: str, references: list[str]) -> dict[str, float]:
    answers = {"text": references, "answer_start": [0] * len(references)}
    values = squad({"prediction_text": prediction, "id": "q"}, {"answers": answers, "id": "q"})
    return {name: float(value) / 100 for name, value in values.items()}


def squad_2(pairs: list[tuple[str, list[str]]], no_answer: list[float]) -> dict[str, float]:
    examples = [
        SimpleNamespace(qas_id=str(i), answers=[{"text": text} for text in references])
        for i, (_, references) in enumerate(pairs)
    ]
    predictions = {str(i): prediction for i, (prediction, _) in enumerate(pairs)}
    scores = {str(i): score for i, score in enumerate(no_answer)}
    plain = squad_evaluate(examples, predictions)
    limited = squad_evaluate(examples, predictions, scores, no_answer_probability_threshold=0.5)
    return {"without_threshold": dict(plain), "threshold_0.5": dict(limited)}


def scores() -> dict[str, object]:
    chance = random.Random(5)
    mixed = []
    for prediction, references in ENGLISH * 3:
        kind = chance.random()
        if kind < 0.3:
            references = []
        if kind > 0.9 or (not references and chance.random() < 0.3):
            prediction = ""
        mixed.append((prediction, references))
    likely = [0.3 if references else 0.7 for _, references in mixed]
    no_answer = [round(min(1, max(0, chance.gauss(mean, 0.3))), 3) for mean in likely]
    # For answers without words, torchmetrics follows SQuAD 2.0.
    whole = [pair for pair in ENGLISH if pair[0] not in ("the", "The", "...")]
    return {
        "squad_1": [{"pair": pair, **squad_1(*pair)} for pair in whole],
        "squad_2": {"pairs": mixed, "no_answer": no_answer, "scores": squad_2(mixed, no_answer)},
        "cmrc": [{"pair": pair, **cmrc(*pair)} for pair in CHINESE],
    }


def make_model() -> None:
    torch.manual_seed(3)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    model = BertForQuestionAnswering(config).eval()
    for parameter in model.parameters():  # to the precision of the file
        parameter.data = (parameter.data + 0.1 * torch.randn_like(parameter)).half()
    model.save_pretrained(FOLDER)
    (FOLDER / "model.safetensors").chmod(0o644)
    (FOLDER / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    saved = json.loads((FOLDER / "config.json").read_text("utf-8"))
    for name in ("transformers_version", "torch_dtype"):  # not part of the model
        saved.pop(name, None)
    (FOLDER / "config.json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    settings = {"do_lower_case": True, "model_max_length": 64, "tokenizer_class": "BertTokenizer"}
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")


def answers() -> list[dict[str, object]]:
    model = BertForQuestionAnswering.from_pretrained(FOLDER, torch_dtype=torch.float32)
    tokenizer = BertTokenizerFast(str(FOLDER / "vocab.txt"), model_max_length=64)
    answer = pipeline("question-answering", model=model, tokenizer=tokenizer, framework="pt")
    chance = random.Random(7)
    words = [word.removeprefix("##") for word in WORDS.split()]
    rows = []
    for _ in range(12):
        context = " ".join(chance.choice(words) + chance.choice(["", "", "th", "é"])
                           for _ in range(chance.randint(2, 22)))  # fmt: skip
        question = " ".join(chance.choice(words) for _ in range(chance.randint(1, 6)))
        spans = answer(
            question=question,
            context=context,
            top_k=5,
            max_answer_len=6,
            max_seq_len=64,
            doc_stride=16,
            align_to_words=False,
        )
        spans = spans if isinstance(spans, list) else [spans]
        rows.append({"question": question, "context": context, "answers": spans})
    return rows


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    make_model()
    for name, value in (("scores", scores()), ("answers", answers())):
        text = json.dumps(value, ensure_ascii=False, indent=1)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

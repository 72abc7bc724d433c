"""Answers questions of XQuAD from thousands of passages, and checks the export.

    python tools/tasks/open_domain.py figures --reader runs/questions --data DIR --output DIR
    python tools/tasks/open_domain.py recall --model DIR/library --data DIR
    python tools/tasks/open_domain.py check --model DIR/library --data DIR

The --data folder contains xquad/, tydiqa_goldp/ and, for `check`, blns/. `figures` writes their
English contexts into one collection. It tunes the weight of the retriever on the eighth of TyDi QA
that `tools/tasks/qa_figures.py` holds out. Then it runs and prints commands. The last command uses
the correct contexts of XQuAD, as if the search never failed. `--every 6` uses a sixth of XQuAD's
questions. `recall` uses all of them, because it does not need the reader. `check` exports the
collection and runs hostile questions without this package.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def run(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print(f"$ keras-bert-zoo {shlex.join(words)}", flush=True)
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "keras_bert_zoo", *words], check=True)
    print(f"({time.monotonic() - begin:.0f} s)\n", flush=True)


def squad(examples: Any, path: Path) -> Path:
    """Writes questions in SQuAD format."""
    paragraphs = [
        {
            "context": examples.contexts[index],
            "qas": [
                {
                    "id": examples.ids[index],
                    "question": examples.questions[index],
                    "answers": [{"text": a.text, "answer_start": a.start} for a in answers],
                }
            ],
        }
        for index, answers in enumerate(examples.answers)
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), "utf-8")
    return path


def figures(reader: str, data: Path, output: Path, retriever: str, dtype: str, every: int) -> None:
    from keras_bert_zoo.data.squad import read_squad

    output.mkdir(parents=True, exist_ok=True)
    xquad = data / "xquad" / "xquad.en.json.gz"
    folder = data / "tydiqa_goldp"
    train = read_squad(folder / "tydiqa.goldp.en.train.json.gz")
    sources = [read_squad(xquad), train]
    sources.append(read_squad(folder / "tydiqa.goldp.en.dev.json.gz", answers=False))
    contexts = dict.fromkeys(context for examples in sources for context in examples.contexts)
    documents, dev = output / "documents.jsonl", output / "dev.json"
    documents.write_text("".join(json.dumps({"text": c}) + "\n" for c in contexts), "utf-8")
    squad(train.split(0.12, 0)[1], dev)  # as in `train --dev-fraction 0.12`
    if every > 1:
        subset = sources[0].subset(range(0, len(sources[0]), every))
        xquad = squad(subset, output / "questions.json")
    library = output / "library"
    options = ("--dtype", dtype)
    run(
        "index", "--retriever", retriever, "--reader", reader, "--documents", documents,
        "--dev", dev, "--output", library, *options,
    )  # fmt: skip
    run("evaluate", "--model", library, "--data", xquad, *options)
    run("evaluate", "--model", library, "--data", xquad, "--top-passages", 1, *options)
    run("evaluate", "--model", reader, "--data", xquad, *options)


def recall(model: str, data: Path) -> None:
    from keras_bert_zoo.data.squad import read_squad
    from keras_bert_zoo.metrics.open_domain import RECALL_CUTOFFS, passage_recall
    from keras_bert_zoo.tasks.registry import load_task

    examples = read_squad(data / "xquad" / "xquad.en.json.gz")
    task = load_task(model)
    cutoffs = sorted({*RECALL_CUTOFFS, task.top_passages})
    retrieved, _ = task.find_passages(examples.questions, top_passages=cutoffs[-1])
    texts = (examples.contexts, examples.answers, examples.right_texts())
    shares = passage_recall(retrieved, task.passages, task.documents, *texts, cutoffs)
    print(f"{len(examples):,} questions, {len(task.passages):,} passages")
    for name in ("recall", "answer_recall"):
        print(name, ", ".join(f"first {k}: {share:.4f}" for k, share in shares[name].items()))


def check(model: str, data: Path, count: int, alone: int) -> None:
    from exported import run_export

    from keras_bert_zoo.tasks.registry import load_task

    naughty = json.loads((data / "blns" / "blns.json").read_text("utf-8"))
    hostile = [text.encode("utf-8", "surrogatepass") for text in naughty]
    hostile += [b"", b"\xff\xfe \xc3", b"x" * 3000, b"\xe4\xb8\xad" * 2000, b"who was she " * 900]
    questions = [hostile[index % len(hostile)] for index in range(count)]
    for index in range(len(hostile), count):  # repeated texts are combined with another one
        questions[index] += b" " + hostile[(7 * index) % len(hostile)] + b"?"
    task = load_task(model)
    answers = run_export(task, {"question": questions}, alone)
    columns = [answers[name].ravel() for name in ("document_id", "start", "end", "answer")]
    matches = sum(
        task.documents[number][start:end] == answer if number >= 0 else not answer
        for number, start, end, answer in zip(*columns, strict=True)
    )
    print(f"{matches:,} answers match their offsets in the documents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("figures", "recall", "check"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reader", help="figures: directory of a question-answering model")
    parser.add_argument("--retriever", default="minilm_l6_en_uncased")
    parser.add_argument("--output", type=Path, help="figures: folder for all outputs")
    parser.add_argument("--dtype", default="auto", help="figures: precision of the reader")
    parser.add_argument("--every", type=int, default=1, help="figures: use every Nth question")
    parser.add_argument("--model", help="recall, check: directory written by `index`")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=128)
    args = parser.parse_args()
    needed = ("reader", "output") if args.action == "figures" else ("model",)
    for name in needed:
        if getattr(args, name) is None:
            parser.error(f"{args.action} needs --{name}")
    if args.action == "figures":
        figures(args.reader, args.data, args.output, args.retriever, args.dtype, args.every)
    elif args.action == "recall":
        recall(args.model, args.data)
    else:
        check(args.model, args.data, args.rows, args.alone)


if __name__ == "__main__":
    main()

"""Answers XQuAD's questions from thousands of passages, and checks the export of that.

    python tools/tasks/open_domain.py figures --reader runs/questions --data DIR --output DIR
    python tools/tasks/open_domain.py recall --model DIR/library --data DIR
    python tools/tasks/open_domain.py check --model DIR/library --data DIR

The first DIR holds xquad/, tydiqa_goldp/ and, for `check`, blns/. `figures` writes their English
contexts into one collection, and the eighth of TyDi QA questions that `tools/tasks/qa_figures.py`
held out into a file to choose the retriever's weight by; then it runs the commands it shows. The
last one reads XQuAD's own contexts with the same reader: as if the search never failed. `--every 6`
takes a sixth of XQuAD's questions; `recall` takes all, as nothing is read there. `check` exports
the collection and asks it hostile questions without this package.
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
    """Writes questions in SQuAD's form."""
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
    asked = [read_squad(xquad), train]
    asked.append(read_squad(folder / "tydiqa.goldp.en.dev.json.gz", answers=False))
    contexts = dict.fromkeys(context for examples in asked for context in examples.contexts)
    documents, dev = output / "documents.jsonl", output / "dev.json"
    documents.write_text("".join(json.dumps({"text": c}) + "\n" for c in contexts), "utf-8")
    held_out = train.split(0.12, 0)[1]  # as `train --dev-fraction 0.12` does
    squad(held_out, dev)
    if every > 1:
        xquad = squad(asked[0].subset(range(0, len(asked[0]), every)), output / "asked.json")
    library = output / "library"
    more = ("--dtype", dtype)
    run(
        "index", "--retriever", retriever, "--reader", reader, "--documents", documents,
        "--dev", dev, "--output", library, *more,
    )  # fmt: skip
    run("evaluate", "--model", library, "--data", xquad, *more)
    run("evaluate", "--model", library, "--data", xquad, "--top-passages", 1, *more)
    run("evaluate", "--model", reader, "--data", xquad, *more)


def recall(model: str, data: Path) -> None:
    from keras_bert_zoo.data.squad import read_squad
    from keras_bert_zoo.tasks.open_domain.measuring import found_passages
    from keras_bert_zoo.tasks.registry import load_task

    examples = read_squad(data / "xquad" / "xquad.en.json.gz")
    task = load_task(model)
    found = found_passages(task, examples, examples.answers)
    print(f"{len(examples):,} questions, {len(task.passages):,} passages")
    for name, shares in (("passage found", found.recall), ("text found", found.answer_recall)):
        print(name, ", ".join(f"first {k}: {share:.4f}" for k, share in shares.items()))


def check(model: str, data: Path, count: int, alone: int) -> None:
    from exported import ask_export

    from keras_bert_zoo.tasks.registry import load_task

    naughty = json.loads((data / "blns" / "blns.json").read_text("utf-8"))
    hostile = [text.encode("utf-8", "surrogatepass") for text in naughty]
    hostile += [b"", b"\xff\xfe \xc3", b"x" * 3000, b"\xe4\xb8\xad" * 2000, b"who was she " * 900]
    questions = [hostile[index % len(hostile)] for index in range(count)]
    for index in range(len(hostile), count):  # the second time around something else beside it
        questions[index] += b" " + hostile[(7 * index) % len(hostile)] + b"?"
    task = load_task(model)
    found = ask_export(task, {"question": questions}, alone)
    columns = [found[name].ravel() for name in ("document_id", "start", "end", "answer")]
    cut = sum(
        task.documents[number][start:end] == answer if number >= 0 else not answer
        for number, start, end, answer in zip(*columns, strict=True)
    )
    print(f"{cut:,} answers cut exactly out of their documents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("figures", "recall", "check"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reader", help="figures: directory of a question answerer")
    parser.add_argument("--retriever", default="minilm_l6_en_uncased")
    parser.add_argument("--output", type=Path, help="figures: where all is written")
    parser.add_argument("--dtype", default="auto", help="figures: of the reader's arithmetic")
    parser.add_argument("--every", type=int, default=1, help="figures: ask every so manieth")
    parser.add_argument("--model", help="recall, check: what `keras-bert-zoo index` wrote")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=128)
    args = parser.parse_args()
    needed = ("reader", "output") if args.what == "figures" else ("model",)
    for name in needed:
        if getattr(args, name) is None:
            parser.error(f"{args.what} needs --{name}")
    if args.what == "figures":
        figures(args.reader, args.data, args.output, args.retriever, args.dtype, args.every)
    elif args.what == "recall":
        recall(args.model, args.data)
    else:
        check(args.model, args.data, args.rows, args.alone)


if __name__ == "__main__":
    main()

"""Trains question answerers on real data and shows what the README states.

    python tools/tasks/qa_figures.py tydiqa --data DIR --output DIR
    python tools/tasks/qa_figures.py squad-es --data DIR --output DIR

The first DIR holds tydiqa_goldp/, xquad/ and squad_es_v2/, files in SQuAD's form. The answers of
TyDi QA GoldP's development file are withheld in the copy that XTREME distributes (all are ""), so
an eighth of the training file is held out in its place, whole passages at a time; XQuAD's English
questions are scored, too. Of the Spanish file half of the passages are kept for the score, and of
the others a tenth for choosing the epoch and the threshold.
"""

import argparse
import gzip
import json
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path


def run(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print(f"$ keras-bert-zoo {shlex.join(words)}", flush=True)
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "keras_bert_zoo.cli.main", *words], check=True)
    print(f"({time.monotonic() - begin:.0f} s)\n", flush=True)


def part(source: Path, rest: Path, held_out: Path, share: float) -> None:
    """Writes a file's paragraphs, in SQuAD's form as they were, into two files."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        data = json.load(file)["data"]
    paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
    random.Random(0).shuffle(paragraphs)
    count = round(share * len(paragraphs))
    for path, chosen in ((held_out, paragraphs[:count]), (rest, paragraphs[count:])):
        contents = {"version": "v2.0", "data": [{"paragraphs": chosen}]}
        path.write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("tydiqa", "squad-es"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--learning-rate", default="2e-4")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    model = args.output / args.what
    train: list[object] = [
        "train", "--task", "question-answering", "--preset", args.preset, "--output", model,
        "--epochs", args.epochs, "--batch-size", 16, "--learning-rate", args.learning_rate,
    ]  # fmt: skip
    if args.what == "tydiqa":
        file = args.data / "tydiqa_goldp" / "tydiqa.goldp.en.train.json.gz"
        run(*train, "--train", file, "--dev-fraction", 0.12)
        run("evaluate", "--model", model, "--data", args.data / "xquad" / "xquad.en.json.gz")
        row = {
            "question": "Who repaired the bridge?",
            "context": "The old bridge over the Söne fell in the flood of 1911. It was repaired "
            "two years later by the engineer Anna Brandt, and it has carried trains since.",
        }
        asked = args.output / "asked.jsonl"
        asked.write_text(json.dumps(row) + "\n", encoding="utf-8")
        run("predict", "--model", model, "--input", asked)
    else:
        rest, test = args.output / "rest.json", args.output / "test.json"
        part(args.data / "squad_es_v2" / "dev-v2.0-es_small.json.gz", rest, test, 0.5)
        run(*train, "--train", rest, "--dev-fraction", 0.1, "--skip-misplaced")
        run("evaluate", "--model", model, "--data", test, "--skip-misplaced")


if __name__ == "__main__":
    main()

"""Trains question answerers on real data, for the figures of the documentation.

    python tools/tasks/qa_figures.py tydiqa --data DIR --output DIR
    python tools/tasks/qa_figures.py squad-es --data DIR --output DIR

The --data folder contains tydiqa_goldp/, xquad/ and squad_es_v2/, files in SQuAD format. The
development file of TyDi QA GoldP has no answers in the copy of XTREME (all are ""). Therefore an
eighth of the training file is held out, by passages. XQuAD's English questions are also evaluated.
Half of the passages of the Spanish file are the test set. A tenth of the others selects the epoch
and the threshold.
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
    """Splits the paragraphs of a SQuAD file into two files."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        data = json.load(file)["data"]
    paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
    random.Random(0).shuffle(paragraphs)
    count = round(share * len(paragraphs))
    for path, rows in ((held_out, paragraphs[:count]), (rest, paragraphs[count:])):
        contents = {"version": "v2.0", "data": [{"paragraphs": rows}]}
        path.write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_set", choices=("tydiqa", "squad-es"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--learning-rate", default="2e-4")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    model = args.output / args.data_set
    train: list[object] = [
        "train", "--task", "question-answering", "--preset", args.preset, "--output", model,
        "--epochs", args.epochs, "--batch-size", 16, "--learning-rate", args.learning_rate,
    ]  # fmt: skip
    if args.data_set == "tydiqa":
        file = args.data / "tydiqa_goldp" / "tydiqa.goldp.en.train.json.gz"
        run(*train, "--train", file, "--dev-fraction", 0.12)
        run("evaluate", "--model", model, "--data", args.data / "xquad" / "xquad.en.json.gz")
        row = {
            "question": "Who repaired the bridge?",
            "context": "The old bridge over the Söne fell in the flood of 1911. It was repaired "
            "two years later by the engineer Anna Brandt, and it has carried trains since.",
        }
        questions = args.output / "questions.jsonl"
        questions.write_text(json.dumps(row) + "\n", encoding="utf-8")
        run("predict", "--model", model, "--input", questions)
    else:
        rest, test = args.output / "rest.json", args.output / "test.json"
        part(args.data / "squad_es_v2" / "dev-v2.0-es_small.json.gz", rest, test, 0.5)
        run(*train, "--train", rest, "--dev-fraction", 0.1, "--skip-misplaced")
        run("evaluate", "--model", model, "--data", test, "--skip-misplaced")


if __name__ == "__main__":
    main()

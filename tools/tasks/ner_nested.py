"""Nested entities: compares span models with tag models, and trains on overlapping entities.

    python tools/tasks/ner_nested.py DATA --output runs/nested

DATA is the folder of WNUT-17; see tools/tasks/ner. Three runs with equal settings:

- softmax: one tag per word, as in tools/tasks/ner;
- flat: the same entities as spans, with --nested;
- outer: the same sentences with an additional artificial type, `around`: each entity and the word
  before it, if there is one. This replaces a corpus of nested entities, which is not available.
  The text is real, and a model must find the inner entities to find the outer ones.

The command line trains and evaluates each model; the metric is entity F1 on the test set.
"""

import argparse
import json
from pathlib import Path

from keras_bert_zoo.cli.main import main as command
from keras_bert_zoo.data.conll import read_conll

FILES = {
    "train": "wnut17train.conll",
    "dev": "emerging.dev.conll",
    "test": "emerging.test.annotated",
}


def write_outer(source: Path, target: Path) -> None:
    """Writes a CoNLL file as JSON Lines, with an additional entity `around` each entity."""
    examples = read_conll(source)
    lines = []
    for text, words, entities in zip(
        examples.texts, examples.words or [], examples.entities or [], strict=True
    ):
        begins = [start for start, _ in words]
        spans = []
        for start, end, label in entities:
            before = begins.index(start) - 1
            spans.append([start, end, label])
            if before >= 0:
                spans.append([begins[before], end, "around"])
        lines.append(json.dumps({"text": text, "entities": spans}, ensure_ascii=False))
    target.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Trains and evaluates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/nested"))
    parser.add_argument("--runs", nargs="+", default=["softmax", "flat", "outer"])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--epochs", default="7")
    parser.add_argument("--learning-rate", default="3e-4")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for run in args.runs:
        files = {part: args.data / name for part, name in FILES.items()}
        if run == "outer":
            for part, path in files.items():
                files[part] = args.output / f"{part}.jsonl"
                write_outer(path, files[part])
        model = str(args.output / run)
        print(f"=== {run} ===", flush=True)
        status = command([
            "train", "--preset", args.preset, "--task", "token-classification",
            *([] if run == "softmax" else ["--nested"]),
            "--train", str(files["train"]), "--dev", str(files["dev"]),
            "--epochs", args.epochs, "--learning-rate", args.learning_rate, "--output", model,
        ])  # fmt: skip
        if status == 0:
            status = command(["evaluate", "--model", model, "--data", str(files["test"])])
        if status:
            raise SystemExit(status)


if __name__ == "__main__":
    main()

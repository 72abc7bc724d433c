"""Trains an English-Chinese translator on Tatoeba and compares it with a baseline.

    python tools/tasks/translation.py --data DIR --vocabulary DIR --output DIR

The --data folder contains cmn.txt.gz, lines of an English and a Chinese sentence separated by a tab
(CC BY 2.0 FR). The --vocabulary folder contains vocab.txt of bert-base-chinese. The split is fixed:
a seed shuffles the English sentences; 1,000 are the test set and 300 select the epoch. All
translations of a sentence are in the same part. The baseline returns the translation of the nearest
neighbour: the most similar training sentence by the cosine of MiniLM embeddings.
"""

import argparse
import gzip
import random
import subprocess
import sys
import time
from pathlib import Path

TEST, DEVELOPMENT = 1000, 300


def run(*arguments: object) -> None:
    """Runs the command line."""
    words = [str(argument) for argument in arguments]
    print(f"$ keras-bert-zoo {' '.join(words)}", flush=True)
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "keras_bert_zoo", *words], check=True)
    print(f"({time.monotonic() - begin:.0f} s)\n", flush=True)


def write_split(source: Path, output: Path) -> dict[str, list[list[str]]]:
    """Writes train.tsv, dev.tsv and test.tsv; test sentences have their first translation."""
    with gzip.open(source, "rt", encoding="utf-8", newline="\n") as file:
        pairs = [line.rstrip("\n").split("\t")[:2] for line in file if line.strip()]
    sentences = sorted({text for text, _ in pairs})
    random.Random(0).shuffle(sentences)
    references = dict.fromkeys(sentences[:TEST])
    development = set(sentences[TEST : TEST + DEVELOPMENT])
    parts: dict[str, list[list[str]]] = {"train": [], "dev": [], "test": []}
    for text, translation in pairs:
        if text in references:
            if references[text] is None:
                references[text] = translation
                parts["test"].append([text, translation])
        else:
            parts["dev" if text in development else "train"].append([text, translation])
    for name, rows in parts.items():
        lines = "".join(f"{text}\t{translation}\n" for text, translation in rows)
        (output / f"{name}.tsv").write_text(lines, encoding="utf-8")
        print(f"{name}: {len(rows):,} pairs")
    return parts


def nearest_neighbour(parts: dict[str, list[list[str]]], preset: str) -> None:
    """Evaluates the translation of the most similar training sentence."""
    import keras_bert_zoo as kbz
    from keras_bert_zoo.metrics.bleu import translation_report

    search = kbz.TextEmbedder.from_preset(preset).index([text for text, _ in parts["train"]])
    neighbours = search.predict([text for text, _ in parts["test"]])["document_id"][:, 0]
    report = translation_report(
        [parts["train"][index][1] for index in neighbours],
        [translation for _, translation in parts["test"]],
        tokenize="zh",
    )
    print(f"nearest neighbour\n{report.to_text()}\n", flush=True)


def main() -> None:
    """Trains and evaluates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--epochs", default="8")
    parser.add_argument("--learning-rate", default="5e-4")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    parts = write_split(args.data / "cmn.txt.gz", args.output)
    nearest_neighbour(parts, args.preset)
    columns = ("--columns", "text,translation")
    model = args.output / "translator"
    run(
        "train", "--task", "translation", "--preset", args.preset, "--target", args.vocabulary,
        "--train", args.output / "train.tsv", "--dev", args.output / "dev.tsv", *columns,
        "--decoder-layers", 3, "--epochs", args.epochs, "--batch-size", 64,
        "--learning-rate", args.learning_rate, "--max-length", 64, "--max-target-length", 64,
        "--output", model,
    )  # fmt: skip
    run("evaluate", "--model", model, "--data", args.output / "test.tsv", *columns)
    texts = args.output / "texts.txt"
    texts.write_text("Where is the station?\nI lost my key.\n", encoding="utf-8")
    run("predict", "--model", model, "--input", texts)


if __name__ == "__main__":
    main()

"""Trains an English-Chinese translator on Tatoeba and compares it with a nearest neighbour.

    python tools/tasks/translation.py --data DIR --vocabulary DIR --output DIR

The first DIR holds cmn.txt.gz, lines of an English and a Chinese sentence with a tab between (CC BY
2.0 FR); the second vocab.txt of bert-base-chinese. The split is fixed: of the English sentences, in
an order that a seed gives, 1,000 are tested and 300 choose the epoch, each with all translations
that it has; none of them is in the training file. What is to be beaten answers with the translation
of the training sentence that is most like the question, by the cosine of MiniLM's embeddings.
"""

import argparse
import gzip
import random
import subprocess
import sys
import time
from pathlib import Path

TESTED, DEVELOPMENT = 1000, 300


def run(*arguments: object) -> None:
    """Runs the command line."""
    words = [str(argument) for argument in arguments]
    print(f"$ keras-bert-zoo {' '.join(words)}", flush=True)
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "keras_bert_zoo", *words], check=True)
    print(f"({time.monotonic() - begin:.0f} s)\n", flush=True)


def write_split(source: Path, output: Path) -> dict[str, list[list[str]]]:
    """Writes train.tsv, dev.tsv and test.tsv; of a tested sentence the first translation counts."""
    with gzip.open(source, "rt", encoding="utf-8", newline="\n") as file:
        pairs = [line.rstrip("\n").split("\t")[:2] for line in file if line.strip()]
    sentences = sorted({text for text, _ in pairs})
    random.Random(0).shuffle(sentences)
    tested = dict.fromkeys(sentences[:TESTED])
    development = set(sentences[TESTED : TESTED + DEVELOPMENT])
    parts: dict[str, list[list[str]]] = {"train": [], "dev": [], "test": []}
    for text, translation in pairs:
        if text in tested:
            if tested[text] is None:
                tested[text] = translation
                parts["test"].append([text, translation])
        else:
            parts["dev" if text in development else "train"].append([text, translation])
    for name, rows in parts.items():
        lines = "".join(f"{text}\t{translation}\n" for text, translation in rows)
        (output / f"{name}.tsv").write_text(lines, encoding="utf-8")
        print(f"{name}: {len(rows):,} pairs")
    return parts


def nearest_neighbour(parts: dict[str, list[list[str]]], preset: str) -> None:
    """Scores the translation of the most similar training sentence."""
    import keras_bert_zoo as kbz
    from keras_bert_zoo.metrics.bleu import translation_report

    search = kbz.TextEmbedder.from_preset(preset).index([text for text, _ in parts["train"]])
    found = search.predict([text for text, _ in parts["test"]])["document_id"][:, 0]
    report = translation_report(
        [parts["train"][place][1] for place in found],
        [translation for _, translation in parts["test"]],
        tokenize="zh",
    )
    print(f"nearest neighbour\n{report.to_text()}\n", flush=True)


def main() -> None:
    """Trains and scores."""
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
    asked = args.output / "asked.txt"
    asked.write_text("Where is the station?\nI lost my key.\n", encoding="utf-8")
    run("predict", "--model", model, "--input", asked)


if __name__ == "__main__":
    main()

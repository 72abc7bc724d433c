"""Speed from raw strings to labels: exports against transformers, ONNX Runtime and OpenVINO.

    python tools/bench/serving.py --data DIR [--preset NAME_OR_DIR] [--texts 1120]

Needs the extra `parity` and a folder with Banking77, MR and XQuAD: banking77/test.csv,
mr/rt-polarity.{neg,pos} and xquad/xquad.en.json.gz. The texts are from Banking77's test rows (1,000
of 2,240), from the sentences of MR (1,000), and XQuAD's 240 English paragraphs. They are shuffled,
truncated to 256 tokens and batched by 32: in this order, and sorted by length.

A classifier with 77 labels is built on the preset, saved as a Hugging Face directory for the other
engines, and exported. All engines compute one function, tokenization included. The int8 engines are
calibrated on 200 other texts, except for the dynamic one. Engines alternate every few batches, so
that other load on the machine affects all of them equally. Times of different runs are not
comparable.
"""

import argparse
import csv
import gzip
import json
import os
import random
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from peers import PEERS, export_engine, peer_engines, softmax
from tables import Table, add_json_option, report
from transformers import AutoModelForSequenceClassification

import keras_bert_zoo as kbz

MAX_LENGTH = 256
BATCH_SIZE = 32
TURN = 10  # batches


def read_movies(data: Path) -> list[str]:
    sentences = []
    for name in ("neg", "pos"):
        lines = (data / "mr" / f"rt-polarity.{name}").read_bytes().splitlines()
        sentences += [line.decode("utf-8", "replace").strip() for line in lines]
    return sentences


def read_texts(data: Path) -> list[str]:
    with open(data / "banking77" / "test.csv", encoding="utf-8", newline="") as file:
        banking = [row["text"] for row in csv.DictReader(file)]
    movies = read_movies(data)
    with gzip.open(data / "xquad" / "xquad.en.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    paragraphs = [part["context"] for article in articles for part in article["paragraphs"]]
    rng = random.Random(0)
    texts = rng.sample(banking, 1000) + rng.sample(movies, 1000) + paragraphs[:240]
    rng.shuffle(texts)
    return texts


def calibration_texts(data):
    """200 other texts of Banking77 and MR, for an int8 export."""
    with gzip.open(data / "banking77" / "train.csv.gz", "rt", encoding="utf-8", newline="") as file:
        banking = [row["text"] for row in csv.DictReader(file)]
    others = sorted(set(read_movies(data)) - set(read_texts(data)))
    rng = random.Random(1)
    return rng.sample(banking, 100) + rng.sample(others, 100)


def eager_engine(path):
    """The same export, called eagerly."""
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda texts: serve(text=tf.constant(texts))["scores"].numpy()


def measure(engines, batches, rounds):
    """Returns the seconds per engine and its answers (texts, labels)."""
    # A first run without the clock: every engine prepares its kernels per shape.
    answers = {
        name: np.concatenate([engine(batch) for batch in batches])
        for name, engine in engines.items()
    }
    seconds = dict.fromkeys(engines, 0.0)
    names = list(engines)
    for turn in range(rounds * -(-len(batches) // TURN)):
        start = turn * TURN % len(batches)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin = time.perf_counter()
            for batch in batches[start : start + TURN]:
                engines[name](batch)
            seconds[name] += time.perf_counter() - begin
    return seconds, answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--texts", type=int, default=1120)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--attention-groups", type=int)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--before", type=Path, help="an earlier export, for a ratio")
    add_json_option(parser)
    options = parser.parse_args()

    texts = read_texts(options.data)[: options.texts]
    calibration = calibration_texts(options.data)
    keras.utils.set_random_seed(0)
    task = kbz.TextClassifier.from_preset(
        options.preset, labels=[f"label {i}" for i in range(77)], max_length=MAX_LENGTH
    )
    # An untrained head gives all labels nearly the same score; larger weights spread them.
    task.head.kernel.assign(task.head.kernel * 50.0)
    groups = {}
    if options.attention_groups:
        groups["attention_groups"] = options.attention_groups
    engines = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("bfloat16", "int8", "float32"):
            more = {"calibration": calibration} if dtype == "int8" else {}
            path = task.export(f"{folder}/{dtype}", dtype=dtype, **groups, **more).path
            engines[f"this package, {dtype}"] = export_engine(path, "scores")
            if dtype == "bfloat16":
                engines["this package, bfloat16, eager"] = eager_engine(path)
        if options.before:
            engines["this package, before"] = export_engine(options.before, "scores")
        task.save(f"{folder}/huggingface")
        engines |= peer_engines(
            Path(folder, "huggingface"),
            AutoModelForSequenceClassification,
            softmax,
            max_length=MAX_LENGTH,
            names=options.peers,
            calibration=calibration,
        )
    rows = {name: [] for name in engines}
    for column, ordered in enumerate((texts, sorted(texts, key=len))):
        batches = [ordered[i : i + BATCH_SIZE] for i in range(0, len(ordered), BATCH_SIZE)]
        seconds, answers = measure(engines, batches, options.rounds)
        rates = {name: options.rounds * len(texts) / value for name, value in seconds.items()}
        # How many times as fast as this engine the first one is.
        for name, rate in rates.items():
            rows[name] += [rate, next(iter(rates.values())) / rate]
        if column == 0:
            exact = task.predict(ordered)["scores"].argmax(-1)  # float32
            same = {
                name: 100 * np.mean(scores.argmax(-1) == exact) for name, scores in answers.items()
            }
    rows = {name: [*values, same[name]] for name, values in rows.items()}
    columns = {
        "texts/s": ".0f", "first row / this": ".2f",
        "sorted, texts/s": ".0f", "sorted, first row / this": ".2f",
        "labels as in float32, %": ".1f",
    }  # fmt: skip
    print(f"{options.preset}, {len(texts):,} texts, batches of {BATCH_SIZE}")
    plotted = ["texts/s", "sorted, texts/s"]
    report([Table("serving", "engine", columns, rows, "texts/s", plotted)], options.json)


if __name__ == "__main__":
    main()

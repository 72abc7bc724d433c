"""Speed from raw strings to labels: the export against transformers and OpenVINO.

    python tools/bench/serving.py --data DIR [--preset NAME_OR_DIR] [--rounds 2]

Needs the extra `parity` and a folder with Banking77, MR and XQuAD: banking77/test.csv,
mr/rt-polarity.{neg,pos} and xquad/xquad.en.json.gz. The texts are 1,000 of Banking77's test rows,
1,000 sentences of MR and XQuAD's 240 English paragraphs. They are shuffled, truncated to 256 tokens
and batched by 32 in this order.

A classifier with 77 labels is built on the preset, saved as a Hugging Face directory for the other
engines, and exported. All engines compute one function in bfloat16, tokenization included. With
--int8, there is also an int8 export, calibrated on 200 other texts. Engines alternate every few
batches, so that other load on the machine affects all of them equally. The result is the ratio of
their times. Times of different runs are not comparable.
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
from peers import export_engine, peer_engines, softmax
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--attention-groups", type=int)
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--before", type=Path, help="an earlier export, for a ratio")
    options = parser.parse_args()

    texts = read_texts(options.data)
    batches = [texts[i : i + BATCH_SIZE] for i in range(0, len(texts), BATCH_SIZE)]
    keras.utils.set_random_seed(0)
    task = kbz.TextClassifier.from_preset(
        options.preset, labels=[f"label {i}" for i in range(77)], max_length=MAX_LENGTH
    )
    # An untrained head gives all labels nearly the same score; larger weights spread them.
    task.head.kernel.assign(task.head.kernel * 50.0)
    groups = {}
    if options.attention_groups:
        groups["attention_groups"] = options.attention_groups
    with tempfile.TemporaryDirectory() as folder:
        task.save(f"{folder}/huggingface")
        export = task.export(f"{folder}/model", dtype="bfloat16", **groups)
        engines = {
            "export, TF session": export_engine(export.path, "scores"),
            "export, tf.saved_model": eager_engine(export.path),
        }
        if options.before:
            engines["export before"] = export_engine(options.before, "scores")
        if options.int8:
            texts_seen = calibration_texts(options.data)
            path = task.export(f"{folder}/int8", dtype="int8", calibration=texts_seen).path
            engines["export, int8"] = export_engine(path, "scores")
        if not options.skip_peers:
            engines |= peer_engines(
                Path(folder, "huggingface"),
                AutoModelForSequenceClassification,
                softmax,
                max_length=MAX_LENGTH,
                names=["torch bfloat16", "OpenVINO bfloat16"],
            )
    reference = task.predict(texts)["scores"]  # float32

    seconds = dict.fromkeys(engines, 0.0)
    answers = {}
    for name, engine in engines.items():
        # A first run without the clock: every engine prepares its kernels per shape.
        answers[name] = np.concatenate([engine(batch) for batch in batches])
    names = list(engines)
    for turn in range(options.rounds * -(-len(batches) // TURN)):
        start = turn * TURN % len(batches)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin = time.perf_counter()
            for batch in batches[start : start + TURN]:
                engines[name](batch)
            seconds[name] += time.perf_counter() - begin

    count = options.rounds * len(texts)
    print(
        f"{options.preset}, bfloat16, {len(texts):,} texts in order of arrival, batches of "
        f"{BATCH_SIZE}, {options.rounds} rounds, {os.cpu_count()} cores"
    )
    print(f"{'engine':26}{'texts/s':>9}{'ratio':>8}{'same label':>12}{'difference':>12}")
    fastest = seconds[names[0]]
    for name in names:
        same = np.mean(answers[name].argmax(-1) == reference.argmax(-1))
        difference = np.abs(answers[name] - reference).max()
        print(
            f"{name:26}{count / seconds[name]:9.0f}{seconds[name] / fastest:8.2f}"
            f"{same:12.1%}{difference:12.3f}"
        )
    print(
        "ratio: time relative to the first row; same label, difference: labels and probabilities "
        "compared with float32 in Python"
    )


if __name__ == "__main__":
    main()

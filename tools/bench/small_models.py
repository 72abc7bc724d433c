"""Smaller versions of a classifier: size, speed and accuracy, side by side.

    keras-bert-zoo train ... --output runs/banking77      (see tools/quickstart)
    python tools/bench/small_models.py --teacher runs/banking77 [--rounds 40] [--epochs 5]

The versions: the teacher in bfloat16 and in int8; the teacher with the vocabulary of its training
texts; three of its six layers, before and after distillation on the training texts without their
labels; and this student with the small vocabulary, in bfloat16 and in int8. Each is exported.
Accuracy is that of the export on the 3,080 test rows of Banking77. Then the exports take turns at
batches of 32 test texts, in TensorFlow sessions. The table has the median of the ratios to the
teacher in the same round.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from tables import Table, add_json_option, report

import keras_bert_zoo as kbz
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.export.session import ExportSession

DATA = Path(__file__).resolve().parents[1] / "data" / "banking77"


def versions(options, train, dtype):
    """Yields the name of each version, the task, and the precision of its export."""
    teacher = kbz.TextClassifier.load(options.teacher, dtype=dtype)
    yield "teacher", teacher, "bfloat16"
    yield "teacher, int8", teacher, "int8"
    trimmed, _ = kbz.trim_vocabulary(teacher, teacher.tokenizer, train.texts)
    yield "teacher, small vocabulary", trimmed, "bfloat16"
    student = kbz.select_layers(teacher, options.layers)
    yield f"{options.layers} layers, not trained", student, "bfloat16"
    begin = time.perf_counter()
    kbz.distill(
        teacher, student, train.texts,
        epochs=options.epochs, batch_size=64, learning_rate=3e-4, verbose=2,
    )  # fmt: skip
    print(f"distillation: {time.perf_counter() - begin:.0f} s", flush=True)
    yield f"{options.layers} layers, distilled", student, "bfloat16"
    small, _ = kbz.trim_vocabulary(student, student.tokenizer, train.texts)
    yield f"{options.layers} layers, distilled, small vocabulary", small, "bfloat16"
    yield f"{options.layers} layers, distilled, small vocabulary, int8", small, "int8"


def mebibytes(folder):
    """The size of an export's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def accuracy(session, test):
    """The share of test rows with the right label."""
    labels = [
        session.run({"text": test.texts[i : i + 64]})["label"] for i in range(0, len(test), 64)
    ]
    return np.mean(np.concatenate(labels) == np.array([name.encode() for name in test.labels]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", required=True, metavar="DIR")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=40)
    add_json_option(parser)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    train = read_table(DATA / "train.csv.gz", label="category")
    test = read_table(DATA / "test.csv.gz", label="category")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, task, dtype in versions(options, train, "mixed_bfloat16"):
            path = Path(folder) / str(len(rows))
            calibration = {"calibration": train.texts[::20]} if dtype == "int8" else {}
            task.export(path, dtype=dtype, **calibration)
            session = ExportSession(path)
            rows.append((name, session, mebibytes(path), accuracy(session, test), []))
            print(f"{name}: accuracy {rows[-1][3]:.4f}, {rows[-1][2]:.1f} MiB", flush=True)
        for turn in range(options.rounds):
            texts = test.texts[turn * 32 % 3000 :][:32]
            for _, session, _, _, times in rows:
                session.run({"text": texts})  # its weights enter the caches
                begin = time.perf_counter()
                session.run({"text": texts})
                times.append(time.perf_counter() - begin)
    first = rows[0][-1]
    table = {}
    for name, _, size, share, times in rows:
        ratio = statistics.median(a / b for a, b in zip(first, times, strict=True))
        table[name] = [size, share, 32 / statistics.median(times), ratio]
    columns = {"MiB": ".1f", "accuracy": ".4f", "texts/s": ".0f", "ratio": ".2f"}
    report([Table("small_models", "version", columns, table, "texts/s", ["texts/s"])], options.json)


if __name__ == "__main__":
    main()

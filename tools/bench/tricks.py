"""Scores of fine-tuning with and without regularization, over several seeds.

    python tools/bench/tricks.py [--data banking77] [--seeds 3] [--recipes baseline fgm]
    python tools/bench/tricks.py --data mr --folder DIR
    python tools/bench/tricks.py --data wnut17 --folder DIR

All recipes of a data set have the same texts, epochs, batch size and learning rate. These were
chosen for the recipe without regularization, on texts that are neither trained nor tested on; see
--tune. A seed determines the sampled texts, the new head, dropout and the order of the batches.
"""

import argparse
import dataclasses
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
from tables import Table, add_json_option, report

import keras_bert_zoo as kbz
from keras_bert_zoo.data.conll import read_conll
from keras_bert_zoo.data.tables import read_table

PRESET = "minilm_l6_en_uncased"
DTYPE = "mixed_bfloat16"
BANKING77 = Path(__file__).parents[1] / "data" / "banking77"

# Name -> arguments of `fit`.
RECIPES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "R-Drop": {"r_drop": 1.0},
    "FGM": {"adversarial": "fgm"},
    "FreeLB": {"adversarial": "freelb"},
    "SMART": {"adversarial": "smart"},
    "label smoothing": {"label_smoothing": 0.1},
    "focal loss": {"focal_loss": 2.0},
    "mixup": {"mixup": 0.5},
}


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set.

    Args:
        read: (folder, seed, for_tuning) -> training and test examples.
        build: makes a task for training examples.
        score: (task, test examples) -> float.
        measure: the name of the score.
        options: arguments of `fit`.
    """

    read: Callable[[Path, int, bool], tuple[Any, Any]]
    build: Callable[[Any], Any]
    score: Callable[[Any, Any], float]
    measure: str
    options: dict[str, Any]


def few_of(examples, per_class, seed):
    """Splits off a number of examples per label; returns them, and the others."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    counts: dict[str, int] = {}
    chosen, others = [], []
    for index in order:
        label = examples.labels[index]
        counts[label] = counts.get(label, 0) + 1
        (chosen if counts[label] <= per_class else others).append(index)
    return examples.subset(chosen), examples.subset(others)


def read_banking77(folder, seed, for_tuning):
    """Five texts per intent; for tuning, ten others to measure on."""
    train, rest = few_of(read_table(folder / "train.csv.gz", label="category"), 5, seed)
    if for_tuning:
        return train, few_of(rest, 10, seed)[0]
    return train, read_table(folder / "test.csv.gz", label="category")


def read_mr(folder, seed, for_tuning):
    """A hundred sentences per label; the last thousand of each label are the test data."""
    texts, labels = [], []
    for label, name in (("negative", "neg"), ("positive", "pos")):
        lines = (folder / f"rt-polarity.{name}").read_text("latin-1").splitlines()
        texts += lines
        labels += [label] * len(lines)
    test = [i for i in range(len(texts)) if i % (len(texts) // 2) >= len(texts) // 2 - 1000]
    examples = kbz.Examples(texts, labels=labels)
    remaining = examples.subset(sorted(set(range(len(texts))) - set(test)))
    train, rest = few_of(remaining, 100, seed)
    return train, few_of(rest, 500, seed)[0] if for_tuning else examples.subset(test)


def read_wnut17(folder, seed, for_tuning):
    """A third of the sentences; for tuning, the development data."""
    examples = read_conll(folder / "wnut17train.conll")
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    name = "emerging.dev.conll" if for_tuning else "emerging.test.annotated"
    return examples.subset(order[: len(order) // 3]), read_conll(folder / name)


def classifier(train):
    labels = sorted(set(train.labels))
    return kbz.TextClassifier.from_preset(PRESET, labels=labels, max_length=64, dtype=DTYPE)


def tagger(train):
    return kbz.TokenClassifier.from_preset(PRESET, labels=train.labels, max_length=64, dtype=DTYPE)


DATA = {
    "banking77": Data(
        read_banking77, classifier, lambda task, test: 100 * task.report(test).accuracy,
        "accuracy, %", {"epochs": 10, "batch_size": 32, "learning_rate": 5e-4},
    ),
    "mr": Data(
        read_mr, classifier, lambda task, test: 100 * task.report(test).accuracy,
        "accuracy, %", {"epochs": 10, "batch_size": 16, "learning_rate": 1e-4},
    ),
    "wnut17": Data(
        read_wnut17, tagger, lambda task, test: 100 * task.report(test).f1,
        "F1, %", {"epochs": 8, "batch_size": 16, "learning_rate": 2e-4},
    ),
}  # fmt: skip


def run(data, folder, seed, options, *, for_tuning=False):
    """Trains and scores once."""
    train, test = data.read(folder, seed, for_tuning)
    keras.utils.set_random_seed(seed)
    task = data.build(train)
    begin = time.monotonic()
    task.fit(train, seed=seed, verbose=0, **data.options | options)
    seconds = time.monotonic() - begin
    score = data.score(task, test)
    keras.backend.clear_session()
    print(f"  seed {seed}, {options}: {score:.2f}, {seconds:.0f} s", flush=True)
    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=DATA, default="banking77")
    parser.add_argument("--folder", type=Path, default=BANKING77, help="the files of the data set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument(
        "--tune", action="store_true", help="measure learning rates and epochs without recipes"
    )
    add_json_option(parser)
    args = parser.parse_args()
    data = DATA[args.data]
    if args.tune:
        recipes = {
            f"{epochs} epochs, rate {rate}": {"epochs": epochs, "learning_rate": rate}
            for epochs in (data.options["epochs"], 2 * data.options["epochs"])
            for rate in (1e-4, 2e-4, 5e-4, 1e-3)
        }
    else:
        recipes = {name: RECIPES[name] for name in args.recipes}
    rows = {}
    for name, options in recipes.items():
        print(name, flush=True)
        scores = [
            run(data, args.folder, seed, options, for_tuning=args.tune)
            for seed in range(args.seeds)
        ]
        spread = statistics.stdev(scores) if len(scores) > 1 else None
        rows[name] = [statistics.mean(scores), spread, *scores]
    columns = {"mean": ".2f", "standard deviation": ".2f"}
    columns |= {f"seed {seed}": ".2f" for seed in range(args.seeds)}
    print(f"{PRESET}, {data.measure}, {data.options}")
    report([Table(args.data, "recipe", columns, rows, data.measure, ["mean"])], args.json)


if __name__ == "__main__":
    main()

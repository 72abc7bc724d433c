"""Accuracy of few-shot fine-tuning with and without regularization, over several seeds.

    python tools/bench/tricks.py [--seeds 3] [--recipes baseline "label smoothing" R-Drop]
    python tools/bench/tricks.py --tune --seeds 1

The data are five texts for each of the 77 intents of Banking77, and all 3,080 test texts. All
recipes have the same texts, steps and learning rate. --tune measures other rates and numbers of
epochs for the recipe without regularization, on ten further texts per intent. A seed determines the
sampled texts, the new head, dropout and the order of the batches.
"""

import argparse
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
from tables import Table, add_json_option, report

import keras_bert_zoo as kbz
from keras_bert_zoo.data.tables import read_table

PRESET = "minilm_l6_en_uncased"
FOLDER = Path(__file__).parents[1] / "data" / "banking77"
# The best of --tune.
OPTIONS = {"epochs": 10, "batch_size": 32, "learning_rate": 5e-4}
TUNED = [(epochs, rate) for epochs in (10, 20) for rate in (1e-4, 2e-4, 5e-4, 1e-3)]
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


def run(seed, options, *, tunes=False):
    """Trains once; returns the accuracy in percent."""
    train, rest = few_of(read_table(FOLDER / "train.csv.gz", label="category"), 5, seed)
    if tunes:
        test = few_of(rest, 10, seed)[0]
    else:
        test = read_table(FOLDER / "test.csv.gz", label="category")
    keras.utils.set_random_seed(seed)
    task = kbz.TextClassifier.from_preset(
        PRESET, labels=sorted(set(train.labels)), max_length=64, dtype="mixed_bfloat16"
    )
    begin = time.monotonic()
    task.fit(train, seed=seed, verbose=0, **OPTIONS | options)
    seconds = time.monotonic() - begin
    score = 100 * task.report(test).accuracy
    keras.backend.clear_session()
    print(f"  seed {seed}, {options}: {score:.2f}, {seconds:.0f} s", flush=True)
    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--tune", action="store_true", help="measure rates and numbers of epochs")
    add_json_option(parser)
    args = parser.parse_args()
    recipes = {name: RECIPES[name] for name in args.recipes}
    if args.tune:
        recipes = {
            f"{epochs} epochs, rate {rate:g}": {"epochs": epochs, "learning_rate": rate}
            for epochs, rate in TUNED
        }
    rows = {}
    for name, options in recipes.items():
        print(name, flush=True)
        scores = [run(seed, options, tunes=args.tune) for seed in range(args.seeds)]
        spread = statistics.stdev(scores) if len(scores) > 1 else None
        rows[name] = [statistics.mean(scores), spread, *scores]
    columns = {"mean": ".2f", "standard deviation": ".2f"}
    columns |= {f"seed {seed}": ".2f" for seed in range(args.seeds)}
    report([Table("tricks", "recipe", columns, rows, "accuracy, %", ["mean"])], args.json)


if __name__ == "__main__":
    main()

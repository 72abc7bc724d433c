"""Trains, saves and resumes with one strategy and every dtype, optimizer and accumulation.

test_matrix.py runs it as a process, and for several workers as two.
"""

import itertools
import shutil
import sys
from pathlib import Path

import keras
import numpy as np

import keras_bert_zoo as kbz
from keras_bert_zoo.training.strategies import is_chief, make_strategy, wait_for_workers
from tests.tasks.every_task import NAMES, TEXTS, make, spread_weights

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
STEPS = 4  # seven texts in batches of four, twice


def run(strategy, folder, dtype, optimizer, parts):
    """Trains from the newest checkpoint on; returns losses by epoch, steps, and the task."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        task, _, _ = make("classification", dtype=dtype)
    spread_weights(task)
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(1))
    history = task.fit(
        TEXTS, NAMES, optimizer=optimizer, accumulation_steps=parts, batch_size=4, epochs=2,
        learning_rate=0.01, global_clipnorm=0.5, verbose=0, callbacks=[count], resume=True,
        checkpoints=kbz.Checkpoints(folder, every_steps=1, keep=STEPS),
    )  # fmt: skip
    assert int(task.updates.skipped.numpy()) == 0
    return history.history["loss"], len(steps), task


def check(strategy, folder, dtype, optimizer, parts):
    before = make("classification", dtype=dtype)[0]
    spread_weights(before)
    losses, steps, task = run(strategy, folder, dtype, optimizer, parts)
    assert steps == STEPS
    assert np.isfinite(losses).all()
    moved = [
        np.abs(own - other).max()
        for own, other in zip(task.get_weights(), before.get_weights(), strict=True)
    ]
    assert max(moved) > 1e-3
    wait_for_workers(strategy)
    if is_chief(strategy):
        for step in range(2, STEPS + 1):
            shutil.rmtree(folder / f"step-{step:08d}")
    wait_for_workers(strategy)
    again, steps, same = run(strategy, folder, dtype, optimizer, parts)
    assert steps == STEPS - 1
    np.testing.assert_allclose(again, losses, rtol=1e-6)
    for own, other in zip(same.get_weights(), task.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6)
    return losses, task


def main(folder, name, workers="", index=None):
    options = {"replicas": 2} if name == "mirrored" else {}
    if workers:
        options = {"workers": workers.split(","), "worker_index": int(index)}
    strategy = make_strategy(name, **options)
    for dtype, optimizer, parts in itertools.product(DTYPES, ("adamw", "lamb"), (1, 4)):
        case = f"{dtype}-{optimizer}-{parts}"
        losses, task = check(strategy, Path(folder, f"{name}-{case}"), dtype, optimizer, parts)
        if is_chief(strategy):
            saved = Path(folder, "saved")
            task.save(saved)
            loaded = kbz.TextClassifier.load(saved, dtype=dtype)
            np.testing.assert_array_equal(
                loaded.predict(TEXTS)["label"], task.predict(TEXTS)["label"]
            )
            print(case, *losses, flush=True)
        wait_for_workers(strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])

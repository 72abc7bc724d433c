"""A run whose tokens are counted by hand, on any number of replicas."""

import numpy as np
import pytest

import keras_bert_zoo as kbz
from tests.tasks.every_task import make

# `every_task.TEXTS` with [CLS] and [SEP], in batches of three.
LENGTHS = [[5, 4, 5], [3, 7, 5], [3]]
TOKENS = 32
PLACES = 3 * 5 + 3 * 7 + 3
SQUARES = 25 + 16 + 25 + 9 + 49 + 25 + 9


class Received(kbz.Tracker):
    """Keeps what it receives."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def start(self, options):
        self.calls.append(("start", options))

    def log(self, metrics, step):
        self.calls.append((step, dict(metrics)))

    def finish(self, files):
        self.calls.append(("finish", files))


def check_counts(**options):
    """Trains two epochs; checks the counts, and that a tracker receives each metric once."""
    tracker, throughput = Received(), kbz.Throughput(mfu=False)
    task, x, y = make("classification")
    history = task.fit(
        x, y, batch_size=3, epochs=2, shuffle=False, verbose=0, learning_rate=1e-2,
        callbacks=[tracker, throughput], validation_data=(x, y), **options,
    )  # fmt: skip
    record = task.training_record
    assert (record["steps"], record["tokens"]) == (6, 2 * TOKENS)
    total = throughput._meter.total
    assert (total.rows, total.sequences, total.tokens) == (14, 14, 2 * TOKENS)
    assert (total.places, total.squares, total.labelled) == (2 * PLACES, 2 * SQUARES, 14)
    assert history.history["padding_share"] == pytest.approx([1 - TOKENS / PLACES] * 2)
    assert all(value > 0 for value in history.history["tokens_per_second"])
    assert all(0 <= value <= 1 for value in history.history["waiting_share"])

    (first, given), *logged, (last, files) = tracker.calls
    assert (first, last, files) == ("start", "finish", [])
    assert (given["batch_size"], given["learning_rate"]) == (3, 1e-2)
    names = [(step, name) for step, metrics in logged for name in metrics]
    assert len(names) == len(set(names))
    assert [step for step, _ in names] == sorted(step for step, _ in names)
    by_name = {}
    for step, metrics in logged:
        for name, value in metrics.items():
            by_name.setdefault(name, {})[step] = value
    several = options.get("steps_per_execution", 1)
    points = [
        step for step in range(1, 7) if (step - 1) % 3 % several == several - 1 or step % 3 == 0
    ]
    assert list(by_name["loss"]) == points
    assert by_name["epoch"] == {3: 1.0, 6: 2.0}
    assert list(by_name["val_loss"].values()) == history.history["val_loss"]
    np.testing.assert_allclose(
        list(by_name["epoch_loss"].values()), history.history["loss"], rtol=1e-6
    )
    # The losses and accuracies of the points are means over the rows since the point before.
    rows = {step: sum(3 if s % 3 else 1 for s in range(a + 1, step + 1))
            for a, step in zip([0, *points], points, strict=False)}  # fmt: skip
    for epoch in (0, 1):
        own = [step for step in points if 3 * epoch < step <= 3 * epoch + 3]
        for name in ("loss", "accuracy"):
            mean = sum(by_name[name][step] * rows[step] for step in own) / 7
            np.testing.assert_allclose(mean, history.history[name][epoch], rtol=1e-4, err_msg=name)
            hits = by_name["accuracy"][own[0]] * rows[own[0]]
        assert hits == pytest.approx(round(hits), abs=1e-4)
    return record

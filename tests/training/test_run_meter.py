"""The throughput and the curves of a run: counts by hand, and equal after an interruption."""

import pytest

from tests.helpers import as_graphs, eagerly
from tests.tasks.every_task import NAMES, TEXTS, make
from tests.training.measured_runs import PLACES, TOKENS, check_counts

OPTIONS = {"batch_size": 3, "epochs": 2, "shuffle": False, "verbose": 0, "learning_rate": 1e-2}


def fit(name="classification", *callbacks, **options):
    task, x, y = make(name)
    history = task.fit(x, y, callbacks=callbacks, **OPTIONS | options)
    return task, history


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulation_steps": 2}, {"steps_per_execution": 2}, {"steps_per_epoch": 3}],
)
def test_the_counts_are_those_of_the_rows(options):
    with eagerly():
        check_counts(**options)


@as_graphs()
def test_the_counts_are_those_of_the_rows_in_a_graph():
    check_counts(steps_per_execution=3, accumulation_steps=2)


def test_the_counts_of_a_dataset():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((TEXTS, NAMES)).batch(3)
    with eagerly():
        task, _, _ = make("classification")
        task.fit(data, **OPTIONS)
    assert task.training_record["tokens"] == 2 * TOKENS
    padding = task.training_record["curves"]["epochs"]["padding_share"]
    assert padding == pytest.approx([1 - TOKENS / PLACES] * 2, rel=1e-5)

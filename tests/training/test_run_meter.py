"""The throughput and the curves of a run: counts by hand, and the values of the schedule."""

import json
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.training import run_meter, throughput
from keras_bert_zoo.training.cost import training_flops
from keras_bert_zoo.training.model_shapes import task_shapes
from keras_bert_zoo.training.run_meter import RunMeter
from keras_bert_zoo.training.schedules import WarmupDecay
from keras_bert_zoo.training.step_counts import Counts
from tests.helpers import as_graphs, eagerly
from tests.tasks.every_task import NAMES, TEXTS, make
from tests.training.measured_runs import LENGTHS, PLACES, TOKENS, check_counts

OPTIONS = {"batch_size": 3, "epochs": 2, "shuffle": False, "verbose": 0, "learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def op_by_op():
    with eagerly():
        yield


@pytest.mark.parametrize(
    "options", [{}, {"accumulation_steps": 2}, {"steps_per_execution": 2}, {"steps_per_epoch": 3}]
)
def test_the_counts_are_those_of_the_rows(options):
    check_counts(**options)


@as_graphs()
def test_the_counts_are_those_of_the_rows_in_a_graph():
    check_counts(steps_per_execution=3, accumulation_steps=2)


def test_the_counts_of_a_dataset():
    data = tf.data.Dataset.from_tensor_slices((TEXTS, NAMES)).batch(3)
    task, _, _ = make("classification")
    task.fit(data, **OPTIONS)
    assert task.training_record["tokens"] == 2 * TOKENS
    padding = task.training_record["curves"]["epochs"]["padding_share"]
    assert padding == pytest.approx([1 - TOKENS / PLACES] * 2, rel=1e-5)


@pytest.mark.parametrize(("name", "groups"), [("multiple-choice", 3), ("embedding", 2)])
def test_all_rows_of_an_example_are_counted(name, groups):
    task, x, y = make(name)
    counter = kbz.Throughput(mfu=False)
    task.fit(x, y, callbacks=[counter], **OPTIONS | {"epochs": 1})
    total = counter._meter.total
    batches = list(task.make_dataset(x, y, batch_size=3, shuffle=False))
    masks = [batch[0]["padding_mask"].numpy() for batch in batches]
    assert total.rows == 7
    assert total.sequences == 7 * groups
    assert total.tokens == sum(mask.sum() for mask in masks)
    assert total.places == sum(mask.size for mask in masks)
    assert total.squares == sum((mask.sum(-1) ** 2).sum() for mask in masks)


def test_the_learning_rate_is_the_one_that_the_schedule_gave():
    task, x, y = make("classification")
    history = task.fit(
        x, y, callbacks=[kbz.Throughput(mfu=False)], **OPTIONS | {"warmup_fraction": 0.4}
    )
    schedule = WarmupDecay(1e-2, total_steps=6, warmup_steps=2)
    rates = [float(schedule(step)) for step in range(6)]
    curves = task.training_record["curves"]
    np.testing.assert_allclose(curves["steps"]["learning_rate"], rates, rtol=1e-5)
    np.testing.assert_allclose(history.history["learning_rate"], [rates[2], rates[5]], rtol=1e-6)


@pytest.mark.parametrize("name", ["classification", "token-classification", "masked-lm"])
def test_the_operations_are_those_of_the_rows(name):
    task, _, _ = make(name)
    shapes, predicted = task_shapes(task), 4
    expected = sum(training_flops(shapes, rows, predicted=predicted) for rows in LENGTHS)
    squares = sum(length**2 for rows in LENGTHS for length in rows)
    counts = Counts(7, 7, TOKENS, PLACES, squares, 3 * predicted)
    assert throughput.flops_of(task, 3)(counts) == pytest.approx(expected, rel=1e-9)


def test_the_rates_are_those_of_the_time(monkeypatch):
    """Each batch takes a tenth of a second, and each step a tenth more."""
    monkeypatch.setattr(throughput, "measured_peak", lambda dtype: 1e6)

    class Slow(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            time.sleep(0.1)
            return TEXTS[:2], NAMES[:2]

    class Slower(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            time.sleep(0.1)

        def on_train_batch_end(self, batch, logs=None):
            bars.append(dict(logs))

    bars = []
    task, _, _ = make("classification")
    chosen = [Slower(), kbz.Throughput()]
    history = task.fit(Slow(), epochs=1, verbose=0, learning_rate=0.0, callbacks=chosen).history
    meter = chosen[1]._meter
    total, cold = meter._now
    assert cold.tokens == 9  # the first step
    warm = total.minus(cold)
    assert warm.tokens == 27
    assert warm.seconds >= 0.3
    assert history["tokens_per_second"] == [pytest.approx(27 / warm.seconds)]
    # 5 and 4 tokens; batches are read while a step runs, so the loop may wait for none.
    flops = 3 * training_flops(task_shapes(task), [5, 4])
    assert history["mfu"] == [pytest.approx(flops / warm.seconds / 1e6)]
    assert history["waiting_share"] == [pytest.approx(warm.waited / warm.seconds)]
    # Other callbacks see the figures, wherever they are in the list; the first step has no rates.
    assert "tokens_per_second" not in bars[0]
    assert bars[0]["learning_rate"] == 0
    assert all(bar["tokens_per_second"] > 0 for bar in bars[1:])
    assert task.training_record["curves"]["steps"]["tokens_per_second"][0] is None


def test_waiting_is_measured():
    first_step = threading.Event()

    def batches():
        yield TEXTS[:2], NAMES[:2]
        assert first_step.wait(60)
        time.sleep(0.1)
        yield TEXTS[:2], NAMES[:2]

    task, _, _ = make("classification")
    counter = kbz.Throughput(mfu=False)
    begin = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: first_step.set())
    task.fit(batches(), epochs=1, steps_per_epoch=2, verbose=0, callbacks=[counter, begin])
    total = counter._meter.total
    assert 0.08 < total.waited <= total.seconds


def test_many_points_are_thinned_out(monkeypatch):
    task, x, y = make("classification")
    options = OPTIONS | {"epochs": 1, "steps_per_epoch": 12}
    task.fit(x, y, **options)
    every = task.training_record["curves"]["steps"]
    assert every["step"] == list(range(1, 13))
    monkeypatch.setattr(run_meter, "POINTS", 4)
    task, x, y = make("classification")
    task.fit(x, y, **options)
    points = task.training_record["curves"]["steps"]
    assert points["step"] == [4, 8, 12]
    rates = every["learning_rate"]
    assert points["learning_rate"] == [rates[3], rates[7], rates[11]]
    assert {len(column) for column in points.values()} == {3}


def test_the_history_and_a_longer_run_are_read_seldom():
    """Without the callback, Keras' history has only the metrics; long runs are read every 16."""
    task, x, y = make("classification")
    assert set(task.fit(x, y, **OPTIONS).history) == {"loss", "accuracy"}
    assert RunMeter(total_steps=200)._every == 1
    assert RunMeter(total_steps=1000)._every == 5
    assert RunMeter(total_steps=10_000)._every == RunMeter()._every == 16


def test_the_record_of_a_run():
    task, x, y = make("classification")
    history = task.fit(x, y, validation_data=(x, y), **OPTIONS).history
    record = json.loads(json.dumps(task.training_record, allow_nan=False))
    assert (record["steps"], record["epochs"], record["tokens"]) == (6, 2, 2 * TOKENS)
    assert len(record["data"]) == 16
    assert record["options"].items() >= {"batch_size": 3, "schedule": "linear"}.items()
    environment = record["environment"]
    assert environment["versions"]["tensorflow"] == tf.__version__
    assert environment["versions"].keys() == {
        "keras_bert_zoo", "python", "tensorflow", "tensorflow-text", "keras", "numpy",
    }  # fmt: skip
    assert (environment["strategy"], environment["replicas"]) == ("default", 1)
    assert environment["dtype"] == "float32"
    assert record["history"] == history
    curves = record["curves"]
    assert curves["epochs"]["step"] == [3, 6]
    # The record has milliseconds, the curves six digits.
    assert sum(curves["epochs"]["seconds"]) == pytest.approx(record["seconds"], abs=1e-3)
    assert {len(column) for column in curves["steps"].values()} == {6}


def test_damaged_states_are_refused():
    meter = RunMeter()
    state = json.loads(json.dumps(meter.state(3, inside=False)))
    RunMeter().restore(state, "run.json")
    for change, message in (
        ({"total": [1, 2]}, "'total' must be 8 numbers of at least 0"),
        ({"means": {"loss": 3}}, "'means' must be an object of names and a pair of numbers"),
        ({"gap": 0}, "'gap' must be an integer from 1"),
    ):
        with pytest.raises(CheckpointError, match=message):
            RunMeter().restore(state | change, "run.json")
    with pytest.raises(CheckpointError, match="expected the keys points"):
        RunMeter().restore({n: v for n, v in state.items() if n != "points"}, "run.json")


def test_another_loop_is_refused():
    task, x, y = make("classification")
    task.compile("sgd")
    with pytest.raises(ConfigError, match="received a run of another loop"):
        keras.Model.fit(
            task, task.make_dataset(x, y), callbacks=[kbz.Throughput()], shuffle=False, verbose=0
        )


def test_the_record_names_the_optimizer_of_compile():
    task, x, y = make("classification")
    task.compile(keras.optimizers.SGD(1.0))
    task.fit(x, y, epochs=1, batch_size=7, verbose=0)
    options = task.training_record["options"]
    assert options["optimizer"] == "SGD"
    assert not options.keys() & {"learning_rate", "schedule", "global_clipnorm"}

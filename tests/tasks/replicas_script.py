"""Trains every task on one, two and three replicas; test_replicas.py runs it as a process."""

import functools
import sys
import tempfile
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import TrainingError
from keras_bert_zoo.training import summed_gradients
from keras_bert_zoo.training.probe import probe_head
from keras_bert_zoo.training.rate_finder import find_learning_rate
from keras_bert_zoo.training.strategies import make_strategy
from tests.helpers import ASSETS, eagerly
from tests.tasks.every_task import NAMES, TEXTS, TRAINED, make, spread_weights
from tests.training.measured_runs import check_counts


@functools.cache
def strategy(replicas):
    if replicas == 1:
        return tf.distribute.get_strategy()
    # Collectives allow only one number of devices per process, and wait for busy cores.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def run(name, replicas, *, loss=None, compiled=None, measure=True, **options):
    """Trains an epoch, by default in batches of 5 and 2 rows; returns weights and measures."""
    with strategy(replicas).scope():
        task, x, y = make(name)
        if loss is not None:
            task.compile("sgd", loss)
        if compiled == "adam":  # an optimizer of Keras that clips
            task.compile(keras.optimizers.Adam(0.01, global_clipnorm=0.1))
    # Initializers draw different numbers under a strategy.
    spread_weights(task)
    weighted = {}
    if name != "masked-lm":
        weighted["sample_weight"] = np.linspace(0.5, 2, 7).astype(np.float32)
    options = {"batch_size": 5, "epochs": 1, "learning_rate": 1e-2, "verbose": 0} | options
    history = task.fit(x, y, **weighted, **options)
    found = {name: np.array(values) for name, values in history.history.items()}
    found |= {f"weight {index}": value for index, value in enumerate(task.get_weights())}
    if not measure:
        return found
    # The last batch has one row.
    figures = task.evaluate(x, y, batch_size=3, verbose=0, return_dict=True, **weighted)
    found |= {f"evaluated {key}": value for key, value in figures.items()}
    if name.startswith(("classification", "regression")):  # other tasks have no logits per text
        found["logits"] = task.predict_logits(x, batch_size=4)
    return found


def check_equal(one, several, what):
    for key, value in several.items():
        np.testing.assert_allclose(
            value, one[key], rtol=2e-4, atol=2e-5, err_msg=f"{key} of {what}"
        )


def compare(name, counts=(2, 3), **options):
    one = run(name, 1, **options)
    assert all(np.isfinite(value).all() for value in one.values()), name
    for replicas in counts:
        several = run(name, replicas, **options)
        assert several.keys() == one.keys()
        check_equal(one, several, f"{name} {options} on {replicas} replicas")
    return one


def summed():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")


def probe_losses(replicas):
    with strategy(replicas).scope():
        head = keras.layers.Dense(2, kernel_initializer="zeros")
        features = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
        return probe_head(head, features, np.arange(7) % 2, summed(), epochs=2)


def train_preset(chosen):
    """Trains a classifier from a preset, with validation; returns measures and scores."""
    keras.utils.set_random_seed(0)
    with chosen.scope():
        task = kbz.TextClassifier.from_preset(
            ASSETS / "bert_gelu", labels=["abc", "xyz"], max_length=12
        )
    for layer in task._flatten_layers():  # dropout draws other numbers on replicas
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    options = {"batch_size": 5, "epochs": 2, "learning_rate": 1e-3, "verbose": 0}
    weights = np.linspace(0.5, 2, 7).astype(np.float32)
    history = task.fit(
        TEXTS, NAMES, sample_weight=weights, validation_data=(TEXTS, NAMES), **options
    )
    found = {name: np.array(values) for name, values in history.history.items()}
    return found | {"scores": task.predict(TEXTS)["scores"]}


def distilled(logits, replicas):
    """Trains a student, with validation; returns measures and logits."""
    with strategy(replicas).scope():
        student = make("classification")[0]
    random = np.random.default_rng(1)
    for variable in student.trainable_variables:
        variable.assign(random.normal(scale=0.3, size=variable.shape))
    history = kbz.distill(
        lambda texts: logits[: len(texts)], student, TEXTS, validation_data=(TEXTS[:5], NAMES[:5]),
        epochs=2, batch_size=4, learning_rate=0.02, verbose=0,
    )  # fmt: skip
    measures = {name: np.array(values) for name, values in history.history.items()}
    return measures | {"logits": student.predict_logits(TEXTS)}


def check_overflow():
    """Gradients that overflow on the second replica skip the step on both."""
    with strategy(2).scope():
        task, x, y = make("regression", dtype="mixed_float16")
    before = task.get_weights()
    targets = [*y[:-1], 3e38]  # its square is infinite
    task.fit(x, targets, batch_size=7, epochs=1, shuffle=False, verbose=0)
    updates = task.updates
    assert float(updates.loss_scale.scale.numpy()) == 2.0**14
    assert (updates.count.numpy(), updates.skipped.numpy()) == (1, 1)
    for old, new in zip(before, task.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def check_not_finite():
    """In float32, the run stops and names the batch."""
    with strategy(2).scope():
        task, x, y = make("regression")
    before = task.get_weights()
    message = r"step 1, batch 1 of epoch 1, with the rows 0, 1, 2, 3, 4, 5, 6 \(from 0\)"
    with pytest.raises(TrainingError, match=message):
        task.fit(x, [*y[:-1], 3e38], batch_size=7, epochs=1, shuffle=False, verbose=0)
    for old, new in zip(before, task.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def compare_resumed():
    """A run on one device goes on with two replicas."""
    whole = run("classification", 1, measure=False, epochs=2)
    steps = []

    def interrupt(batch, logs):
        steps.append(batch)
        if len(steps) == 3:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        options = {"epochs": 2, "checkpoints": kbz.Checkpoints(folder), "measure": False}
        stop = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
        with pytest.raises(KeyboardInterrupt):
            run("classification", 1, callbacks=[stop], **options)
        resumed = run("classification", 2, resume=True, **options)
    for key, value in whole.items():
        np.testing.assert_allclose(resumed[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def range_test(replicas, **options):
    """The losses of a range test."""
    with strategy(replicas).scope():
        task, x, y = make("classification")
    spread_weights(task)
    options |= {"steps": 4, "min_rate": 1e-3, "max_rate": 0.1, "batch_size": 4}
    return {"losses": find_learning_rate(task, x, y, **options).losses}


def compare_classifiers():
    """Compares two replicas, op by op and in a graph; and heads whose loss is a sum."""
    with eagerly():
        compare("classification", [2])
        compare("classification", [2], measure=False, global_clipnorm=None)
        check_overflow()
        check_not_finite()
        compare_resumed()
        with strategy(2).scope():
            check_counts()
            check_counts(accumulation_steps=2)
        compare("classification", [2], measure=False, accumulation_steps=2, optimizer="lamb")
        compare("classification", [2], measure=False, compiled="adam")
        one = range_test(1)
        for parts in (1, 2):
            check_equal(one, range_test(2, accumulation_steps=parts), "a range test")
        logits = make("classification")[0].predict_logits(TEXTS)
        check_equal(distilled(logits, 1), distilled(logits, 2), "a student")
        losses = probe_losses(2)
        np.testing.assert_allclose(losses, probe_losses(1), rtol=1e-5)
        np.testing.assert_allclose(losses[0], 7 * np.log(2), rtol=1e-5)
        one = train_preset(make_strategy("default"))
    mirrored = make_strategy("mirrored")
    assert mirrored.num_replicas_in_sync == 2
    assert {"loss", "val_loss", "scores"} <= one.keys()
    check_equal(one, train_preset(mirrored), "a preset in a graph")


def main(names):
    summed_gradients.LARGE = 1  # one replica updates every weight by the compiled function
    cpu = tf.config.list_physical_devices("CPU")[0]
    count = 2 if names == ["classifiers"] else 3
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, devices)
    if names == ["classifiers"]:
        compare_classifiers()
        names = []
    with eagerly():
        for name in names:
            begin = time.process_time()
            compare(name)
            print(f"{name}: {time.process_time() - begin:.1f} s", file=sys.stderr, flush=True)
        if "classification" in names:
            compare("classification", probe_epochs=2)
            compare("classification", loss=summed(), probe_epochs=2)
            compare("classification", validation_split=0.4, shuffle=False)
    print("equal")


if __name__ == "__main__":
    main(sys.argv[1:] or TRAINED)

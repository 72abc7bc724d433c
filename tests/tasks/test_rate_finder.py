"""The range test: its rates and losses, its suggestion, and a task as it was before."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, TrainingError
from keras_bert_zoo.training import rate_finder
from keras_bert_zoo.training.loop import default_optimizer
from keras_bert_zoo.training.rate_finder import (
    find_learning_rate,
    lowest_step,
    smooth,
    suggest_rate,
)
from tests.tasks.every_task import NAMES, TEXTS, TRAINED, make, spread_weights
from tests.tasks.test_tasks import make_classifier


def test_smooth_weights_recent_losses_more():
    # Averages of 8 with the weight 1; of 8, 4 with 1/4, 1/2; of 8, 4, 1 with 1/8, 1/4, 1/2.
    expected = [8.0, (2 + 2) / 0.75, (1 + 1 + 0.5) / 0.875]
    np.testing.assert_allclose(smooth(np.array([8.0, 4.0, 1.0]), share=0.5), expected)


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_minimum():
    rates = np.array([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert suggest_rate(rates, np.array([3.0, 2.5, 1.0, 2.0, 9.0])) == pytest.approx(1e-4)
    assert suggest_rate(rates, np.array([3.0, 2.5, 1.0, 0.5, np.nan])) == pytest.approx(1e-3)
    assert suggest_rate(rates, np.array([3.0, 3.5, 4.0, 5.0, np.inf])) is None  # it never falls
    assert suggest_rate(rates[:1], np.array([3.0])) is None


def test_the_first_tenth_of_the_steps_is_the_start_of_the_curve():
    rates = np.geomspace(1e-6, 1, 20)
    smoothed = np.array([0.1, 3.0, *([2.9] * 15), 1.5, 1.4, 8.0])  # the first loss is low by chance
    assert lowest_step(smoothed) == 18
    assert suggest_rate(rates, smoothed) == pytest.approx(rates[18] / 10)
    assert lowest_step(np.array([0.1, 3.0, *([3.1] * 18)])) is None


def test_rates_and_losses_are_those_of_steps_by_hand():
    """SGD in a loop of TensorFlow, without the loop of this package."""
    task, x, y = make("classification")
    spread_weights(task)
    task.compile(keras.optimizers.SGD(0.5))
    before = task.get_weights()
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(task.optimizer.learning_rate))
    )
    options = {"steps": 3, "min_rate": 0.01, "max_rate": 1.0, "batch_size": 3}
    test = find_learning_rate(task, x, y, callbacks=watch, **options)
    np.testing.assert_allclose(test.rates, [0.01, 0.1, 1.0])
    np.testing.assert_allclose(seen, [0.01, 0.1, 1.0], rtol=1e-6)

    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = []
    batches = task.make_dataset(x, y, batch_size=3)
    for rate, (inputs, targets) in zip(test.rates, batches, strict=True):
        with tf.GradientTape() as tape:
            loss = loss_of(targets, task(inputs, training=True))
        expected.append(float(loss))
        variables = [variable.value for variable in task.trainable_variables]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            if gradient is not None:
                variable.assign_sub(rate * tf.convert_to_tensor(gradient))
    np.testing.assert_allclose(test.losses, expected, rtol=1e-5)
    np.testing.assert_allclose(test.smoothed, smooth(np.array(expected)), rtol=1e-5)
    assert not test.diverged
    assert any((a != b).any() for a, b in zip(before, task.get_weights(), strict=True))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "default"])
def test_the_task_is_as_it_was_before(compiled):
    """With dropout, which draws numbers, and in the middle of a training."""
    histories = []
    for tests in (False, True):
        task = make_classifier()
        if compiled:
            task.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
        options = {"epochs": 1, "batch_size": 7, "verbose": 0}
        task.fit(TEXTS, NAMES, **options)
        if tests:
            attributes, weights = dict(vars(task)), task.get_weights()
            states = [np.array(v) for v in [*task.variables, *task.optimizer.variables]]
            test = find_learning_rate(
                task, TEXTS, NAMES, steps=2, min_rate=1e-3, max_rate=0.1, batch_size=7
            )
            assert len(test.losses) == 2
            assert vars(task).keys() == attributes.keys()
            assert [name for name in attributes if vars(task)[name] is not attributes[name]] == []
            for old, new in zip(weights, task.get_weights(), strict=True):
                np.testing.assert_array_equal(new, old)
            variables = [*task.variables, *task.optimizer.variables]
            for old, new in zip(states, variables, strict=True):
                np.testing.assert_array_equal(np.array(new), old)
        task.fit(TEXTS, NAMES, **options)
        histories.append((task.history.history, task.get_weights()))
    (without, expected), (with_test, weights) = histories
    assert with_test == without
    for old, new in zip(expected, weights, strict=True):
        np.testing.assert_array_equal(new, old)


def test_an_untrained_task_stays_untrained():
    task, x, y = make("classification")
    names = set(vars(task))
    find_learning_rate(task, x, y, steps=2, batch_size=4)
    assert not task.compiled
    assert set(vars(task)) == names
    assert task.pair is None  # `fit` learns it from the texts


def test_it_ends_when_the_loss_diverges():
    task, x, y = make("regression")
    test = find_learning_rate(
        task, x, y, steps=30, min_rate=1e-3, max_rate=1e9, batch_size=7, global_clipnorm=None,
        weight_decay=0.0,
    )  # fmt: skip
    assert test.diverged
    last = len(test.losses) - 1
    assert 2 < last < 29
    limit = max(4 * test.smoothed[:last].min(), test.smoothed[0])
    assert test.smoothed[:last].max() <= limit
    assert not test.smoothed[last] <= limit
    assert all(np.isfinite(value).all() for value in task.get_weights())


def test_data_that_is_not_finite_is_no_divergence():
    task, x, _ = make("regression")
    with pytest.raises(TrainingError, match="step 1, .* with the rows"):
        find_learning_rate(task, x, [1e30] * 7, steps=3, batch_size=7)


def test_the_optimizer_is_that_of_the_options(monkeypatch):
    made = []

    def make_it(*arguments, **options):
        made.append((arguments, options))
        return default_optimizer(*arguments, **options)

    monkeypatch.setattr("keras_bert_zoo.training.fit.default_optimizer", make_it)
    task, x, y = make("classification")
    find_learning_rate(task, x, y, steps=2, batch_size=4, optimizer="lion", layer_decay=0.5)
    options = made[0][1]
    assert options["constant"]
    assert options["optimizer"] == "lion"
    assert options["rate_factors"]


# The tasks whose loss or data differ most; the others cost as much again.
DIFFERENT = ("embedding scored", "question-answering", "masked-lm", "translation")


@pytest.mark.parametrize(
    "name",
    [
        name if name in DIFFERENT else pytest.param(name, marks=pytest.mark.slow)
        for name in TRAINED
        if name != "classification"
    ],
)
def test_every_task(name):
    task, x, y = make(name)
    before = task.get_weights()
    test = find_learning_rate(task, x, y, steps=2, max_rate=1e-2, batch_size=7)
    assert test.losses.shape == (2,)
    assert np.isfinite(test.losses).all()
    for old, new in zip(before, task.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_what_it_refuses():
    task, x, y = make("classification")
    with pytest.raises(ConfigError, match="received epochs, validation_data: leave out the length"):
        find_learning_rate(task, x, y, epochs=2, validation_data=(x, y))
    with pytest.raises(ConfigError, match="0 < `min_rate` < `max_rate`, received `min_rate=1.0`"):
        find_learning_rate(task, x, y, min_rate=1.0, max_rate=0.1)
    with pytest.raises(ConfigError, match="steps"):
        find_learning_rate(task, x, y, steps=1)
    options = {"epochs": 1, "seed": 3, "validation_data": None, "optimizer": "lamb"}
    assert rate_finder.without_own_options(options) == {"seed": 3, "optimizer": "lamb"}

"""LAMB compared with its formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.lamb import Lamb
from keras_bert_zoo.training.schedules import WarmupDecay

RATE, DECAY, EPSILON = 0.1, 0.3, 1e-6
SHAPES = {"token_table": (700, 100), "kernel": (3, 4), "bias": (4,), "gamma": (4,)}
EXCLUDED = ("bias", "gamma")


def make_variables():
    random = np.random.default_rng(0)
    return [
        keras.Variable(random.normal(size=shape), dtype="float32", name=name)
        for name, shape in SHAPES.items()
    ]


def gradients(step):
    """The gradients of a step: that of the table as rows, and all of them as float64 arrays."""
    random = np.random.default_rng(step)
    dense = [random.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]
    places = [2, 5, 2, 7]  # row 2 occurs twice: its gradient is the sum
    rows = tf.IndexedSlices(
        tf.constant(dense[0][:4]), tf.constant(places), tf.constant(SHAPES["token_table"])
    )
    table = np.zeros(SHAPES["token_table"])
    np.add.at(table, places, dense[0][:4].astype(np.float64))
    return [rows, *map(tf.constant, dense[1:])], [table, *(g.astype(np.float64) for g in dense[1:])]


def expected_weights(variables, steps, clipnorm, excluded=EXCLUDED, rates=None):
    """The weights after each step, by algorithm 2 of the paper in float64."""
    weights = [variable.numpy().astype(np.float64) for variable in variables]
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    result = []
    for t in range(1, steps + 1):
        grads = gradients(t)[1]
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        scale = min(1.0, clipnorm / norm) if clipnorm else 1.0
        for i, (name, g) in enumerate(zip(SHAPES, grads, strict=True)):
            first[i] = 0.9 * first[i] + 0.1 * scale * g
            second[i] = 0.999 * second[i] + 0.001 * (scale * g) ** 2
            update = (first[i] / (1 - 0.9**t)) / (np.sqrt(second[i] / (1 - 0.999**t)) + EPSILON)
            if name not in EXCLUDED:
                update += DECAY * weights[i]
            ratio = 1.0
            if name not in excluded:
                ratio = np.linalg.norm(weights[i]) / np.linalg.norm(update)
            weights[i] = weights[i] - (rates or {}).get(name, RATE) * ratio * update
        result.append([w.copy() for w in weights])
    return result


def check_steps(optimizer, variables, expected, apply=None):
    for step, weights in enumerate(expected, 1):
        (apply or optimizer.apply)(gradients(step)[0], variables)
        for variable, weight in zip(variables, weights, strict=True):
            error = np.abs(variable.numpy() - weight).max() / np.abs(weight).max()
            assert error < 1e-6, (variable.name, step, error)


@pytest.mark.parametrize("clipnorm", [None, 0.5])
def test_first_updates_equal_the_formula(clipnorm):
    variables = make_variables()
    expected = expected_weights(variables, 3, clipnorm)
    optimizer = Lamb(RATE, weight_decay=DECAY, epsilon=EPSILON, global_clipnorm=clipnorm)
    check_steps(optimizer, variables, expected)


def test_updates_in_a_graph_equal_the_formula():
    variables = make_variables()
    expected = expected_weights(variables, 3, None)
    schedule = WarmupDecay(RATE, total_steps=9, kind="constant")
    optimizer = Lamb(schedule, weight_decay=DECAY, global_clipnorm=None)
    optimizer.build(variables)
    graph = tf.function(lambda grads: optimizer.apply(grads, variables))
    check_steps(optimizer, variables, expected, lambda grads, _: graph(grads))


def test_excluded_names_have_no_ratio():
    variables = make_variables()
    options = {"weight_decay": DECAY, "global_clipnorm": None}
    expected = expected_weights(variables, 2, None, excluded=("token_table", "kernel"))
    optimizer = Lamb(RATE, exclude_from_layer_adaptation=["table", "kernel"], **options)
    check_steps(optimizer, variables, expected)
    variables = make_variables()
    expected = expected_weights(variables, 2, None, excluded=())
    check_steps(Lamb(RATE, exclude_from_layer_adaptation=[], **options), variables, expected)


def test_rate_factors_scale_the_step():
    variables = make_variables()
    rates = {"kernel": RATE / 4, "bias": RATE / 2}
    expected = expected_weights(variables, 2, None, rates=rates)
    optimizer = Lamb(RATE, DECAY, global_clipnorm=None, rate_factors={"kernel": 0.25, "bias": 0.5})
    check_steps(optimizer, variables, expected)


def test_ratio_of_zero_weights_and_of_zero_updates_is_one():
    zero = keras.Variable(np.zeros((2, 2)), name="kernel")
    Lamb(0.1, weight_decay=0.5).apply([tf.ones((2, 2))], [zero])
    np.testing.assert_allclose(zero.numpy(), -0.1, rtol=1e-4)
    still = keras.Variable(np.ones((2, 2)), name="kernel")
    Lamb(0.1, weight_decay=0.0).apply([tf.zeros((2, 2))], [still])
    np.testing.assert_array_equal(still.numpy(), 1.0)


def test_configuration_survives():
    optimizer = Lamb(
        0.1,
        0.2,
        epsilon=1e-5,
        global_clipnorm=None,
        exclude_from_layer_adaptation=["kernel"],
        rate_factors={"a/kernel": 0.5},
    )
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is Lamb
    assert again.get_config() == optimizer.get_config()
    assert again.rate_factors == {"a/kernel": 0.5}
    assert again.exclude_from_layer_adaptation == ("kernel",)


@pytest.mark.parametrize("names", ["kernel", [1]])
def test_refuses_names_that_are_no_list_of_strings(names):
    with pytest.raises(ConfigError, match="Expected `exclude_from_layer_adaptation` to be None or"):
        Lamb(0.1, exclude_from_layer_adaptation=names)

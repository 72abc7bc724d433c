"""AdamW compared with that of Keras, and the schedule."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.optimizers import AdamW, WarmupLinearDecay

OPTIONS = {"weight_decay": 0.1, "epsilon": 1e-6, "global_clipnorm": 0.5}


def make_variables():
    random = np.random.default_rng(0)
    return [
        # Large enough to be updated by the compiled function; the kernel is not.
        keras.Variable(random.normal(size=(700, 100)), name="token_table"),
        keras.Variable(random.normal(size=(3, 4)), name="kernel"),
        keras.Variable(random.normal(size=(4,)), name="bias"),
        keras.Variable(random.normal(size=(4,)), name="gamma"),
    ]


def gradients(step):
    random = np.random.default_rng(step)
    # Row 2 occurs twice: its gradient is the sum.
    rows = tf.IndexedSlices(
        tf.constant(random.normal(size=(4, 100)), tf.float32),
        tf.constant([2, 5, 2, 7]),
        tf.constant([700, 100]),
    )
    return [rows, *(tf.constant(random.normal(size=s), tf.float32) for s in [(3, 4), 4, 4])]


def test_equals_keras_adamw_with_sparse_rows_clipping_and_decay():
    schedule = WarmupLinearDecay(0.1, total_steps=8, warmup_steps=3)
    ours, theirs = make_variables(), make_variables()
    optimizer = AdamW(schedule, **OPTIONS)
    reference = keras.optimizers.AdamW(schedule, **OPTIONS)
    reference.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    for step in range(6):
        optimizer.apply(gradients(step), ours)
        reference.apply([tf.convert_to_tensor(g) for g in gradients(step)], theirs)
        for variable, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(
                variable, expected, rtol=3e-6, atol=3e-6, err_msg=variable.name
            )


def test_biases_and_layer_norm_do_not_decay():
    variables = make_variables()
    before = [variable.numpy() for variable in variables]
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.apply([tf.zeros(variable.shape) for variable in variables], variables)
    table, kernel, bias, gamma = (variable.numpy() for variable in variables)
    np.testing.assert_allclose(table, before[0] * 0.95, atol=1e-6)
    np.testing.assert_allclose(kernel, before[1] * 0.95, atol=1e-6)
    np.testing.assert_array_equal(bias, before[2])
    np.testing.assert_array_equal(gamma, before[3])


def test_refuses_amsgrad():
    with pytest.raises(ConfigError, match="`amsgrad=True` is not supported"):
        AdamW(0.1, amsgrad=True)


def test_schedule_rises_and_falls():
    schedule = WarmupLinearDecay(1.0, total_steps=10, warmup_steps=4)
    rates = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(rates[:5], [0.2, 0.4, 0.6, 0.8, 1.0], atol=1e-6)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
    assert rates[10] == 0.0
    assert float(schedule(99)) == 0.0


def test_schedule_without_warmup_starts_at_the_peak():
    assert float(WarmupLinearDecay(0.5, total_steps=10)(0)) == 0.5


@pytest.mark.parametrize(("total", "warmup"), [(0, 0), (5, 6), (5, -1)])
def test_schedule_refuses_impossible_steps(total, warmup):
    with pytest.raises(ConfigError, match="Expected 0 <= `warmup_steps` <= `total_steps`"):
        WarmupLinearDecay(0.1, total_steps=total, warmup_steps=warmup)


def test_schedule_survives_serialization():
    schedule = WarmupLinearDecay(0.1, total_steps=8, warmup_steps=3)
    config = keras.saving.serialize_keras_object(schedule)
    assert keras.saving.deserialize_keras_object(config).get_config() == schedule.get_config()

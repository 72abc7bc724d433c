"""Updates equal those of Keras; steps that are not finite change nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.updates import LossScale, Updates

OPTIMIZERS = [
    lambda **options: keras.optimizers.SGD(0.1, momentum=0.9, **options),
    lambda **options: keras.optimizers.Adam(0.1, **options),
    lambda **options: keras.optimizers.AdamW(0.1, weight_decay=0.1, **options),
    lambda **options: keras.optimizers.Lion(0.1, **options),
    lambda **options: AdamW(0.1, **{"global_clipnorm": None} | options),
]
CLIPPING = [{}, {"clipnorm": 0.3}, {"global_clipnorm": 0.3}, {"clipvalue": 0.2}]


def make_variables():
    return [
        keras.Variable(np.linspace(-1, 1, 12).reshape(4, 3), name="table"),
        keras.Variable([1.0, -2.0], name="bias"),
    ]


def gradients(step):
    random = np.random.default_rng(step)
    rows = tf.constant(random.normal(size=(3, 3)), tf.float32)
    # Row 2 occurs twice: its gradient is the sum.
    return [
        tf.IndexedSlices(rows, tf.constant([2, 0, 2]), tf.constant([4, 3])),
        tf.constant(random.normal(size=2), tf.float32),
    ]


def dense(step):
    return [tf.convert_to_tensor(gradient) for gradient in gradients(step)]


def make_updates(optimizer, variables, **options):
    optimizer.build(variables)
    return Updates(optimizer, variables, **options)


@pytest.mark.parametrize("clipping", CLIPPING, ids=lambda options: next(iter(options), "none"))
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_updates_equal_those_of_keras(make, clipping):
    ours, theirs = make_variables(), make_variables()
    updates, optimizer = make_updates(make(**clipping), ours), make(**clipping)
    for step in range(3):
        updates.apply(gradients(step))
        optimizer.apply(dense(step), theirs)
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own.numpy(), other.numpy(), atol=1e-6)
    assert (int(updates.count), int(updates.skipped), int(updates.first_skipped)) == (3, 0, -1)


def test_the_parts_of_a_batch_are_summed():
    ours, theirs = make_variables(), make_variables()
    updates = make_updates(keras.optimizers.SGD(0.1, global_clipnorm=0.5), ours, accumulation=2)
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=0.5)
    for step in (0, 2):
        updates.accumulate(gradients(step))
        updates.accumulate([gradients(step + 1)[0], None])  # the bias has no gradient there
        updates.apply()
        table, bias = dense(step)
        optimizer.apply([table + dense(step + 1)[0], bias], theirs)
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own.numpy(), other.numpy(), atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_that_is_not_finite_changes_nothing(bad, compiled):
    variables = make_variables()
    updates = make_updates(AdamW(0.1), variables)
    apply = tf.function(updates.apply) if compiled else updates.apply
    apply(gradients(0))
    before = [v.numpy() for v in (*variables, *updates.optimizer.variables)]
    broken = gradients(1)
    broken[1] = tf.constant([0.5, bad])
    apply(broken)
    for value, variable in zip(before, (*variables, *updates.optimizer.variables), strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert (int(updates.count), int(updates.skipped), int(updates.first_skipped)) == (2, 1, 1)
    apply(gradients(2))
    assert int(updates.optimizer.iterations.numpy()) == 2
    assert (int(updates.count), int(updates.skipped)) == (3, 1)


def test_the_scale_of_the_loss_follows_the_gradients():
    ours, theirs = make_variables(), make_variables()
    updates = make_updates(keras.optimizers.SGD(0.1, global_clipnorm=0.5), ours, scales_loss=True)
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=0.5)
    scale = updates.loss_scale
    assert float(updates.scaled(tf.constant(2.0))) == 2.0**16
    for step in range(2):
        updates.apply([gradient * float(scale.scale) for gradient in dense(step)])
        optimizer.apply(dense(step), theirs)
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own.numpy(), other.numpy(), atol=1e-6)
    updates.apply([gradient * np.inf for gradient in dense(3)])
    assert float(scale.scale) == 2.0**14
    assert int(scale.good_steps) == 0


def test_the_scale_doubles_after_many_good_steps_and_stays_above_one():
    scale = LossScale(initial_scale=4.0, growth_steps=3)
    seen = []
    for finite in (True, True, True, True, False, False, False, False, False):
        scale.record(tf.constant(finite))
        seen.append(float(scale.scale))
    assert seen == [4, 4, 8, 8, 4, 2, 1, 1, 1]


def test_what_cannot_be_updated_is_refused():
    variables = make_variables()
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    with pytest.raises(ConfigError, match="received LossScaleOptimizer: pass the inner optimizer"):
        Updates(scaled, variables)
    with pytest.raises(ConfigError, match="a loss that depends on trainable variables"):
        make_updates(keras.optimizers.SGD(0.1), variables).apply([None, None])

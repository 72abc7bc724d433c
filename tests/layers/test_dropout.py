"""The one-pass dropout: rate, scale, independence, gradient, and repeatability."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.dropout import Dropout

SHAPE = (400, 250)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_share_is_exact_and_the_mean_does_not_change(rate, dtype):
    y = np.asarray(
        Dropout(rate, seed=3, dtype=dtype)(tf.ones(SHAPE, dtype), training=True), np.float32
    )
    scale = float(tf.cast(1 / (1 - rate), dtype))
    assert set(np.unique(y)) == {0.0, np.float32(scale)}
    deviation = np.sqrt(rate * (1 - rate) / y.size)
    assert abs((y == 0).mean() - rate) < 4 * deviation
    for axis in (0, 1):  # no row or column has more than others
        shares = (y == 0).mean(axis=axis)
        expected = np.sqrt(rate * (1 - rate) / SHAPE[axis])
        assert 0.8 < shares.std() / expected < 1.2


def test_masks_of_positions_and_steps_are_independent():
    layer, other = Dropout(0.5, seed=0), Dropout(0.5, seed=1)
    masks = [np.ravel(layer(tf.ones(SHAPE), training=True)) > 0 for _ in range(6)]
    masks += [np.ravel(other(tf.ones(SHAPE), training=True)) > 0 for _ in range(6)]
    masks += [np.roll(masks[0], shift) for shift in (1, 2, SHAPE[1])]
    correlations = np.corrcoef(np.array(masks, np.float32))
    largest = np.abs(correlations - np.eye(len(masks))).max()
    assert largest < 5 / np.sqrt(masks[0].size)


def test_the_gradient_has_the_mask_of_the_output():
    x = tf.random.stateless_normal(SHAPE, seed=[1, 2])
    layer = Dropout(0.3, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gradient = tape.gradient(y, x, 2 * tf.ones(SHAPE))
    np.testing.assert_allclose(y * 2, gradient * x, rtol=1e-6)


def test_a_seed_repeats_the_masks_in_graphs_and_op_by_op():
    x = tf.ones([7, 9])

    def masks(call):
        layer = Dropout(0.4, seed=11)
        return [call(layer).numpy() for _ in range(3)]

    expected = masks(lambda layer: layer(x, training=True))
    graph = masks(tf.function(lambda layer: layer(x, training=True)))
    np.testing.assert_array_equal(graph, expected)
    tf.config.run_functions_eagerly(True)
    try:
        np.testing.assert_array_equal(masks(lambda layer: layer(x, training=True)), expected)
    finally:
        tf.config.run_functions_eagerly(False)
    assert not np.array_equal(expected[0], expected[1])


def test_nothing_is_dropped_in_inference_or_at_a_rate_of_zero():
    x = tf.ones([3, 4])
    np.testing.assert_array_equal(Dropout(0.5)(x), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)
    assert not np.any(Dropout(1.0)(x, training=True))


def test_a_noise_shape_is_shared_as_in_keras():
    y = Dropout(0.5, noise_shape=(None, 1), seed=2)(tf.ones(SHAPE), training=True).numpy()
    assert (y == y[:, :1]).all()
    assert 0 < (y[:, 0] == 0).mean() < 1


def test_it_is_saved_as_a_layer_of_keras():
    layer = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Dropout(0.25, seed=4))
    )
    assert type(layer) is Dropout
    assert (layer.rate, layer.seed) == (0.25, 4)

"""Layer normalization: both forms, and the custom gradient."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.normalization import LayerNormalization


def make_layer(epsilon, width=13):
    layer = LayerNormalization(epsilon=epsilon)
    layer.build((None, width))
    random = np.random.default_rng(0)
    layer.gamma.assign(random.normal(size=width))
    layer.beta.assign(random.normal(size=width))
    return layer


def expected(layer, x):
    x = x.astype(np.float64)
    centered = x - x.mean(axis=-1, keepdims=True)
    normalized = centered / np.sqrt(x.var(axis=-1, keepdims=True) + layer.epsilon)
    return normalized * layer.gamma.numpy() + layer.beta.numpy()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1e-2])
def test_equals_the_definition_with_its_own_epsilon(epsilon, training):
    layer = make_layer(epsilon)
    # Small numbers, so that another epsilon changes the result.
    x = np.random.default_rng(1).normal(scale=0.05, size=(7, 13)).astype(np.float32)
    compiled = tf.function(lambda x: layer(x, training=training))
    np.testing.assert_allclose(compiled(x), expected(layer, x), atol=3e-6)
    np.testing.assert_allclose(layer(x, training=training), expected(layer, x), atol=3e-6)


def test_no_rows_are_fine():
    assert make_layer(1e-12)(tf.zeros([0, 13])).shape == (0, 13)


def test_gradient_equals_autodiff():
    layer = make_layer(1e-5)
    random = np.random.default_rng(2)
    x = tf.constant(random.normal(size=(7, 13)).astype(np.float32))
    upstream = tf.constant(random.normal(size=(7, 13)).astype(np.float32))
    sources = [x, layer.gamma.value, layer.beta.value]

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gradients = tape.gradient(y, sources, upstream)
    with tf.GradientTape() as tape:
        tape.watch(x)
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        y = (x - mean) * tf.math.rsqrt(variance + 1e-5) * layer.gamma + layer.beta
    for gradient, reference in zip(gradients, tape.gradient(y, sources, upstream), strict=True):
        np.testing.assert_allclose(gradient, reference, atol=2e-5)


def test_many_rows_without_a_bias():
    """Fused by a bias of almost zero; few rows are computed by another form."""
    layer = LayerNormalization(epsilon=1e-5, use_bias=False)
    layer.build((None, 16))
    x = np.random.default_rng(3).normal(size=(200, 16)).astype(np.float32)
    compiled = tf.function(layer, input_signature=[tf.TensorSpec([None, 16])], autograph=False)
    layer.beta = tf.Variable(tf.zeros([16]))  # of `expected`
    np.testing.assert_allclose(compiled(x), expected(layer, x), atol=3e-6)
    np.testing.assert_allclose(compiled(x[:2]), expected(layer, x[:2]), atol=3e-6)

"""Activations, compared with independent definitions."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.activations import ACTIVATIONS, gelu, trained_gelu

X = np.linspace(-6, 6, 121, dtype=np.float32)
ERF = np.vectorize(math.erf)
EXPECTED = {
    "gelu": X * 0.5 * (1 + ERF(X / math.sqrt(2))),
    "gelu_new": 0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))),
    "quick_gelu": X / (1 + np.exp(-1.702 * X)),
    "relu": np.maximum(X, 0),
    "relu2": np.maximum(X, 0) ** 2,
    "relu6": np.clip(X, 0, 6),
    "leaky_relu": np.where(X > 0, X, 0.01 * X),
    "silu": X / (1 + np.exp(-X)),
    "mish": X * np.tanh(np.log1p(np.exp(X))),
    "sigmoid": 1 / (1 + np.exp(-X)),
    "tanh": np.tanh(X),
    "linear": X,
}
SAME = {
    "gelu_python": "gelu",
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "swish": "silu",
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_equals_its_definition(name):
    expected = EXPECTED[SAME.get(name, name)]
    np.testing.assert_allclose(ACTIVATIONS[name](tf.constant(X)), expected, atol=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float32, 3e-6), (tf.bfloat16, 2e-2)])
def test_the_trained_gelu_has_the_value_and_gradient_of_gelu(dtype, tolerance):
    x = tf.cast(tf.reshape(X, [11, 11]), dtype)
    bias = tf.cast(X[::12], dtype)
    upstream = tf.cast(tf.reshape(X[::-1] / 3, [11, 11]), dtype)

    def results(function, *inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
        return y, *tape.gradient(y, inputs, tf.cast(upstream, y.dtype))

    def defined(x, bias):
        return gelu(x + bias)

    # bfloat16 is compared with float32, because autodiff in bfloat16 rounds nine times.
    exact = results(defined, tf.cast(x, tf.float32), tf.cast(bias, tf.float32))
    for actual, expected in zip(results(trained_gelu, x, bias), exact, strict=True):
        assert actual.dtype == dtype
        np.testing.assert_allclose(
            tf.cast(actual, tf.float32), expected, atol=tolerance, rtol=tolerance
        )

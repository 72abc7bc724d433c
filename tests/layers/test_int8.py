"""Products in int8, against integers in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

from keras_bert_zoo.layers.dense import Dense, add_dense, apply_jointly
from keras_bert_zoo.layers.int8 import Int8Product, int8_affine, join_products, quantized

RANDOM = np.random.default_rng(0)
ROWS, WIDTH, UNITS = 21, 48, 32


def random(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def product(**options):
    kernel = random(WIDTH, UNITS)
    ranges = np.abs(kernel).max(axis=0)
    values = {
        "kernel": quantized(kernel, ranges),
        "kernel_range": ranges,
        "bias": random(UNITS),
        "input_range": 2.0,  # some numbers of the input are beyond it
        "factors": None,
        "activation": "linear",
    }
    return Int8Product(**values | options)


def expected(product, x):
    """The affine function, with exact sums of integers."""
    if product.factors is not None:
        x = x * (1 / product.factors).astype(np.float32)
    sums = quantized(x, product.input_range).astype(np.int64) @ product.kernel.astype(np.int64)
    return sums * (product.input_range / 127) * (product.kernel_range / 127) + product.bias


@pytest.mark.parametrize("factors", [None, np.linspace(0.2, 3.0, WIDTH).astype(np.float32)])
def test_the_product_is_exact(factors):
    x, chosen = random(ROWS, WIDTH), product(factors=factors)
    actual = int8_affine(chosen, tf.constant(x), dtype="float32")
    np.testing.assert_allclose(actual, expected(chosen, x), rtol=1e-5, atol=1e-5)
    # Every number moved by at most half a step of its range.
    inside = np.clip(x, -2, 2) if factors is None else x
    exact = inside @ (chosen.kernel * (chosen.kernel_range / 127)) + chosen.bias
    if factors is None:
        assert np.abs(actual - exact).max() < 0.5 * 2 / 127 * WIDTH * chosen.kernel_range.max()


def test_a_residual_and_an_activation_are_fused():
    x, residual = random(ROWS, WIDTH), random(ROWS, UNITS)
    chosen = product()
    actual = int8_affine(chosen, tf.constant(x), dtype="float32", residual=tf.constant(residual))
    np.testing.assert_allclose(actual, expected(chosen, x) + residual, rtol=1e-5, atol=1e-5)

    curved = product(activation="gelu")
    affine = expected(curved, x)
    gelu = 0.5 * affine * (1 + erf(affine / np.sqrt(2)))
    actual = int8_affine(curved, tf.constant(x), dtype="float32")
    np.testing.assert_allclose(actual, gelu, rtol=1e-4, atol=1e-4)


def test_a_chain_stays_int8():
    x = random(ROWS, WIDTH)
    first = product(activation="relu", output_range=8.0)
    second = product(kernel=quantized(random(UNITS, UNITS), 3.0), input_range=8.0)
    between = int8_affine(first, tf.constant(x), dtype="float32")
    assert between.dtype == tf.qint8
    inner = quantized(np.maximum(expected(first, x), 0), 8.0)
    # A sum that is half way between two steps may be rounded to either.
    steps = tf.bitcast(between, tf.int8).numpy().astype(int) - inner
    assert np.abs(steps).max() <= 1
    assert np.mean(steps != 0) < 0.01
    actual = int8_affine(second, between, dtype="float32")
    sums = tf.bitcast(between, tf.int8).numpy().astype(np.int64) @ second.kernel.astype(np.int64)
    exact = sums * (8.0 / 127) * (second.kernel_range / 127) + second.bias
    np.testing.assert_allclose(actual, exact, rtol=1e-5, atol=1e-5)


def test_layers_use_their_products():
    x, residual = tf.constant(random(ROWS, WIDTH)), tf.constant(random(ROWS, UNITS))
    layers = [Dense(UNITS, name=name) for name in "abc"]
    for layer in layers:
        layer.build((None, WIDTH))
        layer.int8 = product()
    outputs = [layer(x) for layer in layers]
    for layer, output in zip(layers, outputs, strict=True):
        np.testing.assert_allclose(output, expected(layer.int8, x.numpy()), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(apply_jointly(layers, x), tf.concat(outputs, axis=1), rtol=1e-6)
    joined = join_products([layer.int8 for layer in layers])
    assert joined.nbytes == sum(layer.int8.nbytes for layer in layers)
    added = add_dense(layers[0], x, residual)
    np.testing.assert_allclose(added, outputs[0] + residual, rtol=1e-5, atol=1e-5)
    layers[0].int8 = None
    assert apply_jointly(layers, x) is None  # each computes in its own precision

    silu = Dense(UNITS, activation="silu")  # no part of the kernel
    silu.build((None, WIDTH))
    silu.int8 = product(activation="silu")
    affine = expected(silu.int8, x.numpy())
    np.testing.assert_allclose(silu(x), affine / (1 + np.exp(-affine)), rtol=1e-4, atol=1e-4)

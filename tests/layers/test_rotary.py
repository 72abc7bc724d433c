"""Rotary positions, compared with complex multiplication."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.rotary import (
    RotarySelfAttention,
    rotary_frequencies,
    rotary_tables,
    rotate,
)
from keras_bert_zoo.layers.token_layout import TokenLayout

HEAD_DIM = 6


def make_layout(kind, mask):
    ids = np.ones_like(mask)
    return TokenLayout(kind)(token_ids=ids, segment_ids=ids, padding_mask=mask)


def rotated(x, positions, base, interleaved):
    """x (..., D) with each pair multiplied by exp(i * position * frequency)."""
    half = x.shape[-1] // 2
    angles = positions[..., np.newaxis] * base ** (-np.arange(half) / half)
    turn = np.exp(1j * angles)
    if interleaved:
        pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)
    pairs = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("base", [10000.0, 160000.0])
def test_turns_pairs_by_their_position(interleaved, base):
    layout = make_layout("padded", np.ones([2, 9], np.int32))
    x = np.random.default_rng(0).normal(size=(2, 3, 9, HEAD_DIM)).astype(np.float32)
    frequencies = rotary_frequencies(HEAD_DIM, base=base)
    (tables,) = rotary_tables(layout, frequencies, interleaved=interleaved)
    expected = rotated(x, np.arange(9), base, interleaved)
    assert np.abs(rotate(x, tables, interleaved=interleaved) - expected).max() < 2e-6
    first = rotate(x[:, :, :1], tables, interleaved=interleaved, first_token_only=True)
    np.testing.assert_array_equal(first, x[:, :, :1])  # position 0 is not rotated


def test_positions_are_columns_of_the_batch_in_the_packed_layout():
    mask = np.array([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 0]], np.int32)
    (tables,) = rotary_tables(make_layout("packed", mask), rotary_frequencies(HEAD_DIM))
    ones = np.zeros([2, 1, 8, HEAD_DIM], np.float32)
    ones[..., : HEAD_DIM // 2] = 1
    actual = rotate(ones, tables)[:, 0]
    # The first column is kept even if it is masked.
    for row, columns in enumerate([[0, 2, 3, 5], [0, 1]]):
        expected = rotated(ones[row, 0, : len(columns)], np.array(columns), 10000.0, False)
        assert np.abs(actual[row, : len(columns)] - expected).max() < 2e-6


@pytest.mark.parametrize("interleaved", [False, True])
def test_scores_depend_on_distances_alone(interleaved):
    layout = make_layout("padded", np.ones([1, 12], np.int32))
    (tables,) = rotary_tables(layout, rotary_frequencies(HEAD_DIM), interleaved=interleaved)
    random = np.random.default_rng(1)
    query, key = random.normal(size=(2, 1, 1, 1, HEAD_DIM)).astype(np.float32)
    shape = [1, 1, 12, HEAD_DIM]
    queries = rotate(tf.broadcast_to(query, shape), tables, interleaved=interleaved)
    keys = rotate(tf.broadcast_to(key, shape), tables, interleaved=interleaved)
    scores = tf.matmul(queries, keys, transpose_b=True)[0, 0].numpy()
    for distance in range(-11, 12):
        diagonal = np.diagonal(scores, distance)
        assert np.ptp(diagonal) < 1e-5
    assert np.ptp(scores[0]) > 0.1


@pytest.mark.parametrize("interleaved", [False, True])
def test_bfloat16_is_turned_in_float32(interleaved):
    layout = make_layout("padded", np.ones([1, 200], np.int32))
    frequencies = rotary_frequencies(HEAD_DIM)
    (tables,) = rotary_tables(layout, frequencies, interleaved=interleaved, scale=1.5)
    x = tf.random.stateless_normal([1, 2, 200, HEAD_DIM], seed=[1, 2], dtype=tf.bfloat16)
    actual = rotate(x, tables, interleaved=interleaved)
    assert actual.dtype == tf.bfloat16
    wide = tf.cast(x, tf.float32).numpy()
    expected = 1.5 * rotated(wide, np.arange(200), 10000.0, interleaved)
    # Half a unit in the last place of bfloat16, relative.
    assert np.abs(tf.cast(actual, tf.float32) - expected).max() < np.abs(expected).max() * 2**-8


@pytest.mark.parametrize("rotate_values", [False, True])
def test_attention_turns_values_on_request_alone(rotate_values):
    layout = make_layout("padded", np.array([[1, 1, 0, 1]], np.int32))
    layout["rotary"] = rotary_tables(layout, rotary_frequencies(4))
    options = {"hidden_dim": 8, "num_heads": 2, "dropout": 0.0, "initializer_range": 0.5}
    attention = RotarySelfAttention(rotate_values=rotate_values, **options)
    x = np.random.default_rng(2).normal(size=(4, 8)).astype(np.float32)
    actual, (probabilities,) = attention(x, layout)
    values = (x @ attention.value.kernel.numpy()).reshape(4, 2, 4).transpose(1, 0, 2)
    if rotate_values:
        values = rotated(values, np.arange(4), 10000.0, False)
    expected = (probabilities[0].numpy() @ values).transpose(1, 0, 2).reshape(4, 8)
    assert np.abs(actual - expected).max() < 2e-6
    first, _ = attention(x, layout, first_token_only=True)
    assert np.abs(first - expected[:1]).max() < 2e-6

"""Packed batches: every example has the output and the gradient that it has alone."""

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.packing import arrange
from keras_bert_zoo.layers.example_layout import PACKED_GROUPS, is_packed
from keras_bert_zoo.layers.token_layout import TOKEN_LAYOUTS, to_batch
from tests.encoders.test_zoo import ENCODERS, ZOO
from tests.helpers import eagerly

LENGTHS = [5, 1, 8, 2]
BINS = [0, 1, 1, 1]
SLOTS = [0, 0, 2, 1]
WIDTH, MOST = 12, 4  # every bin has padding or a slot without example


def make_rows(vocabulary_size, segments):
    """Examples of `LENGTHS` tokens, as an unpacked batch; ids are no special ones."""
    random = np.random.default_rng(0)
    shape = (len(LENGTHS), max(LENGTHS))
    mask = np.arange(shape[1]) < np.array(LENGTHS)[:, None]
    return {
        "token_ids": np.where(mask, random.integers(5, vocabulary_size, shape), 0).astype(np.int32),
        "segment_ids": np.where(mask, random.integers(0, segments, shape), 0).astype(np.int32),
        "padding_mask": mask.astype(np.int32),
    }


def in_bins(rows, targets, **options):
    tensors = [tf.nest.map_structure(tf.constant, part) for part in (rows, targets)]
    return arrange(
        *tensors, tf.constant(BINS), tf.constant(SLOTS), 2, max_length=WIDTH, max_examples=MOST,
        **options,
    )  # fmt: skip


def alone(rows, index):
    return {name: tf.constant(x[index : index + 1, : LENGTHS[index]]) for name, x in rows.items()}


def outputs_of(encoder, inputs, layout):
    groups = PACKED_GROUPS if is_packed(inputs) else 1
    options = {"token_layout": layout, "attention_groups": groups}
    states, of_tokens = encoder.token_states(inputs, **options)
    pooled = encoder.pooled_outputs(inputs, **options) if encoder.has_pooler else None
    return to_batch(states, of_tokens), pooled


@pytest.mark.parametrize("name", ENCODERS)
def test_examples_of_a_bin_have_the_outputs_that_they_have_alone(name):
    encoder = kbz.Encoder.from_preset(ZOO / name)
    config = encoder.config
    rows = make_rows(config.vocabulary_size, max(1, config.num_segments))
    random = np.random.default_rng(1)
    shape = (len(LENGTHS), max(LENGTHS), config.hidden_dim)
    factors = random.normal(size=shape).astype(np.float32)
    of_pooled = random.normal(size=(len(LENGTHS), config.hidden_dim)).astype(np.float32)
    packed, _ = in_bins(rows, {})

    with eagerly():
        expected, pooled_alone = [], []
        with tf.GradientTape() as tape:
            loss = 0.0
            for index, length in enumerate(LENGTHS):
                states, pooled = outputs_of(encoder, alone(rows, index), "padded")
                expected.append(states[0])
                loss += tf.reduce_sum(states[0] * factors[index, :length])
                if pooled is not None:
                    pooled_alone.append(pooled[0])
                    loss += tf.reduce_sum(pooled[0] * of_pooled[index])
        gradients = tape.gradient(loss, encoder.trainable_variables)
        for layout in TOKEN_LAYOUTS:
            with tf.GradientTape() as tape:
                states, pooled = outputs_of(encoder, packed, layout)
                assert states.shape[:2] == (2, WIDTH)
                loss = 0.0
                for index, (row, slot) in enumerate(zip(BINS, SLOTS, strict=True)):
                    start = int(packed["example_starts"][row, slot])
                    own = states[row, start : start + LENGTHS[index]]
                    np.testing.assert_allclose(own, expected[index], atol=1e-5)
                    loss += tf.reduce_sum(own * factors[index, : LENGTHS[index]])
                    if pooled is not None:
                        vector = pooled[row * MOST + slot]
                        np.testing.assert_allclose(vector, pooled_alone[index], atol=1e-5)
                        loss += tf.reduce_sum(vector * of_pooled[index])
            received = tape.gradient(loss, encoder.trainable_variables)
            for variable, one, other in zip(
                encoder.trainable_variables, gradients, received, strict=True
            ):
                assert (one is None) == (other is None), variable.path
                if one is not None:
                    one, other = (tf.convert_to_tensor(part) for part in (one, other))
                    scale = max(1.0, float(tf.reduce_max(tf.abs(one))))
                    np.testing.assert_allclose(other, one, atol=1e-5 * scale, err_msg=variable.path)

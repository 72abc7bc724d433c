"""Perturbed word embeddings equal those of a changed table, in every family and layout."""

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.layers.training_hooks import (
    add_perturbation,
    change_pooled,
    perturbed_words,
    pooled_hook,
)
from tests.encoders.test_zoo import ONE_EACH, ZOO
from tests.helpers import as_graphs, eagerly, golden_inputs, load_golden

PADDED = [name for name in ONE_EACH if name.startswith(("bert-", "mobilebert-"))]


@pytest.mark.parametrize(
    ("name", "layout"),
    [*((name, "packed") for name in ONE_EACH), *((name, "padded") for name in PADDED)],
)
def test_a_perturbation_equals_a_change_of_the_table(name, layout):
    encoder = kbz.Encoder.from_preset(ZOO / name, token_layout=layout)
    inputs = golden_inputs(load_golden(f"zoo/{name}"))
    table = encoder.embeddings.token_table
    change = np.random.default_rng(0).normal(scale=0.5, size=table.shape).astype(np.float32)
    with eagerly():
        plain = encoder(inputs)["sequence_output"].numpy()
        with perturbed_words(tf.gather(change, inputs["token_ids"])):
            perturbed = encoder(inputs)["sequence_output"].numpy()
        table.assign_add(change)
        expected = encoder(inputs)["sequence_output"].numpy()
    assert abs(perturbed - plain).max() > 0.01
    # Outputs at padding mean nothing.
    real = inputs["padding_mask"] == 1
    np.testing.assert_allclose(perturbed[real], expected[real], atol=1e-5)


@as_graphs()
def test_closed_hooks_leave_no_operations():
    encoder = kbz.Encoder.from_preset(ZOO / "bert-encoder-plain", token_layout="padded")
    specs = {name: tf.TensorSpec([1, 4], tf.int32) for name in encoder.input}

    def operations(delta):
        def call(inputs):
            if delta is None:
                return encoder(inputs, training=False)
            with perturbed_words(delta):
                return encoder(inputs, training=False)

        graph = tf.function(call, autograph=False).get_concrete_function(specs).graph
        return len(graph.get_operations())

    before = operations(None)
    assert operations(tf.zeros([1, 4, encoder.config.hidden_dim])) > before
    assert operations(None) == before


def test_an_error_closes_the_hooks():
    words, pooled = perturbed_words(tf.zeros([1, 1, 1])), pooled_hook(tf.zeros_like)
    with pytest.raises(ZeroDivisionError), words, pooled:
        raise ZeroDivisionError
    x = tf.ones([1, 2])
    assert change_pooled(x) is x
    assert add_perturbation(x, {}) is x

"""Gradient checkpointing: equal gradients, with the same dropout, and blocks computed again."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.recomputation import recomputed
from tests.helpers import ASSETS, eagerly, golden_inputs, kernels, load_golden

# Blocks of each kind: shared by layers; with gradients of what they share (relative positions).
ENCODERS = ["albert-encoder-inner", "deberta_v2-encoder-v3", "mobilebert-encoder-layer_norm"]


def loss_and_gradients(encoder, inputs, checkpointing):
    """Of a random linear function of the states, in training, from the first seeds on."""
    encoder.gradient_checkpointing = checkpointing
    for layer in encoder._flatten_layers():
        if isinstance(layer, Dropout) and layer.rate:
            layer.seed_generator.state.assign([7, 0])
            layer._compiles = False  # as on a GPU: compiling takes seconds

    @tf.function(autograph=False)
    def step(inputs):
        with tf.GradientTape() as tape:
            states = encoder(inputs, training=True)["sequence_output"]
            loss = tf.reduce_sum(states * tf.random.stateless_normal(tf.shape(states), [1, 2]))
        gradients = tape.gradient(loss, encoder.trainable_variables)
        return loss, [None if g is None else tf.convert_to_tensor(g) for g in gradients]

    loss, gradients = step(inputs)
    return float(loss), [None if g is None else g.numpy() for g in gradients]


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_are_those_of_stored_activations(name):
    config = kbz.Encoder.from_preset(ASSETS / "zoo" / name).config
    encoder = build_encoder(dataclasses.replace(config, dropout=0.3, attention_dropout=0.3))
    inputs = golden_inputs(load_golden(f"zoo/{name}"))
    loss, gradients = loss_and_gradients(encoder, inputs, checkpointing=False)
    again, recomputed_gradients = loss_and_gradients(encoder, inputs, checkpointing=True)
    assert again == loss
    for gradient, other in zip(gradients, recomputed_gradients, strict=True):
        assert (gradient is None) == (other is None)
        if gradient is not None:
            np.testing.assert_allclose(other, gradient, rtol=1e-5, atol=1e-6)
    assert encoder.gradient_checkpointing


def test_the_gradient_computes_again_what_it_does_not_store():
    """TensorFlow's optimizer must not merge the second computation with the first."""

    def run(checkpointing):
        v1 = tf.compat.v1
        metadata = v1.RunMetadata()
        with v1.Session(graph=tf.Graph()) as session:
            kernel = tf.Variable(tf.random.stateless_normal([8, 8], [1, 2]))

            def products(x):
                return tf.tanh(tf.tanh(x @ kernel) @ kernel)

            x = v1.placeholder(tf.float32, [None, 8])
            y = recomputed(products, [x]) if checkpointing else products(x)
            (gradient,) = tf.gradients(y, kernel)
            session.run(kernel.initializer)
            options = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
            value = session.run(gradient, {x: np.ones([4, 8])}, options, metadata)
        return value, kernels(metadata)

    stored, fewer = run(checkpointing=False)
    again, more = run(checkpointing=True)
    np.testing.assert_allclose(again, stored, rtol=1e-6)
    assert fewer["Tanh"] == 2
    assert more["Tanh"] == 4


def test_without_a_graph():
    dropout, x = Dropout(0.5, seed=1), tf.ones([8])
    with eagerly(), tf.GradientTape() as tape:
        tape.watch(x)
        y = recomputed(lambda x: dropout(x, training=True), [x])
    np.testing.assert_array_equal(tape.gradient(y, x), y)


def test_nothing_is_recomputed_in_inference():
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_gelu")
    inputs = encoder.tokenizer(["one two"])

    def operations():
        function = tf.function(lambda x: encoder(x)["sequence_output"], autograph=False)
        return [op.type for op in function.get_concrete_function(inputs).graph.get_operations()]

    expected = operations()
    encoder.gradient_checkpointing = True
    assert operations() == expected

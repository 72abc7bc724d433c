"""Every family and head, compared with transformers' outputs from tools/zoo/goldens.py.

Also the shapes of their variables, which the families compute from config.json.
"""

import json

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.names import names_of
from keras_bert_zoo.encoders.registry import build_encoder, encoder_shapes, families, pooler_shapes
from tests.checks import apart, check_encoder, check_head
from tests.helpers import ASSETS, eagerly, golden_inputs, load_golden

ZOO = ASSETS / "zoo"
GOLDENS = sorted(folder.name for folder in ZOO.iterdir())
ENCODERS = [name for name in GOLDENS if "-encoder-" in name]
HEADS = [name for name in GOLDENS if name not in ENCODERS]
# One encoder of each family, for tests that do not depend on the configuration.
ONE_EACH = list({name.split("-encoder-")[0]: name for name in ENCODERS}.values())


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
    outputs = check_head(kbz.HeadedModel.from_preset(ZOO / name, token_layout="padded"), inputs)
    assert sorted(outputs) == sorted(kinds)
    for kind in kinds:
        assert apart(outputs[kind], golden[kind], mask) < 1e-5


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
@eagerly()  # GELU would be compiled for each shape
def test_every_family_trains_saves_and_computes_in_bfloat16(name, tmp_path):
    config = json.loads((ZOO / name / "config.json").read_text())
    rates = {key: 0.0 for key in config if "drop" in key and isinstance(config[key], float)}
    exact = kbz.Encoder.from_preset(ZOO / name)
    quiet = kbz.EncoderConfig.from_huggingface(config | rates)
    encoder = build_encoder(quiet, pooler=exact.has_pooler)
    encoder.set_weights(exact.get_weights())
    check_encoder(encoder, golden_inputs(load_golden(f"zoo/{name}")), tmp_path)

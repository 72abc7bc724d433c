"""Every field of Hugging Face's BertConfig is supported or refused by name."""

import contextlib

import pytest

from keras_bert_zoo import notices
from keras_bert_zoo.config import EncoderConfig, is_regression
from keras_bert_zoo.config_keys import NEUTRAL_KEYS, REFUSED_KEYS
from keras_bert_zoo.encoders.registry import encoder_class, families
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.activations import get_activation
from keras_bert_zoo.presets.resolve import other_keys

BERT = {
    "model_type": "bert",
    "vocab_size": 99,
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.05,
    "attention_probs_dropout_prob": 0.15,
    "max_position_embeddings": 77,
    "type_vocab_size": 3,
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.03,
    "pad_token_id": 1,
    "classifier_dropout": 0.2,
}


def test_reads_every_field():
    assert EncoderConfig.from_huggingface(BERT) == EncoderConfig(
        vocabulary_size=99,
        hidden_dim=12,
        num_layers=3,
        num_heads=4,
        intermediate_dim=20,
        activation="gelu_new",
        dropout=0.05,
        attention_dropout=0.15,
        max_sequence_length=77,
        num_segments=3,
        layer_norm_epsilon=1e-5,
        initializer_range=0.03,
        pad_token_id=1,
        classifier_dropout=0.2,
    )


def test_round_trip_loses_nothing():
    config = EncoderConfig.from_huggingface(BERT)
    assert EncoderConfig.from_huggingface(config.to_huggingface()) == config
    assert {key: config.to_huggingface()[key] for key in BERT} == BERT


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 4}),
        ("rotary_value", True),
    ],
)
def test_refuses_unsupported_values_by_name(key, value):
    with pytest.raises(ConfigError, match=f"`{key}` = "):
        EncoderConfig.from_huggingface(BERT | {key: value})
    EncoderConfig.from_huggingface(BERT | {key: value}, ignore=[key])


# Keys and values in published files that no encoder reads.
HARMLESS = {
    "eos_token_ids": 2, "loss_type": "ForMaskedLM", "initializer_factor": 1.0,
    "chunk_size_feed_forward": 8, "torch_dtype": "float16", "use_cache": True, "gradient_checkpoint"
    "ing": True, "tie_last_hidden_states": True, "function_to_apply": "none", "classifier_size": 3,
    "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity", "n_ctx": 512,
    "sentence_transformers": {"version": "5.1.0"}, "adapters": {"adapters": {}, "config_map": {}},
    "position_embedding_type": "absolute", "is_decoder": False, "pruned_heads": {}, "my_notes": [1],
}  # fmt: skip
REFUSED = {
    "position_embedding_type": "relative_key", "is_decoder": True, "is_encoder_decoder": True,
    "add_cross_attention": True, "pruned_heads": {"0": [1]}, "quantization_config": {"bits": 4},
    "per_layer_config": {"0": {}}, "adapters": {"adapters": {"a": "pfeiffer"}}, "alibi": True,
    "alibi_starting_size": 512, "feed_forward_type": "geglu", "use_relative_position": True,
    "rotary_emb_base": 10000.0, "layer_norm_type": "rms_norm", "pre_norm": True, "is_causal": True,
    "lora_adaptations": ["retrieval"], "max_relative_position": 64, "rms_norm_eps": 1e-6,
}  # fmt: skip


@pytest.mark.parametrize("family", families())
def test_harmless_keys_load_and_others_are_refused_by_name(family, caplog):
    cls = encoder_class(family).config_class
    plain = EncoderConfig.from_huggingface({"model_type": family})
    notices.forget()
    assert EncoderConfig.from_huggingface({"model_type": family} | HARMLESS) == plain
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 1
    for key in ("my_notes", "n_ctx", "classifier_size"):
        assert f"`{key}`" in warnings[0]
    assert not any(f"`{key}`" in warnings[0] for key in ("eos_token_ids", "loss_type", "adapters"))
    EncoderConfig.from_huggingface({"model_type": family} | HARMLESS)
    assert len(caplog.records) == 1  # once
    for key, value in REFUSED.items():
        if key in cls.names or key in cls.neutral:
            continue
        with pytest.raises(ConfigError, match=f"`{key}` = "):
            EncoderConfig.from_huggingface({"model_type": family, key: value})
        ignored = EncoderConfig.from_huggingface({"model_type": family, key: value}, ignore=[key])
        assert ignored == plain


@pytest.mark.parametrize("family", families())
def test_aliases_are_those_of_transformers(family):
    from transformers import CONFIG_MAPPING

    cls = encoder_class(family).config_class
    assert cls.aliases == CONFIG_MAPPING[family].attribute_map
    for alias, key in cls.aliases.items():
        given = {"model_type": family, key: 12, alias: 24}  # the alias wins, as in transformers
        config = EncoderConfig.from_huggingface(given)
        assert getattr(config, cls.names[key]) == 24
        assert config.to_huggingface()[key] == 24
        assert getattr(CONFIG_MAPPING[family](**given), key) == 24
        other = other_keys(given | {"my_notes": 1}, config)
        assert other == {"my_notes": 1}  # a second save would not read the new value
        ignored = EncoderConfig.from_huggingface(given, ignore=[alias])
        assert getattr(ignored, cls.names[key]) == 12


@pytest.mark.parametrize("family", families())
def test_null_is_a_default(family, caplog):
    """null is the default of ignored keys and of disabled options, as in transformers."""
    cls = encoder_class(family).config_class
    # transformers refuses null for these.
    needed = {*cls.names, *cls.aliases, "summary_type", "summary_first_dropout"}
    keys = {*NEUTRAL_KEYS, *REFUSED_KEYS, *cls.fixed, *cls.neutral, "adapters"} - needed
    notices.forget()
    config = {"model_type": family} | dict.fromkeys(keys)
    plain = EncoderConfig.from_huggingface({"model_type": family})
    assert EncoderConfig.from_huggingface(config) == plain
    assert not caplog.records


def test_warning_for_a_model_with_its_own_code(caplog):
    notices.forget()
    custom = {"auto_map": {"AutoModel": "modeling_x.XModel"}, "x" * 500: 1, "a\x1b[31m": 2}
    EncoderConfig.from_huggingface(BERT | custom)
    (record,) = caplog.records
    assert "its own code (`auto_map`), which is not run" in record.message
    assert len(record.message) < 400
    assert record.message.isprintable()


def test_refuses_an_unknown_family():
    with pytest.raises(ConfigError, match=r"family 'gpt2' is unknown\. Expected one of: .*bert"):
        EncoderConfig.from_huggingface(BERT | {"model_type": "gpt2"})


def test_lists_all_problems_at_once():
    with pytest.raises(ConfigError) as caught:
        EncoderConfig.from_huggingface(BERT | {"is_decoder": True, "alibi": True})
    assert "`is_decoder` = True is not supported (expected False)" in str(caught.value)
    assert "`alibi` = True is not supported (expected False or None)" in str(caught.value)


def test_needs_the_model_type():
    with pytest.raises(ConfigError, match=r"Expected `model_type` in config\.json, received none"):
        EncoderConfig.from_huggingface({k: v for k, v in BERT.items() if k != "model_type"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_dim", 0, "`hidden_dim` must be a positive integer, received 0"),
        ("num_layers", True, "`num_layers` must be a positive integer, received True"),
        (
            "vocabulary_size",
            "30522",
            "`vocabulary_size` must be a positive integer, received '30522'",
        ),
        ("num_heads", 5, "`num_heads` must divide `hidden_dim`: 768 % 5 != 0"),
        ("dropout", 1.0, r"`dropout` must be a number in \[0, 1\), received 1.0"),
        ("layer_norm_epsilon", float("nan"), "`layer_norm_epsilon` must be a number"),
        ("pad_token_id", 30522, "`pad_token_id` must be in"),
        ("activation", None, "`activation` must be a string, received None"),
    ],
)
def test_refuses_values_out_of_range(field, value, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(**{field: value})


HOSTILE = [
    None, True, 5, 0, -1, 0.5, 10**400, "linear", "768", [], [1], ["x"], [["x"]], {}, {"a": 1},
    {"full_attention": [1]}, {"full_attention": {"rope_type": ["x"]}},
]  # fmt: skip


@pytest.mark.parametrize("family", families())
def test_invalid_values_raise_only_config_errors(family):
    """For every key of every family."""
    cls = encoder_class(family).config_class
    for key in [*cls.names, *cls.aliases, *cls.fixed, "model_type", "frobnicate"]:
        for value in HOSTILE:
            with contextlib.suppress(ConfigError):
                EncoderConfig.from_huggingface({"model_type": family} | {key: value})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "modernbert", "rope_scaling": "linear"}, "`rope_scaling` = 'linear' is no"),
        (
            {"model_type": "modernbert", "rope_parameters": {"full_attention": [1]}},
            r"`rope_parameters` = \[1\] for full_attention is not supported \(expected an object",
        ),
        ({"model_type": "deberta-v2", "hidden_size": "768"}, "`hidden_dim` must be a positive int"),
        ({"model_type": "deberta-v2", "num_attention_heads": "8"}, "`num_heads` must be a positi"),
        ({"model_type": "deberta-v2", "pos_att_type": 5}, "`pos_att_type` = 5 is not supported"),
        (
            {"model_type": "deberta-v2", "pos_att_type": {"c2p": 1}},
            "`pos_att_type` = {'c2p': 1} is",
        ),
        (
            {"model_type": "bert", "layer_norm_eps": 10**400},
            "`layer_norm_epsilon` must be a number",
        ),
        ({"model_type": "mobilebert", "normalization_type": []}, "`normalization` must be one of"),
        ({"model_type": "modernbert", "num_hidden_layers": 10**9}, "`num_layers` must be at most"),
        ({"model_type": "albert", "inner_group_num": 100}, "must be at most 256, received 12"),
        ({"model_type": "roformer", "summary_first_dropout": 0.1}, "`summary_first_dropout` = 0.1"),
        ({"model_type": "roformer", "summary_last_dropout": 0.1}, "`summary_last_dropout` = 0.1"),
        (
            {"model_type": "electra", "position_embedding_type": "relative_key"},
            "expected 'absolute'; transformers 5 removed relative positions",
        ),
    ],
)
def test_malformed_values_are_named(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        EncoderConfig.from_huggingface(config)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("names", [5, ["a"], None, {}])
def test_regression_needs_countable_labels(names):
    assert is_regression({"id2label": names, "num_labels": 1})
    assert not is_regression({"id2label": names})


def test_refuses_an_unknown_activation():
    with pytest.raises(ConfigError, match=r"to be one of gelu, .*, received 'gelu_nwe'\."):
        get_activation("gelu_nwe")


@pytest.mark.parametrize(
    ("contents", "family"),
    [
        ({"architectures": ["XLMRobertaForMaskedLM"]}, "xlm-roberta"),
        ({"architectures": ["DebertaV2Model"]}, "deberta-v2"),
        ({"dim": 16, "n_layers": 2, "vocab_size": 61}, "distilbert"),
        ({"hidden_size": 16, "unknown": 1}, "bert"),
    ],
)
def test_error_for_a_missing_model_type_names_the_family(contents, family):
    with pytest.raises(ConfigError, match=rf'received none\. Add `"model_type": "{family}"`'):
        EncoderConfig.from_huggingface(contents)


def test_refuses_the_model_type_of_another_family():
    with pytest.raises(
        ConfigError, match=r"`model_type` = 'albert' is not .*expected 'distilbert'"
    ):
        encoder_class("distilbert").config_class.from_huggingface({"model_type": "albert"})

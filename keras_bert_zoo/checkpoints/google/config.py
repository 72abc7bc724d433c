"""Translates Google's configs (bert_config.json, albert_config.json) from and to Hugging Face's."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.checkpoints.config_checks import LABEL_LIMIT
from keras_bert_zoo.checkpoints.messages import list_some, show_name
from keras_bert_zoo.checkpoints.source import TensorSource
from keras_bert_zoo.config_keys import NEUTRAL_KEYS, REFUSED_KEYS, is_refused, list_unread
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.notices import warn_once

_logger = logging.getLogger(__name__)

# From tf.contrib.layers.layer_norm, which all three use (google-research/bert, modeling.py).
LAYER_NORM_EPSILON = 1e-12

# Keys of both Google's and Hugging Face's configs.
SHARED_KEYS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
)
FAMILY_KEYS: dict[str, tuple[str, ...]] = {
    "bert": (),
    "albert": ("embedding_size", "num_hidden_groups", "inner_group_num"),
    "electra": ("embedding_size",),
}
# Defaults of missing keys: google-research/bert, /albert and /electra, modeling.py. Its defaults of
# sizes are those of one model, so sizes are required here.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "albert": {
        "hidden_dropout_prob": 0,
        "attention_probs_dropout_prob": 0,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    },
    "electra": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
}
# Keys with rates, and limits of counts. All other values must be positive integers.
_RATES = frozenset({"hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"})
_MOST = dict.fromkeys(("num_hidden_layers", "num_hidden_groups", "inner_group_num"), 1_000)
_LARGEST = 2**31 - 1
# Options that are supported only with these values, which have no effect.
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "directionality": ("bidi", None),
    "pooler_type": ("first_token_transform", None),
    "net_structure_type": (0,),
    "gap_size": (0,),
    "num_memory_blocks": (0,),
    "down_scale_factor": (1,),
    "ln_type": ("postln",),
}
# Google's name of an activation -> Hugging Face's. ALBERT's "gelu" is the tanh approximation
# (google-research/albert, modeling.py), as in Hugging Face's conversions of its second version.
# BERT's and ELECTRA's are read as the exact function, as in all of Hugging Face's conversions.
ACTIVATIONS: dict[str, dict[str, str]] = {
    "bert": {"gelu": "gelu", "relu": "relu", "tanh": "tanh", "linear": "linear"},
    "albert": {"gelu": "gelu_new", "relu": "relu", "tanh": "tanh", "linear": "linear"},
    "electra": {"gelu": "gelu", "relu": "relu", "tanh": "tanh", "linear": "linear"},
}

WORD_EMBEDDINGS = {
    "bert": "bert.embeddings.word_embeddings.weight",
    "albert": "albert.embeddings.word_embeddings.weight",
    "electra": "electra.embeddings.word_embeddings.weight",
}


def from_google_config(google: Mapping[str, Any], family: str, path: Path) -> dict[str, Any]:
    """Translates Google's config into Hugging Face's.

    Args:
        google: dict, the contents of a bert_config.json.
        family: "bert", "albert" or "electra".
        path: path for messages.

    Returns:
        dict, the contents of a config.json.

    Raises:
        ConfigError: keys are missing, malformed or not supported. The message lists them.
    """
    given = _DEFAULTS[family] | {"initializer_range": 0.02} | dict(google)
    known = (*SHARED_KEYS, *FAMILY_KEYS[family])
    problems = [f"`{key}` is missing" for key in known if key not in given]
    unknown = []
    for key, value in given.items():
        if key in NEUTRAL_VALUES:
            if value not in NEUTRAL_VALUES[key] or isinstance(value, bool):
                expected = " or ".join(repr(v) for v in NEUTRAL_VALUES[key])
                problems.append(f"`{key}` = {value!r:.80} is not supported (expected {expected})")
        elif is_refused(key, value):
            problems.append(f"`{show_name(key)}` = {value!r:.80} is not supported")
        elif key not in {*known, *NEUTRAL_KEYS, *REFUSED_KEYS}:
            unknown.append(key)
    problems += _wrong_values({key: given[key] for key in known if key in given})
    activation = given.get("hidden_act", "gelu")
    activations = ACTIVATIONS[family]
    if not isinstance(activation, str) or activation.lower() not in activations:
        problems.append(
            f"`hidden_act` = {activation!r:.80} is not supported (expected one of: "
            f"{', '.join(activations)})"
        )
    if problems:
        raise ConfigError(f"{path} is not a config of Google's {family}: {'; '.join(problems)}.")
    if unknown:
        warn_once(_logger, f"{path}: unknown keys were ignored: {list_unread(unknown)}.")
    config: dict[str, Any] = {"model_type": family}
    config |= {key: given[key] for key in known}
    config["hidden_act"] = activations[activation.lower()]
    config["layer_norm_eps"] = LAYER_NORM_EPSILON
    return config


def _wrong_values(config: Mapping[str, Any]) -> list[str]:
    """Returns the problems of the values of a model's keys, one clause each."""
    problems = []
    for key, value in config.items():
        if key == "hidden_act":
            continue
        if key in _RATES:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value < 1:
                problems.append(f"`{key}` must be a number in [0, 1), received {value!r:.80}")
        else:
            most = _MOST.get(key, _LARGEST)
            if type(value) is not int or not 1 <= value <= most:
                problems.append(
                    f"`{key}` must be an integer of 1 to {most:,}, received {value!r:.80}"
                )
    return problems


def electra_config(source: TensorSource) -> dict[str, Any]:
    """Computes the config of an ELECTRA from the shapes of its tensors.

    Args:
        source: an open checkpoint.

    Returns:
        dict, the contents of a config.json.

    Raises:
        CheckpointError: the tensors are not those of an ELECTRA.
    """
    layer = "electra.encoder.layer.{}.intermediate.dense.weight"
    try:
        vocabulary, embedding_size = source.shape(WORD_EMBEDDINGS["electra"])
        positions, _ = source.shape("electra.embeddings.position_embeddings.weight")
        segments, _ = source.shape("electra.embeddings.token_type_embeddings.weight")
        intermediate, hidden = source.shape(layer.format(0))
    except ValueError as error:  # or a CheckpointError, which names the missing tensor
        raise CheckpointError(f"{source.path} is not an ELECTRA: {error}") from None
    layers = 0
    while layer.format(layers) in source:
        layers += 1
    return {
        "model_type": "electra",
        "vocab_size": vocabulary,
        "embedding_size": embedding_size,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, hidden // 64),
        "intermediate_size": intermediate,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": positions,
        "type_vocab_size": segments,
        "initializer_range": 0.02,
        "layer_norm_eps": LAYER_NORM_EPSILON,
    }


def describe_heads(source: TensorSource, family: str) -> dict[str, Any]:
    """Returns the keys of config.json that describe a checkpoint's heads.

    Args:
        source: an open checkpoint.
        family: "bert", "albert" or "electra".

    Returns:
        dict with `architectures`, and with the labels of a classifier.

    Raises:
        CheckpointError: the classifier has no labels.
    """

    def has(*names: str) -> bool:
        return all(name in source for name in names)

    if family == "electra":
        heads = {"ForPreTraining": "discriminator_predictions.dense.weight"}
        if "discriminator_predictions.dense.weight" not in source:
            heads = {"ForMaskedLM": "generator_lm_head.bias"}
    elif family == "albert":
        heads = {
            "ForPreTraining": "sop_classifier.classifier.weight",
            "ForMaskedLM": "predictions.bias",
            "ForSequenceClassification": "classifier.weight",
        }
    else:
        heads = {
            "ForMaskedLM": "cls.predictions.bias",
            "ForNextSentencePrediction": "cls.seq_relationship.weight",
            "ForSequenceClassification": "classifier.weight",
            "ForQuestionAnswering": "qa_outputs.weight",
        }
        if has("cls.predictions.bias", "cls.seq_relationship.weight"):
            heads = {"ForPreTraining": "cls.predictions.bias"}
    head = next((head for head, name in heads.items() if has(name)), "Model")
    name = {"bert": "Bert", "albert": "Albert", "electra": "Electra"}[family]
    described: dict[str, Any] = {"architectures": [name + head]}
    if head == "ForSequenceClassification":
        shape = source.shape("classifier.weight")
        if len(shape) != 2 or not 1 <= shape[0] <= LABEL_LIMIT:
            raise CheckpointError(
                f"{source.path}: expected a classifier of shape (labels, width), received {shape}."
            )
        labels = [f"LABEL_{i}" for i in range(shape[0])]
        described["id2label"] = {str(i): label for i, label in enumerate(labels)}
        described["label2id"] = {label: i for i, label in enumerate(labels)}
    return described


def to_google_config(
    config: Mapping[str, Any], family: str, *, ignore: Iterable[str] = ()
) -> dict[str, Any]:
    """Translates a Hugging Face config into Google's.

    Args:
        config: dict, the contents of a config.json.
        family: "bert", "albert" or "electra".
        ignore: keys to omit although Google's format does not support them.

    Returns:
        dict, the contents of a bert_config.json.

    Raises:
        ConfigError: Google's format does not support some keys. The message lists them.
    """
    ignored = frozenset(ignore)
    known = (*SHARED_KEYS, *FAMILY_KEYS[family])
    problems = [f"`{key}` is missing" for key in known if key not in config]
    problems += _wrong_values({key: config[key] for key in known if key in config})
    unknown = []
    for key, value in config.items():
        if key in known or key in ignored or key in _SILENT_KEYS:
            continue
        expected = _FIXED_VALUES.get(key)
        if expected is None:
            if is_refused(key, value):
                problems.append(f"`{show_name(key)}` = {value!r:.80} (there is no such option)")
            elif key not in NEUTRAL_KEYS and key not in REFUSED_KEYS:
                unknown.append(key)
        elif value not in expected:
            values = " or ".join(repr(v) for v in expected)
            problems.append(f"`{key}` = {value!r:.80} (expected {values})")
    labels = config.get("id2label")
    if labels and "id2label" not in ignored:
        named = [v for k, v in labels.items() if v != f"LABEL_{k}"]
        if named:
            problems.append(f"`id2label`, the label names ({list_some(list(map(str, named)))})")
    back = {theirs: ours for ours, theirs in ACTIVATIONS[family].items()}
    activation = config.get("hidden_act")
    if not isinstance(activation, str) or activation not in back:
        problems.append(f"`hidden_act` = {activation!r:.80} (expected one of: {', '.join(back)})")
    if problems:
        raise ConfigError(
            f"Google's format of {family} does not support this config: {'; '.join(problems)}. To "
            "omit a key, name it in `ignore_config_keys`."
        )
    if unknown:
        warn_once(_logger, f"Unknown keys of config.json were omitted: {list_unread(unknown)}.")
    return {key: config[key] for key in known} | {"hidden_act": back[str(activation)]}


# Values that are fixed in Google's code.
_FIXED_VALUES: dict[str, tuple[Any, ...]] = {
    "layer_norm_eps": (LAYER_NORM_EPSILON,),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "classifier_dropout": (None, 0.1),  # of run_classifier.py
    "classifier_dropout_prob": (0.1,),
    "pad_token_id": (0, None),
    "problem_type": (None, "single_label_classification"),
    "summary_type": ("first",),
    "summary_use_proj": (True,),
    "summary_activation": ("gelu", None),
    "summary_last_dropout": (0.1,),
    "tie_word_embeddings": (True,),
    "pooler_type": ("first_token_transform", None),
    "directionality": ("bidi", None),
    "chunk_size_feed_forward": (0, None),
    "net_structure_type": (0, None),
    "gap_size": (0, None),
    "num_memory_blocks": (0, None),
    "down_scale_factor": (1, None),
}
# Keys that do not affect the model.
_SILENT_KEYS = frozenset(
    """model_type architectures id2label label2id num_labels _name_or_path transformers_version
    dtype torch_dtype use_cache gradient_checkpointing output_attentions output_hidden_states
    return_dict bos_token_id eos_token_id cls_token_id sep_token_id mask_token_id unk_token_id
    tokenizer_class finetuning_task task_specific_params torchscript use_bfloat16
    _attn_implementation attn_implementation language license name output_past
    pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head""".split()
)

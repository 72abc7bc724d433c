"""Translates a Hugging Face config into options of KerasHub's constructors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_zoo.checkpoints.keras_hub.config import is_size, mismatched_counts
from keras_bert_zoo.checkpoints.keras_hub.keys import TANH_GELU
from keras_bert_zoo.checkpoints.keras_hub.layout import Family, Head
from keras_bert_zoo.checkpoints.keras_hub.names import FAMILIES
from keras_bert_zoo.checkpoints.messages import show_name
from keras_bert_zoo.config_keys import NEUTRAL_KEYS, REFUSED_KEYS, is_refused, list_unread
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once

_logger = logging.getLogger(__name__)

_OURS = frozenset({"model_type", "initializer_range", "pad_token_id", "tie_word_embeddings"})


def find_family(config: Mapping[str, Any]) -> Family:
    """Returns the family of a Hugging Face config, or raises ConfigError."""
    families = {family.model_type: family for family in FAMILIES.values()}
    if not isinstance(config.get("model_type"), str) or config["model_type"] not in families:
        raise ConfigError(
            f"KerasHub has no encoder for `model_type` = {config.get('model_type')!r:.80}. "
            f"Expected one of: {', '.join(sorted(families))}."
        )
    return families[config["model_type"]]


def read_architecture(config: Mapping[str, Any]) -> str:
    """Returns the only name in `architectures`, or "" if it is empty."""
    given = config.get("architectures") or [""]
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 1:
        raise ConfigError(f"`architectures` must be a list of one name, received {given!r:.80}.")
    return str(given[0])


def find_head(
    family: Family, architecture: str, names: Mapping[str, str]
) -> tuple[str, Head | None]:
    """Returns the kind and the head of a checkpoint, or ("", None)."""
    if architecture in ("", family.model):
        heads = {head.layers[-1].name: head.architecture for head in family.heads.values()}
        for name, expected in heads.items():
            if any(other.startswith(name) for other in names):
                raise ConfigError(
                    f"Expected `architectures` to be [{expected!r}], because there are tensors of "
                    f"a head ({name}). Pass `encoder_only=True` to convert only the encoder."
                )
        return "", None
    for kind, head in family.heads.items():
        if head.architecture == architecture:
            return kind, head
    reason = family.refused.get("MaskedLM", "") if architecture.endswith("ForMaskedLM") else ""
    reason = f" ({reason})" if reason else ""
    supported = [family.model, *(head.architecture for head in family.heads.values())]
    raise ConfigError(
        f"KerasHub does not support the head of {architecture}{reason}. In this family, it "
        f"supports: {', '.join(supported)}. Pass `encoder_only=True` to convert only the encoder."
    )


def _value(family: Family, config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Returns a value of config.json, or its default."""
    return config.get(key, family.defaults.get(key, default))


def pad_token_id(family: Family, config: Mapping[str, Any]) -> int:
    """Returns the padding token id of a family whose positions depend on it."""
    pad = config.get("pad_token_id", 1)
    if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
        raise ConfigError(
            f"`pad_token_id` of a {family.model_type} model must be an integer >= 0, because its "
            f"positions start after this id, received {pad!r}."
        )
    return pad


def backbone_options(
    family: Family, head: Head | None, config: Mapping[str, Any], approximate_gelu: bool
) -> dict[str, Any]:
    """Returns the options of a backbone, or raises a ConfigError that lists all problems."""
    heads = family.heads.values()
    known = {key for keys in family.config.values() for key in keys}
    known |= {*family.fixed, *family.neutral, *_OURS, *NEUTRAL_KEYS}
    known |= {key for kind in heads for key in (*kind.config.values(), *kind.fixed)}
    other = {key: value for key, value in config.items() if key not in known}
    problems = [
        f"`{show_name(key)}` = {value!r:.80} is not supported"
        for key, value in other.items()
        if is_refused(key, value)
    ]
    unknown = [key for key in other if key not in REFUSED_KEYS and not is_refused(key, other[key])]
    if unknown:
        warn_once(_logger, f"Unknown keys of config.json were omitted: {list_unread(unknown)}.")
    fixed = {**family.fixed, **(head.fixed if head else {})}
    for key, values in fixed.items():
        value = _value(family, config, key, values[0])
        if key == "max_relative_positions" and value == config.get("max_position_embeddings"):
            continue
        gelu = TANH_GELU in (values, fixed.get("hidden_act")) and key == "hidden_act"
        if gelu and approximate_gelu and value in ("gelu", "gelu_python"):
            continue
        if value not in values:
            hint = ""
            if gelu and value in ("gelu", "gelu_python"):
                hint = (
                    "; pass `approximate_gelu=True` to write the tanh approximation, which "
                    "differs by about 1e-3"
                )
            problems.append(f"`{key}` = {value!r:.80}, but KerasHub always has {values[0]!r}{hint}")
    options: dict[str, Any] = {}
    for ours, keys in family.config.items():
        given = [_value(family, config, key) for key in keys]
        options[ours] = given[0]
        if len(set(map(repr, given))) > 1:
            pairs = " and ".join(f"`{key}` = {v!r}" for key, v in zip(keys, given, strict=True))
            problems.append(f"{pairs}, but KerasHub has one `{ours}`")
        elif not (_is_rate(given[0]) if ours == "dropout" else is_size(ours, given[0])):
            problems.append(f"`{keys[0]}` = {given[0]!r:.80}")
    if family.position_offset is not None and not problems:
        options["max_sequence_length"] -= family.position_offset + pad_token_id(family, config)
        if options["max_sequence_length"] < 1:
            problems.append("`max_position_embeddings` is too small for any position")
    if not problems:
        problems += mismatched_counts(options)
    if problems:
        raise ConfigError(
            f"KerasHub's {family.backbone} does not support this {family.model_type} model: "
            + "; ".join(problems)
            + "."
        )
    return options


def head_options(
    family: Family,
    kind: str,
    head: Head | None,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the options of a task's constructor, without the backbone."""
    if head is None or kind != "TextClassifier":
        return {}
    labels = config.get("id2label")
    count = len(labels) if labels else config.get("num_labels", 2)
    hidden = _value(family, config, next(iter(family.config["dropout"])))
    dropout = _value(family, config, head.config["dropout"])
    options = {"num_classes": count, "dropout": hidden if dropout is None else dropout}
    problems = [] if is_size("num_classes", count) else [f"`num_labels` = {count!r:.80}"]
    if not _is_rate(options["dropout"]):
        problems.append(f"`{head.config['dropout']}` = {options['dropout']!r:.80}")
    if family.model_type == "deberta-v2":
        rate = config.get("cls_dropout")
        if rate not in (None, hidden):
            problems.append(f"`cls_dropout` = {rate!r:.80}, but KerasHub has the encoder's")
        width = _value(family, config, "hidden_size")
        if config.get("pooler_hidden_size", width) != width:
            problems.append("`pooler_hidden_size` must be `hidden_size`")
    if problems:
        raise ConfigError(
            f"KerasHub's {family.name}{kind} does not support this classifier: "
            f"{'; '.join(problems)}."
        )
    return options


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1

"""Checks of a parsed config.json that do not depend on the family."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once

_logger = logging.getLogger(__name__)

LABEL_LIMIT = 1_000_000
"""The largest number of labels."""


def is_keras_hub_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json contains a serialized KerasHub object.

    >>> is_keras_hub_config({"class_name": "BertBackbone", "registered_name": "x>BertBackbone"})
    True
    """
    return "registered_name" in config and "class_name" in config


def check_config(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Checks the keys of config.json that all families share.

    Labels that are numbers or booleans become strings, as in transformers. `id2label` is dropped if
    it is null, or if `num_labels` differs from the number of its labels.

    Args:
        config: dict. The parsed JSON.
        path: Path of the file, for messages.

    Returns:
        dict.

    Raises:
        ConfigError: some values are malformed. The message lists their keys.

    Example:
    >>> check_config({"model_type": "bert", "id2label": {"0": 7}}, Path("config.json"))
    {'model_type': 'bert', 'id2label': {'0': '7'}}
    """
    problems = [
        f"`{key}` must be a string, received {config[key]!r:.80}"
        for key in ("model_type", "problem_type")
        if not isinstance(config.get(key), str | None)
    ]
    names = config.get("architectures")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        problems.append(f"`architectures` must be a list of names, received {names!r:.80}")
    for key in ("num_labels", "_num_labels"):
        count = config.get(key)
        if count is not None and (type(count) is not int or not 0 <= count <= LABEL_LIMIT):
            problems.append(
                f"`{key}` must be an integer of 0 to {LABEL_LIMIT:,}, received {count!r:.80}"
            )
    labels: Any = config.get("id2label")
    if labels is not None and not _are_labels(labels):
        problems.append(
            f"`id2label` must be an object, id -> name, with ids from 0, received {labels!r:.80}"
        )
    if problems:
        raise ConfigError(f"{path} is malformed: {'; '.join(problems)}.")
    count = config.get("num_labels")
    contradicted = bool(labels) and count not in (None, len(labels))
    if contradicted:
        warn_once(
            _logger,
            f"{path}: `num_labels` is {count}, but `id2label` names {len(labels)} labels; the "
            "number is used, as in transformers, and the names are dropped. Correct one of the two "
            "to keep the names.",
        )
    named = {key: str(name) for key, name in (labels or {}).items() if name is not None}
    if contradicted or not named:  # null: transformers' default labels
        dropped = ("id2label", "label2id") if contradicted else ("id2label",)
        return {key: value for key, value in config.items() if key not in dropped}
    return config | {"id2label": named}


def _are_labels(labels: Any) -> bool:
    return (
        isinstance(labels, dict)
        and len(labels) <= LABEL_LIMIT
        and all(key.isascii() and key.isdigit() and len(key) <= 7 for key in labels)
        and len({int(key) for key in labels}) == len(labels)
        and all(int(key) < LABEL_LIMIT for key in labels)
        and all(isinstance(name, str | int | float | None) for name in labels.values())
    )

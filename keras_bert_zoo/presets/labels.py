"""The keys of config.json that name the classes and the labels of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_zoo.validation import is_integer


def architectures_of(raw: Mapping[str, Any]) -> list[str]:
    """Returns the transformers classes in a config.json. Entries that are not strings are skipped.

    Args:
        raw: dict. The contents of config.json.

    Returns:
        list of str.

    Example:
    >>> architectures_of({"architectures": ["BertModel", None]}), architectures_of({})
    (['BertModel'], [])
    """
    names = raw.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def label_config(labels: Sequence[str]) -> dict[str, Any]:
    """Returns the keys of config.json that name the labels.

    Args:
        labels: names of the labels, in the order of their ids.

    Returns:
        dict with `id2label` and `label2id`.

    Example:
    >>> label_config(["no", "yes"])
    {'id2label': {'0': 'no', '1': 'yes'}, 'label2id': {'no': 0, 'yes': 1}}
    """
    return {
        "id2label": {str(i): str(label) for i, label in enumerate(labels)},
        "label2id": {str(label): i for i, label in enumerate(labels)},
    }


def label_count(config: Mapping[str, Any]) -> int | None:
    """Returns the number of labels in a config.json, or None if it has no such key.

    Args:
        config: dict. The contents of config.json.

    Returns:
        int or None.

    Example:
    >>> label_count({"id2label": {"0": "no", "1": "yes"}}), label_count({"num_labels": 5})
    (2, 5)
    """
    if isinstance(config.get("id2label"), Mapping):
        return len(config["id2label"])
    count = config.get("num_labels")
    return count if is_integer(count) else None

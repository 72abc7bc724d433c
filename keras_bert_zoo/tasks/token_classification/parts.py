"""The parts of a TokenClassifier: new ones, and those of a directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.tagging import make_tags
from keras_bert_zoo.data.tags import MODEL_SCHEMES, check_scheme
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.heads.global_pointer import GlobalPointerHead
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.presets.extra_weights import EXTRA_WEIGHTS_FILE
from keras_bert_zoo.tasks.loading import TaskSource, saved_labels


def check_nested(types: Sequence[str], **options: Any) -> None:
    """Checks the types of nested entities; rejects options of tags.

    Raises:
        ConfigError: an option is given, or the types are none or repeated.
    """
    for name, value in options.items():
        if value:
            raise ConfigError(f"`{name}={value!r}` is for tags, not for nested entities: omit it.")
    if len(set(types)) != len(types) or not types:
        raise ConfigError(f"Expected different types of nested entities, received {list(types)!r}.")


def new_head(kind: str, encoder: Encoder, count: int, *, nested: bool) -> keras.layers.Layer:
    """Makes a head with new weights.

    Args:
        kind: str. The head whose dropout and initializer it gets; see `Encoder.head_options`.
        encoder: Encoder.
        count: int. The number of tags, or of types of nested entities.
        nested: bool.

    Returns:
        TokenClassificationHead, or GlobalPointerHead.
    """
    if not nested:
        return make_head(kind, encoder, count)
    options = encoder.head_options(kind)
    return GlobalPointerHead(
        count,
        name="global_pointer",
        dropout=options["dropout"],
        initializer_range=options["initializer_range"],
    )


def new_tags(
    labels: Sequence[str], *, nested: bool | None, scheme: str | None, **options: Any
) -> tuple[list[str], str | None]:
    """Checks the arguments for a new head; see `TokenClassifier.from_preset`.

    Returns:
        the tags and their scheme; of nested entities the types and None.

    Raises:
        ConfigError: repeated labels, an unknown scheme, or options of tags with `nested`.
    """
    types = list(LabelMap.of(labels).names)
    if nested:
        check_nested(types, scheme=scheme, **options)
        return types, None
    scheme = check_scheme(scheme or "IOB2", MODEL_SCHEMES)
    return make_tags(types, scheme), scheme


def new_tagger(
    source: TaskSource, tags: Sequence[str], *, nested: bool | None, **options: Any
) -> Any:
    """Builds a tagger with a new head."""
    if nested:
        parts = source.load_bare(side={}, pooler=False)
    else:
        parts = source.load(new_head=True, units=len(tags))
    return parts.build(source.task_class, tags, head=parts.head, nested=bool(nested), **options)


def load_tagger(source: TaskSource, *, nested: bool | None, **options: Any) -> Any:
    """Builds a tagger with the head of a preset; see `TokenClassifier.from_preset`."""
    saved_nested = bool(source.side.get("nested", False))
    if nested is not None and bool(nested) != saved_nested:
        raise ConfigError(
            f"{source.directory} has {'a' if saved_nested else 'no'} head of nested entities, "
            "received "
            f"`nested={bool(nested)}`. To train a new head, pass its labels: "
            f"{source.task_class.spec.head_hint}."
        )
    if saved_nested:
        # transformers has no such head: its weights are in a separate file.
        tags = saved_labels(source.config)
        _check_saved_head(source, len(tags))
        parts = source.load_bare(side=source.side, pooler=False)
    else:
        parts = source.load(new_head=False)
        tags = saved_labels(source.config, parts.head.units)
        # A head that was trained elsewhere may use IOB1, which looks like IOB2.
        parts.side.setdefault("legal_only", "task" in source.side)
    if source.options.get("max_length") not in (None, parts.side.get("max_length")):
        parts.side.pop("stride", None)  # it may not fit other windows
    task: Any = parts.build(source.task_class, tags, head=parts.head, **options)
    if saved_nested or (task.crf is not None and parts.side.get("crf")):
        parts.load_extra_weights(task)
    return task


def _check_saved_head(source: TaskSource, types: int) -> None:
    """Raises CheckpointError if a saved head is not of `types`, before a large head is made."""
    name, expected = "global_pointer.bias", (GlobalPointerHead(types).units,)
    path = source.directory / EXTRA_WEIGHTS_FILE
    with open_safetensors(path) as tensors:
        shape = tuple(tensors.shape(name)) if name in tensors.names() else None
    if shape != expected:
        raise CheckpointError(
            f"config.json names {types} labels, for which {name} in {path} would have the shape "
            f"{expected}; {f'it has {shape}' if shape else 'it is missing'}."
        )

"""The parts of a TokenClassifier: new ones, and those of a directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.tags import MODEL_SCHEMES, check_scheme
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.heads.global_pointer import GlobalPointerHead
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.presets.io import find_preset, load_encoder, load_tokenizer
from keras_bert_zoo.tasks.files import read_side_file
from keras_bert_zoo.tasks.own_weights import OWN_WEIGHTS_FILE, load_own_weights
from keras_bert_zoo.tasks.token_classification.entities import make_tags


def check_nested(types: Sequence[str], **options: Any) -> None:
    """Sees to it that a tagger of nested entities is not asked for tags.

    Args:
        types: list of str. The types of entities.
        **options: those of tags: `scheme`, `legal_only`, `crf`.

    Raises:
        ConfigError: one of them is given, or the types are none or repeated.
    """
    for name, value in options.items():
        if value:
            raise ConfigError(
                f"`{name}={value!r}` is of tags, but nested entities are spans: leave it out."
            )
    if len(set(types)) != len(types) or not types:
        raise ConfigError(f"Expected different types of nested entities, got {list(types)!r}.")


def new_head(kind: str, encoder: Encoder, count: int, *, nested: bool) -> keras.layers.Layer:
    """Makes a head with fresh weights.

    Args:
        kind: str. Whose dropout and initializer it has; see `Encoder.head_options`.
        encoder: Encoder.
        count: int. Tags, or types of nested entities.
        nested: bool.

    Returns:
        TokenClassificationHead, or GlobalPointerHead.
    """
    if not nested:
        return make_head(kind, encoder, count)
    options = encoder.head_options(kind)
    kept = {name: options[name] for name in ("dropout", "initializer_range")}
    return GlobalPointerHead(count, name="global_pointer", **kept)


def load_tagger(
    cls: Any,
    preset: str | os.PathLike[str],
    labels: Sequence[str] | None,
    chosen: dict[str, Any],
    *,
    token_layout: str,
    **options: Any,
) -> Any:
    """Builds a tagger on a preset; see `TokenClassifier.from_preset`.

    Args:
        cls: TokenClassifier, or a subclass.
        preset: catalogued name or Hugging Face directory.
        labels: types of entities, or None.
        chosen: arguments of the constructor, None for those that are to be as saved.
        token_layout: str.
        **options: `dtype`, `allow_pickle`, `ignore_config_keys`.

    Returns:
        the tagger.

    Raises:
        ConfigError: an option or the preset's config is not supported.
        CheckpointError: the preset is not there, does not fit, or has no head to load.
    """
    scheme = chosen["scheme"]
    new_tags = None
    if labels is not None:
        new_tags = list(LabelMap.of(labels).names)
        if chosen["nested"]:
            tag_options = {name: chosen[name] for name in ("scheme", "legal_only", "crf")}
            check_nested(new_tags, **tag_options)
        else:
            scheme = check_scheme(scheme or "IOB2", MODEL_SCHEMES)
            new_tags = make_tags(new_tags, scheme)
    directory = find_preset(preset, allow_pickle=options["allow_pickle"])
    side = {} if labels is not None else read_side_file(directory)
    saved_nested = bool(side.get("nested", False))
    nested = saved_nested if chosen["nested"] is None else bool(chosen["nested"])
    if labels is None and nested != saved_nested:
        raise ConfigError(
            f"{directory} has {'a' if saved_nested else 'no'} head of nested entities, got "
            f"`nested={nested}`. To train a new one, say what it is for: {cls._head_hint()}."
        )
    head: Any = None
    if nested:
        # transformers has no such head: the weights of a saved one stand in a file beside.
        tags = new_tags or _saved_tags(read_config(directory))
        if new_tags is None:
            _check_own_head(directory, len(tags))
        encoder = load_encoder(directory, pooler=False, **options)
        tokenizer = load_tokenizer(directory)
    else:
        encoder, tokenizer, head, side = cls._load_parts(
            preset, head_width=None if new_tags is None else len(new_tags), **options
        )
        tags = new_tags or _saved_tags(read_config(directory), head.units)
    arguments = chosen | {"scheme": scheme, "nested": nested}
    if labels is None:
        same_windows = arguments["max_length"] in (None, side.get("max_length"))
        saved = {name: side.get(name) for name in ("scheme", "max_length")}
        saved["legal_only"] = None if nested else side.get("legal_only", "task" in side)
        saved["stride"] = side.get("stride") if same_windows else None
        arguments |= {n: value for n, value in saved.items() if arguments[n] is None}
    with_crf = bool(side.get("crf", False))
    arguments["crf"] = with_crf if arguments["crf"] is None else bool(arguments["crf"])
    task = cls(encoder, tokenizer, tags, head=head, token_layout=token_layout, **arguments)
    if saved_nested or (with_crf and arguments["crf"]):
        load_own_weights(directory, task._own_layers())
    task._restore(side)
    return task


def _check_own_head(directory: Path, types: int) -> None:
    """Raises CheckpointError where a saved head is not of so many types, before one is made."""
    name, wanted = "global_pointer.bias", (GlobalPointerHead(types).units,)
    path = directory / OWN_WEIGHTS_FILE
    with open_safetensors(path) as tensors:
        found = tuple(tensors.shape(name)) if name in tensors.names() else None
    if found != wanted:
        raise CheckpointError(
            f"config.json names {types} labels, for which {name} in {path} would have the shape "
            f"{wanted}; {f'it has {found}' if found else 'there is none'}."
        )


def _saved_tags(raw: dict[str, Any], count: int | None = None) -> list[str]:
    """The tags that a config.json names, which must be so many."""
    if "id2label" not in raw:
        return [f"LABEL_{i}" for i in range(count or 0)]  # what transformers calls them
    names = LabelMap.from_id2label(raw["id2label"], count).names
    if count is not None and len(names) != count:
        raise CheckpointError(
            f"config.json names {len(names)} labels, but the head in model.safetensors has {count}."
        )
    return list(names)

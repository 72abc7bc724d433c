"""Saves an encoder, alone or with heads, as a Hugging Face directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_bert_zoo.checkpoints.assign import write_tensors
from keras_bert_zoo.checkpoints.names import FamilyNames, names_of
from keras_bert_zoo.directories.replacing import find_directory, replace_directory
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE, write_json
from keras_bert_zoo.heads.kinds import HEADS
from keras_bert_zoo.presets.labels import label_config, label_count
from keras_bert_zoo.text.tokenizer import Tokenizer


def save(
    directory: str | os.PathLike[str],
    encoder: Encoder,
    heads: Mapping[str, keras.layers.Layer],
    *,
    config: Mapping[str, Any],
    tokenizer: Tokenizer | None = None,
    side: Mapping[str, Any] | None = None,
    write_more: Callable[[Path], None] | None = None,
    overwrite: bool = True,
) -> None:
    """Saves an encoder and its heads as a Hugging Face directory.

    The files are written to a temporary directory, which is then renamed. So an earlier save stays
    complete until the new one is.

    Args:
        directory: path of a missing directory, an empty one, or an earlier save.
        encoder: Encoder.
        heads: dict, kind -> layer. Empty for an encoder alone.
        config: dict. The keys of config.json that do not describe the encoder.
        tokenizer: Tokenizer or None.
        side: dict. Contents of `SIDE_FILE`, which marks a directory as an earlier save.
        write_more: function that writes further files into the directory that it receives.
        overwrite: bool. Whether to replace an earlier save.

    Raises:
        ConfigError: the family has no transformers class with these heads.
        CheckpointError: the directory cannot be written, or it exists and may not be replaced.

    Example:
    >>> import os, tempfile
    >>> from keras_bert_zoo.presets.load import load
    >>> encoder, heads, config = load("tests/assets/bert_classifier")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder, encoder, heads, config=config)
    ...     sorted(os.listdir(folder))
    ['config.json', 'keras_bert_zoo.json', 'model.safetensors']
    """
    if not overwrite and os.path.exists(find_directory(directory)):
        raise CheckpointError(f"{os.fspath(directory)!r} exists, and `overwrite` is False.")
    family = names_of(encoder.config)
    contents = _config_json(family, encoder, heads, config)
    names, variables = _variables(family, encoder, heads)
    copies = {}
    if "masked_lm" in heads and not heads["masked_lm"].tied:
        # transformers reads the repeated names of an untied model, too.
        written = {names[variable.path] for variable in variables}
        copies = {
            source: name
            for name, source in family.tied.items()
            if source in written and name not in written
        }
    with replace_directory(directory, CheckpointError, marker=SIDE_FILE) as aside:
        write_json(aside / "config.json", contents)
        write_json(aside / SIDE_FILE, dict(side or {"heads": sorted(heads)}))
        if tokenizer is not None:
            tokenizer.save(aside)
        write_tensors(aside, variables, names, copies=copies)
        if write_more is not None:
            write_more(aside)


def _config_json(
    family: FamilyNames,
    encoder: Encoder,
    heads: Mapping[str, keras.layers.Layer],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    kinds = "+".join(sorted(heads))
    if kinds not in family.architectures:
        known = ", ".join(repr(key) for key in family.architectures if key)
        raise ConfigError(
            f"transformers has no {encoder.config.family} class with the heads {kinds!r}, so they "
            f"cannot be saved as one model. Expected one of: {known}."
        )
    contents = {
        "architectures": [family.architectures[kinds]],
        **encoder.config.to_huggingface(),
        **config,
        "dtype": "float32",
    }
    for kind, head in heads.items():
        if HEADS[kind].labelled and label_count(contents) != head.units:
            contents |= label_config([f"LABEL_{i}" for i in range(head.units)])
    if "id2label" in contents:  # it also gives the number of labels
        for key in ("num_labels", "_num_labels"):
            contents.pop(key, None)
    return contents


def _variables(
    family: FamilyNames, encoder: Encoder, heads: Mapping[str, keras.layers.Layer]
) -> tuple[dict[str, str], list[keras.Variable]]:
    """Returns variable path -> tensor name, and the variables to write."""
    names = family.encoder(encoder.config)
    variables = list(encoder.weights)
    for kind in heads or [""]:
        if not kind or HEADS[kind].pooled:
            names |= family.pooler(kind)
    if heads and not any(HEADS[kind].pooled for kind in heads):
        variables = encoder.weights_without_pooler()
    for kind, head in heads.items():
        names |= family.heads[kind]
        variables += head.weights
    return (names if heads else family.in_file(names, "")), variables

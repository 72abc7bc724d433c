"""Writes BERT, ALBERT and ELECTRA in Google's TF1 format."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.google.config import WORD_EMBEDDINGS, to_google_config
from keras_bert_zoo.checkpoints.google.names import (
    ENCODERS,
    HEADS,
    OPTIONAL_ROWS,
    NameTable,
    Row,
    expand,
)
from keras_bert_zoo.checkpoints.messages import list_some, one_line
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorSource
from keras_bert_zoo.errors import CheckpointError, ConfigError

# File names of Google's archives.
_FILES = {
    "bert": ("bert_model.ckpt", "bert_config.json"),
    "albert": ("model.ckpt-best", "albert_config.json"),
    # Google's ELECTRA has no config file. Some readers need one for the number of heads.
    "electra": ("electra_model.ckpt", "electra_config.json"),
}
_PREFIXES = {"bert": "bert.", "albert": "albert.", "electra": "electra."}

# Hugging Face's copies of other tensors. Google's code uses the originals.
_TIED = {
    "bert": {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    "albert": {
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    "electra": {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
}
# Buffers, not weights.
_BUFFERS = re.compile(r"(\w+\.)?embeddings\.(position_ids|token_type_ids)")


def write_google_checkpoint(
    directory: str | os.PathLike[str],
    config: Mapping[str, Any],
    tensors: TensorSource | Mapping[str, np.ndarray],
    vocabulary_file: str | os.PathLike[str] | None = None,
    *,
    ignore_config_keys: Iterable[str] = (),
) -> list[str]:
    """Writes a TF1 checkpoint and its config, like google-research/bert, /albert and /electra.

    All tensors are in memory at once, in float32.

    Args:
        directory: path of an existing directory.
        config: dict, the contents of a config.json. `model_type` is the family.
        tensors: tensors by Hugging Face's names, with or without the encoder's prefix.
        vocabulary_file: path of a vocab.txt or a SentencePiece model to copy.
        ignore_config_keys: config keys to omit although Google's format does not support them.

    Returns:
        list of the names of the files.

    Raises:
        ConfigError: Google's format does not support some keys. The message lists them.
        CheckpointError: tensors are missing, unknown to Google's format or inconsistent with the
            config; or a file cannot be written.
    """
    directory = Path(directory)
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _FILES:
        raise ConfigError(
            f"Google has no format for `model_type` = {family!r:.80}. Expected one of: "
            f"{', '.join(_FILES)}."
        )
    google_config = to_google_config(config, family, ignore=ignore_config_keys)
    variables = _translate(family, google_config, tensors)
    checkpoint, config_name = _FILES[family]
    names = sorted(variables)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(directory / checkpoint),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[variables[name] for name in names],
        )
        text = json.dumps(google_config, indent=2) + "\n"
        (directory / config_name).write_text(text, "utf-8")
        written = [f"{checkpoint}.index", f"{checkpoint}.data-00000-of-00001", config_name]
        if vocabulary_file is not None:
            source = Path(vocabulary_file)
            name = "vocab.txt" if source.suffix == ".txt" else source.name
            shutil.copyfile(source, directory / name)
            written.append(name)
    except (tf.errors.OpError, OSError) as error:
        raise CheckpointError(
            f"Cannot write {directory / checkpoint}: {one_line(error)}."
        ) from None
    return written


def _translate(
    family: str, config: Mapping[str, Any], tensors: TensorSource | Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns Google's variables, and checks that none is missing."""
    names = tensors.names() if isinstance(tensors, TensorSource) else list(tensors)
    prefixed = _prefixed(family, names)
    table = NameTable(family)
    matches: dict[str, str] = {}  # Google's name -> name in `tensors`
    transposed: set[str] = set()
    unknown, untied = [], []
    for name in names:
        full = prefixed[name]
        if _BUFFERS.fullmatch(name):
            continue
        original = _TIED[family].get(full)
        if original is not None:
            source = next((n for n in names if prefixed[n] == original), None)
            if source is None or not np.array_equal(_read(tensors, name), _read(tensors, source)):
                untied.append(f"{name} (expected a copy of {original})")
            continue
        translation = table.to_google(full)
        if translation is None:
            unknown.append(name)
            continue
        matches[translation.name] = name
        if translation.transposed:
            transposed.add(translation.name)
    required, allowed = _expected(family, config, matches)
    missing = sorted(required - matches.keys())
    unknown += [
        name
        for google, name in matches.items()
        if google not in allowed and not google.startswith("generator/")
    ]
    # The encoder of a separate Hugging Face generator has the names of Google's discriminator.
    alone = "generator_predictions/output_bias" in matches and not any(
        name.startswith("generator/") for name in matches
    )
    if alone:
        unknown += sorted(
            name for google, name in matches.items() if google.startswith("generator_predictions/")
        )
    misshapen = _misshapen(family, config, tensors, prefixed)
    wrong_dtype = [
        f"{name} ({_dtype(tensors, name)})"
        for name in matches.values()
        if _dtype(tensors, name) not in FLOAT_DTYPES
    ]
    problems = [
        f"{label}: {list_some(items)}"
        for label, items in (
            ("not supported", unknown),
            ("not tied", untied),
            ("missing", missing),
            ("misshapen", misshapen),
            ("not floating-point", wrong_dtype),
        )
        if items
    ]
    if problems:
        raise CheckpointError(
            f"These tensors cannot be written in Google's format of {family}: "
            + "; ".join(problems)
            + "."
            + " Pass `encoder_only=True` to convert only the encoder." * bool(unknown)
        )
    variables = {}
    for google, name in matches.items():
        value = _read(tensors, name)
        single = np.ascontiguousarray(value.T if google in transposed else value, np.float32)
        if value.dtype == np.float64 and not np.array_equal(
            single, value.T if google in transposed else value, equal_nan=True
        ):
            raise CheckpointError(
                f"{name} has float64 values that float32, Google's dtype, cannot represent."
            )
        variables[google] = single
    return variables


def _prefixed(family: str, names: list[str]) -> dict[str, str]:
    """Maps names to the names in a model with heads."""
    prefix = _PREFIXES[family]
    if any(name.startswith(prefix) for name in names):
        return {name: name for name in names}
    parts = ("embeddings.", "encoder.", "pooler.", "embeddings_project.")
    return {name: prefix + name if name.startswith(parts) else name for name in names}


def _expected(
    family: str, config: Mapping[str, Any], matches: Mapping[str, str]
) -> tuple[set[str], set[str]]:
    """Returns the required variables and all allowed ones.

    The encoder is required, and so are all variables of a head with at least one tensor. A
    generator is not checked, because its sizes are not in the config.
    """
    required: set[str] = set()
    allowed: set[str] = set()
    has_projection = config.get("embedding_size", config["hidden_size"]) != config["hidden_size"]
    for row in ENCODERS[family]:
        if row.huggingface not in OPTIONAL_ROWS or has_projection:
            required |= _expand(row, family, config)
    for part, rows in HEADS[family].items():
        if part == "generator":
            continue
        whole = set().union(*(_expand(row, family, config) for row in rows))
        allowed |= whole
        if whole & matches.keys():
            required |= whole
    return required, required | allowed


def _expand(row: Row, family: str, config: Mapping[str, Any]) -> set[str]:
    if family == "albert":
        first, second = int(config["num_hidden_groups"]), int(config["inner_group_num"])
    else:
        first, second = int(config["num_hidden_layers"]), 1
    return {
        google.format(i=i, j=j)
        for google, _, _ in expand(row)
        for i in range(first)
        for j in range(second)
    }


def _misshapen(
    family: str,
    config: Mapping[str, Any],
    tensors: TensorSource | Mapping[str, np.ndarray],
    prefixed: Mapping[str, str],
) -> list[str]:
    """Compares the shapes of the embeddings with the config. All other shapes follow from them."""
    width = config.get("embedding_size", config["hidden_size"])
    words = WORD_EMBEDDINGS[family]
    expected = {
        words: (config["vocab_size"], width),
        words.replace("word", "position"): (config["max_position_embeddings"], width),
        words.replace("word", "token_type"): (config["type_vocab_size"], width),
    }
    problems = []
    for name, full in prefixed.items():
        if full in expected:
            shape = _shape(tensors, name)
            if shape != expected[full]:
                problems.append(f"{name} (expected {expected[full]}, received {shape})")
    return problems


def _read(tensors: TensorSource | Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return tensors.read(name) if isinstance(tensors, TensorSource) else np.asarray(tensors[name])


def _shape(tensors: TensorSource | Mapping[str, np.ndarray], name: str) -> tuple[int, ...]:
    return tensors.shape(name) if isinstance(tensors, TensorSource) else tensors[name].shape


def _dtype(tensors: TensorSource | Mapping[str, np.ndarray], name: str) -> np.dtype[Any]:
    return tensors.dtype(name) if isinstance(tensors, TensorSource) else tensors[name].dtype

"""Detects the format of a checkpoint and opens it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from keras_bert_zoo.checkpoints.config_file import existing_directory
from keras_bert_zoo.checkpoints.file_names import (
    KERAS_FILE,
    KERAS_HUB_FILE,
    KERAS_HUB_INDEX,
    PYTORCH_FILE,
    PYTORCH_INDEX,
    SAFETENSORS_FILE,
    SAFETENSORS_INDEX,
)
from keras_bert_zoo.checkpoints.messages import list_some, show_name
from keras_bert_zoo.checkpoints.pytorch.bin import open_pytorch_bin
from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.checkpoints.source import TensorSource
from keras_bert_zoo.checkpoints.transformers_h5 import open_keras_h5
from keras_bert_zoo.errors import CheckpointError

Format = Literal["huggingface", "google", "keras-hub"]
"""The name of a format. All files of transformers are "huggingface"."""


class _Weights(NamedTuple):
    """A file of weights: its name, its format, and its reader.

    Args:
        pattern: str. Name of the file, or a glob pattern.
        format: Format.
        open: function that opens the file, or its directory.
        takes_directory: bool. Whether `open` receives the directory.
        is_pickle: bool.
    """

    pattern: str
    format: Format
    open: Callable[[Path], TensorSource]
    takes_directory: bool = False
    is_pickle: bool = False


# These readers import TensorFlow, which takes seconds. Reading config.json must not need it.


def _open_google(directory: Path) -> TensorSource:
    from keras_bert_zoo.checkpoints.google.tf1 import open_google

    return open_google(directory)


def _open_keras_hub(directory: Path) -> TensorSource:
    from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub

    return open_keras_hub(directory)


# In order of preference.
_WEIGHTS = (
    _Weights(SAFETENSORS_FILE, "huggingface", open_safetensors),
    _Weights(SAFETENSORS_INDEX, "huggingface", open_safetensors),
    _Weights(KERAS_HUB_FILE, "keras-hub", _open_keras_hub, takes_directory=True),
    _Weights(KERAS_HUB_INDEX, "keras-hub", _open_keras_hub, takes_directory=True),
    _Weights(KERAS_FILE, "huggingface", open_keras_h5),
    _Weights("*.index", "google", _open_google, takes_directory=True),
    _Weights(PYTORCH_FILE, "huggingface", open_pytorch_bin, is_pickle=True),
    _Weights(PYTORCH_INDEX, "huggingface", open_pytorch_bin, is_pickle=True),
)
# Patterns of the weights files of all formats.
_PATTERNS = ("*.safetensors", "*.bin", "*.h5", "*.index", "*.data-*")


def open_checkpoint(
    directory: str | os.PathLike[str], *, allow_pickle: bool = False
) -> TensorSource:
    """Opens a checkpoint of any format.

    If a directory has several formats, the first of this list is opened: model.safetensors (one
    file, then shards), KerasHub's model.weights.h5, tf_model.h5, Google's *.ckpt*.index,
    pytorch_model.bin (a pickle).

    Args:
        directory: path of an existing directory.
        allow_pickle: bool. Whether a pytorch_model.bin may be read. Its contents are checked
            against a closed list, and nothing in it is executed. It is off by default because
            other formats are safer.

    Returns:
        TensorSource. Close it, or use it as a context manager.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged or hostile.

    Example:
    >>> with open_checkpoint("tests/assets/bert_gelu") as tensors:
    ...     tensors.shape("embeddings.word_embeddings.weight")
    (61, 16)
    """
    directory = existing_directory(directory)
    weights, path = _find_weights(directory)
    if weights.is_pickle and not allow_pickle:
        raise CheckpointError(
            f"{directory} has weights only in {path.name}, a pickle, which is not read by "
            "default. Convert it to model.safetensors, or pass `allow_pickle=True`: its contents "
            "are then checked against a closed list, and nothing in it is executed."
        )
    try:
        return weights.open(path)
    except CheckpointError:
        _check_is_downloaded(directory)
        raise


def detect_format(directory: str | os.PathLike[str]) -> Format:
    """Returns the format in which `open_checkpoint` reads a checkpoint.

    Args:
        directory: path of an existing directory.

    Returns:
        "huggingface", "google" or "keras-hub".

    Raises:
        CheckpointError: there is no checkpoint.

    Example:
    >>> detect_format("tests/assets/google_bert")
    'google'
    """
    return _find_weights(existing_directory(directory))[0].format


def _find_weights(directory: Path) -> tuple[_Weights, Path]:
    """Returns the preferred weights of a directory, and the path that opens them."""
    for weights in _WEIGHTS:
        paths = list(directory.glob(weights.pattern))
        if weights.format != "google":
            paths = [path for path in paths if path.is_file()]
        if paths:
            return weights, directory if weights.takes_directory else paths[0]
    raise CheckpointError(
        f"No {SAFETENSORS_FILE} in {str(directory)!r}, and no other supported checkpoint: "
        f"{SAFETENSORS_INDEX} with its shards, {KERAS_HUB_FILE} (KerasHub), {KERAS_FILE} "
        f"(transformers 4), *.ckpt.index with its data (Google's TF1) or {PYTORCH_FILE}."
        + _other_names(directory)
    )


def _other_names(directory: Path) -> str:
    """Describes files that may be weights under an unusual name."""
    usual = {".safetensors": SAFETENSORS_FILE, ".bin": PYTORCH_FILE, ".pt": PYTORCH_FILE}
    usual |= {".pth": PYTORCH_FILE, ".h5": KERAS_FILE}
    names = sorted(path.name for path in directory.iterdir() if path.suffix in usual)
    if not names:
        return ""
    expected = usual[Path(names[0]).suffix]
    return (
        f" The directory has {list_some([show_name(name) for name in names])}. If this is the "
        f"checkpoint, rename {show_name(names[0])} to {expected}."
    )


def _check_is_downloaded(directory: Path) -> None:
    """Raises CheckpointError if a weights file is a leftover of an incomplete download."""
    for path in sorted(path for pattern in _PATTERNS for path in directory.glob(pattern)):
        try:
            with open(
                path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
            ) as f:
                start = f.read(256).lstrip().lower()
        except OSError:
            continue
        if start.startswith(b"version https://git-lfs"):
            raise CheckpointError(
                f"Expected weights in {path}, received a Git LFS pointer. Download the file with "
                f"`git lfs pull` in {os.fspath(path.parent)!r}."
            )
        if start.startswith((b"<!doctype html", b"<html")):
            raise CheckpointError(
                f"Expected weights in {path}, received a web page, such as an error or a login "
                "page. Open the file to read the page, and download the weights again."
            )

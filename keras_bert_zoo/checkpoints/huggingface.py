"""Hugging Face's model.safetensors, read and written strictly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from keras_bert_zoo.checkpoints.names import (
    ENCODER_PREFIX,
    IGNORED,
    is_transposed,
    normalize_names,
)
from keras_bert_zoo.errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
_FLOAT_DTYPES = ("F32", "F16", "BF16", "F64")
_LISTED = 12  # mismatches named in one error; the rest are counted


class TensorFile:
    """The tensors of one safetensors file, by name; nothing is read before it is asked for.

    The safetensors library checks the header before any tensor: its size, that offsets lie inside
    the file, do not overlap and leave no gap, and that they fit dtype and shape.

    Args:
        path: of the file. Use `open_tensors`.
        file: the open file.
    """

    def __init__(self, path: str, file: Any) -> None:
        self.path = path
        self._file = file
        self._names = normalize_names(file.keys())
        if any(name.startswith(ENCODER_PREFIX) for name in self._names):
            self.encoder_prefix = ENCODER_PREFIX
        else:
            self.encoder_prefix = ""

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names(self) -> list[str]:
        """Returns the tensors' current names."""
        return list(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape without reading it."""
        return tuple(self._file.get_slice(self._names[name]).get_shape())

    def dtype(self, name: str) -> str:
        """Returns a tensor's dtype as safetensors spells it, "F32" for one."""
        return str(self._file.get_slice(self._names[name]).get_dtype())

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor."""
        return np.asarray(self._file.get_tensor(self._names[name]))


@contextmanager
def open_tensors(directory: str | os.PathLike[str]) -> Iterator[TensorFile]:
    """Opens `directory`/model.safetensors.

    Args:
        directory: path of a Hugging Face directory.

    Yields:
        TensorFile.

    Raises:
        CheckpointError: the file is missing, truncated or malformed.
    """
    path = os.path.join(directory, WEIGHTS_FILE)
    if not os.path.isfile(path):
        raise CheckpointError(
            f"No {WEIGHTS_FILE} in {os.fspath(directory)!r}. Only safetensors are read; a "
            "pytorch_model.bin can be converted with safetensors' own tools."
        )
    try:
        file = safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        size = os.path.getsize(path)
        raise CheckpointError(
            f"{path} ({size:,} bytes) is not a whole safetensors file: {error}. "
            "Fetch or write it again."
        ) from None
    with file as opened:
        yield TensorFile(path, opened)


def assign_tensors(
    tensors: TensorFile,
    variables: Sequence[keras.Variable],
    names: Mapping[str, str],
    *,
    allow_unread: Iterable[str] = (),
) -> None:
    """Copies tensors into variables; every one of them, or none.

    Args:
        tensors: an open file.
        variables: to be assigned; each one's path must stand in `names`.
        names: variable path -> tensor name in the file.
        allow_unread: regular expressions for tensors that may be left over.

    Raises:
        CheckpointError: listing all tensors that are missing, unexpected or misshapen.
    """
    missing, misshapen, wrong_dtype = [], [], []
    wanted = {}
    for variable in variables:
        name = names[variable.path]
        if name not in tensors:
            missing.append(f"{name} {tuple(variable.shape)}")
            continue
        wanted[name] = variable
        expected = tuple(variable.shape)
        if is_transposed(variable.path):
            expected = expected[::-1]
        found = tensors.shape(name)
        if found != expected:
            misshapen.append(f"{name} (expected {expected}, found {found})")
        if tensors.dtype(name) not in _FLOAT_DTYPES:
            wrong_dtype.append(f"{name} ({tensors.dtype(name)})")
    left_over = re.compile("|".join(f"(?:{p})" for p in (*IGNORED, *allow_unread)))
    unexpected = [
        f"{name} {tensors.shape(name)}"
        for name in tensors.names()
        if name not in wanted and not left_over.fullmatch(name)
    ]
    problems = [
        f"{label}: {_enumerate(found)}"
        for label, found in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
            ("not floating-point", wrong_dtype),
        )
        if found
    ]
    if problems:
        raise CheckpointError(
            f"{tensors.path} does not fit the model that its config.json describes. "
            + "; ".join(problems)
            + "."
        )
    for name, variable in wanted.items():
        value = tensors.read(name)
        if value.dtype == ml_dtypes.bfloat16 or value.dtype == np.float64:
            value = value.astype(np.float32)
        variable.assign(value.T if is_transposed(variable.path) else value)


def write_tensors(
    directory: str | os.PathLike[str],
    variables: Iterable[keras.Variable],
    names: Mapping[str, str],
) -> None:
    """Writes variables as `directory`/model.safetensors, in float32.

    Args:
        directory: path of an existing directory.
        variables: to be written; each one's path must stand in `names`.
        names: variable path -> tensor name in the file.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {}
    for variable in variables:
        value = keras.ops.convert_to_numpy(variable.value)
        if is_transposed(variable.path):
            value = value.T
        tensors[names[variable.path]] = np.ascontiguousarray(value, dtype=np.float32)
    try:
        # transformers refuses a file without this entry.
        save_file(tensors, os.path.join(directory, WEIGHTS_FILE), metadata={"format": "pt"})
    except SafetensorError as error:  # what the library makes of a full disk
        raise OSError(str(error)) from error


def _enumerate(items: list[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")

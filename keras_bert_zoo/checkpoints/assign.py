"""Strict assignment of a checkpoint's tensors to variables, and writing them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from keras_bert_zoo.checkpoints.loading import load_values
from keras_bert_zoo.checkpoints.names import is_transposed
from keras_bert_zoo.checkpoints.safetensors import LazyTensor, write_safetensors
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorSource, list_some
from keras_bert_zoo.errors import CheckpointError


def assign_tensors(
    tensors: TensorSource,
    variables: Sequence[keras.Variable],
    names: Mapping[str, str],
    *,
    allow_unread: Iterable[str] = (),
) -> None:
    """Copies tensors into variables; every one of them, or none.

    Args:
        tensors: an open checkpoint.
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
        expected = tuple(variable.shape)
        if is_transposed(variable.path):
            expected = expected[::-1]
        if name not in tensors:
            missing.append(f"{name} {expected}")
            continue
        wanted[name] = variable
        found = tensors.shape(name)
        if found != expected:
            misshapen.append(f"{name} (expected {expected}, found {found})")
        if tensors.dtype(name) not in FLOAT_DTYPES:
            wrong_dtype.append(f"{name} ({tensors.dtype(name)})")
    left_over = re.compile("|".join(f"(?:{p})" for p in allow_unread) or "(?!)")
    unexpected = [
        f"{name} {tensors.shape(name)}"
        for name in tensors.names()
        if name not in wanted and not left_over.fullmatch(name)
    ]
    problems = [
        f"{label}: {list_some(found)}"
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
    orders = [(name, is_transposed(variable.path)) for name, variable in wanted.items()]
    for variable, value in zip(wanted.values(), load_values(tensors, orders), strict=True):
        variable.assign(value)


def write_tensors(
    directory: str | os.PathLike[str],
    variables: Iterable[keras.Variable],
    names: Mapping[str, str],
    *,
    copies: Mapping[str, str] | None = None,
) -> None:
    """Writes variables as `directory`/model.safetensors, in float32; in shards if they are many.

    Args:
        directory: path of an existing directory.
        variables: to be written; each one's path must stand in `names`.
        names: variable path -> tensor name in the file.
        copies: tensor name -> another one, under which the same tensor is written again.

    Raises:
        CheckpointError: two variables of one name.
        OSError: a file cannot be written.
    """
    tensors = {names[variable.path]: _lazily(variable) for variable in variables}
    for name, other in (copies or {}).items():
        tensors[other] = tensors[name]
    write_safetensors(directory, tensors.items())


def _lazily(variable: keras.Variable) -> LazyTensor:
    shape = tuple(variable.shape)
    transposed = is_transposed(variable.path)

    def read() -> np.ndarray:
        value = np.asarray(keras.ops.convert_to_numpy(variable.value), np.float32)
        return np.ascontiguousarray(value.T if transposed else value)

    return LazyTensor(shape[::-1] if transposed else shape, np.dtype(np.float32), read)

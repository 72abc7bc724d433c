"""Strict assignment of a checkpoint's tensors to variables, and writing of variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_bert_zoo.checkpoints.loading import load_values
from keras_bert_zoo.checkpoints.messages import list_some
from keras_bert_zoo.checkpoints.names import is_transposed
from keras_bert_zoo.checkpoints.safetensors import LazyTensor, write_safetensors
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorSource
from keras_bert_zoo.errors import CheckpointError


@dataclass(frozen=True)
class Plan:
    """The tensor of each variable. Names and shapes have been compared.

    Args:
        tensors: TensorSource, open.
        names: dict, variable path -> tensor name.
        shapes: dict, variable path -> shape of the variable.
    """

    tensors: TensorSource
    names: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def match(
    tensors: TensorSource,
    shapes: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
    *,
    allow_unread: Iterable[str] = (),
) -> Plan:
    """Compares the names and the shapes of variables with those of tensors. Reads no data.

    Args:
        tensors: an open checkpoint.
        shapes: variable path -> shape. The variables need not exist yet.
        names: variable path -> tensor name. Must contain all paths of `shapes`.
        allow_unread: regular expressions of tensors that may be left unread.

    Returns:
        Plan, for `assign`.

    Raises:
        CheckpointError: tensors are missing, unexpected, misshapen or not floating-point. The
            message lists them all.

    Example:
    >>> from keras_bert_zoo.checkpoints.formats import open_checkpoint
    >>> names = {"table": "embeddings.word_embeddings.weight"}
    >>> with open_checkpoint("tests/assets/bert_gelu") as tensors:
    ...     match(tensors, {"table": (61, 16)}, names, allow_unread=[".*"]).names
    {'table': 'embeddings.word_embeddings.weight'}
    """
    missing, misshapen, wrong_dtype = [], [], []
    read = set()
    for path, shape in shapes.items():
        name = names[path]
        expected = shape[::-1] if is_transposed(path) else shape
        if name not in tensors:
            missing.append(f"{name} {expected}")
            continue
        read.add(name)
        if tensors.shape(name) != expected:
            misshapen.append(f"{name} (expected {expected}, received {tensors.shape(name)})")
        if tensors.dtype(name) not in FLOAT_DTYPES:
            wrong_dtype.append(f"{name} ({tensors.dtype(name)})")
    unread = re.compile("|".join(f"(?:{p})" for p in allow_unread) or "(?!)")
    unexpected = [
        f"{name} {tensors.shape(name)}"
        for name in tensors.names()
        if name not in read and not unread.fullmatch(name)
    ]
    problems = [
        f"{label}: {list_some(items)}"
        for label, items in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
            ("not floating-point", wrong_dtype),
        )
        if items
    ]
    if problems:
        raise CheckpointError(
            f"{tensors.path} does not fit the model that its config.json describes. "
            + "; ".join(problems)
            + "."
        )
    return Plan(tensors, {path: names[path] for path in shapes}, dict(shapes))


def assign(plan: Plan, variables: Iterable[keras.Variable]) -> None:
    """Copies tensors into variables.

    Args:
        plan: Plan. Its checkpoint must be open.
        variables: the variables of the plan, in any order.

    Raises:
        ValueError: the variables are not those of the plan.
        CheckpointError: the data of a tensor cannot be read.
    """
    variables = list(variables)
    shapes = {variable.path: tuple(variable.shape) for variable in variables}
    if shapes != plan.shapes:
        differing = sorted({path for path, _ in shapes.items() ^ plan.shapes.items()})
        raise ValueError(
            f"Expected the variables of the plan, received others: {list_some(differing)}."
        )
    orders = [(plan.names[path], is_transposed(path)) for path in shapes]
    for variable, value in zip(variables, load_values(plan.tensors, orders), strict=True):
        variable.assign(value)


def assign_tensors(
    tensors: TensorSource,
    variables: Sequence[keras.Variable],
    names: Mapping[str, str],
    *,
    allow_unread: Iterable[str] = (),
) -> None:
    """Copies tensors into existing variables: `match`, then `assign`.

    Args:
        tensors: an open checkpoint.
        variables: variables whose paths are in `names`.
        names: see `match`.
        allow_unread: see `match`.

    Raises:
        CheckpointError: see `match`. No variable has been changed.
    """
    shapes = {variable.path: tuple(variable.shape) for variable in variables}
    assign(match(tensors, shapes, names, allow_unread=allow_unread), variables)


def write_tensors(
    directory: str | os.PathLike[str],
    variables: Iterable[keras.Variable],
    names: Mapping[str, str],
    *,
    copies: Mapping[str, str] | None = None,
) -> None:
    """Writes variables in float32 to `directory`/model.safetensors, or to shards if they are large.

    Args:
        directory: path of an existing directory.
        variables: variables whose paths are in `names`.
        names: variable path -> tensor name in the file.
        copies: tensor name -> second name of the same tensor.

    Raises:
        CheckpointError: two variables have the same name.
        OSError: a file cannot be written.
    """
    tensors = {names[variable.path]: _lazy(variable) for variable in variables}
    for name, other in (copies or {}).items():
        tensors[other] = tensors[name]
    write_safetensors(directory, tensors.items())


def _lazy(variable: keras.Variable) -> LazyTensor:
    shape = tuple(variable.shape)
    transposed = is_transposed(variable.path)

    def read() -> np.ndarray:
        value = np.asarray(keras.ops.convert_to_numpy(variable.value), np.float32)
        return np.ascontiguousarray(value.T if transposed else value)

    return LazyTensor(shape[::-1] if transposed else shape, np.dtype(np.float32), read)

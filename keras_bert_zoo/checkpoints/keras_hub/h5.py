"""Strict reading of Keras 3's weights files (`*.weights.h5`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.hdf5 import (
    DAMAGE,
    Space,
    damaged,
    open_hdf5,
    read_array,
    walk_arrays,
)
from keras_bert_zoo.checkpoints.messages import one_line
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorInfo
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import read_json

_SHARD = re.compile(r"[A-Za-z0-9_.-]{1,64}_\d{5}\.weights\.h5")
_SHARD_LIMIT = 512


class WeightsFile:
    """The arrays of one or several `*.weights.h5`, by path. It is a context manager.

    Args:
        paths: paths of the files. The paths of their arrays must differ.

    Attributes:
        infos: path inside the files -> TensorInfo.

    Raises:
        CheckpointError: a file is missing, damaged or hostile.
    """

    def __init__(self, *paths: Path) -> None:
        self.path = ", ".join(map(str, paths))
        self.infos: dict[str, TensorInfo] = {}
        self._datasets: dict[str, Any] = {}
        self._files: list[Any] = []
        try:
            for path in paths:
                file = open_hdf5(path)
                self._files.append(file)
                try:
                    self._collect(path, file)
                except CheckpointError:
                    raise
                except DAMAGE as error:
                    raise damaged(path, error) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._datasets.clear()
        while self._files:
            self._files.pop().close()

    def read(self, path: str) -> np.ndarray:
        """Reads an array.

        Raises:
            CheckpointError: the data is damaged.
        """
        try:
            value = read_array(self._datasets[path])
        except DAMAGE as error:
            raise CheckpointError(
                f"{self.path}: {path} cannot be read: {one_line(error)}."
            ) from None
        dtype = self.infos[path].dtype
        return value.view(dtype) if value.dtype.kind == "V" else value

    def _collect(self, file_path: Path, file: Any) -> None:
        space = Space(file_path)
        for path, dataset in walk_arrays(str(file_path), file):
            if path in self.infos:
                raise CheckpointError(f"{self.path} have {path} twice.")
            dtype = dataset.dtype
            if dtype.kind == "V" and dtype.itemsize == 2 and not (dtype.names or dtype.subdtype):
                # Keras stores bfloat16 in this form, with an attribute. The attribute is not read,
                # because HDF5's library crashes on damaged attributes.
                dtype = np.dtype(ml_dtypes.bfloat16)
            elif dtype.kind not in "fiub":
                raise CheckpointError(
                    f"{file_path}: expected numbers in {path}, received {str(dtype)[:100]}."
                )
            space.check(path, dataset, chunks=False)
            self.infos[path] = TensorInfo(tuple(dataset.shape), dtype)
            self._datasets[path] = dataset


def open_weights(directory: Path, stem: str) -> WeightsFile:
    """Opens `stem`.weights.h5, or the shards that `stem`.weights.json lists.

    Args:
        directory: path of the preset.
        stem: "model" or "task".

    Returns:
        WeightsFile. The caller must close it.

    Raises:
        CheckpointError: a file is missing, damaged or hostile.
        ConfigError: the list of shards is not JSON.
    """
    path = directory / f"{stem}.weights.h5"
    index = directory / f"{stem}.weights.json"
    if path.is_file():
        return WeightsFile(path)
    if not index.is_file():
        raise CheckpointError(
            f"Expected {path.name} or {index.name} in {str(directory)!r}. Download or write the "
            "KerasHub preset again."
        )
    return WeightsFile(*(directory / name for name in read_shards(index)))


def read_shards(index: Path) -> list[str]:
    """Reads the list of a preset's shards.

    Args:
        index: path of a model.weights.json or task.weights.json.

    Returns:
        list of str, names of files next to the index.

    Raises:
        CheckpointError: the index has no shards, too many shards, or invalid names.
        ConfigError: the index is not JSON.
    """
    shards = read_json(index).get("weight_map")
    listed: list[Any] = []
    if isinstance(shards, Mapping):
        for value in shards.values():
            listed += value if isinstance(value, list) else [value]
    wrong = [
        f"{name!r:.80}"
        for name in listed
        if not isinstance(name, str) or not _SHARD.fullmatch(name)
    ]
    names = set() if wrong else set(listed)
    if not 1 <= len(names) <= _SHARD_LIMIT:
        raise CheckpointError(
            f"Expected a `weight_map` of 1 to {_SHARD_LIMIT} shards such as "
            f"{index.name.partition('.')[0]}_00000.weights.h5, in the same directory, in {index}, "
            f"received {', '.join(wrong[:3]) or len(names)}."
        )
    return sorted(names)


def check_float(weights: WeightsFile, path: str) -> str:
    """Returns the path and the dtype of an array that is not floating-point, else ""."""
    dtype = weights.infos[path].dtype
    return "" if dtype in FLOAT_DTYPES else f"{path} ({dtype})"

"""The HDF5 files that Keras 3 saves weights in (`*.weights.h5`), read strictly.

Nothing is deserialized: a file is a tree of groups with arrays at its leaves, and arrays are all
that is taken from it. Links out of the file, arrays that live elsewhere and arrays that claim
more than the file holds are refused before anything is read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.tensors import (
    FLOAT_DTYPES,
    TensorInfo,
    read_json,
)
from keras_bert_zoo.errors import CheckpointError

# What h5py raises where a file's structure is broken.
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError)

# What Keras writes is four or five groups deep and has some thousand arrays.
_DEPTH_LIMIT = 32
_OBJECT_LIMIT = 1_000_000
_SHARD = re.compile(r"[A-Za-z0-9_.-]{1,64}_\d{5}\.weights\.h5")


class WeightsFile:
    """The arrays of one or several `*.weights.h5`, by path; a context manager.

    Args:
        paths: of the files. No two hold an array of the same path.

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
                file = _open(path)
                self._files.append(file)
                try:
                    self._collect(path, file)
                except CheckpointError:
                    raise
                except _DAMAGE as error:
                    raise _damaged(path, error) from None
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
            value = np.asarray(self._datasets[path][()])
        except _DAMAGE as error:
            raise CheckpointError(f"{self.path}: {path} cannot be read: {_line(error)}.") from None
        dtype = self.infos[path].dtype
        return value.view(dtype) if value.dtype.kind == "V" else value

    def _collect(self, path: Path, file: Any) -> None:
        seen: set[int] = set()
        level = [("", file)]
        for _ in range(_DEPTH_LIMIT):
            below = []
            for prefix, group in level:
                for name in group:
                    child_path = f"{prefix}{name}"
                    if len(seen) >= _OBJECT_LIMIT:
                        raise CheckpointError(f"{path} holds more than {_OBJECT_LIMIT:,} objects.")
                    child = _child(path, group, name, child_path)
                    address = h5py.h5o.get_info(child.id).addr
                    if address in seen:
                        raise CheckpointError(
                            f"{path}: {child_path!r} is a second name of something else in the "
                            "file, which Keras never writes."
                        )
                    seen.add(address)
                    if isinstance(child, h5py.Group):
                        below.append((f"{child_path}/", child))
                    else:
                        self._add(path, child_path, child)
            if not below:
                return
            level = below
        raise CheckpointError(f"{path} is nested deeper than {_DEPTH_LIMIT} groups.")

    def _add(self, file: Path, path: str, dataset: Any) -> None:
        if path in self.infos:
            raise CheckpointError(f"{self.path} hold {path} twice.")
        dtype = dataset.dtype
        if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
            # How Keras stores bfloat16. It says so in an attribute, which is not read: HDF5's
            # library crashes on damaged attributes.
            dtype = np.dtype(ml_dtypes.bfloat16)
        properties = dataset.id.get_create_plist()
        if dataset.external or dataset.is_virtual or properties.get_external_count():
            raise CheckpointError(
                f"{file}: the data of {path} lies in another file. Only files that hold their "
                "weights are read."
            )
        if properties.get_nfilters():
            raise CheckpointError(
                f"{file}: {path} is compressed, which Keras never does; it is not read."
            )
        expected = math.prod(dataset.shape or ()) * dtype.itemsize
        if dataset.shape is None or dataset.id.get_storage_size() != expected:
            raise CheckpointError(
                f"{file}: {path} claims {expected:,} bytes and holds "
                f"{dataset.id.get_storage_size():,}. Fetch or write the file again."
            )
        self.infos[path] = TensorInfo(tuple(dataset.shape), dtype)
        self._datasets[path] = dataset


def open_weights(directory: Path, stem: str) -> WeightsFile:
    """Opens `stem`.weights.h5, or the shards that `stem`.weights.json lists.

    Args:
        directory: path of the preset.
        stem: "model" or "task".

    Returns:
        WeightsFile, to be closed.

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
            f"No {path.name} and no {index.name} in {str(directory)!r}. A KerasHub preset holds "
            "one of them; fetch or write it again."
        )
    shards = read_json(index).get("weight_map")
    names: set[Any] = set()
    if isinstance(shards, Mapping):
        for value in shards.values():
            names.update(value if isinstance(value, list) else [value])
    wrong = sorted(
        repr(name) for name in names if not isinstance(name, str) or not _SHARD.fullmatch(name)
    )
    if wrong or not names:
        raise CheckpointError(
            f"{index} must have a `weight_map` of shards as {stem}_00000.weights.h5 in the same "
            f"directory, got {', '.join(wrong[:3]) or 'none'}."
        )
    return WeightsFile(*(directory / name for name in sorted(names)))


def check_float(weights: WeightsFile, path: str) -> str:
    """Says what is wrong with an array's dtype, "" if nothing is."""
    dtype = weights.infos[path].dtype
    return "" if dtype in FLOAT_DTYPES else f"{path} ({dtype})"


def _open(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"No {path.name} in {str(path.parent)!r}.")
    try:
        return h5py.File(path, "r", locking=False)
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path} ({os.path.getsize(path):,} bytes) is not a whole HDF5 file: {_line(error)}. Fetch "
        "or write it again."
    )


def _line(error: BaseException) -> str:
    """Returns what an error says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _child(path: Path, group: Any, name: str, child_path: str) -> Any:
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise CheckpointError(
            f"{path}: {child_path!r} is a link to somewhere else, which is never followed."
        )
    child = group[name]
    if not isinstance(child, h5py.Group | h5py.Dataset):
        raise CheckpointError(f"{path}: {child_path!r} is neither a group nor an array.")
    return child

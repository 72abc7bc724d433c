"""HDF5 files of weights, walked and read strictly: tf_model.h5 and Keras 3's *.weights.h5.

Nothing is deserialized: a file is a tree of groups with arrays at its leaves, and arrays are all
that is taken from it. Links, arrays that live elsewhere and arrays that claim more than the file
holds are refused before anything is read. Compressed chunks are inflated here: HDF5's library lets
one grow as far as its stream goes, whatever the array's size.
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_bert_zoo.checkpoints.messages import one_line, show_shape
from keras_bert_zoo.checkpoints.source import count_elements, is_name
from keras_bert_zoo.errors import CheckpointError

# What h5py raises where a file's structure is broken: whatever the C library reports.
DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError)

# What Keras writes is some ten groups deep and has some thousand arrays.
_DEPTH_LIMIT = 24
_OBJECT_LIMIT = 50_000

_FILTERS = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_SHUFFLE: "shuffle"}
_PIPELINES = (
    [h5py.h5z.FILTER_DEFLATE],
    [h5py.h5z.FILTER_SHUFFLE],
    [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE],
)
# Weights do not shrink much; what claims to have shrunk more would fill the memory when read.
_MOST_COMPRESSION = 16
_SMALL_BYTES = 1 << 20
_CHUNK_LIMIT = 65_536  # chunks of one array


def open_hdf5(path: str | os.PathLike[str]) -> Any:
    """Opens a file for reading.

    Args:
        path: of the file.

    Returns:
        h5py.File.

    Raises:
        CheckpointError: there is no such file, or it is not whole.
    """
    path = Path(path)
    if not path.is_file():  # h5py would wait for a pipe
        raise CheckpointError(f"No {path.name} in {str(path.parent)!r}.")
    try:
        return h5py.File(path, "r", locking=False)
    except DAMAGE as error:
        raise damaged(path, error) from None


def damaged(path: str | os.PathLike[str], error: BaseException) -> CheckpointError:
    """Returns what to raise where h5py says that a file is broken."""
    return CheckpointError(
        f"{os.fspath(path)} ({os.path.getsize(path):,} bytes) is not a whole HDF5 file: "
        f"{one_line(error)}. Fetch or write it again."
    )


def walk_arrays(path: str, file: Any) -> Iterator[tuple[str, Any]]:
    """Yields all arrays of a file, having checked every object on the way to them.

    Args:
        path: of the file, for messages.
        file: h5py.File.

    Yields:
        path inside the file, and h5py.Dataset; `check_array` is the caller's.

    Raises:
        CheckpointError: there is a link, an object with two names or a name that is none, or
            more than weights need.
    """
    seen: set[Any] = set()
    groups = [("", file["/"], 0)]
    while groups:
        prefix, group, depth = groups.pop()
        if depth > _DEPTH_LIMIT or len(seen) + len(group) > _OBJECT_LIMIT:
            raise CheckpointError(
                f"{path} nests groups deeper or holds more objects than weights need."
            )
        for name in group:
            stored = prefix + name
            if not is_name(stored):
                raise CheckpointError(
                    f"{path} holds an object whose name is none: {stored[:200]!a}."
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise CheckpointError(
                    f"{path}: {stored!a} is a link to another place or file; such files are "
                    "refused."
                )
            child = group[name]
            address = h5py.h5o.get_info(child.id).addr
            if address in seen:
                raise CheckpointError(
                    f"{path}: {stored!a} is the same object as another; such files are refused."
                )
            seen.add(address)
            if isinstance(child, h5py.Group):
                groups.append((stored + "/", child, depth + 1))
            elif isinstance(child, h5py.Dataset):
                yield stored, child
            else:
                raise CheckpointError(f"{path}: {stored!a} is neither a group nor an array.")


class Space:
    """Checks that arrays lie inside one file, all together.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._left = os.path.getsize(path)

    def check(self, name: str, dataset: Any, *, chunks: bool) -> None:
        """Checks where an array has its data, without reading it.

        Args:
            name: of the array.
            dataset: h5py.Dataset of numbers.
            chunks: bool. Whether it may be cut in chunks, and those compressed.

        Raises:
            CheckpointError: in another file, not in this one, stored as weights are not, or in a
                place that another array has.
        """
        where = f"{self._path}: {name!a}"
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or properties.get_external_count():
            raise CheckpointError(f"{where} has its data in another file; such files are refused.")
        shape = dataset.shape
        if shape is None or count_elements(shape) is None:
            told = "" if shape is None else f" ({show_shape(shape)})"
            raise CheckpointError(f"{where} has no shape that a weight has{told}.")
        pipeline = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        in_chunks = properties.get_layout() == h5py.h5d.CHUNKED
        if not chunks and (in_chunks or pipeline):
            raise CheckpointError(
                f"{where} is cut in chunks or compressed, which Keras never does; it is not read."
            )
        if pipeline and pipeline not in _PIPELINES:
            other = next((code for code in pipeline if code not in _FILTERS), pipeline[0])
            raise CheckpointError(
                f"{where} is stored through the filter {other}; only "
                f"{' and '.join(_FILTERS.values())} are read, once each."
            )
        stored = dataset.id.get_storage_size()
        needed = dataset.nbytes
        if in_chunks:
            enough = needed <= max(_SMALL_BYTES if stored else 0, _MOST_COMPRESSION * stored)
        else:
            enough = needed == stored
        if not enough or stored > self._left:
            raise CheckpointError(
                f"{where} has the shape {shape}, {needed:,} bytes, but {stored:,} are in the file, "
                f"which has {self._left:,} left for it."
            )
        self._left -= stored
        if in_chunks and (
            dataset.maxshape != shape
            or any(c > n for c, n in zip(dataset.chunks, shape, strict=True))
            or math.prod(_grid(dataset)) > _CHUNK_LIMIT
        ):
            raise CheckpointError(
                f"{where} has the shape {shape} in chunks of {dataset.chunks}, up to "
                f"{dataset.maxshape}; weights have a fixed shape and up to {_CHUNK_LIMIT:,} chunks "
                "that are no larger."
            )


def read_array(dataset: Any) -> np.ndarray:
    """Reads an array that `Space.check` has let pass.

    Args:
        dataset: h5py.Dataset.

    Returns:
        np.ndarray.

    Raises:
        Exception: of one of the kinds `DAMAGE`; the data is damaged.
    """
    properties = dataset.id.get_create_plist()
    pipeline = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not pipeline:
        return np.asarray(dataset[()])
    chunk = dataset.chunks
    size = math.prod(chunk) * dataset.dtype.itemsize
    value = np.empty(dataset.shape, dataset.dtype)
    for index in itertools.product(*map(range, _grid(dataset))):
        start = tuple(i * n for i, n in zip(index, chunk, strict=True))
        skipped, data = dataset.id.read_direct_chunk(start)
        for position in reversed(range(len(pipeline))):
            if skipped >> position & 1:
                continue
            if pipeline[position] == h5py.h5z.FILTER_DEFLATE:
                data = _inflate(data, size)
            elif len(data) == size:
                data = np.frombuffer(data, np.uint8).reshape(dataset.dtype.itemsize, -1).T.tobytes()
        if len(data) != size:
            raise ValueError(f"a chunk has {len(data):,} bytes, expected {size:,}")
        block = np.frombuffer(data, dataset.dtype).reshape(chunk)
        target = value[tuple(slice(at, at + n) for at, n in zip(start, chunk, strict=True))]
        target[...] = block[tuple(slice(n) for n in target.shape)]
    return value


def _grid(dataset: Any) -> list[int]:
    """Returns how many chunks there are along each axis."""
    return [-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True)]


def _inflate(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"a chunk cannot be inflated: {error}") from None
    if len(inflated) != size or not stream.eof:
        raise ValueError(f"a chunk does not inflate to {size:,} bytes")
    return inflated

"""Strict reading of weights in HDF5 files: tf_model.h5 and Keras 3's *.weights.h5.

No objects are deserialized. A file is a tree of groups with arrays as leaves, and only arrays are
read. Links, arrays in other files, and arrays larger than the file are refused before reading.
Compressed chunks are decompressed here, because HDF5's library does not limit their size.
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

# Errors that h5py raises for a damaged file. They come from the C library.
DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError)

# Keras writes about 10 levels of groups and about 1,000 arrays.
_DEPTH_LIMIT = 24
_OBJECT_LIMIT = 50_000

_FILTERS = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_SHUFFLE: "shuffle"}
_PIPELINES = (
    [h5py.h5z.FILTER_DEFLATE],
    [h5py.h5z.FILTER_SHUFFLE],
    [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE],
)
# Weights compress badly. A higher ratio is an attempt to exhaust the memory.
_MOST_COMPRESSION = 16
_SMALL_BYTES = 1 << 20
_CHUNK_LIMIT = 65_536  # chunks of one array


def open_hdf5(path: str | os.PathLike[str]) -> Any:
    """Opens a file for reading.

    Args:
        path: path of the file.

    Returns:
        h5py.File.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():  # opening a pipe would block
        raise CheckpointError(f"No {path.name} in {str(path.parent)!r}.")
    try:
        return h5py.File(path, "r", locking=False)
    except DAMAGE as error:
        raise damaged(path, error) from None


def damaged(path: str | os.PathLike[str], error: BaseException) -> CheckpointError:
    """Returns the CheckpointError for a file that h5py reports as damaged."""
    return CheckpointError(
        f"{os.fspath(path)} ({os.path.getsize(path):,} bytes) is not a complete HDF5 file: "
        f"{one_line(error)}. Download or write it again."
    )


def walk_arrays(path: str, file: Any) -> Iterator[tuple[str, Any]]:
    """Yields all arrays of a file, and checks every group and name.

    Args:
        path: path of the file, for messages.
        file: h5py.File.

    Yields:
        The path inside the file, and the h5py.Dataset. The caller checks it with `Space.check`.

    Raises:
        CheckpointError: the file has a link, an object with two names, an invalid name, or too
            many objects.
    """
    seen: set[Any] = set()
    groups = [("", file["/"], 0)]
    while groups:
        prefix, group, depth = groups.pop()
        if depth > _DEPTH_LIMIT or len(seen) + len(group) > _OBJECT_LIMIT:
            raise CheckpointError(
                f"Expected at most {_DEPTH_LIMIT} levels of groups and {_OBJECT_LIMIT:,} objects "
                f"in {path}, received more."
            )
        for name in group:
            stored = prefix + name
            if not is_name(stored):
                raise CheckpointError(
                    f"{path} has an object with the invalid name {stored[:200]!a}."
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise CheckpointError(
                    f"{path}: {stored!a} is a link. Files with links are refused."
                )
            child = group[name]
            address = h5py.h5o.get_info(child.id).addr
            if address in seen:
                raise CheckpointError(
                    f"{path}: {stored!a} is another name of an object. Such files are refused."
                )
            seen.add(address)
            if isinstance(child, h5py.Group):
                groups.append((stored + "/", child, depth + 1))
            elif isinstance(child, h5py.Dataset):
                yield stored, child
            else:
                raise CheckpointError(f"{path}: expected {stored!a} to be a group or an array.")


class Space:
    """Checks that the arrays of a file together fit into it.

    Args:
        path: path of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._left = os.path.getsize(path)

    def check(self, name: str, dataset: Any, *, chunks: bool) -> None:
        """Checks the position and the storage of an array without reading it.

        Args:
            name: name of the array.
            dataset: h5py.Dataset of numbers.
            chunks: bool. Whether the array may have chunks, which may be compressed.

        Raises:
            CheckpointError: the data is in another file or missing, overlaps another array, or is
                stored in a way that is not used for weights.
        """
        where = f"{self._path}: {name!a}"
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or properties.get_external_count():
            raise CheckpointError(f"{where} has data in another file. Such files are refused.")
        shape = dataset.shape
        if shape is None or count_elements(shape) is None:
            shown = "" if shape is None else f" {show_shape(shape)}"
            raise CheckpointError(f"{where} has an invalid shape{shown}.")
        pipeline = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        in_chunks = properties.get_layout() == h5py.h5d.CHUNKED
        if not chunks and (in_chunks or pipeline):
            raise CheckpointError(
                f"{where} has chunks or is compressed, which Keras never does. It is not read."
            )
        if pipeline and pipeline not in _PIPELINES:
            other = next((code for code in pipeline if code not in _FILTERS), pipeline[0])
            raise CheckpointError(
                f"{where}: expected the filters {' and '.join(_FILTERS.values())}, each at most "
                f"once, received filter {other}."
            )
        stored = dataset.id.get_storage_size()
        needed = dataset.nbytes
        if in_chunks:
            enough = needed <= max(_SMALL_BYTES if stored else 0, _MOST_COMPRESSION * stored)
        else:
            enough = needed == stored
        if not enough or stored > self._left:
            raise CheckpointError(
                f"{where} has the shape {shape}, {needed:,} bytes, but the file stores {stored:,} "
                f"bytes for it and has {self._left:,} bytes left."
            )
        self._left -= stored
        if in_chunks and (
            dataset.maxshape != shape
            or any(c > n for c, n in zip(dataset.chunks, shape, strict=True))
            or math.prod(_grid(dataset)) > _CHUNK_LIMIT
        ):
            raise CheckpointError(
                f"{where}: expected a fixed shape and at most {_CHUNK_LIMIT:,} chunks that are not "
                f"larger than the array, received the shape {shape} in chunks of "
                f"{dataset.chunks}, up to {dataset.maxshape}."
            )


def read_array(dataset: Any) -> np.ndarray:
    """Reads an array that `Space.check` has accepted.

    Args:
        dataset: h5py.Dataset.

    Returns:
        np.ndarray.

    Raises:
        Exception: one of `DAMAGE`; the data is damaged.
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
    """Returns the number of chunks along each axis."""
    return [-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True)]


def _inflate(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"a chunk cannot be decompressed: {error}") from None
    if len(inflated) != size or not stream.eof:
        raise ValueError(f"expected a chunk of {size:,} bytes after decompression")
    return inflated

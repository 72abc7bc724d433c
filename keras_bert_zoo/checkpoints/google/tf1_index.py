"""Parses and checks the index of a TF1 checkpoint before TensorFlow reads it.

TensorFlow's reader trusts an index: a negative dimension or an unknown dtype aborts the process. So
this module parses the file first. It is a table of LevelDB (sorted keys in blocks) whose values are
BundleHeaderProto and BundleEntryProto. Its bytes must be exactly as TensorFlow writes them, so that
TensorFlow's parser cannot read other values. TensorFlow then reads the data: it checks the CRC-32C
of every variable faster than NumPy could.

Source: tensorflow/core/lib/io/format.cc, block.cc; util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

from keras_bert_zoo.checkpoints.messages import list_some, show_shape
from keras_bert_zoo.checkpoints.source import TensorInfo, count_elements, is_name
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import read_small_file

# BERT's index with Adam's slots has 30 kB, about 80 bytes per variable.
_INDEX_LIMIT_BYTES = 16_000_000
_FOOTER_SIZE = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_TRAILER_SIZE = 5  # of a block: compression type, CRC-32C

_DTYPES: dict[int, np.dtype[Any]] = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
    types_pb2.DT_HALF: np.dtype(np.float16),
    types_pb2.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_INT16: np.dtype(np.int16),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
}


class _Malformed(Exception):
    """The reason why a file is not an index."""


def read_index(path: Path) -> dict[str, bytes]:
    """Reads the table of an index.

    Args:
        path: path of the .index file.

    Returns:
        dict, name of a variable -> its entry, for `check_entries`. The name of the header is "".

    Raises:
        CheckpointError: the file is not as TensorFlow writes it.
    """
    data = read_small_file(path, _INDEX_LIMIT_BYTES, CheckpointError)
    try:
        return dict(_read_table(data))
    except _Malformed as reason:
        raise CheckpointError(
            f"{path} ({len(data):,} bytes) is not a complete TF1 checkpoint: {reason}. Download or "
            "write it again."
        ) from None


def check_entries(
    path: Path, entries: Mapping[str, bytes], shard_bytes: Sequence[int]
) -> dict[str, TensorInfo]:
    """Checks the entries of an index against the sizes of the data files.

    Args:
        path: path of the .index file, for messages.
        entries: the result of `read_index`.
        shard_bytes: sizes of the data files, in order.

    Returns:
        dict, name of a variable -> TensorInfo.

    Raises:
        CheckpointError: a variable is not a valid weight, or its data is outside the files or
            overlaps another variable.
    """
    try:
        _check_header(entries.get("", b""), len(shard_bytes))
        infos: dict[str, TensorInfo] = {}
        extents: list[tuple[int, int, int, str]] = []
        for name, value in entries.items():
            if name:
                infos[name], extent = _check_entry(name, value, shard_bytes)
                extents.append((*extent, name))
        last: tuple[int, int, int, str] = (-1, 0, 0, "")
        for shard, start, stop, name in sorted(extents):
            if start == stop:
                continue
            if shard == last[0] and start < last[2]:
                raise _Malformed(f"the data of {last[3]!a} and {name!a} overlap")
            last = (shard, start, stop, name)
    except _Malformed as reason:
        raise CheckpointError(
            f"{path} is not a complete TF1 checkpoint: {reason}. Download or write it again."
        ) from None
    return infos


def _check_header(value: bytes, shards: int) -> None:
    header = _parse(BundleHeaderProto, value, "its header")
    if header.num_shards != shards:
        raise _Malformed(f"expected {header.num_shards} data files, received {shards}")
    if header.endianness != BundleHeaderProto.LITTLE:
        raise _Malformed("it was written by a big-endian machine")


def _check_entry(
    name: str, value: bytes, shard_bytes: Sequence[int]
) -> tuple[TensorInfo, tuple[int, int, int]]:
    """Returns a variable's info, and its data file, start and end, from its entry."""
    entry = _parse(BundleEntryProto, value, f"the entry of {name!a}")
    if entry.slices:
        raise _Malformed(f"{name!a} is stored in slices, which are not supported")
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        known = list_some([str(dtype) for dtype in _DTYPES.values()])
        raise _Malformed(
            f"expected {name!a} of dtype {known}, received TensorFlow's dtype number {entry.dtype}"
        )
    shape = tuple(dim.size for dim in entry.shape.dim)
    elements = None if entry.shape.unknown_rank else count_elements(shape)
    if elements is None:
        raise _Malformed(f"{name!a} has the invalid shape {show_shape(shape)}")
    size = elements * dtype.itemsize
    if entry.size != size:
        raise _Malformed(f"expected {size:,} bytes for {name!a}, received {entry.size:,}")
    if not 0 <= entry.shard_id < len(shard_bytes):
        raise _Malformed(f"{name!a} is in data file {entry.shard_id}, which is missing")
    available = shard_bytes[entry.shard_id]
    if not 0 <= entry.offset <= available - size:
        raise _Malformed(
            f"{name!a} has the shape {shape}, {size:,} bytes at {entry.offset:,}, but the file has "
            f"only {available:,} bytes"
        )
    extent = (entry.shard_id, entry.offset, entry.offset + size)
    return TensorInfo(shape, dtype), extent


def _parse(kind: type[Message], value: bytes, what: str) -> Any:
    """Parses a protocol buffer. Its bytes must be as TensorFlow writes them."""
    try:
        message = kind.FromString(value)
    except DecodeError:
        raise _Malformed(f"{what} cannot be read") from None
    message.DiscardUnknownFields()
    if message.SerializeToString() != value:
        raise _Malformed(f"{what} differs from the form that TensorFlow writes")
    return message


def _read_table(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the keys and values of a table, in order."""
    if len(data) < _FOOTER_SIZE or not data.endswith(_MAGIC):
        raise _Malformed("it does not end with a table's footer")
    # Two handles: of the empty block of metadata, and of the list of blocks.
    footer = data[-_FOOTER_SIZE : -len(_MAGIC)]
    _read_block(data, footer)
    blocks = _read_block(data, footer, at=1)
    last: bytes | None = None
    for separator, handle in blocks:
        entries = _read_block(data, handle)
        if not entries:
            raise _Malformed("a block is empty")
        for key, value in entries:
            if last is not None and key <= last:
                raise _Malformed("its variables are not in order")
            last = key
            yield _decode(key), value
        if separator < key:
            raise _Malformed("its blocks are not in order")
        last = separator  # the next keys must be greater


def _read_block(data: bytes, handles: bytes, *, at: int = 0) -> list[tuple[bytes, bytes]]:
    """Returns the keys and values of a block. `at` is the index of its handle in `handles`."""
    position = 0
    for _ in range(at + 1):
        start, position = _read_varint(handles, position)
        size, position = _read_varint(handles, position)
    stop = start + size
    if stop + _TRAILER_SIZE > len(data) - _FOOTER_SIZE or size < 8:
        raise _Malformed("a block reaches beyond its end")
    if data[stop]:
        raise _Malformed("it is compressed, which TensorFlow has not supported since version 1.1")
    block = data[start:stop]
    count = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * count
    if count < 1 or end < 0:
        raise _Malformed("a block is damaged")
    entries = []
    unshared = []  # positions of keys that share no prefix with the previous key
    position, key = 0, b""
    while position < end:
        entry_start = position
        shared, position = _read_varint(block, position)
        rest, position = _read_varint(block, position)
        value_size, position = _read_varint(block, position)
        value_start = position + rest
        if shared > len(key) or value_start + value_size > end:
            raise _Malformed("a block is damaged")
        if not shared:
            unshared.append(entry_start)
        key = key[:shared] + block[position:value_start]
        position = value_start + value_size
        entries.append((key, block[value_start:position]))
    # Readers start at these positions, so each must be one of an unshared key.
    restarts = struct.unpack_from(f"<{count}I", block, end)
    if restarts != ((0,) if not entries else tuple(sorted({0, *restarts} & set(unshared)))):
        raise _Malformed("a block is damaged")
    return entries


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns the number that begins at a position, and the position after it."""
    value = 0
    for shift in range(0, 35, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (not byte and shift) or value >> 32:
                break  # not in its shortest form, or too large
            return value, position
    raise _Malformed("a number in it is damaged")


def _decode(key: bytes) -> str:
    try:
        name = key.decode("utf-8")
    except UnicodeDecodeError:
        name = "\0"
    if key and not is_name(name):
        raise _Malformed(f"it has a variable with the invalid name {key[:64]!r}")
    return name

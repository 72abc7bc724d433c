"""Reads safetensors files lazily, and writes them as a stream.

The header is parsed and checked before memory for tensors is allocated.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.arrays import aligned_empty, copy_array
from keras_bert_zoo.checkpoints.file_names import SAFETENSORS_FILE, SAFETENSORS_INDEX
from keras_bert_zoo.checkpoints.messages import show_shape
from keras_bert_zoo.checkpoints.raw import RawFile, RawTensor, RawTensorSource
from keras_bert_zoo.checkpoints.shards import open_files
from keras_bert_zoo.checkpoints.source import TensorInfo, count_elements
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import parse_json

# safetensors' name -> dtype. Its 4-bit and 6-bit dtypes have no NumPy dtype and are not read.
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in (
        ("F64", "<f8"),
        ("F32", "<f4"),
        ("F16", "<f2"),
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("I64", "<i8"),
        ("I32", "<i4"),
        ("I16", "<i2"),
        ("I8", "i1"),
        ("U64", "<u8"),
        ("U32", "<u4"),
        ("U16", "<u2"),
        ("U8", "u1"),
        ("BOOL", "?"),
    )
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}

# A header has about 100 bytes per tensor. The limit allows 100,000 tensors.
HEADER_LIMIT_BYTES = 16_000_000

# Larger checkpoints are split, as in transformers.
MAX_SHARD_BYTES = 5_000_000_000


def open_safetensors(path: str | os.PathLike[str]) -> RawTensorSource:
    """Opens a safetensors file, or all files of an index.

    Args:
        path: path of a .safetensors file or of a model.safetensors.index.json.

    Returns:
        RawTensorSource.

    Raises:
        CheckpointError: a file is missing, truncated or malformed; an index names a file outside
            its directory; the index and the files differ. Only headers have been read.
    """
    return open_files(Path(path), read_header)


def read_header(file: RawFile) -> dict[str, RawTensor]:
    """Reads and checks a safetensors file's header.

    Args:
        file: the open file.

    Returns:
        dict, name -> RawTensor.

    Raises:
        CheckpointError: the file is truncated or malformed.
    """
    try:
        return _read_header(file)
    except _Malformed as reason:
        raise CheckpointError(
            f"{file.path} ({file.size:,} bytes) is not a complete safetensors file: {reason}. "
            "Download or write it again."
        ) from None


class _Malformed(Exception):
    """The reason why a file is not a complete safetensors file."""


def _read_header(file: RawFile) -> dict[str, RawTensor]:
    if file.size < 8:
        raise _Malformed("it has no header")
    header_size = int.from_bytes(file.read_bytes(0, 8), "little")
    data_start = 8 + header_size
    if data_start > file.size:
        raise _Malformed(f"expected a header of {header_size:,} bytes")
    if header_size > HEADER_LIMIT_BYTES:
        raise _Malformed(
            f"expected a header of at most {HEADER_LIMIT_BYTES:,} bytes, received {header_size:,}"
        )
    text = file.read_bytes(8, header_size)
    try:
        header = parse_json(text, "the header", limit=HEADER_LIMIT_BYTES)
    except ConfigError as error:
        raise _Malformed(str(error).rstrip(".")) from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise _Malformed("expected __metadata__ to be an object of strings")
    extents = []
    tensors = {}
    for name, fields in header.items():
        info, start, size = _check_entry(name, fields, file.size - data_start)
        extents.append((start, size, name))
        tensors[name] = RawTensor(file, info, data_start + start)
    # Tensors must be contiguous: no overlaps, no gaps, and no bytes after the last one.
    end = 0
    for start, size, name in sorted(extents):
        if start != end:
            problem = "overlaps another tensor" if start < end else "follows a gap"
            raise _Malformed(f"{name[:200]!a} {problem}")
        end += size
    if data_start + end != file.size:
        raise _Malformed(f"expected {data_start + end:,} bytes from its header")
    return tensors


def _check_entry(name: str, fields: Any, data_size: int) -> tuple[TensorInfo, int, int]:
    """Returns a tensor's info, start and size in bytes, from a header."""
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Malformed(f"expected dtype, shape and data_offsets for {name[:200]!a}")
    shape, offsets, kind = fields["shape"], fields["data_offsets"], fields["dtype"]
    shown = f"{name[:200]!a}"
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _Malformed(f"expected non-negative integers in the shape and the offsets of {shown}")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise _Malformed(f"{shown} has the dtype {kind!r:.32}, expected one of {', '.join(DTYPES)}")
    dtype = DTYPES[kind]
    start, stop = offsets
    if not start <= stop <= data_size:
        raise _Malformed(f"{shown} has the offsets {start} and {stop}, outside the file")
    elements = count_elements(shape)
    if elements is None:
        raise _Malformed(f"{shown} has the invalid shape {show_shape(shape)}")
    size = elements * dtype.itemsize
    if stop - start != size:
        raise _Malformed(f"expected {size:,} bytes for {shown}, received {stop - start:,}")
    return TensorInfo(tuple(shape), dtype), start, size


class LazyTensor(NamedTuple):
    """A tensor that is read only when it is written.

    Args:
        shape: tuple of int.
        dtype: np.dtype.
        read: function that returns the array. It is called once.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]


def write_safetensors(
    directory: str | os.PathLike[str],
    tensors: Iterable[tuple[str, np.ndarray | LazyTensor]],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
) -> list[str]:
    """Writes model.safetensors, or shards with an index.

    To save memory, pass `LazyTensor`s: only one of them is read at a time. The files get their
    names when all are complete.

    Args:
        directory: path of an existing directory.
        tensors: (name, array or LazyTensor) pairs, in the order of the shards.
        max_shard_bytes: int. Size of the tensors in one file. A larger tensor has a separate file.
        metadata: strings for the header. Default: {"format": "pt"}, which transformers requires.

    Returns:
        list of the names of the files, including the index.

    Raises:
        CheckpointError: a name occurs twice, safetensors lacks a dtype, or the directory has a
            checkpoint of the other form (one file or shards), which readers would mix up.
        OSError: a file cannot be written. No temporary file remains.
    """
    directory = Path(directory)
    shards = _fill_shards(tensors, max_shard_bytes)
    metadata = {"format": "pt"} if metadata is None else dict(metadata)
    if len(shards) == 1:
        names, other = [SAFETENSORS_FILE], SAFETENSORS_INDEX
    else:
        count = len(shards)
        names = [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
        other = SAFETENSORS_FILE
    if (directory / other).exists():
        raise CheckpointError(
            f"{directory} already has {other}, which readers would mix up with {names[0]}. Write "
            "to an empty directory."
        )
    files: dict[str, Callable[[Path], None]] = {}
    for name, shard in zip(names, shards, strict=True):
        files[name] = _writer_of(shard, metadata)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(_size(t) for shard in shards for t in shard.values())},
            "weight_map": {
                tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard
            },
        }
        text = json.dumps(index, indent=2) + "\n"
        files[SAFETENSORS_INDEX] = lambda path: _write_text(path, text)
    _write_aside(directory, files)
    return list(files)


def _fill_shards(
    tensors: Iterable[tuple[str, np.ndarray | LazyTensor]], max_shard_bytes: int
) -> list[dict[str, np.ndarray | LazyTensor]]:
    shards: list[dict[str, np.ndarray | LazyTensor]] = [{}]
    filled = 0
    seen = set()
    for name, tensor in tensors:
        if name in seen or name == "__metadata__":
            raise CheckpointError(f"Cannot write a second tensor named {name!r}.")
        if _little_endian(tensor.dtype) not in _NAMES:
            raise CheckpointError(
                f"Cannot write {name}: safetensors has no dtype {tensor.dtype}. Expected one of: "
                f"{', '.join(dtype.name for dtype in _NAMES)}."
            )
        seen.add(name)
        if shards[-1] and filled + _size(tensor) > max_shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += _size(tensor)
    return shards


def _writer_of(
    shard: Mapping[str, np.ndarray | LazyTensor], metadata: Mapping[str, str]
) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        # Wide dtypes first: this aligns every tensor.
        ordered = sorted(shard.items(), key=lambda item: -item[1].dtype.itemsize)
        end = 0
        for name, tensor in ordered:
            start, end = end, end + _size(tensor)
            header[name] = {
                "dtype": _NAMES[_little_endian(tensor.dtype)],
                "shape": list(tensor.shape),
                "data_offsets": [start, end],
            }
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb", buffering=0) as file:
            _write_all(file, len(text).to_bytes(8, "little") + text)
            for name, tensor in ordered:
                value = tensor.read() if isinstance(tensor, LazyTensor) else tensor
                if value.shape != tuple(tensor.shape) or value.dtype != tensor.dtype:
                    raise CheckpointError(
                        f"Expected {name} to be {tensor.dtype} {tuple(tensor.shape)}, received "
                        f"{value.dtype} {value.shape}."
                    )
                dtype = _little_endian(value.dtype)
                if not value.flags.c_contiguous or value.dtype != dtype:
                    copied = aligned_empty(value.shape, dtype)
                    copy_array(copied, value)
                    value = copied
                _write_all(file, value.reshape(-1).view(np.uint8).data)

    return write


def _write_all(file: Any, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def _write_aside(directory: Path, files: Mapping[str, Callable[[Path], None]]) -> None:
    """Writes all files under temporary names, and renames them when all are complete."""
    aside = {name: directory / f".{name}.{os.getpid()}.tmp" for name in files}
    try:
        for name, write in files.items():
            write(aside[name])
        for name, path in aside.items():
            os.replace(path, directory / name)
    finally:
        for path in aside.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
        for value in values
    )


def _size(tensor: np.ndarray | LazyTensor) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype

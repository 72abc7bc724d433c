"""safetensors: one file or several with an index, read lazily and written in a stream.

The header is parsed and checked here, before any memory is taken for tensors; data is read with
pread, which may be done by several threads and fails cleanly if the file shrinks meanwhile (a
mapped file would kill the process).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.arrays import aligned_empty, copy_array
from keras_bert_zoo.checkpoints.tensors import (
    SAFETENSORS_FILE,
    SAFETENSORS_INDEX,
    TensorInfo,
    TensorSource,
    list_some,
    parse_json,
    read_json,
)
from keras_bert_zoo.errors import CheckpointError, ConfigError

# safetensors' name -> dtype. Its 4-bit and 6-bit kinds have no numpy dtype and are not read.
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

# A header needs some hundred bytes a tensor; this is room for a hundred thousand.
HEADER_LIMIT_BYTES = 16_000_000
_SHARD_LIMIT = 512
_STRIP_BYTES = 1 << 20  # read at once before it is transposed; stays in the second-level cache

# As transformers: files beyond this are split.
MAX_SHARD_BYTES = 5_000_000_000


class _Entry(NamedTuple):
    info: TensorInfo
    start: int  # bytes, in the file
    size: int  # bytes


class _File:
    """One open safetensors file whose header has been checked."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.descriptor = -1
        try:
            # Without O_NONBLOCK, opening a pipe of that name would wait for ever.
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be opened: {error.strerror}.") from None
        try:
            self.entries = self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def read(self, start: int, out: np.ndarray) -> None:
        """Fills a C-contiguous array with the bytes from `start` on."""
        if self.descriptor < 0:
            raise CheckpointError(f"{self.path} has been closed.")
        view = out.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self.descriptor, [view[done:]], start + done)
            except OSError as error:
                raise CheckpointError(f"{self.path} cannot be read: {error.strerror}.") from None
            if count == 0:
                raise CheckpointError(f"{self.path} became shorter while it was read.")
            done += count

    def _read_header(self) -> dict[str, _Entry]:
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{self.path} is not a regular file.")
        self._size = status.st_size
        if self._size < 8:
            raise self._broken("it has no header")
        length = np.empty(1, "<u8")
        self.read(0, length)
        header_size = int(length[0])
        if header_size > self._size - 8:
            raise self._broken(f"its header should have {header_size:,} bytes")
        if header_size > HEADER_LIMIT_BYTES:
            raise self._broken(
                f"its header has {header_size:,} bytes, {HEADER_LIMIT_BYTES:,} at most are read"
            )
        text = np.empty(header_size, np.uint8)
        self.read(8, text)
        try:
            header = parse_json(text.tobytes(), "the header", limit=HEADER_LIMIT_BYTES)
        except ConfigError as error:
            raise self._broken(str(error).rstrip(".")) from None
        return self._check(header, 8 + header_size)

    def _check(self, header: dict[str, Any], data_start: int) -> dict[str, _Entry]:
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(
            isinstance(value, str) for value in metadata.values()
        ):
            raise self._broken("its __metadata__ is not a map of strings")
        entries = {}
        for name, fields in header.items():
            entries[name] = self._entry(name, fields, data_start)
        # Data must be laid end to end: no overlap, no hole, nothing after it.
        expected = data_start
        for name, entry in sorted(entries.items(), key=lambda item: item[1][1:]):
            if entry.start != expected:
                what = "overlaps another tensor" if entry.start < expected else "follows a hole"
                raise self._broken(f"{name!a} {what}")
            expected += entry.size
        if expected != self._size:
            raise self._broken(f"its header describes {expected:,} bytes")
        return entries

    def _entry(self, name: str, fields: Any, data_start: int) -> _Entry:
        if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
            raise self._broken(f"{name!a} is not described by dtype, shape and data_offsets")
        shape, offsets = fields["shape"], fields["data_offsets"]
        if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
            raise self._broken(f"{name!a} has a shape or offsets that are not sizes")
        if not isinstance(fields["dtype"], str) or fields["dtype"] not in DTYPES:
            raise self._broken(
                f"{name!a} has the dtype {str(fields['dtype'])[:32]!a}, expected one of "
                + ", ".join(DTYPES)
            )
        dtype = DTYPES[fields["dtype"]]
        start, stop = offsets
        if not start <= stop <= self._size - data_start:
            raise self._broken(f"{name!a} has the offsets {start} and {stop}, beyond the file")
        size = math.prod(shape) * dtype.itemsize
        if stop - start != size:
            raise self._broken(
                f"{name!a} takes {stop - start:,} bytes, its shape and dtype {size:,}"
            )
        return _Entry(TensorInfo(tuple(shape), dtype), data_start + start, size)

    def _broken(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} ({self._size:,} bytes) is not a whole safetensors file: {reason}. "
            "Fetch or write it again."
        )


class SafetensorsSource(TensorSource):
    """The tensors of one or several safetensors files. Use `open_safetensors`.

    Args:
        path: for messages.
        files: open files, no two of which hold a tensor of the same name.
    """

    parallel_reads = True

    def __init__(self, path: str, files: Iterable[_File]) -> None:
        self._files = list(files)
        self._where = {name: file for file in self._files for name in file.entries}
        self._strips = threading.local()
        super().__init__(
            path, {name: file.entries[name].info for name, file in self._where.items()}
        )

    def close(self) -> None:
        """Closes the files. Arrays that were read stay usable."""
        for file in self._files:
            file.close()

    def _read(self, stored_name: str) -> np.ndarray:
        file = self._where[stored_name]
        entry = file.entries[stored_name]
        value = aligned_empty(entry.info.shape, entry.info.dtype)
        file.read(entry.start, value)
        return value

    def _read_into(self, stored_name: str, out: np.ndarray) -> None:
        file = self._where[stored_name]
        entry = file.entries[stored_name]
        shape, dtype = entry.info
        if out.dtype == dtype and out.flags.c_contiguous:
            file.read(entry.start, out)
            return
        if len(shape) != 2 or not entry.size:
            copy_array(out, self._read(stored_name))
            return
        # A strip of rows at a time, transposed or cast while it is in the cache.
        row_bytes = shape[1] * dtype.itemsize
        rows = max(1, _STRIP_BYTES // row_bytes)
        buffer = self._strip(rows * row_bytes)
        for row in range(0, shape[0], rows):
            count = min(rows, shape[0] - row)
            strip = buffer[: count * row_bytes].view(dtype).reshape(count, shape[1])
            file.read(entry.start + row * row_bytes, strip)
            copy_array(out[row : row + count], strip)

    def _strip(self, size: int) -> np.ndarray:
        """Returns a buffer of this thread's own, kept from strip to strip."""
        buffer: np.ndarray | None = getattr(self._strips, "buffer", None)
        if buffer is None or buffer.size < size:
            buffer = self._strips.buffer = aligned_empty((size,), np.uint8)
        return buffer


def open_safetensors(path: str | os.PathLike[str]) -> SafetensorsSource:
    """Opens a safetensors file, or all that an index names.

    Args:
        path: of a .safetensors file or of a model.safetensors.index.json.

    Returns:
        SafetensorsSource.

    Raises:
        CheckpointError: a file is missing, truncated or malformed; an index names a file outside
            its directory; index and files do not agree. Nothing has been read then but headers.
    """
    path = Path(path)
    if path.suffix != ".json":
        file = _File(path)
        return _source(str(path), [file])
    shards = read_index(path)
    files: list[_File] = []
    try:
        for shard in shards:
            files.append(_File(path.parent / shard))
        check_index(path, shards, {Path(file.path).name: list(file.entries) for file in files})
    except BaseException:
        for file in files:
            file.close()
        raise
    return _source(str(path), files)


def _source(path: str, files: list[_File]) -> SafetensorsSource:
    try:
        return SafetensorsSource(path, files)
    except BaseException:
        for file in files:
            file.close()
        raise


def read_index(path: Path) -> dict[str, set[str]]:
    """Reads the index of a checkpoint in shards, and checks where it points to.

    Args:
        path: of a model.safetensors.index.json or pytorch_model.bin.index.json.

    Returns:
        dict, shard's file name -> names of its tensors. Each is a file beside the index.

    Raises:
        CheckpointError: the index is malformed, or a shard is missing or lies elsewhere.
    """
    try:
        index = read_json(path)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path} has no `weight_map` from tensors to files.")
    shards: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise CheckpointError(f"{path}: the file of {name!a} must be a string, got {shard!a}.")
        shards.setdefault(shard, set()).add(name)
    if len(shards) > _SHARD_LIMIT:
        raise CheckpointError(f"{path} names {len(shards)} files; {_SHARD_LIMIT} at most are read.")
    for shard in shards:
        _check_shard(path, shard)
    missing = sorted(shard for shard in shards if not (path.parent / shard).is_file())
    if missing:
        raise CheckpointError(
            f"{path} names files that are not there: {list_some(missing)}. Fetch them again."
        )
    return shards


def _check_shard(path: Path, shard: str) -> None:
    plain = shard.isprintable() and shard not in ("", ".", "..") and not set("/\\:") & set(shard)
    if not plain:
        raise CheckpointError(
            f"{path} names the file {shard[:256]!a}; a shard must lie in the index's directory, "
            "named without a path."
        )
    target = (path.parent / shard).resolve()
    directory = path.parent.resolve()
    allowed = {directory}
    # Hugging Face's cache: snapshots/REVISION/NAME links to blobs/SHA256.
    if directory.parent.name == "snapshots":
        allowed.add(directory.parent.parent / "blobs")
    if target.parent not in allowed:
        raise CheckpointError(
            f"{path} names {shard!a}, a link that leaves the directory, to {str(target)!a}."
        )


def check_index(
    path: Path, shards: Mapping[str, set[str]], found: Mapping[str, Iterable[str]]
) -> None:
    """Checks that the shards hold what their index says, each tensor once.

    Args:
        path: of the index.
        shards: what `read_index` returned.
        found: shard's file name -> names of the tensors in it.

    Raises:
        CheckpointError: listing the tensors that are missing, not announced, or there twice.
    """
    seen: dict[str, str] = {}
    twice, missing, unannounced = [], [], []
    for shard, announced in shards.items():
        names = set(found[shard])
        twice += [f"{name!a} in {seen[name]} and {shard}" for name in names if name in seen]
        missing += [f"{name!a} in {shard}" for name in announced - names]
        unannounced += [f"{name!a} in {shard}" for name in names - announced - seen.keys()]
        seen |= dict.fromkeys(names, shard)
    problems = [
        f"{label}: {list_some(sorted(items))}"
        for label, items in (
            ("listed twice", twice),
            ("missing", missing),
            ("not in the index", unannounced),
        )
        if items
    ]
    if problems:
        raise CheckpointError(f"{path} and its files do not agree. " + "; ".join(problems) + ".")


class LazyTensor(NamedTuple):
    """A tensor that is fetched only when it is written.

    Args:
        shape: tuple of int.
        dtype: np.dtype.
        read: returns the array; called once.
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
    """Writes model.safetensors, or shards with their index if there is more than one's worth.

    One tensor at a time is in memory besides what the caller holds: give `LazyTensor`s where
    that matters. Files appear under their names when all are whole.

    Args:
        directory: path of an existing directory.
        tensors: (name, array or LazyTensor) pairs, in the order in which they fill the shards.
        max_shard_bytes: int. Of tensors in one file; a larger tensor gets a file of its own.
        metadata: strings for the header. Default: {"format": "pt"}, without which transformers
            refuses a file.

    Returns:
        list of the names of the files written, the index included.

    Raises:
        CheckpointError: a name given twice, a dtype that safetensors does not have, or a
            checkpoint of the other kind (one file, shards) that would be taken for this one.
        OSError: a file cannot be written; nothing was left of it.
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
            f"{directory} already holds {other}, which readers would mix up with "
            f"{names[0]}. Write to an empty directory."
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
        # Wide dtypes first, so that every tensor is aligned to its own.
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
                        f"{name} was announced as {tensor.dtype} {tuple(tensor.shape)} but is "
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
    """Writes all files under temporary names and renames them when all are whole."""
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

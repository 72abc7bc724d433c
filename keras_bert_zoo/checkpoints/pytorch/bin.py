"""Reads pytorch_model.bin, torch's pickled state dicts, without torch. Nothing is executed.

Both formats of torch.save are supported: the zip archive (torch 1.6 and later) and the older
sequence of pickles and raw storages. The module `pickles` reads the pickles and accepts only a
closed list of contents. The positions of all tensors are checked before any tensor is read.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.pytorch.archive import MAGIC, ArchiveError, Record, read_records
from keras_bert_zoo.checkpoints.pytorch.pickles import PickleError, Symbol, load_pickle
from keras_bert_zoo.checkpoints.raw import RawFile, RawTensor, RawTensorSource
from keras_bert_zoo.checkpoints.shards import open_files
from keras_bert_zoo.checkpoints.source import TensorInfo, count_elements
from keras_bert_zoo.errors import CheckpointError

# The pickle of a state dict has about 100 bytes per tensor.
_PICKLE_LIMIT_BYTES = 16_000_000

# The largest number of full-size tensors per storage. Tied and shared layers repeat their storage,
# but a small file must not become a huge model.
_MOST_SHARED = 64

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PREFIX = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_LEGACY_PROTOCOL = 1001

_STORAGES: dict[Symbol, np.dtype[Any]] = {
    Symbol("torch", name + "Storage"): np.dtype(kind)
    for name, kind in (
        ("Double", "<f8"),
        ("Float", "<f4"),
        ("Half", "<f2"),
        ("BFloat16", ml_dtypes.bfloat16),
        ("Long", "<i8"),
        ("Int", "<i4"),
        ("Short", "<i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
        ("Bool", "?"),
    )
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    elements: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


def open_pytorch_bin(path: str | os.PathLike[str]) -> RawTensorSource:
    """Opens a pytorch_model.bin, or all files of its index.

    Args:
        path: path of a .bin file or of a pytorch_model.bin.index.json.

    Returns:
        RawTensorSource.

    Raises:
        CheckpointError: a file is missing, truncated or malformed, or its pickle is not a state
            dict. No tensor has been read.
    """
    return open_files(Path(path), _read_tensors)


def _read_tensors(file: RawFile) -> dict[str, RawTensor]:
    try:
        if file.read_bytes(0, min(4, file.size)) == MAGIC:
            return _read_archive(file)
        head = file.read_bytes(0, min(file.size, _PICKLE_LIMIT_BYTES))
        if head.startswith(_LEGACY_PREFIX):
            return _read_legacy(file, head)
        raise ArchiveError("its first bytes are not of a format of torch.save")
    except (PickleError, ArchiveError) as reason:
        raise CheckpointError(
            f"{file.path} ({file.size:,} bytes) is refused as a state dict of torch: {reason}. "
            "Nothing in it was executed."
        ) from None


def _read_archive(file: RawFile) -> dict[str, RawTensor]:
    records = read_records(file)
    roots = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ArchiveError(f"expected one data.pkl, received {len(roots)}")
    root = roots[0]
    order = records.get(root + "byteorder")
    if order is not None and file.read_bytes(order.start, min(order.size, 16)) != b"little":
        raise ArchiveError("its byte order is not little-endian")
    program = records[root + "data.pkl"]
    if program.size > _PICKLE_LIMIT_BYTES:
        raise PickleError(
            f"expected a pickle of at most {_PICKLE_LIMIT_BYTES:,} bytes, received {program.size:,}"
        )
    state, _ = _load_state(file.read_bytes(program.start, program.size))

    def find(storage: _Storage) -> Record:
        record = records.get(f"{root}data/{storage.key}")
        if record is None:
            raise ArchiveError(f"its storage {storage.key[:64]!a} is missing")
        if record.size != storage.elements * storage.dtype.itemsize:
            raise ArchiveError(
                f"expected {storage.elements:,} x {storage.dtype.itemsize} bytes in its storage "
                f"{storage.key[:64]!a}, received {record.size:,}"
            )
        return record

    return _locate(file, state, find)


def _read_legacy(file: RawFile, head: bytes) -> dict[str, RawTensor]:
    position = len(_LEGACY_PREFIX)

    def load(**options: Any) -> Any:
        nonlocal position
        value, size = load_pickle(head[position:], **options)
        position += size
        return value

    if load() != _LEGACY_PROTOCOL:
        raise PickleError(f"its protocol version is not {_LEGACY_PROTOCOL}")
    system = load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleError("it was not written by a little-endian machine")
    state, size = _load_state(head[position:])
    position += size
    keys = load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PickleError("its list of storages is malformed")
    if len(set(keys)) != len(keys):
        raise PickleError("its list of storages has a name twice")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    records: dict[str, Record] = {}
    for key in keys:
        if key not in dtypes:
            # Only a tensor gives the dtype, and so the size, of a storage.
            raise PickleError(f"its storage {key[:64]!a} belongs to no tensor")
        if position + 8 > file.size:
            raise ArchiveError(f"its storage {key[:64]!a} is missing")
        count = int.from_bytes(file.read_bytes(position, 8), "little")
        records[key] = Record(position + 8, count * dtypes[key].itemsize)
        position += 8 + records[key].size
        if position > file.size:
            raise ArchiveError(f"its storage {key[:64]!a} ends after the end of the file")
    if position != file.size:
        raise ArchiveError(f"{file.size - position:,} bytes follow its storages")

    def find(storage: _Storage) -> Record:
        record = records.get(storage.key)
        if record is None or record.size != storage.elements * storage.dtype.itemsize:
            raise ArchiveError(f"its storage {storage.key[:64]!a} is missing or has the wrong size")
        return record

    return _locate(file, state, find)


def _locate(
    file: RawFile, state: dict[str, _Tensor], find: Callable[[_Storage], Record]
) -> dict[str, RawTensor]:
    """Returns the positions of the tensors in the file. Their sizes have been checked."""
    tensors = {}
    seen: Counter[str] = Counter()
    for name, (storage, offset, shape, strides) in state.items():
        record = find(storage)
        seen[storage.key] += math.prod(shape)
        if seen[storage.key] > _MOST_SHARED * storage.elements:
            raise PickleError(
                f"its storage {storage.key[:64]!a} is used by tensors of more than {_MOST_SHARED} "
                "times its size"
            )
        start = record.start + offset * storage.dtype.itemsize
        info = TensorInfo(shape, storage.dtype)
        contiguous = _is_contiguous(shape, strides)
        tensors[name] = RawTensor(file, info, start, None if contiguous else strides)
    return tensors


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True


def _load_state(data: bytes) -> tuple[dict[str, _Tensor], int]:
    """Reads the pickle of a state dict. Returns the dict and the size of the pickle."""
    state, size = load_pickle(
        data, symbols=frozenset(_STORAGES), functions=_FUNCTIONS, persistent=_make_storage
    )
    if type(state) is not dict:
        raise PickleError("it is not a dict of tensors")
    for name, value in state.items():
        if not isinstance(value, _Tensor):
            raise PickleError(f"its entry {name[:200]!a} is not a tensor")
    return state, size


def _make_storage(identity: Any) -> _Storage:
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise PickleError("it has a persistent id that is not a storage")
    _, kind, key, _, count = identity[:5]
    if len(identity) == 6 and identity[5] is not None:
        raise PickleError("it has a view of a storage")
    if not isinstance(kind, Symbol) or kind not in _STORAGES:
        raise PickleError("it has a storage of unknown type")
    if not isinstance(key, str) or not _is_size(count):
        raise PickleError("it has a storage with a malformed key or size")
    return _Storage(key, _STORAGES[kind], count)


def _make_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any
) -> _Tensor:
    if not isinstance(storage, _Storage) or not _is_size(offset):
        raise PickleError("it has a tensor without a storage or an offset")
    if not _are_sizes(shape) or not _are_sizes(strides) or len(shape) != len(strides):
        raise PickleError("it has a tensor with malformed sizes or strides")
    if type(hooks) is not dict or hooks:
        raise PickleError("it has a tensor with hooks")
    elements = count_elements(shape)
    if elements is None:
        raise PickleError(f"it has a tensor of invalid shape {str(shape)[:200]}")
    if not elements:
        reach = 0
    else:
        reach = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    # A stride of 0 would make a large tensor from a small storage. No weight has it.
    if offset + reach > storage.elements or elements > storage.elements:
        raise PickleError(
            f"it has a tensor of shape {str(shape)[:200]} and strides {str(strides)[:200]} at "
            f"offset {offset}, outside its storage of {storage.elements:,} elements"
        )
    return _Tensor(storage, offset, shape, strides)


def _make_parameter(data: Any, requires_grad: Any, hooks: Any) -> _Tensor:
    if not isinstance(data, _Tensor) or type(hooks) is not dict or hooks:
        raise PickleError("it has a parameter without a tensor, or with hooks")
    return data


def _make_dict(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise PickleError("it creates a dict from arguments")
    return {}


_FUNCTIONS: dict[Symbol, Callable[..., Any]] = {
    Symbol("collections", "OrderedDict"): _make_dict,
    Symbol("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
    Symbol("torch._utils", "_rebuild_parameter"): _make_parameter,
}


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _are_sizes(values: Any) -> bool:
    return type(values) is tuple and len(values) <= 16 and all(map(_is_size, values))

"""`TensorSource`: the tensors of a checkpoint of any format.

Each format has a reader that derives from `TensorSource`. It presents Hugging Face's (PyTorch)
names, shapes and orientation, so dense kernels are (output, input).
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.arrays import copy_array
from keras_bert_zoo.checkpoints.messages import show_shape
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.notices import warn_once

_logger = logging.getLogger(__name__)

# The dtypes of weights. Tensors of other dtypes are buffers, such as ids and counters.
FLOAT_DTYPES = frozenset(
    np.dtype(kind) for kind in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
)

# Limits of a variable's name, dimensions and elements.
_NAME_LIMIT = 512
_RANK_LIMIT = 16
_SIZE_LIMIT = 1 << 40  # elements, without dimensions of 0
_EMPTY_LIMIT = 1 << 16  # the same for a shape with a 0, which has no data

# Prefixes of all names in the state of a wrapped model: DataParallel and DistributedDataParallel,
# torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")

# Google's TF1 names of LayerNorm's tensors. Old PyTorch checkpoints have them.
_LEGACY_SUFFIXES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class TensorInfo(NamedTuple):
    """The shape and the dtype of a tensor, known before the tensor is read.

    Args:
        shape: tuple of int, in Hugging Face's orientation.
        dtype: np.dtype, from ml_dtypes for types that numpy lacks.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class TensorSource(abc.ABC):
    """The tensors of a checkpoint, by name. Data is read on demand.

    It is a context manager. A reader derives from it, checks the file's structure before it calls
    this constructor, and implements `_read`. If files stay open, it implements `close`.

    Args:
        path: path of the file or files, for messages.
        tensors: stored name -> TensorInfo. The names are Hugging Face's; LayerNorm's older
            `gamma` and `beta` are presented as `weight` and `bias`.

    Raises:
        CheckpointError: a name or a shape is invalid, or two tensors have the same name.
    """

    # Whether several threads may read at once.
    parallel_reads = False

    def __init__(self, path: str, tensors: Mapping[str, TensorInfo]) -> None:
        self.path = path
        self._infos: dict[str, TensorInfo] = {}
        self._stored: dict[str, str] = {}  # current name -> name in the file
        for stored, info in tensors.items():
            _check_tensor(path, stored, info)
        wrapper = _wrapper(tensors)
        if wrapper:
            warn_once(
                _logger,
                f"{path}: all names begin with {wrapper!r}, the prefix of a wrapped torch "
                "model (DataParallel, compile). The prefix is dropped.",
            )
        for stored, info in tensors.items():
            name = normalize_name(stored.removeprefix(wrapper))
            if name in self._stored:
                raise CheckpointError(
                    f"{path} has {name} twice: as {self._stored[name]!r} and as {stored!r}."
                )
            self._stored[name] = stored
            self._infos[name] = info

    def __enter__(self) -> TensorSource:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def __len__(self) -> int:
        return len(self._infos)

    def names(self) -> list[str]:
        """Returns the tensors' names, in the file's order."""
        return list(self._infos)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape without reading it.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._info(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns a tensor's dtype without reading it.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._info(name).dtype

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor.

        Returns:
            np.ndarray of the announced shape and dtype. It may be read-only or not contiguous.

        Raises:
            CheckpointError: there is no such tensor, or its data cannot be read.
        """
        info = self._info(name)
        value = self._read(self._stored[name])
        if value.shape != info.shape or value.dtype != info.dtype:
            raise CheckpointError(
                f"{self.path}: expected {name} to be {info.dtype.name} {info.shape}, received "
                f"{value.dtype.name} {value.shape}."
            )
        return value

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Reads one tensor into existing memory.

        Args:
            name: name of the tensor.
            out: array of the tensor's shape. It may have any strides, such as those of a
                transposed view, and any dtype to which the tensor can be cast.

        Raises:
            CheckpointError: there is no such tensor, or its data cannot be read.
            ValueError: `out` has another shape.
        """
        shape = self._info(name).shape
        if out.shape != shape:
            raise ValueError(f"Expected an array of shape {shape}, received {out.shape} ({name}).")
        self._read_into(self._stored[name], out)

    def close(self) -> None:  # noqa: B027  (no-op by default)
        """Closes open files. Arrays that were read stay usable."""

    @abc.abstractmethod
    def _read(self, stored_name: str) -> np.ndarray:
        """Reads a tensor by its name in the file."""

    def _read_into(self, stored_name: str, out: np.ndarray) -> None:
        """Reads a tensor into `out`. Readers override it to avoid a temporary array."""
        copy_array(out, self._read(stored_name))

    def _info(self, name: str) -> TensorInfo:
        try:
            return self._infos[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor named {name!r}.") from None


def _wrapper(names: Iterable[str]) -> str:
    """Returns the common prefix that torch's wrappers add to all names."""
    listed = list(names)
    prefix = ""
    while listed:
        part = next((w for w in _WRAPPERS if all(n.startswith(prefix + w) for n in listed)), "")
        if not part or any(name == prefix + part for name in listed):
            break
        prefix += part
    return prefix


def normalize_name(name: str) -> str:
    """Returns a tensor's current name.

    >>> normalize_name("bert.embeddings.LayerNorm.gamma")
    'bert.embeddings.LayerNorm.weight'
    """
    for old, new in _LEGACY_SUFFIXES.items():
        if name.endswith(old):
            return name[: -len(old)] + new
    return name


def _check_tensor(path: str, name: str, info: TensorInfo) -> None:
    if not is_name(name):
        raise CheckpointError(
            f"{path}: expected a tensor name of 1 to {_NAME_LIMIT} printable characters, received "
            f"{str(name)[:_NAME_LIMIT]!a}."
        )
    if count_elements(info.shape) is None:
        raise CheckpointError(f"{path}: {name} has the invalid shape {show_shape(info.shape)}.")


def is_name(name: Any) -> bool:
    r"""Whether a name is valid for a variable: short, printable, and on one line.

    >>> is_name("bert.pooler.dense.bias"), is_name("a\nb"), is_name("")
    (True, False, False)
    """
    return isinstance(name, str) and 0 < len(name) <= _NAME_LIMIT and name.isprintable()


def count_elements(shape: Sequence[int]) -> int | None:
    """Returns the number of elements of a shape from a file.

    Large numbers are not multiplied: a rank above 16 or a dimension above 2 ** 40 returns early.

    Args:
        shape: sequence of int.

    Returns:
        int. None: the shape is too large for a variable.

    >>> count_elements((3, 4)), count_elements((0, 1 << 62)), count_elements([1] * 17)
    (12, None, None)
    """
    if len(shape) > _RANK_LIMIT or any(not 0 <= n <= _SIZE_LIMIT for n in shape):
        return None
    product = 1
    for n in shape:
        product *= max(n, 1)
    if 0 in shape:
        return 0 if product <= _EMPTY_LIMIT else None
    return product if product <= _SIZE_LIMIT else None

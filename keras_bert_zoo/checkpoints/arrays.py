"""Allocating and copying arrays as fast as the memory allows.

Dense kernels lie in checkpoints as the transpose of what Keras wants. NumPy copies a transpose
element by element across the whole matrix, at a fraction of the memory's speed; here it is done
block by block, each block staying in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Rows and columns of a block: 256 KiB of float32, which fits second-level caches.
BLOCK = 256

# TensorFlow takes over a buffer without copying it if it is aligned so (Eigen with AVX-512).
_ALIGNMENT = 64


def aligned_empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Returns an uninitialized C-contiguous array whose buffer TensorFlow can take over.

    Args:
        shape: tuple of int.
        dtype: of the array.

    Returns:
        np.ndarray.
    """
    dtype = np.dtype(dtype)
    return _aligned(np.empty(_padded(shape, dtype), np.uint8), shape, dtype)


def aligned_zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Returns zeros as `aligned_empty` does; untouched, a large array takes no memory.

    Args:
        shape: tuple of int.
        dtype: of the array.

    Returns:
        np.ndarray.
    """
    dtype = np.dtype(dtype)
    return _aligned(np.zeros(_padded(shape, dtype), np.uint8), shape, dtype)


def copy_array(target: np.ndarray, source: np.ndarray) -> None:
    """Copies `source` into `target`, converting the dtype.

    Args:
        target: array of the same shape, of any strides.
        source: array, of any strides.

    Raises:
        ValueError: the shapes differ.
    """
    if target.shape != source.shape:
        raise ValueError(f"Cannot copy an array of shape {source.shape} into {target.shape}.")
    if target.ndim != 2 or _runs_along(target) == _runs_along(source):
        np.copyto(target, source, casting="same_kind")
        return
    rows, columns = target.shape
    for row in range(0, rows, BLOCK):
        for column in range(0, columns, BLOCK):
            block = np.s_[row : row + BLOCK, column : column + BLOCK]
            np.copyto(target[block], source[block], casting="same_kind")


def _runs_along(array: np.ndarray) -> int:
    """Returns the axis along which neighbours in memory lie."""
    return int(np.argmin(np.abs(array.strides)))


def _padded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + _ALIGNMENT


def _aligned(buffer: np.ndarray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    start = -buffer.ctypes.data % _ALIGNMENT
    size = buffer.size - _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)

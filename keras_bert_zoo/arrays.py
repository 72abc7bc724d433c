"""Creates arrays that TensorFlow uses without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

# TensorFlow uses a buffer without a copy if it has this alignment (Eigen with AVX-512).
_ALIGNMENT = 64  # bytes


def aligned_empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Returns an uninitialized C-contiguous array that TensorFlow uses without a copy.

    Args:
        shape: tuple of int.
        dtype: the type of the elements.

    Returns:
        np.ndarray.
    """
    dtype = np.dtype(dtype)
    return _aligned(np.empty(_padded(shape, dtype), np.uint8), shape, dtype)


def aligned_zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Returns zeros that TensorFlow uses without a copy. Pages without writes take no memory.

    Args:
        shape: tuple of int.
        dtype: the type of the elements.

    Returns:
        np.ndarray.
    """
    dtype = np.dtype(dtype)
    return _aligned(np.zeros(_padded(shape, dtype), np.uint8), shape, dtype)


def _padded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + _ALIGNMENT


def _aligned(buffer: np.ndarray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    start = -buffer.ctypes.data % _ALIGNMENT
    size = buffer.size - _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)

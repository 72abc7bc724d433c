"""Copying arrays at the speed of the memory.

Checkpoints store the transposes of Keras' dense kernels. NumPy copies a transpose element by
element across the whole matrix, which is slow. This module copies blocks that fit the processor's
cache.
"""

from __future__ import annotations

import numpy as np

from keras_bert_zoo.arrays import aligned_empty, aligned_zeros

__all__ = ["aligned_empty", "aligned_zeros", "copy_array"]

# Rows and columns of a block: 256 KiB of float32, which fits the second-level cache.
BLOCK = 256


def copy_array(target: np.ndarray, source: np.ndarray) -> None:
    """Copies `source` into `target`, converting the dtype.

    Args:
        target: array of the same shape, with any strides.
        source: array, with any strides.

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
    """Returns the axis with the smallest stride."""
    return int(np.argmin(np.abs(array.strides)))

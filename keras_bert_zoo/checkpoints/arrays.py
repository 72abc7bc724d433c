"""Copying arrays as fast as the memory allows.

Dense kernels lie in checkpoints as the transpose of what Keras wants. NumPy copies a transpose
element by element across the whole matrix, at a fraction of the memory's speed; here it is done
block by block, each block staying in the processor's cache.
"""

from __future__ import annotations

import numpy as np

from keras_bert_zoo.arrays import aligned_empty, aligned_zeros

__all__ = ["aligned_empty", "aligned_zeros", "copy_array"]

# Rows and columns of a block: 256 KiB of float32, which fits second-level caches.
BLOCK = 256


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

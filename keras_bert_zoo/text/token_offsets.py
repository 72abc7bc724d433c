"""Byte offsets of selected tokens. B texts, M selected tokens of each."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["offsets_of_columns"]


def offsets_of_columns(
    offsets: tf.RaggedTensor, columns: tf.Tensor, exists: tf.Tensor
) -> tf.Tensor:
    """Selects the offsets of tokens by their columns in packed rows, where column 0 is [CLS].

    Args:
        offsets: int32 (B, tokens). The starts or the ends of the tokens of each text.
        columns: int32 (B, M).
        exists: bool (B, M). Whether a column is of a token of the text.

    Returns:
        int32 (B, M), 0 for columns that do not exist.

    Example:
        >>> starts = tf.ragged.constant([[0, 5], [0]])
        >>> offsets_of_columns(starts, [[2], [0]], [[True], [False]]).numpy().tolist()
        [[5], [0]]
    """
    first = tf.cast(offsets.row_splits[:-1, tf.newaxis], tf.int32) - 1  # (B, 1)
    padded = tf.pad(offsets.values, [[0, 1]])
    return tf.gather(padded, tf.where(exists, first + columns, tf.size(offsets.values)))

"""Functions of ragged data as flat values with row splits, in ops that LiteRT supports.

TensorFlow's ragged slicing, gathering and masking use RaggedRange and RaggedGather. LiteRT does not
support them.

Legend: B rows, T values of all rows.
"""

from __future__ import annotations

import tensorflow as tf


def row_ids(row_splits: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """Returns the row of each value.

    Args:
        row_splits: int64 (B + 1,).
        total: int64 (). T.

    Returns:
        int64 (T,).
    """
    inner = row_splits[1:-1, tf.newaxis]  # (B - 1, 1)
    steps = tf.scatter_nd(inner, tf.ones_like(inner[:, 0]), tf.reshape(total + 1, [1]))
    return tf.cumsum(steps[:-1])


def splits_from_lengths(lengths: tf.Tensor) -> tf.Tensor:
    """Converts int64 (B,) lengths to int64 (B + 1,) splits."""
    return tf.pad(tf.cumsum(lengths), [[1, 0]])


def counts_before(mask: tf.Tensor) -> tf.Tensor:
    """Counts the True values before each position: bool (T,) to int64 (T + 1,)."""
    return tf.pad(tf.cumsum(tf.cast(mask, tf.int64)), [[1, 0]])


def padded(splits: tf.Tensor, *values: tf.Tensor) -> list[tf.Tensor]:
    """Pads rows of values with zeros to the longest row.

    Args:
        splits: int64 (B + 1,).
        *values: numbers (T, ...).

    Returns:
        list of tensors (B, longest, ...).
    """
    lengths = splits[1:] - splits[:-1]
    # Without texts, the longest row has no values.
    columns = tf.range(tf.reduce_max(tf.concat([lengths, tf.zeros([1], tf.int64)], axis=0)))
    at = tf.expand_dims(splits[:-1], 1) + columns
    at = tf.where(columns < tf.expand_dims(lengths, 1), at, splits[-1])
    return [tf.gather(tf.pad(x, [[0, 1]] + [[0, 0]] * (x.shape.rank - 1)), at) for x in values]


def size64(values: tf.Tensor) -> tf.Tensor:
    """Returns the number of values: int64 ()."""
    return tf.size(values, out_type=tf.int64)


def indices(mask: tf.Tensor) -> tf.Tensor:
    """Returns the indices of True values in a mask: bool (T,) to int64 (True values,)."""
    return tf.reshape(tf.where(mask), [-1])


def replace_rows(
    rows: tf.Tensor,
    replaced: tf.Tensor,
    splits: tf.Tensor,
    values: tuple[tf.Tensor, ...],
    new_splits: tf.Tensor,
    new_values: tuple[tf.Tensor, ...],
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Replaces some rows.

    Args:
        rows: int64 (R,). The indices of the rows to replace.
        replaced: bool (B,). The same as a mask.
        splits: int64 (B + 1,).
        values: tensors (T,).
        new_splits: int64 (R + 1,).
        new_values: tensors (new T,).

    Returns:
        The splits and values of all rows.
    """
    shape = tf.shape(replaced, out_type=tf.int64)
    at = rows[:, tf.newaxis]
    old_total = splits[-1]
    lengths = tf.where(
        replaced,
        tf.scatter_nd(at, new_splits[1:] - new_splits[:-1], shape),
        splits[1:] - splits[:-1],
    )
    begin = tf.where(replaced, tf.scatter_nd(at, new_splits[:-1] + old_total, shape), splits[:-1])
    merged = splits_from_lengths(lengths)
    row = row_ids(merged, merged[-1])
    source = tf.range(merged[-1]) + tf.gather(begin - merged[:-1], row)
    return merged, tuple(
        tf.gather(tf.concat([old, new], axis=0), source)
        for old, new in zip(values, new_values, strict=True)
    )

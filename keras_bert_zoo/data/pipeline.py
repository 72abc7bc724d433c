"""Batches of tokenized rows as `tf.data`, bucketed by length and repeatable from a seed.

All work is done in TensorFlow ops, so that the datasets run under `tf.distribute` and no Python
stands between the data and the device. Dimensions: B batch, S length, R rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError

__all__ = [
    "TokenRows",
    "bucketed_batches",
    "length_order",
    "prefetched_map",
    "restore_order",
    "token_batches",
]


@dataclass(frozen=True)
class TokenRows:
    """Tokenized rows of different length, end to end.

    A row is packed as the encoder takes it: `[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]` with
    segment 1 for b and its closing [SEP].

    Args:
        token_ids: int32 (tokens of all rows,).
        row_splits: int64 (R + 1,). Row r is `token_ids[row_splits[r]:row_splits[r + 1]]`.
        segment_ids: int32 (tokens of all rows,), or None where all are 0.

    Raises:
        DataError: the splits do not fit the tokens.
    """

    token_ids: np.ndarray
    row_splits: np.ndarray
    segment_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks that the splits cover the tokens."""
        splits = self.row_splits
        if (
            splits.ndim != 1
            or not len(splits)
            or splits[0] != 0
            or splits[-1] != len(self.token_ids)
            or (np.diff(splits) < 0).any()
        ):
            raise DataError(
                "expected row_splits to rise from 0 to the number of tokens, "
                f"{len(self.token_ids)}, got {splits}"
            )
        if self.segment_ids is not None and self.segment_ids.shape != self.token_ids.shape:
            raise DataError(
                f"expected segment_ids of shape {self.token_ids.shape}, as token_ids, "
                f"got {self.segment_ids.shape}"
            )

    def __len__(self) -> int:
        """Counts the rows."""
        return len(self.row_splits) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 (R,). The number of tokens of each row."""
        return np.diff(np.asarray(self.row_splits, np.int64))

    @classmethod
    def from_ragged(
        cls, token_ids: tf.RaggedTensor, segment_ids: tf.RaggedTensor | None = None
    ) -> "TokenRows":
        """Takes what a tokenizer's packing returns."""
        return cls(
            token_ids.flat_values.numpy().astype(np.int32),
            token_ids.row_splits.numpy().astype(np.int64),
            None if segment_ids is None else segment_ids.flat_values.numpy().astype(np.int32),
        )


def length_order(row_lengths: np.ndarray) -> np.ndarray:
    """Orders rows from long to short, the order in which `bucketed_batches(shuffle=False)` goes.

    The longest come first, so that a batch too large for the memory fails at once. Rows of one
    length keep their order.

    Args:
        row_lengths: int (R,).

    Returns:
        int64 (R,). Indices of rows.
    """
    return np.argsort(-np.asarray(row_lengths, np.int64), kind="stable")


def restore_order(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Puts values that were computed in `order` back in the order of the rows.

    >>> order = length_order(np.array([2, 9, 5]))
    >>> restore_order(np.array(["long", "middle", "short"]), order).tolist()
    ['short', 'long', 'middle']

    Args:
        values: (R, ...). One value per row, as computed.
        order: int (R,), from `length_order`.

    Returns:
        (R, ...). `values`, such that entry r belongs to row r.
    """
    restored = np.empty_like(values)
    restored[order] = values
    return restored


def bucketed_batches(
    row_lengths: np.ndarray,
    *,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    megabatch: int = 50,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Yields batches of row indices, rows of like length together.

    Each iteration over the dataset is an epoch and has an order of its own: all rows are permuted,
    sorted by length within runs of `megabatch` batches, cut into batches, and the batches are
    permuted. The order hangs on `seed` and the number of the epoch alone, not on TensorFlow's
    global seed nor on the device; every worker of a cluster computes the same one.

    Args:
        row_lengths: int (R,). Tokens per row.
        batch_size: int. Rows per batch over all devices; the last rows make a smaller batch.
        seed: int.
        shuffle: bool. False: rows go from long to short, see `length_order`.
        megabatch: int. Batches that are sorted together. More is less padding and less chance.
        first_epoch: int. The epoch that the first iteration is, to resume a run.

    Returns:
        A dataset of int64 (B,) of known cardinality.

    Raises:
        ConfigError: `batch_size` or `megabatch` is below 1.
        DataError: there are no rows.
    """
    for name, value in (("batch_size", batch_size), ("megabatch", megabatch)):
        if value < 1:
            raise ConfigError(f"expected {name} to be at least 1, got {value}")
    lengths = np.asarray(row_lengths, np.int64)
    rows = len(lengths)
    if not rows:
        raise DataError("expected at least one row to batch, got none")
    num_batches = -(-rows // batch_size)
    if not shuffle:
        dataset = tf.data.Dataset.from_tensor_slices(length_order(lengths)).batch(batch_size)
        return _sharded_by_data(dataset)

    # The counter of epochs is a table because that is the one kind of state which tf.data takes
    # and which a distribution strategy does not turn into a variable on every device.
    with tf.device("CPU:0"):
        counter = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=0)
        counter.insert(_INT64_ZERO, tf.constant(first_epoch, tf.int64))
        sort_lengths = tf.constant(lengths)
    longest = int(lengths.max()) + 1

    def next_epoch(_: tf.Tensor) -> tf.Tensor:
        epoch = counter.lookup(_INT64_ZERO)
        with tf.control_dependencies([epoch]):
            advance = counter.insert(_INT64_ZERO, epoch + 1)
        with tf.control_dependencies([advance]):
            return tf.identity(epoch)

    def batches_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        row_order = _permutation(rows, seed, epoch, stream=0)  # (R,)
        run = tf.range(rows, dtype=tf.int64) // (megabatch * batch_size)  # (R,)
        by_length = run * longest + tf.gather(sort_lengths, row_order)
        row_order = tf.gather(row_order, tf.argsort(by_length, stable=True))
        batch_order = _permutation(num_batches, seed, epoch, stream=1)
        return tf.data.Dataset.from_tensor_slices(batch_order).map(
            lambda batch: row_order[batch * batch_size : (batch + 1) * batch_size]
        )

    dataset = tf.data.Dataset.from_tensors(0).map(next_epoch).flat_map(batches_of_epoch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return _sharded_by_data(dataset)


def token_batches(
    rows: TokenRows,
    batches: tf.data.Dataset,
    *,
    labels: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    pad_id: int = 0,
) -> tf.data.Dataset:
    """Turns batches of row indices into what an encoder takes, padded to the batch's longest row.

    Args:
        rows: the tokenized rows.
        batches: a dataset of int64 (B,), from `bucketed_batches`.
        labels: (R, ...) or None.
        sample_weight: float (R,) or None; needs labels.
        pad_id: int. The token id of padding.

    Returns:
        A dataset of `(inputs,)`, `(inputs, labels)` or `(inputs, labels, sample_weight)`, as Keras
        takes them. The inputs are `token_ids`, `segment_ids` and `padding_mask` (1 = token,
        0 = padding), each int32 (B, S).

    Raises:
        ConfigError: weights without labels.
        DataError: labels or weights are not one per row.
    """
    if sample_weight is not None and labels is None:
        raise ConfigError("expected labels beside sample_weight, got none")
    for name, values in (("labels", labels), ("sample_weight", sample_weight)):
        if values is not None and len(values) != len(rows):
            raise DataError(f"expected {len(rows)} {name}, one per row, got {len(values)}")
    # On the host: an int32 constant would otherwise go to the accelerator, batch by batch back.
    with tf.device("CPU:0"):
        token_ids = tf.constant(rows.token_ids, tf.int32)
        row_splits = tf.constant(rows.row_splits, tf.int64)
        segment_ids = None if rows.segment_ids is None else tf.constant(rows.segment_ids, tf.int32)
        targets = [tf.constant(value) for value in (labels, sample_weight) if value is not None]

    def batch(indices: tf.Tensor) -> tuple[object, ...]:
        starts = tf.gather(row_splits, indices)  # (B,)
        lengths = tf.gather(row_splits, indices + 1) - starts  # (B,)
        mask = tf.sequence_mask(lengths)  # (B, S)
        places = starts[:, tf.newaxis] + tf.range(tf.shape(mask)[1], dtype=tf.int64)  # (B, S)
        places = tf.where(mask, places, 0)

        def padded(flat: tf.Tensor, value: int) -> tf.Tensor:
            return tf.where(mask, tf.gather(flat, places), value)

        inputs = {
            "token_ids": padded(token_ids, pad_id),
            "segment_ids": (
                tf.zeros_like(mask, tf.int32) if segment_ids is None else padded(segment_ids, 0)
            ),
            "padding_mask": tf.cast(mask, tf.int32),
        }
        return (inputs, *(tf.gather(target, indices) for target in targets))

    return prefetched_map(batches, batch)


def prefetched_map(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """Maps a dataset, a few elements ahead of whoever takes them.

    Parallelism is fixed: with tf.data.AUTOTUNE an iterator has a thread that tunes it at growing
    intervals, and closing the iterator waits for the interval to pass. After a minute of training
    that is half a minute of nothing (TensorFlow 2.21).

    Args:
        dataset: any.
        function: of an element's components.

    Returns:
        A dataset of what `function` returns, in the same order.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.map(function, num_parallel_calls=_PARALLEL_CALLS)
    return dataset.prefetch(2 * _PARALLEL_CALLS).with_options(options)


_INT64_ZERO = np.int64(0)
_PARALLEL_CALLS = 2  # batches are gathered far faster than a model takes them


def _permutation(count: int, seed: int, epoch: tf.Tensor, stream: int) -> tf.Tensor:
    """int64 (count,). A permutation that hangs on its arguments alone."""
    numbers = tf.random.stateless_uniform(
        [count],
        # Both halves of the seed are mixed by Philox; `stream` keeps rows and batches independent.
        seed=tf.stack([tf.constant(seed, tf.int64), epoch * 2 + stream]),
        minval=None,
        maxval=None,
        dtype=tf.int64,
        alg="philox",
    )
    return tf.cast(tf.argsort(numbers, stable=True), tf.int64)


def _sharded_by_data(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Says how more than one worker share the data: there are no files to share out."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)

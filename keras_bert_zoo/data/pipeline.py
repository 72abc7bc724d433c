"""Batches of tokenized rows as `tf.data`, bucketed by length and reproducible from a seed.

All work is done in TensorFlow ops, so the datasets run under `tf.distribute` and need no Python
per batch. Dimensions: B batch, S length, R rows, E examples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError

__all__ = [
    "NO_LABEL",
    "LabelledRows",
    "TokenRows",
    "batch_maker",
    "bucketed_batches",
    "epoch_number",
    "length_order",
    "permutation",
    "prefetched_map",
    "restore_order",
    "sharded_by_data",
    "token_batches",
    "without_autograph",
]

without_autograph = tf.autograph.experimental.do_not_convert
"""Decorates functions for `tf.data` that only use TensorFlow ops: they are traced faster."""


@dataclass(frozen=True)
class TokenRows:
    """Tokenized rows of different length, concatenated.

    A row is packed for the encoder: `[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]` with segment 1
    for b and its closing [SEP].

    Args:
        token_ids: int32 (tokens of all rows,).
        row_splits: int64 (R + 1,). Row r is `token_ids[row_splits[r]:row_splits[r + 1]]`.
        segment_ids: int32 (tokens of all rows,); None if all are 0.

    Raises:
        DataError: the splits do not match the tokens.
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
                "expected row_splits to increase from 0 to the number of tokens, "
                f"{len(self.token_ids)}, received {splits}"
            )
        if self.segment_ids is not None and self.segment_ids.shape != self.token_ids.shape:
            raise DataError(
                f"expected segment_ids of shape {self.token_ids.shape}, as token_ids, "
                f"received {self.segment_ids.shape}"
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
        """Converts the packed rows of a tokenizer."""
        return cls(
            token_ids.flat_values.numpy().astype(np.int32),
            token_ids.row_splits.numpy().astype(np.int64),
            None if segment_ids is None else segment_ids.flat_values.numpy().astype(np.int32),
        )


NO_LABEL = -1
"""The label of tokens without a label, such as special tokens and padding."""


@dataclass(frozen=True)
class LabelledRows:
    """Tokenized examples with labels and weights for the loss.

    Args:
        rows: TokenRows. Each example has `group` consecutive rows.
        labels: (E, ...) or None. One entry per example.
        token_labels: int32 (tokens of all rows,) or None. One label per token or `NO_LABEL`,
            instead of `labels`, for tasks that label tokens.
        weights: float32 (E,) or None. The weight of each example in the loss.
        group: int. Rows per example: the choices of a question, the texts of a triplet.

    Raises:
        DataError: the numbers of rows, labels and weights do not match.
    """

    rows: TokenRows
    labels: np.ndarray | None = None
    token_labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    group: int = 1

    def __post_init__(self) -> None:
        """Checks the number of rows, labels and weights."""
        if self.group < 1 or len(self.rows) % self.group:
            raise DataError(
                f"expected rows in groups of {self.group}, received {len(self.rows)} rows"
            )
        for name, values in (("labels", self.labels), ("weights", self.weights)):
            if values is not None and len(values) != len(self):
                raise DataError(
                    f"expected {len(self)} {name}, one per example, received {len(values)}"
                )
        if self.token_labels is not None and len(self.token_labels) != len(self.rows.token_ids):
            raise DataError(
                f"expected {len(self.rows.token_ids)} token labels, one per token, "
                f"received {len(self.token_labels)}"
            )

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.rows) // self.group

    @property
    def lengths(self) -> np.ndarray:
        """int64 (E,). The number of tokens in the longest row of each example."""
        return self.rows.lengths.reshape(-1, self.group).max(axis=1)


def length_order(row_lengths: np.ndarray) -> np.ndarray:
    """Orders rows from long to short, as `bucketed_batches(shuffle=False)` does.

    The longest rows come first, so a batch that does not fit into memory fails at once. Rows of
    the same length keep their order.

    Args:
        row_lengths: int (R,).

    Returns:
        int64 (R,). Indices of rows.
    """
    return np.argsort(-np.asarray(row_lengths, np.int64), kind="stable")


def restore_order(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Restores the row order of values that were computed in `order`.

    >>> order = length_order(np.array([2, 9, 5]))
    >>> restore_order(np.array(["long", "middle", "short"]), order).tolist()
    ['short', 'long', 'middle']

    Args:
        values: (R, ...). One value per row, as computed.
        order: int (R,), from `length_order`.

    Returns:
        (R, ...). `values` in row order: entry r belongs to row r.
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
    in_order: bool = False,
) -> tf.data.Dataset:
    """Yields batches of row indices; each batch has rows of similar length.

    Each iteration over the dataset is an epoch with a new order: all rows are permuted, sorted by
    length within groups of `megabatch` batches, and split into batches; then the batches are
    permuted. The order depends only on `seed` and the epoch, not on TensorFlow's global seed or
    the device. All workers of a cluster compute the same order.

    Args:
        row_lengths: int (R,). Tokens per row.
        batch_size: int. Rows per batch over all devices. The last batch may be smaller.
        seed: int.
        shuffle: bool. If False, rows are in the order of `length_order`, from long to short.
        megabatch: int. The number of batches that are sorted together. A larger number gives less
            padding and a less random order.
        first_epoch: int. The epoch of the first iteration, to resume a run.
        in_order: bool. Whether to keep the order of the rows; turns shuffling off.

    Returns:
        A dataset of int64 (B,) of known cardinality.

    Raises:
        ConfigError: `batch_size` or `megabatch` is below 1.
        DataError: there are no rows.
    """
    for name, value in (("batch_size", batch_size), ("megabatch", megabatch)):
        if value < 1:
            raise ConfigError(f"expected {name} to be at least 1, received {value}")
    lengths = np.asarray(row_lengths, np.int64)
    rows = len(lengths)
    if not rows:
        raise DataError("expected at least one row to batch, received none")
    num_batches = -(-rows // batch_size)
    if in_order or not shuffle:
        order = np.arange(rows) if in_order else length_order(lengths)
        dataset = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return sharded_by_data(dataset)

    with tf.device("CPU:0"):
        sort_lengths = tf.constant(lengths)
    longest = int(lengths.max()) + 1

    @without_autograph
    def batches_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        row_order = permutation(rows, seed, epoch, stream=0)  # (R,)
        run = tf.range(rows, dtype=tf.int64) // (megabatch * batch_size)  # (R,)
        by_length = run * longest + tf.gather(sort_lengths, row_order)
        row_order = tf.gather(row_order, tf.argsort(by_length, stable=True))
        batch_order = permutation(num_batches, seed, epoch, stream=1)
        return tf.data.Dataset.from_tensor_slices(batch_order).map(
            without_autograph(
                lambda batch: row_order[batch * batch_size : (batch + 1) * batch_size]
            )
        )

    dataset = epoch_number(first_epoch).flat_map(batches_of_epoch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return sharded_by_data(dataset)


def epoch_number(first_epoch: int = 0) -> tf.data.Dataset:
    """Yields the number of its current iteration.

    Args:
        first_epoch: int. The number of the first iteration.

    Returns:
        A dataset of one int64 scalar.
    """
    # The counter is a table: tf.data accepts it as state, and a distribution strategy does not
    # replace it by a variable on every device.
    with tf.device("CPU:0"):
        counter = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=0)
        counter.insert(_INT64_ZERO, tf.constant(first_epoch, tf.int64))

    @without_autograph
    def next_epoch(_: tf.Tensor) -> tf.Tensor:
        epoch = counter.lookup(_INT64_ZERO)
        with tf.control_dependencies([epoch]):
            advance = counter.insert(_INT64_ZERO, epoch + 1)
        with tf.control_dependencies([advance]):
            return tf.identity(epoch)

    return tf.data.Dataset.from_tensors(0).map(next_epoch)


def token_batches(
    data: LabelledRows, batches: tf.data.Dataset, *, pad_id: int = 0
) -> tf.data.Dataset:
    """Converts batches of example indices to model inputs, padded to the longest row.

    Args:
        data: the tokenized examples.
        batches: a dataset of int64 (B,), from `bucketed_batches`.
        pad_id: int. The id of the padding token.

    Returns:
        A dataset of the batches of `batch_maker`.

    Raises:
        ConfigError: weights without labels.
    """
    return prefetched_map(batches, batch_maker(data, pad_id=pad_id))


def batch_maker(data: LabelledRows, *, pad_id: int = 0) -> Callable[[tf.Tensor], tuple[Any, ...]]:
    """Returns a function that converts example indices, int64 (B,), to a batch.

    Args:
        data: the tokenized examples.
        pad_id: int. The id of the padding token.

    Returns:
        a function that returns `(inputs,)`, `(inputs, labels)` or
        `(inputs, labels, sample_weight)`, the forms of Keras. The inputs are `token_ids`,
        `segment_ids` and `padding_mask` (1 = token, 0 = padding), each int32 (B, S), or
        (B, group, S) for groups of more than one row. Token labels are int32 (B, S),
        `NO_LABEL` at padding.

    Raises:
        ConfigError: weights without labels.
    """
    if data.weights is not None and data.labels is None and data.token_labels is None:
        raise ConfigError("expected labels with the weights, received none")
    rows, group = data.rows, data.group
    # On an accelerator, each batch of the constants would be copied back to the host.
    with tf.device("CPU:0"):
        token_ids = tf.constant(rows.token_ids, tf.int32)
        row_splits = tf.constant(rows.row_splits, tf.int64)
        segment_ids = None if rows.segment_ids is None else tf.constant(rows.segment_ids, tf.int32)
        labels = None if data.labels is None else tf.constant(data.labels)
        token_labels = None
        if data.token_labels is not None:
            token_labels = tf.constant(data.token_labels, tf.int32)
        weights = None if data.weights is None else tf.constant(data.weights)

    def batch(indices: tf.Tensor) -> tuple[Any, ...]:
        if group > 1:
            indices = indices[:, tf.newaxis] * group + tf.range(group, dtype=tf.int64)  # (B, G)
        starts = tf.gather(row_splits, indices)  # (B,) or (B, G); below, (B, S) or (B, G, S)
        lengths = tf.gather(row_splits, indices + 1) - starts
        mask = tf.sequence_mask(lengths, tf.reduce_max(lengths))  # (B, S)
        columns = tf.range(tf.shape(mask)[-1], dtype=tf.int64)
        places = tf.where(mask, starts[..., tf.newaxis] + columns, 0)  # (B, S)

        def padded(flat: tf.Tensor, value: int) -> tf.Tensor:
            return tf.where(mask, tf.gather(flat, places), value)

        inputs = {
            "token_ids": padded(token_ids, pad_id),
            "segment_ids": (
                tf.zeros_like(mask, tf.int32) if segment_ids is None else padded(segment_ids, 0)
            ),
            "padding_mask": tf.cast(mask, tf.int32),
        }
        examples = indices[:, 0] // group if group > 1 else indices
        targets: list[tf.Tensor] = []
        if token_labels is not None:
            targets.append(padded(token_labels, NO_LABEL))
        elif labels is not None:
            targets.append(tf.gather(labels, examples))
        if weights is not None:
            targets.append(tf.gather(weights, examples))
        return (inputs, *targets)

    return batch


def prefetched_map(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """Maps a dataset in parallel and prefetches a few elements.

    The parallelism is fixed. With tf.data.AUTOTUNE, a thread tunes the iterator at growing
    intervals, and closing the iterator waits for the end of an interval: half a minute after one
    minute of training (TensorFlow 2.21).

    Args:
        dataset: any.
        function: maps the components of an element; without conversion by AutoGraph.

    Returns:
        A dataset of the results, in the same order.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.map(without_autograph(function), num_parallel_calls=_PARALLEL_CALLS)
    return dataset.prefetch(2 * _PARALLEL_CALLS).with_options(options)


_INT64_ZERO = np.int64(0)
_PARALLEL_CALLS = 2  # enough: a batch is gathered far faster than a model processes it


def permutation(count: int, seed: int, epoch: tf.Tensor, stream: int) -> tf.Tensor:
    """int64 (count,). A permutation that depends only on the arguments."""
    # This op is one node. `tf.random.stateless_uniform` has the same numbers and many nodes, which
    # every iterator would create again.
    numbers = tf.raw_ops.StatelessRandomUniformFullInt(
        shape=[count],
        # Philox mixes both halves of the seed; `stream` keeps rows and batches independent.
        seed=tf.stack([tf.constant(seed, tf.int64), epoch * 2 + stream]),
        dtype=tf.int64,
    )
    return tf.cast(tf.argsort(numbers, stable=True), tf.int64)


def sharded_by_data(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Shards the dataset by elements: it has no files to distribute over the workers."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)

"""Sequence packing: several examples in a row of `max_length` tokens, a bin.

Examples of one bin do not see each other, see `layers.example_layout`. `text.packing` is something
else: it joins the texts of a pair.

Dimensions: N rows, one per example; B bins; S columns; E the largest number of examples of a bin; P
masked positions of a bin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import (
    NO_LABEL,
    epoch_number,
    length_order,
    permutation,
    restore_order,
    sharded_by_data,
    without_autograph,
)
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = [
    "Bins",
    "arrange",
    "assign_bins",
    "binned_batches",
    "pack_batch",
    "packed_batches",
    "plan_bins",
]


@dataclass(frozen=True)
class Bins:
    """The places of rows in bins.

    Args:
        bin_of_row: int32 (N,). The bin of each row, from 0; every bin has a row.
        slot_of_row: int32 (N,). The place of each row among those of its bin, from 0.
    """

    bin_of_row: np.ndarray
    slot_of_row: np.ndarray

    def __len__(self) -> int:
        """Counts the bins."""
        return int(self.bin_of_row.max(initial=-1)) + 1

    @property
    def rows(self) -> np.ndarray:
        """int64 (B, E). The rows of each bin, -1 after its last one."""
        table = np.full((len(self), int(self.slot_of_row.max(initial=0)) + 1), -1, np.int64)
        table[self.bin_of_row, self.slot_of_row] = np.arange(len(self.bin_of_row))
        return table


def plan_bins(lengths: Any, *, max_length: int, max_examples: int | None = None) -> Bins:
    """Assigns rows to bins: from the longest row on, each goes to the fullest bin it fits into.

    Rows of the same length are interchangeable, so the work grows with the number of different
    lengths and not with the number of rows: a million rows take about a second.

    Args:
        lengths: int (N,). Tokens per row, at least 1.
        max_length: int. Tokens of a bin.
        max_examples: int or None. The largest number of rows in a bin.

    Returns:
        Bins.

    Raises:
        ConfigError: `max_length` or `max_examples` is below 1.
        DataError: a row is empty, or has more than `max_length` tokens.

    Example:
        >>> plan_bins([5, 3, 9, 4], max_length=10).rows.tolist()
        [[2, -1], [0, 3], [1, -1]]

    Source: best-fit decreasing; arXiv 2107.02027 packs counts of lengths in the same way.
    """
    for name, value in (("max_length", max_length), ("max_examples", max_examples)):
        if value is not None and value < 1:
            raise ConfigError(f"expected {name} to be at least 1, received {value}")
    lengths = np.asarray(lengths, np.int64)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= max_length:
        raise DataError(
            f"expected rows of 1 to {max_length} tokens to pack, received rows of "
            f"{lengths.min()} to {lengths.max()}"
        )
    most = len(lengths) + 1 if max_examples is None else max_examples
    order = np.argsort(-lengths, kind="stable")
    ends = np.flatnonzero(np.diff(lengths[order], append=0)) + 1  # of the runs of equal lengths
    bin_of_row, slot_of_row = np.zeros((2, len(lengths)), np.int32)
    counts = np.zeros(len(lengths), np.int32)  # rows of each bin
    open_bins: dict[int, np.ndarray] = {}  # free tokens -> the bins with that number
    opened, begin = 0, 0
    for end in ends.tolist():
        rows, begin = order[begin:end], end
        length = int(lengths[rows[0]])
        while len(rows):
            free = min((space for space in open_bins if space >= length), default=None)
            if free is None:
                # The bins that these rows fill.
                capacity = min(max_length // length, most)
                count = -(-len(rows) // capacity)
                bins, free = np.arange(opened, opened + count, dtype=np.int32), max_length
                opened += count
            else:
                bins = open_bins.pop(free)
            used, bins = bins[: len(rows)], bins[len(rows) :]
            if len(bins):
                open_bins[free] = bins
            now, rows = rows[: len(used)], rows[len(used) :]
            bin_of_row[now], slot_of_row[now] = used, counts[used]
            counts[used] += 1
            used = used[counts[used] < most]
            if free > length and len(used):
                before = open_bins.get(free - length)
                joined = used if before is None else np.concatenate([before, used])
                open_bins[free - length] = joined
    return Bins(bin_of_row, slot_of_row)


def arrange(
    inputs: Mapping[str, tf.Tensor],
    targets: Mapping[str, tf.Tensor],
    bins: tf.Tensor,
    slots: tf.Tensor,
    count: tf.Tensor | int,
    *,
    max_length: int,
    max_examples: int,
    max_predictions: int | None = None,
    pad_id: int = 0,
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Moves the rows of an unpacked batch to their places in bins, in TensorFlow ops.

    Args:
        inputs: `token_ids`, `segment_ids`, `padding_mask` int32 (N, S'), padding after the tokens;
            and maybe `mask_positions` int32 (N, P'), columns of the rows.
        targets: name -> one value per row, (N,) or float (N, L); one label per token, int (N, S');
            or, under a name that contains "masked_lm", one label per masked position, int (N, P').
        bins: int32 (N,). The bin of each row; below 0: the row is left out.
        slots: int32 (N,). The place of each row in its bin, without gaps.
        count: int32 (). The number of bins.
        max_length: int, S.
        max_examples: int, E.
        max_predictions: int, P; masked positions beyond it are not predicted. None: P is
            the largest number in a bin.
        pad_id: int. The token id of padding.

    Returns:
        inputs: `token_ids`, `segment_ids`, `padding_mask` and `example_ids`, int32 (B, S);
        `example_starts` int32 (B, E); and maybe `mask_positions` int32 (B, P), columns of the bins;
        see `TokenLayout`. And targets: name -> (B, E), (B, E, L), (B, S) or (B, P). Where there is
        no example, token or masked position, integers are `NO_LABEL` and floats are 0.
    """
    inputs, targets = (
        {name: tf.convert_to_tensor(values) for name, values in part.items()}
        for part in (inputs, targets)
    )
    mask = (inputs["padding_mask"] != 0) & (bins >= 0)[:, tf.newaxis]
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)  # (N,)
    present = tf.squeeze(tf.where(bins >= 0), 1)
    places = tf.stack([tf.gather(bins, present), tf.gather(slots, present)], axis=1)
    shape = tf.stack([count, max_examples])

    def of_examples(values: tf.Tensor, none: Any) -> tf.Tensor:  # (N, ...) -> (B, E, ...)
        filled = tf.fill(
            tf.concat([shape, tf.shape(values)[1:]], axis=0), tf.cast(none, values.dtype)
        )
        table = tf.tensor_scatter_nd_update(filled, places, tf.gather(values, present))
        return tf.ensure_shape(table, [None, max_examples, *values.shape[1:]])

    sizes = of_examples(lengths, 0)
    begins = tf.cumsum(sizes, axis=1, exclusive=True)  # (B, E)
    begin = tf.gather_nd(begins, tf.stack([tf.maximum(bins, 0), slots], axis=1))  # (N,)
    cells = tf.where(mask)  # (tokens, 2)
    row = tf.cast(cells[:, 0], tf.int32)
    column = tf.gather(begin, row) + tf.cast(cells[:, 1], tf.int32)
    token_places = tf.stack([tf.gather(bins, row), column], axis=1)

    def of_tokens(values: tf.Tensor, none: int) -> tf.Tensor:  # (N, S') -> (B, S)
        filled = tf.fill([count, max_length], tf.cast(none, values.dtype))
        table = tf.tensor_scatter_nd_update(filled, token_places, tf.gather_nd(values, cells))
        return tf.ensure_shape(table, [None, max_length])

    ids = tf.broadcast_to(slots[:, tf.newaxis] + 1, tf.shape(mask))
    packed = {
        "token_ids": of_tokens(inputs["token_ids"], pad_id),
        "segment_ids": of_tokens(inputs["segment_ids"], 0),
        "padding_mask": of_tokens(tf.ones_like(inputs["token_ids"]), 0),
        "example_ids": of_tokens(ids, 0),
        "example_starts": of_examples(begin, -1),
    }
    moved: dict[str, tf.Tensor] = {}
    for name, values in targets.items():
        if "mask_positions" in inputs and "masked_lm" in name:
            continue
        if values.shape.rank == 2 and values.dtype.is_integer:
            moved[name] = of_tokens(values, NO_LABEL)
        else:
            moved[name] = of_examples(values, NO_LABEL if values.dtype.is_integer else 0)
    if "mask_positions" in inputs:
        labels = {n: values for n, values in targets.items() if "masked_lm" in n}
        positions, labels = _arrange_masks(
            inputs["mask_positions"], labels, bins, slots, begin, count, max_predictions
        )
        packed["mask_positions"] = positions
        moved |= labels
    return packed, {name: moved[name] for name in targets}


def _arrange_masks(
    positions: tf.Tensor,
    labels: Mapping[str, tf.Tensor],
    bins: tf.Tensor,
    slots: tf.Tensor,
    begin: tf.Tensor,
    count: tf.Tensor | int,
    width: int | None,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Moves masked positions (N, P') and their labels to bins, (B, P); see `arrange`."""
    if not labels:
        raise ConfigError("expected targets of masked_lm with mask_positions, received none")
    first = next(iter(labels.values()))
    cells = tf.where((first != NO_LABEL) & (bins >= 0)[:, tf.newaxis])  # (masks, 2)
    row = tf.gather(bins, cells[:, 0])
    # In the order of bins and of the examples in them.
    order = tf.argsort(row * tf.size(bins) + tf.gather(slots, cells[:, 0]), stable=True)
    cells, row = tf.gather(cells, order), tf.gather(row, order)
    of_bins = tf.math.bincount(row, minlength=count, maxlength=count)
    place = tf.range(tf.size(row)) - tf.gather(tf.cumsum(of_bins, exclusive=True), row)
    most = tf.maximum(tf.reduce_max(of_bins), 1) if width is None else tf.constant(width)
    fits = place < most
    cells, places = (
        tf.boolean_mask(part, fits) for part in (cells, tf.stack([row, place], axis=1))
    )

    def moved(values: tf.Tensor, none: int) -> tf.Tensor:
        filled = tf.fill(tf.stack([count, most]), tf.cast(none, values.dtype))
        table = tf.tensor_scatter_nd_update(filled, places, tf.gather_nd(values, cells))
        return tf.ensure_shape(table, [None, width])

    columns = positions + begin[:, tf.newaxis]
    return moved(columns, 0), {n: moved(values, NO_LABEL) for n, values in labels.items()}


def pack_batch(
    inputs: Mapping[str, tf.Tensor],
    targets: Mapping[str, tf.Tensor],
    *,
    max_length: int,
    max_examples: int,
    max_predictions: int | None = None,
    pad_id: int = 0,
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Packs the rows of a batch, in TensorFlow ops: for streams whose lengths are not known before.

    The rows are assigned to bins as in `plan_bins`, but one after the other.

    Args:
        inputs: see `arrange`.
        targets: see `arrange`.
        max_length: int. Tokens of a bin.
        max_examples: int. The largest number of examples of a bin.
        max_predictions: see `arrange`.
        pad_id: int. The token id of padding.

    Returns:
        see `arrange`. The number of bins depends on the rows.

    Raises:
        tf.errors.InvalidArgumentError: a row has more than `max_length` tokens.
    """
    mask = tf.cast(tf.not_equal(inputs["padding_mask"], 0), tf.int32)
    bins, slots, count = assign_bins(
        tf.reduce_sum(mask, axis=1), max_length=max_length, max_examples=max_examples
    )
    return arrange(
        inputs, targets, bins, slots, count, max_length=max_length, max_examples=max_examples,
        max_predictions=max_predictions, pad_id=pad_id,
    )  # fmt: skip


@without_autograph
def assign_bins(
    lengths: tf.Tensor, *, max_length: int, max_examples: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Assigns rows to bins by best-fit decreasing, in TensorFlow ops.

    Args:
        lengths: int32 (N,). Tokens per row; 0: the row has no bin.
        max_length: int.
        max_examples: int.

    Returns:
        int32 (N,) bins, -1 for empty rows; int32 (N,) slots; int32 () the number of bins.
    """
    rows = tf.size(lengths)
    check = tf.debugging.assert_less_equal(
        lengths, max_length, f"Expected rows of at most {max_length} tokens to pack."
    )
    with tf.control_dependencies([] if check is None else [check]):
        order = tf.argsort(-lengths, stable=True)

    def put(step: tf.Tensor, free: tf.Tensor, used: tf.Tensor, bins: Any, slots: Any) -> Any:
        length = lengths[order[step]]
        fits = (free >= length) & (used < max_examples)
        index = tf.argmin(tf.where(fits, free, max_length + 1), output_type=tf.int32)
        empty = length == 0
        index = tf.where(empty, rows, index)  # the last entry holds the rows without tokens
        place = index[tf.newaxis, tf.newaxis]
        slot = tf.where(empty, 0, used[index])
        return (
            step + 1,
            tf.tensor_scatter_nd_sub(free, place, length[tf.newaxis]),
            tf.tensor_scatter_nd_add(used, place, [1]),
            bins.write(step, tf.where(empty, -1, index)),
            slots.write(step, slot),
        )

    # There is at most one bin per row. An unused bin is the least full one.
    free = tf.concat([tf.fill([rows], max_length), [0]], axis=0)
    _, _, used, bins, slots = tf.while_loop(
        lambda step, *_: step < rows,
        put,
        (
            tf.constant(0),
            free,
            tf.zeros([rows + 1], tf.int32),
            tf.TensorArray(tf.int32, rows),
            tf.TensorArray(tf.int32, rows),
        ),
    )
    inverse = tf.math.invert_permutation(order)
    count = tf.reduce_sum(tf.cast(used[:-1] > 0, tf.int32))
    return tf.gather(bins.stack(), inverse), tf.gather(slots.stack(), inverse), count


def binned_batches(
    row_lengths: np.ndarray,
    bins: np.ndarray,
    *,
    batch_size: int,
    seed: int = 0,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Yields batches of bins of rows, in a new order in each iteration.

    In each epoch, rows of the same length change places, and the bins are permuted. The order
    depends only on `seed` and the epoch; see `bucketed_batches`.

    Args:
        row_lengths: int (R,). Tokens per row.
        bins: int64 (bins, E). The rows of each bin, -1 after its last one; see `data.packing`.
        batch_size: int. Bins per batch. The last batch may be smaller.
        seed: int.
        first_epoch: int. The epoch of the first iteration, to resume a run.

    Returns:
        A dataset of int64 (B, E) of known cardinality.

    Raises:
        ConfigError: `batch_size` is below 1.
        DataError: there are no bins.
    """
    if batch_size < 1:
        raise ConfigError(f"expected batch_size to be at least 1, received {batch_size}")
    if not len(bins):
        raise DataError("expected at least one bin to batch, received none")
    num_batches = -(-len(bins) // batch_size)
    lengths = np.asarray(row_lengths, np.int64)
    # Bins of ranks among the rows, from long to short; -1 reads the number after the last rank.
    rank = np.append(restore_order(np.arange(len(lengths)), length_order(lengths)), -1)
    with tf.device("CPU:0"):
        sort_lengths, ranks = tf.constant(-lengths), tf.constant(rank[bins])

    @without_autograph
    def batches_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = permutation(len(lengths), seed, epoch, stream=0)
        order = tf.gather(order, tf.argsort(tf.gather(sort_lengths, order), stable=True))
        order = tf.concat([order, [-1]], axis=0)
        places = tf.where(ranks < 0, tf.size(order, tf.int64) - 1, ranks)
        table = tf.gather(order, places)
        table = tf.gather(table, permutation(len(bins), seed, epoch, stream=1))
        return tf.data.Dataset.from_tensor_slices(table).batch(batch_size)

    dataset = epoch_number(first_epoch).flat_map(batches_of_epoch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return sharded_by_data(dataset)


def packed_batches(
    dataset: tf.data.Dataset,
    *,
    batch_size: int,
    max_length: int,
    max_examples: int,
    max_predictions: int | None = None,
    window: int = 1024,
    pad_id: int = 0,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Packs a stream of batches.

    Args:
        dataset: unpacked batches (inputs, targets), as for `arrange`, all padded to one width.
        batch_size: int. Bins per batch.
        max_length: int. Tokens of a bin.
        max_examples: int. Examples of a bin, at most.
        max_predictions: int or None. Masked positions of a bin; required with `mask_positions`.
        window: int. Rows that are packed together. The last bin of a window is not full.
        pad_id: int. The token id of padding.
        drop_remainder: bool. Whether to drop a last batch of fewer bins, so that all shapes are
            known.

    Returns:
        tf.data.Dataset of packed batches. Their order depends only on that of the rows.

    Raises:
        ConfigError: `max_predictions` is missing.
    """
    if "mask_positions" in dataset.element_spec[0] and max_predictions is None:
        raise ConfigError("expected max_predictions for rows with masked positions, received None")

    @without_autograph
    def pack(inputs: Any, targets: Any) -> Any:
        return pack_batch(
            inputs, targets, max_length=max_length, max_examples=max_examples,
            max_predictions=max_predictions, pad_id=pad_id,
        )  # fmt: skip

    packed = dataset.unbatch().batch(window).map(pack)
    return packed.unbatch().batch(batch_size, drop_remainder=drop_remainder)

"""Batches of bins: several examples share a row of `max_length` tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.packing import Bins, arrange, binned_batches, plan_bins
from keras_bert_zoo.data.pipeline import without_autograph
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.rows import RowBatches

__all__ = [
    "PackedBatches",
    "count_examples",
    "examples_as_rows",
    "packed_rows",
    "spec_of_rows",
]

MAX_EXAMPLES = 64
"""The largest number of examples in a bin; the outputs of all have a place in a batch."""

_BIN_ROWS = "bin_rows"
_MASKED = "masked_lm"


@dataclass(frozen=True)
class PackedBatches(RowBatches):
    """Batches of bins of examples; see `data.packing`.

    In every epoch, other examples of the same lengths share a bin, and the order of the bins is
    another one. The number of bins is always the same.

    Args:
        data: the rows of `rows`.
        pad_id: int. The token id of padding.
        rows: RowBatches. The examples.
        bins: Bins of the examples.
        max_length: int. Tokens of a bin.
    """

    rows: RowBatches
    bins: Bins
    max_length: int

    def __len__(self) -> int:
        """Returns the number of bins: `batch_size` counts them."""
        return len(self.bins)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (B,). The number of tokens of each bin."""
        counts = np.bincount(self.bins.bin_of_row, self.rows.lengths, len(self))
        return counts.astype(np.int64)

    @cached_property
    def table(self) -> np.ndarray:
        """int64 (B, E). The examples of each bin; see `Bins.rows`."""
        return self.bins.rows

    @property
    def label_axis(self) -> str | None:
        """See the base class; the labels of examples have one width already."""
        return self.rows.label_axis

    def widths(self, bins: np.ndarray | None = None) -> dict[str, int]:
        """See the base class."""
        widths = self.rows.widths(self.bins.bin_of_row)
        return widths | {"tokens": self.max_length, "examples": self.table.shape[1]}

    def pads(self) -> dict[str, int]:
        """See the base class."""
        return self.rows.pads() | {"example_starts": -1}

    def numbers(self, *, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Yields the numbers of the examples of each batch, int64 (examples,)."""
        return self._tables(batch_size=batch_size, **options).map(
            without_autograph(lambda table: tf.boolean_mask(table, table >= 0))
        )

    def batches(self, *, batch_size: int, **options: Any) -> tf.data.Dataset:
        """See the base class; a batch has `batch_size` bins."""
        make = self.rows.maker()

        def batch(table: tf.Tensor) -> tuple[Any, ...]:
            inputs, *rest = make(tf.boolean_mask(table, table >= 0))
            return (inputs | {_BIN_ROWS: table}, *rest)

        tables = self._tables(batch_size=batch_size, **options)
        unpacked = self.rows.finished(tables, batch, **options)
        return unpacked.map(without_autograph(self._packed))

    def _tables(
        self, *, batch_size: int, seed: int = 0, first_epoch: int = 0, in_order: bool = False
    ) -> tf.data.Dataset:
        if in_order:
            raise ConfigError(
                "Expected shuffled examples for `pack_examples`, received `shuffle=False`: bins "
                "do not keep the order of the examples."
            )
        return binned_batches(
            self.rows.lengths, self.table, batch_size=batch_size, seed=seed, first_epoch=first_epoch
        )

    def _packed(self, inputs: dict[str, tf.Tensor], *rest: tf.Tensor) -> tuple[Any, ...]:
        """Moves the rows of an unpacked batch to their bins; the weights become (B, E)."""
        inputs = dict(inputs)
        exists = inputs.pop(_BIN_ROWS) >= 0
        places = tf.cast(tf.where(exists), tf.int32)  # in the order of the rows
        names = (_MASKED if "mask_positions" in inputs else "labels", "weights")
        packed, targets = arrange(
            inputs,
            dict(zip(names, rest, strict=False)),
            places[:, 0],
            places[:, 1],
            tf.shape(exists)[0],
            max_length=self.max_length,
            max_examples=self.table.shape[1],
            pad_id=self.pad_id,
        )
        return (packed, *targets.values())


def packed_rows(task: Any, rows: RowBatches) -> PackedBatches:
    """Packs the tokenized examples of a task into bins of its `max_length` tokens.

    Args:
        task: Task.
        rows: RowBatches, one row of tokens per example.

    Returns:
        PackedBatches.

    Raises:
        DataError: an example has no token.
    """
    lengths = rows.lengths
    if not lengths.min(initial=1):
        raise DataError("Expected texts with tokens to pack, received one without any.")
    bins = plan_bins(lengths, max_length=task.max_length, max_examples=MAX_EXAMPLES)
    return PackedBatches(rows.data, rows.pad_id, rows=rows, bins=bins, max_length=task.max_length)


def count_examples(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the number of examples of a packed batch, int64 ()."""
    return tf.math.count_nonzero(inputs["example_starts"] >= 0)


def spec_of_rows(spec: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the specs of packed batches with labels as `examples_as_rows` makes them."""

    def joined(part: tf.TensorSpec) -> tf.TensorSpec:
        return tf.TensorSpec([None, *part.shape[2:]], part.dtype)

    return (spec[0], *map(joined, spec[1:]))


def examples_as_rows(
    inputs: Mapping[str, tf.Tensor], real: tf.Tensor, y: Any, weight: Any
) -> tuple[tf.Tensor, Any, Any]:
    """Gives each place of an example in bins a row, as the outputs of a packed batch have them.

    Args:
        inputs: of B bins.
        real: bool (B,). Which bins are no copies.
        y: labels (B, E, ...).
        weight: float32 (B, E) or None.

    Returns:
        bool (B * E,), whether the place has an example; labels (B * E, ...); and weights (B * E,)
        or None.
    """
    starts = inputs["example_starts"]
    rows = None if None in starts.shape else starts.shape[0] * starts.shape[1]

    def joined(part: tf.Tensor) -> tf.Tensor:
        shape = part.shape[2:]
        return tf.ensure_shape(tf.reshape(part, [-1, *shape]), [rows, *shape])

    real = joined(real[:, tf.newaxis] & (starts >= 0))
    y = joined(y)
    if y.dtype.is_integer:  # no label is no row of the logits
        y = tf.where(tf.reshape(real, [-1] + [1] * (y.shape.rank - 1)), y, 0)
    return real, y, None if weight is None else joined(weight)

"""Tokenized texts with their translations, for training a decoder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import (
    NO_LABEL,
    LabelledRows,
    TokenRows,
    batch_maker,
    prefetched_map,
)
from keras_bert_zoo.errors import DataError

__all__ = ["ParallelRows", "parallel_batch_maker", "parallel_batches"]


@dataclass(frozen=True)
class ParallelRows:
    """Tokenized texts and their tokenized translations.

    Args:
        source: TokenRows, R rows for the encoder.
        target: TokenRows, R rows: `[CLS] b [SEP]`.
        weights: float32 (R,) or None. The weight of each example in the loss.

    Raises:
        DataError: the numbers of rows differ.
    """

    source: TokenRows
    target: TokenRows
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks that each text has a translation."""
        if len(self.source) != len(self.target):
            raise DataError(
                f"expected one translation for each of {len(self.source)} texts, "
                f"received {len(self.target)}"
            )

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.source)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (R,). The number of tokens in both texts of each example."""
        return self.source.lengths + self.target.lengths


def parallel_batches(
    data: ParallelRows, batches: tf.data.Dataset, *, pad_id: int, target_pad_id: int
) -> tf.data.Dataset:
    """Converts batches of example indices to model inputs, padded to the longest row.

    Args:
        data: the tokenized examples.
        batches: a dataset of int64 (B,), from `bucketed_batches`.
        pad_id: int. The id of the padding token of texts.
        target_pad_id: int. The id of the padding token of translations.

    Returns:
        A dataset of the batches of `parallel_batch_maker`.
    """
    return prefetched_map(
        batches, parallel_batch_maker(data, pad_id=pad_id, target_pad_id=target_pad_id)
    )


def parallel_batch_maker(
    data: ParallelRows, *, pad_id: int, target_pad_id: int
) -> Callable[[tf.Tensor], tuple[Any, ...]]:
    """Returns a function that converts example indices, int64 (B,), to a batch.

    Args:
        data: the tokenized examples.
        pad_id: int. The id of the padding token of texts.
        target_pad_id: int. The id of the padding token of translations.

    Returns:
        a function that returns `(inputs, labels)` or `(inputs, labels, sample_weight)`. The inputs
        are `token_ids`, `segment_ids` and `padding_mask`, int32 (B, S), and `target_ids` and
        `target_mask`, int32 (B, T): the translation without its last token. The labels are int32
        (B, T): the next token at each position, `NO_LABEL` at padding.
    """
    source = batch_maker(LabelledRows(data.source), pad_id=pad_id)
    target = batch_maker(LabelledRows(data.target), pad_id=target_pad_id)
    weights = None
    if data.weights is not None:
        with tf.device("CPU:0"):
            weights = tf.constant(data.weights)

    def batch(indices: tf.Tensor) -> tuple[Any, ...]:
        (inputs,), (targets,) = source(indices), target(indices)
        ids, mask = targets["token_ids"], targets["padding_mask"][:, 1:]
        labels = tf.where(mask == 1, ids[:, 1:], NO_LABEL)
        inputs = inputs | {"target_ids": ids[:, :-1], "target_mask": mask}
        return (
            (inputs, labels) if weights is None else (inputs, labels, tf.gather(weights, indices))
        )

    return batch

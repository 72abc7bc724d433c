"""Counts of the tokens that training steps read, and of the time that they wait for data.

They are counted in the graph of the step, from the batches that it really reads. So they are exact
with a dataset, on several replicas and workers, with accumulation and with several steps per
execution. A step only adds to variables. They are read once in several steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.training.replicas import split_rows

__all__ = ["Counts", "StepCounts"]


class Counts(NamedTuple):
    """Sums over training steps.

    Args:
        rows: int. Examples; copies that fill a batch are not counted.
        sequences: int. Rows of tokens; some tasks have several per example.
        tokens: int. Tokens that the encoder reads, without padding.
        places: int. Tokens with padding: sequences times the length of their batch.
        squares: int. The sum of the squared lengths of the sequences, for the cost of attention.
        labelled: int. Labels other than `NO_LABEL`: for masked language models, the predicted
            tokens.
        seconds: float. Wall-clock time.
        waited: float. Seconds of it in which this process waited for the next batch.
    """

    rows: int = 0
    sequences: int = 0
    tokens: int = 0
    places: int = 0
    squares: int = 0
    labelled: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def plus(self, other: Counts) -> Counts:
        """Returns the sum of both."""
        return Counts._make(a + b for a, b in zip(self, other, strict=True))

    def minus(self, other: Counts) -> Counts:
        """Returns the difference."""
        return Counts._make(a - b for a, b in zip(self, other, strict=True))


class StepCounts:
    """The variables that a compiled training step adds to.

    Args:
        strategy: tf.distribute.Strategy of the model.

    Example:
        >>> counts = StepCounts(tf.distribute.get_strategy())
        >>> counts.add(({"padding_mask": tf.constant([[1, 1, 0], [1, 0, 0]])},))
        >>> counts.read().tokens, counts.read().places
        (3, 6)
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        with strategy.scope():
            # Each replica has its own sum; reading it adds those of all replicas and workers.
            self._sums = tf.Variable(
                tf.zeros(6, tf.int64), trainable=False, name="step_counts",
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )  # fmt: skip
        with tf.device("CPU:0"):
            self._waited = tf.Variable(0.0, trainable=False, dtype=tf.float64, name="waited")

    def add(self, data: Any) -> None:
        """Counts a batch, or this replica's share of it; called on each replica.

        Args:
            data: batch of inputs (B, S) or (B, G, S), as `replicas.train_step` receives it.
        """
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        inputs, share = split_rows(x)
        if not isinstance(inputs, Mapping) or "padding_mask" not in inputs:
            return
        mask = tf.cast(inputs["padding_mask"], tf.int64)
        shape = tf.shape(mask, tf.int64)
        real = tf.ones(shape[:1], tf.int64) if share is None else tf.cast(share.real, tf.int64)
        lengths = tf.reduce_sum(mask, axis=-1)  # (B,) or (B, G)
        lengths *= tf.reshape(real, [-1] + [1] * (len(lengths.shape) - 1))
        rows = tf.reduce_sum(real)
        sequences = rows * tf.reduce_prod(shape[1:-1])
        labelled = tf.zeros((), tf.int64)
        if tf.is_tensor(y) and y.dtype.is_integer and y.shape.rank:
            marks = tf.cast(y != tf.cast(NO_LABEL, y.dtype), tf.int64)
            labelled = tf.reduce_sum(tf.reshape(marks, [shape[0], -1]) * real[:, tf.newaxis])
        self._sums.assign_add(
            tf.stack(
                [
                    rows,
                    sequences,
                    tf.reduce_sum(lengths),
                    sequences * shape[-1],
                    tf.reduce_sum(lengths**2),
                    labelled,
                ]
            )
        )

    def next(self, iterator: Any) -> Any:
        """Returns the next element of an iterator, and measures the time that it takes.

        The measurement is that of the host. A GPU works on queued steps at the same time.
        """
        begin = tf.timestamp()
        with tf.control_dependencies([begin]):
            data = next(iterator)
        parts = tf.nest.flatten(self._strategy.experimental_local_results(data))
        with tf.control_dependencies(parts):
            self._waited.assign_add(tf.timestamp() - begin)
        return data

    def read(self) -> Counts:
        """Returns the sums so far, with 0 seconds; all workers must call it at the same step."""
        sums = np.asarray(tf.convert_to_tensor(self._sums)).tolist()
        return Counts._make([*sums, 0.0, float(self._waited.numpy())])

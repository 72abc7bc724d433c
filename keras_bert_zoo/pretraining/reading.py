"""Shards of pretraining examples -> batches, which a run can enter at any step.

A pass reads the records in the order of `order.ShardOrder`. Every `window` records are permuted,
sorted by length and cut into batches, and the batches are permuted. All windows but the last of a
pass have the same number of batches. So the place in the files of a step follows from its number,
and a run that goes on reads nothing that is before its window. Records, order and masks depend on
the seed, the pass and the place alone: all workers of a cluster make the same batches.

Legend: B rows of a batch, S columns, W records of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import without_autograph
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining.dataset import PretrainingData, Shard
from keras_bert_zoo.pretraining.order import ShardOrder, permutation

__all__ = ["RecordBatches", "damage_of", "sample_lengths"]

_WINDOW = 4096
"""Records that are shuffled and sorted together, about."""
_LEAST_BATCHES = 16  # of a window: with fewer, long and short rows would alternate

Records = dict[str, Any]
"""A batch of records: "number" int64 (B,), "epoch" int64 (), and the features of the records;
lists of them are int64 RaggedTensors (B, None)."""


@dataclass(frozen=True, kw_only=True)
class RecordBatches:
    """The batches of records of a run.

    Args:
        data: PretrainingData.
        heldout: bool. Whether to read the held-out shards.
        batch_size: int. Records per batch.
        tokens_per_batch: int or None. The mean number of tokens of a batch, instead of
            `batch_size`. Each window is cut into batches of almost equal numbers of tokens.
        seed: int.
        shuffle: bool. False: shards and records keep their order.
        by_length: bool. Whether the rows of a batch have similar lengths.

    Raises:
        ConfigError: there are no records, or `tokens_per_batch` is below the longest record.
    """

    data: PretrainingData
    heldout: bool = False
    batch_size: int = 32
    tokens_per_batch: int | None = None
    seed: int = 0
    shuffle: bool = True
    by_length: bool = True

    def __post_init__(self) -> None:
        """Checks the size of batches."""
        if not self.records:
            name = "held-out" if self.heldout else "training"
            raise ConfigError(
                f"{self.data.directory}: expected {name} examples, received none: build the data "
                f"with {'a held-out share' if self.heldout else 'more text'}"
            )
        longest = max(shard.longest for shard in self.shards)
        if self.tokens_per_batch is not None and self.tokens_per_batch < longest:
            raise ConfigError(
                f"expected `tokens_per_batch` of at least {longest}, the longest example of "
                f"{self.data.directory}, received {self.tokens_per_batch}"
            )

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that have records."""
        shards = self.data.heldout if self.heldout else self.data.train
        return tuple(shard for shard in shards if shard.examples)

    @property
    def records(self) -> int:
        """The number of records of a pass."""
        return sum(shard.examples for shard in self.shards)

    @property
    def tokens(self) -> int:
        """The number of tokens of a pass."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def order(self) -> ShardOrder:
        """The order of the records."""
        return ShardOrder(
            [str(self.data.directory / shard.name) for shard in self.shards],
            [shard.examples for shard in self.shards],
            seed=self.seed,
            shuffle=self.shuffle,
        )

    @property
    def rows(self) -> float:
        """The mean number of records of a batch."""
        if self.tokens_per_batch is None:
            return float(self.batch_size)
        return max(1.0, self.tokens_per_batch * self.records / self.tokens)

    @property
    def window_batches(self) -> int:
        """The number of batches of a window."""
        return max(_LEAST_BATCHES, round(_WINDOW / self.rows))

    @property
    def window(self) -> int:
        """The number of records of a window."""
        return int(self.window_batches * self.rows)

    @property
    def most_rows(self) -> int:
        """The largest number of rows that is expected of a batch."""
        return int(np.ceil(self.rows))

    @property
    def steps(self) -> int:
        """The number of batches of a pass."""
        windows, rest = divmod(self.records, self.window)
        return windows * self.window_batches + (self._batches_of(rest) if rest else 0)

    def _batches_of(self, records: int) -> int:
        """The number of batches of the last window of a pass."""
        if self.tokens_per_batch is None:
            return -(-records // self.batch_size)
        return max(1, round(records / self.window * self.window_batches))

    def place_of(self, step: int) -> tuple[int, int, int]:
        """Returns the pass of a step, the window in the pass, and the batch in the window."""
        epoch, rest = divmod(step, self.steps)
        window, batch = divmod(rest, self.window_batches)
        return epoch, window, batch

    def read(self, step: int = 0, *, passes: int | None = None) -> tf.data.Dataset:
        """Reads batches from a step of the run on.

        Args:
            step: int.
            passes: int or None. The number of passes to read; None: all that follow.

        Returns:
            dataset of `Records`.
        """
        first, window, batch = self.place_of(step)
        order, size = self.order, self.window

        @without_autograph
        def pass_of(epoch: tf.Tensor) -> tf.data.Dataset:
            begin = tf.where(epoch == first, tf.constant(window, tf.int64), np.int64(0))
            windows = order.read(epoch, begin * size, size)
            numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(begin), windows)
            return numbered.flat_map(lambda index, records: self._batches(epoch, index, *records))

        end = np.iinfo(np.int64).max if passes is None else first + passes
        return tf.data.Dataset.range(first, end).flat_map(pass_of).skip(batch)

    @without_autograph
    def _batches(
        self, epoch: tf.Tensor, window: tf.Tensor, numbers: tf.Tensor, serialized: tf.Tensor
    ) -> tf.data.Dataset:
        """Parses the records of a window and cuts them into batches."""
        parsed = {"number": numbers, **tf.io.parse_example(serialized, self._features())}
        count = tf.size(numbers, tf.int64)
        rows = tf.range(count)
        if self.shuffle:
            rows = permutation(count, self.seed, epoch, stream=1, window=window)
        lengths = tf.gather(parsed["token_ids"].row_lengths(), rows)
        if self.by_length:
            by_length = tf.argsort(lengths, stable=True)
            rows, lengths = tf.gather(rows, by_length), tf.gather(lengths, by_length)
        ends = self._ends(lengths)
        batches = tf.range(tf.size(ends, tf.int64))
        if self.shuffle:
            batches = permutation(
                tf.size(ends, tf.int64), self.seed, epoch, stream=2, window=window
            )
        starts = tf.pad(ends, [[1, 0]])

        @without_autograph
        def one(batch: tf.Tensor) -> Records:
            chosen = rows[starts[batch] : ends[batch]]
            values = {name: tf.gather(value, chosen) for name, value in parsed.items()}
            return {"epoch": epoch, **values}

        return tf.data.Dataset.from_tensor_slices(batches).map(one)

    def _ends(self, lengths: tf.Tensor) -> tf.Tensor:
        """int64 (batches,). The ends of the batches of a window, from the lengths of its rows."""
        count = tf.size(lengths, tf.int64)
        if self.tokens_per_batch is None:
            ends = (
                tf.range((count + self.batch_size - 1) // self.batch_size) + 1
            ) * self.batch_size
            return tf.minimum(ends, count)
        whole = tf.cast(count, tf.float64) / self.window * self.window_batches
        batches = tf.maximum(np.int64(1), tf.cast(tf.round(whole), tf.int64))
        tokens = tf.cumsum(lengths)
        number = tf.range(1, batches + 1)
        ends = tf.searchsorted(tokens, tokens[-1] * number // batches, side="left")
        # At least one row for each batch: the ends rise by one or more.
        spare = tf.cast(ends, tf.int64) + 1 - number
        earlier = number[tf.newaxis] <= number[:, tf.newaxis]
        spare = tf.reduce_max(tf.where(earlier, spare[tf.newaxis], 0), axis=1)
        return tf.minimum(spare, count - batches) + number

    def _features(self) -> dict[str, Any]:
        tokens = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
        number = tf.io.FixedLenFeature([], tf.int64)
        features: dict[str, Any] = {"token_ids": tokens, "first_length": number}
        if self.data.pairs != "none":
            features["pair_label"] = number
        if self.data.static_masks:
            features |= {"masked_positions": tokens, "masked_token_ids": tokens}
        if self.data.word_boundaries:
            features["word_begins"] = tokens
        if self.data.examples_per_record > 1:
            features["example_lengths"] = tokens
        return features

    def examples_of(self, step: int) -> list[str]:
        """Names the records in the batch of a step: the files and the places, from 0."""
        (batch,) = self.read(step).take(1)
        places = (self.order.name_of(int(number)) for number in batch["number"].numpy())
        return [f"{name}:{place}" for name, place in places]

    def check(self, step: int) -> None:
        """Raises DataError if a shard that is read around a step is damaged."""
        epoch, window, _ = self.place_of(step)
        place = window * self.window
        for first, begin in ((epoch, place), (epoch + 1, 0)):
            count = min(3 * self.window, self.records - begin)
            names = self.order.groups_after(first, begin, count) if count > 0 else []
            for shard in self.shards:
                if str(self.data.directory / shard.name) in names:
                    damage = damage_of(self.data, shard, self._features())
                    if damage:
                        raise DataError(damage)


def damage_of(data: PretrainingData, shard: Shard, features: dict[str, Any]) -> str | None:
    """Describes the first damaged record of a shard; None if all records can be read.

    Args:
        data: PretrainingData.
        shard: Shard.
        features: the features of records, for `tf.io.parse_example`.
    """
    path = data.directory / shard.name
    count = 0
    try:
        compression = "GZIP" if shard.name.endswith(".gz") else ""
        for record in tf.data.TFRecordDataset(str(path), compression_type=compression):
            tf.io.parse_example(record[tf.newaxis], features)
            count += 1
    except (tf.errors.OpError, ValueError) as error:
        if isinstance(error, tf.errors.NotFoundError):
            return f"{path}: expected a shard, received no file: build the data again"
        return (
            f"{path}: expected {shard.examples} records, record {count} (from 0) is damaged: copy "
            "the shard again, or delete it and build the data again"
        )
    if count != shard.examples:
        return f"{path}: expected {shard.examples} records, received {count}: build the data again"
    return None


def sample_lengths(batches: RecordBatches, *, records: int = 4096) -> np.ndarray:
    """int64 (E,). The lengths of the first records of a run, for estimates."""
    lengths, count = [], 0
    for batch in _iterated(batches.read(passes=1)):
        lengths.append(batch["token_ids"].row_lengths().numpy())
        count += len(lengths[-1])
        if count >= records:
            break
    return np.concatenate(lengths)


def _iterated(dataset: tf.data.Dataset) -> Iterator[Records]:
    yield from dataset

"""The order in which the examples of shards are read, and how it is entered at any place.

A pass over the data permutes the shards and reads them in groups of `together` shards. Within a
group, `BLOCK` records of each shard follow each other in turn, until all its shards are read. So
the record at any place of the order follows from the sizes of the shards alone, and a run that goes
on opens the files of one group and skips to its place.

All work is done in TensorFlow ops. Legend: N shards, G shards of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import without_autograph

__all__ = ["BLOCK", "ShardOrder", "permutation"]

BLOCK = 16
"""Records that are read from a shard before the next one."""

_GOLDEN = -7046029254386353131  # 2^64 divided by the golden ratio, as int64


@dataclass(frozen=True)
class ShardOrder:
    """The order of the records of shards in each pass.

    Args:
        files: the names of the shards.
        sizes: int. Records of each shard, above 0.
        seed: int.
        shuffle: bool. Whether the shards are permuted; else they keep their order and are read
            one after the other.
        together: int. Shards that are read in turn.
    """

    files: Sequence[str]
    sizes: Sequence[int]
    seed: int = 0
    shuffle: bool = True
    together: int = 8

    @property
    def records(self) -> int:
        """The number of records of a pass."""
        return sum(self.sizes)

    @property
    def first_numbers(self) -> np.ndarray:
        """int64 (N + 1,). The numbers of the first records of the shards, and of the end."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def name_of(self, number: int) -> tuple[str, int]:
        """Returns the file of a record, and its place in it, from 0."""
        shard = int(np.searchsorted(self.first_numbers, number, side="right")) - 1
        return self.files[shard], number - int(self.first_numbers[shard])

    def shards_of(self, epoch: tf.Tensor) -> tf.Tensor:
        """int64 (N,). The shards in the order of a pass."""
        count = len(self.files)
        if not self.shuffle:
            return tf.range(count, dtype=tf.int64)
        return permutation(count, self.seed, epoch, stream=0)

    def groups_after(self, epoch: int, place: int, count: int) -> list[str]:
        """Returns the files of the groups that hold `count` records from a place of a pass on."""
        shards = self.shards_of(tf.constant(epoch, tf.int64)).numpy()
        ends = np.cumsum(np.asarray(self.sizes)[shards])
        first, last = np.searchsorted(ends, [place, place + count - 1], side="right")
        size = self._group_size
        chosen = shards[first // size * size : (last // size + 1) * size]
        return [self.files[shard] for shard in chosen]

    @property
    def _group_size(self) -> int:
        return self.together if self.shuffle else 1

    def read(self, epoch: tf.Tensor, place: tf.Tensor, window: int) -> tf.data.Dataset:
        """Reads a pass from a place on.

        Args:
            epoch: int64 (). The number of the pass.
            place: int64 (). Records of the pass to leave out.
            window: int. Records of an element; the last one has the rest.

        Returns:
            dataset of int64 (W,), the numbers of the records among all shards, and string (W,).
        """
        with tf.device("CPU:0"):
            files = tf.constant(list(self.files))
            sizes = tf.constant(list(self.sizes), tf.int64)
            numbers = tf.constant(self.first_numbers)
        gzipped = all(str(name).endswith(".gz") for name in self.files)
        order = self.shards_of(epoch)
        ends = tf.cumsum(tf.gather(sizes, order))  # (N,)
        group_size = self._group_size
        groups = -(-len(self.files) // group_size)
        group_ends = tf.gather(
            ends, tf.minimum(tf.range(1, groups + 1) * group_size, len(self.files)) - 1
        )
        first_group = tf.searchsorted(group_ends, [place], side="right")[0]

        # Blocks, not records, pass through the datasets: each element of one costs microseconds.
        @without_autograph
        def read_shard(shard: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
            size, first = tf.gather(sizes, shard), tf.gather(numbers, shard)
            records = tf.data.TFRecordDataset(
                tf.gather(files, shard), compression_type="GZIP" if gzipped else ""
            )
            blocks = records.skip(start).batch(BLOCK)
            count = (size - start + BLOCK - 1) // BLOCK
            blocks = blocks.apply(tf.data.experimental.assert_cardinality(count))

            @without_autograph
            def number(index: tf.Tensor, block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                begin = start + index * BLOCK
                length = tf.minimum(size - begin, BLOCK)
                tf.debugging.assert_equal(tf.size(block, tf.int64), length, "records are missing")
                return first + begin + tf.range(length), block

            return blocks.enumerate().map(number)

        @without_autograph
        def without_first(left: tf.Tensor, block: tuple[tf.Tensor, tf.Tensor]) -> Any:
            """Drops the first records of a group; returns how many are left to drop."""
            dropped = tf.minimum(left, tf.size(block[0], tf.int64))
            return left - dropped, tuple(part[dropped:] for part in block)

        @without_autograph
        def read_group(group: tf.Tensor) -> tf.data.Dataset:
            chosen = order[group * group_size : (group + 1) * group_size]
            counts = tf.gather(sizes, chosen)  # (G,)
            begin = tf.gather(tf.pad(group_ends, [[1, 0]]), group)
            skipped = tf.maximum(place - begin, 0)
            # Records of the group that are read after each number of rounds.
            rounds = tf.range((tf.reduce_max(counts) + BLOCK - 1) // BLOCK + 1) * BLOCK
            read = tf.reduce_sum(tf.minimum(rounds[:, tf.newaxis], counts), axis=1)
            done = tf.searchsorted(read, [skipped], side="right")[0] - 1
            starts = tf.minimum(tf.gather(rounds, done), counts)
            unread = starts < counts
            shards = tf.data.Dataset.from_tensor_slices(
                (tf.boolean_mask(chosen, unread), tf.boolean_mask(starts, unread))
            )
            blocks = shards.interleave(read_shard, cycle_length=group_size, block_length=1)
            return blocks.scan(skipped - tf.gather(read, done), without_first)

        blocks = tf.data.Dataset.range(tf.cast(first_group, tf.int64), groups).flat_map(read_group)
        return blocks.rebatch(window)


def permutation(
    count: int | tf.Tensor, seed: int, epoch: tf.Tensor, *, stream: int, window: tf.Tensor | int = 0
) -> tf.Tensor:
    """int64 (count,). A permutation that depends only on the arguments.

    Args:
        count: int.
        seed: int.
        epoch: int64 ().
        stream: int in [0, 4). Permutations of different things are independent.
        window: int64 (). Permutations of different windows are independent.
    """
    with tf.device("CPU:0"):
        window = tf.convert_to_tensor(window, tf.int64)
        numbers = tf.raw_ops.StatelessRandomUniformFullInt(
            shape=[count],
            # Philox mixes both halves of the seed.
            seed=tf.stack([tf.constant(seed, tf.int64) + window * _GOLDEN, epoch * 4 + stream]),
            dtype=tf.int64,
        )
    return tf.cast(tf.argsort(numbers, stable=True), tf.int64)

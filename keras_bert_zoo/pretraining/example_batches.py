"""Batches of records -> model inputs and targets of pretraining, in TensorFlow ops.

Legend: B rows, S columns, P masked positions of a row.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.masking import Masking, masked_batch
from keras_bert_zoo.data.masking_spans import length_shares
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.pretraining.dataset import PretrainingData
from keras_bert_zoo.pretraining.reading import Records
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.words import begins_word, word_flags

__all__ = ["BatchColumns", "ExampleBatches", "default_buckets", "most_predictions"]

_WORDS_OF_A_ROW = 2**16  # the number of a word is unique among all records


@dataclass(frozen=True)
class BatchColumns:
    """The numbers of columns of batches.

    Args:
        buckets: the lengths that batches are padded to, rising; (): the longest row of each batch.
        static: bool. Whether the number of masked positions follows from the bucket alone.
    """

    buckets: tuple[int, ...] = ()
    static: bool = False

    def __post_init__(self) -> None:
        """Checks the order of the buckets."""
        if any(b < 1 for b in self.buckets) or list(self.buckets) != sorted(set(self.buckets)):
            raise ConfigError(f"expected rising lengths of buckets, received {self.buckets}")
        if self.static and not self.buckets:
            raise ConfigError("expected buckets with static shapes, received none")


@dataclass(frozen=True, kw_only=True)
class ExampleBatches:
    """Makes model inputs and targets from records.

    Args:
        data: PretrainingData of the records.
        tokenizer: Tokenizer of the records.
        masking: Masking; None: no token is masked. Not used for records with static masks.
        columns: BatchColumns.
        seed: int. The masks depend on it.
    """

    data: PretrainingData
    tokenizer: Tokenizer
    masking: Masking | None = None
    columns: BatchColumns = BatchColumns()
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks that the longest examples fit into a bucket."""
        buckets = self.columns.buckets
        if buckets and buckets[-1] < self.data.max_length:
            raise ConfigError(
                f"expected a bucket of at least {self.data.max_length} tokens, the maximum length "
                f"of {self.data.directory}, received {buckets[-1]} as the largest"
            )

    def __call__(self, records: Records) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Makes a batch.

        Args:
            records: see `reading.Records`.

        Returns:
            the inputs `token_ids`, `segment_ids` and `padding_mask`, int32 (B, S), and with masks
            `mask_positions`, int32 (B, P), columns padded with 0; of packed examples also
            `example_ids` and `example_starts`, see `data.packing.arrange`. And the targets
            `masked_lm`, int32 (B, P), with `NO_LABEL` at padding, and `next_sentence` or
            `sentence_order`, int32 (B,), that the records have.
        """
        inputs = self._inputs(records)
        targets: dict[str, tf.Tensor] = {}
        if self.data.static_masks:
            inputs["mask_positions"] = self._predictions(inputs, records["masked_positions"], 0)
            targets["masked_lm"] = self._predictions(inputs, records["masked_token_ids"], NO_LABEL)
        elif self.masking is not None:
            words = self._words(inputs, records)
            inputs, labels = self._masked(inputs, words, records)
            targets["masked_lm"] = labels
        if self.data.pairs != "none":
            targets[self.data.pairs] = tf.cast(records["pair_label"], tf.int32)
        return inputs, targets

    def _inputs(self, records: Records) -> dict[str, tf.Tensor]:
        ragged = tf.cast(records["token_ids"], tf.int32)
        width = ragged.bounding_shape(axis=1)
        buckets = self.columns.buckets
        if len(buckets) == 1:
            width = tf.constant(buckets[0], tf.int64)
        elif buckets:
            with tf.device("CPU:0"):
                lengths = tf.constant(buckets, tf.int64)
            width = tf.gather(lengths, tf.searchsorted(lengths, [width])[0])
        shape = tf.stack([np.int64(-1), width])
        token_ids = ragged.to_tensor(self.tokenizer.pad_token_id, shape=shape)
        columns = tf.range(width)
        mask = columns < ragged.row_lengths()[:, tf.newaxis]
        examples = self._examples(records, mask)
        segments = tf.where(
            mask & (columns >= records["first_length"][:, tf.newaxis]),
            self.tokenizer.second_segment_id,
            0,
        )
        if self.tokenizer.cls_segment_id:
            at_start = own_columns(examples, tf.shape(mask)) == 0
            segments = tf.where(mask & at_start, self.tokenizer.cls_segment_id, segments)
        inputs = {
            "token_ids": token_ids,
            "segment_ids": segments,
            "padding_mask": tf.cast(mask, tf.int32),
        }
        known = buckets[0] if len(buckets) == 1 else None
        inputs = {name: tf.ensure_shape(value, [None, known]) for name, value in inputs.items()}
        if examples:
            inputs["example_ids"] = tf.ensure_shape(examples["example_ids"], [None, known])
            inputs["example_starts"] = examples["example_starts"]
        return inputs

    def _examples(self, records: Records, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """The inputs that tell packed examples apart; {} without packing."""
        most = self.data.examples_per_record
        if most == 1:
            return {}
        lengths = tf.cast(records["example_lengths"].to_tensor(0, shape=[None, most]), tf.int32)
        ends = tf.cumsum(lengths, axis=1)
        shape = tf.shape(mask)
        columns = tf.broadcast_to(tf.range(shape[1])[tf.newaxis], shape)
        ids = tf.searchsorted(ends, columns, side="right") + 1
        return {
            "example_ids": tf.where(mask, ids, 0),
            "example_starts": tf.where(lengths > 0, ends - lengths, -1),
        }

    def _words(self, inputs: dict[str, tf.Tensor], records: Records) -> tf.Tensor:
        """int64 (B, S). A number per word, unique among all records; NO_LABEL: never masked."""
        token_ids = inputs["token_ids"]
        shape = tf.shape(token_ids)
        masking = self.masking
        if masking is not None and not masking.whole_words:
            places = tf.broadcast_to(tf.range(shape[1])[tf.newaxis], shape)
        elif self.data.word_boundaries:
            columns = tf.cast(shape[1], tf.int64)
            begins = tf.math.bincount(
                records["word_begins"], axis=-1, minlength=columns, maxlength=columns
            )
            places = tf.cumsum(begins, axis=1)
        else:
            flags, _ = self._flags
            flat = tf.reshape(token_ids, [-1])
            first = own_columns(inputs, shape) <= 1
            begins = begins_word(tf.constant(flags), flat, tf.reshape(first, [-1]))
            places = tf.cumsum(tf.cast(tf.reshape(begins, shape), tf.int32), axis=1)
        words = records["number"][:, tf.newaxis] * _WORDS_OF_A_ROW + tf.cast(places, tf.int64)
        special = tf.gather(tf.constant(self._flags[1]), token_ids)
        return tf.where(special, np.int64(NO_LABEL), words)

    @functools.cached_property
    def _flags(self) -> tuple[np.ndarray, np.ndarray]:
        """Bool (vocabulary, 2), see `word_flags`; and bool (vocabulary,), the special tokens."""
        special = np.zeros(self.tokenizer.vocabulary_size, bool)
        special[[self.tokenizer.token_to_id(t) for t in self.tokenizer.special_tokens]] = True
        return word_flags(self.tokenizer), special

    def _masked(
        self, inputs: dict[str, tf.Tensor], words: tf.Tensor, records: Records
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        if self.masking is None or self.tokenizer.mask_token_id is None:
            raise ConfigError("expected a tokenizer with a mask token, received one without it")
        inputs, labels = masked_batch(
            inputs,
            words,
            self.masking,
            mask_id=self.tokenizer.mask_token_id,
            vocabulary_size=self.tokenizer.vocabulary_size,
            seed=self.seed,
            epoch=records["epoch"],
        )
        token_ids = inputs["token_ids"]
        inputs["token_ids"] = tf.ensure_shape(token_ids, inputs["padding_mask"].shape)
        inputs["mask_positions"] = self._fixed(inputs, inputs["mask_positions"], 0)
        return inputs, self._fixed(inputs, labels, NO_LABEL)

    def _predictions(
        self, inputs: dict[str, tf.Tensor], values: tf.RaggedTensor, padding: int
    ) -> tf.Tensor:
        """int32 (B, P), with P of at least 1, from values of each row."""
        width = tf.maximum(values.bounding_shape(axis=1), np.int64(1))
        shape = tf.stack([np.int64(-1), width])
        padded = tf.cast(values, tf.int32).to_tensor(padding, shape=shape)
        return self._fixed(inputs, padded, padding)

    def _fixed(self, inputs: dict[str, tf.Tensor], values: tf.Tensor, padding: int) -> tf.Tensor:
        """Pads or cuts the columns of predictions to the number of the bucket."""
        if not self.columns.static:
            return tf.ensure_shape(values, [None, None])
        with tf.device("CPU:0"):
            counts = tf.constant(
                [most_predictions(length, self.masking) for length in self.columns.buckets]
            )
            lengths = tf.constant(self.columns.buckets)
        width = tf.gather(counts, tf.searchsorted(lengths, [tf.shape(inputs["token_ids"])[1]])[0])
        values = values[:, :width]
        missing = width - tf.shape(values)[1]
        values = tf.pad(values, [[0, 0], [0, missing]], constant_values=padding)
        one = len(self.columns.buckets) == 1
        known = most_predictions(self.columns.buckets[0], self.masking) if one else None
        return tf.ensure_shape(values, [None, known])


def own_columns(inputs: dict[str, tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
    """int32 (B, S). The columns, counted from the begin of each packed example."""
    columns = tf.broadcast_to(tf.range(shape[1])[tf.newaxis], shape)
    if "example_ids" not in inputs:
        return columns
    own = tf.maximum(inputs["example_ids"] - 1, 0)
    return columns - tf.gather(inputs["example_starts"], own, batch_dims=1)


def most_predictions(length: int, masking: Masking | None) -> int:
    """Returns the number of masked positions that almost no row of a length exceeds.

    It is six standard deviations above the mean, for words of four tokens each if all tokens of a
    word are masked together. Masks of several words vary more.

    >>> most_predictions(128, None)
    48

    Args:
        length: int. Tokens of a row.
        masking: Masking; None: that of BERT.
    """
    masking = Masking() if masking is None else masking
    rate = masking.rate
    shares = length_shares(masking.max_ngram, masking.span_mean)
    words = float(shares @ np.arange(1, len(shares) + 1))
    size = words * (4 if masking.whole_words else 1)  # tokens that are masked together
    spread = 6 * np.sqrt(rate * (1 - rate) * length * size)
    return int(min(length, -(-np.ceil(rate * length + spread) // 8) * 8))


def default_buckets(max_length: int) -> tuple[int, ...]:
    """Returns the lengths that batches are padded to with static shapes: quarters of the maximum.

    >>> default_buckets(512)
    (128, 256, 384, 512)
    """
    return tuple(sorted({-(-max_length * part // 4) for part in (1, 2, 3, 4)}))

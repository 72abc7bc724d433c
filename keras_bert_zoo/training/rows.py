"""Examples as rows of tokens, and their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.masking import Masking, masked_batch, masked_batches
from keras_bert_zoo.data.masking_spans import length_shares
from keras_bert_zoo.data.parallel import ParallelRows, parallel_batch_maker
from keras_bert_zoo.data.pipeline import (
    NO_LABEL,
    LabelledRows,
    TokenRows,
    batch_maker,
    bucketed_batches,
    prefetched_map,
)
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = [
    "LabelledBatches",
    "MaskedBatches",
    "ParallelBatches",
    "RowBatches",
    "check_count",
    "in_parts",
    "labelled_texts",
    "packed_rows",
    "part_of",
    "token_rows",
]

TOKENIZED_AT_ONCE = 1024
"""Texts that are tokenized together; bounds the memory of their padding."""


@dataclass(frozen=True)
class RowBatches:
    """Examples as rows of tokens, and their batches.

    Args:
        data: the rows.
        pad_id: int. The token id of padding.
    """

    data: Any
    pad_id: int

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.data)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (E,). The number of tokens of each example."""
        lengths: np.ndarray = self.data.lengths
        return lengths

    @property
    def label_axis(self) -> str | None:
        """The axis of the last dimension of labels; see `static_shapes.BatchShape`."""
        return None

    def widths(self, bins: np.ndarray | None = None) -> dict[str, int]:
        """Returns the largest sizes of the axes of a batch; see `static_shapes.BatchShape`.

        Args:
            bins: int (E,). The bin of each example, if bins are the rows of a batch. None: each
                example is a row.
        """
        return {"tokens": int(self.lengths.max())}

    def pads(self) -> dict[str, int]:
        """Returns the values of padding; see `static_shapes.BatchShape`."""
        return {"token_ids": self.pad_id}

    def maker(self) -> Callable[[tf.Tensor], tuple[Any, ...]]:
        """Returns a function that makes a batch from the numbers of examples, int64 (B,)."""
        raise NotImplementedError

    def batches(self, *, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Batches the examples.

        Args:
            batch_size: int. Examples per batch.
            **options: options of `bucketed_batches`; `in_order=True` keeps the order of examples.

        Returns:
            tf.data.Dataset of inputs, targets and weights.
        """
        numbers = self.numbers(batch_size=batch_size, **options)
        return self.finished(numbers, self.maker(), **options)

    def finished(
        self, numbers: tf.data.Dataset, make: Callable[..., Any], **options: Any
    ) -> tf.data.Dataset:
        """Makes batches from the numbers of examples, and changes them as the task requires.

        Args:
            numbers: dataset of the arguments of `make`.
            make: as `maker` returns; it may add further inputs.
            **options: see `batches`.
        """
        return prefetched_map(numbers, make)

    def numbers(self, *, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Yields the numbers of the examples of each batch, int64 (B,); see `batches`."""
        return bucketed_batches(self.lengths, batch_size=batch_size, **options)

    def one_batch(self, *, seed: int) -> tuple[Any, ...]:
        """Makes one batch of all examples, in their order; `seed` is for random draws."""
        return self.maker()(tf.range(len(self), dtype=tf.int64))


@dataclass(frozen=True)
class LabelledBatches(RowBatches):
    """Batches of `LabelledRows`; see `data.pipeline.batch_maker`.

    Args:
        data: LabelledRows.
        pad_id: int. The token id of padding.
    """

    data: LabelledRows

    @property
    def label_axis(self) -> str | None:
        """See the base class."""
        return None if self.data.token_labels is None else "tokens"

    def maker(self) -> Callable[[tf.Tensor], tuple[Any, ...]]:
        """See the base class."""
        return batch_maker(self.data, pad_id=self.pad_id)


@dataclass(frozen=True)
class ParallelBatches(RowBatches):
    """Batches of texts with translations; see `data.parallel.parallel_batch_maker`.

    Args:
        data: ParallelRows.
        pad_id: int. The token id of padding, of the texts.
        target_pad_id: int. The token id of padding, of the translations.
    """

    data: ParallelRows
    target_pad_id: int

    @property
    def label_axis(self) -> str | None:
        """See the base class."""
        return "targets"

    def widths(self, bins: np.ndarray | None = None) -> dict[str, int]:
        """See the base class."""
        longest = int(self.data.target.lengths.max())
        return {"tokens": int(self.data.source.lengths.max()), "targets": longest - 1}

    def pads(self) -> dict[str, int]:
        """See the base class."""
        return super().pads() | {"target_ids": self.target_pad_id}

    def maker(self) -> Callable[[tf.Tensor], tuple[Any, ...]]:
        """See the base class."""
        return parallel_batch_maker(self.data, pad_id=self.pad_id, target_pad_id=self.target_pad_id)


@dataclass(frozen=True)
class MaskedBatches(LabelledBatches):
    """Batches of rows whose words are masked; see `data.masking.masked_batches`.

    Args:
        data: LabelledRows, whose token labels number the words.
        pad_id: int. The token id of padding.
        masking: Masking.
        mask_id: int. The mask token.
        vocabulary_size: int. The number of token ids that random tokens are drawn from.
    """

    masking: Masking
    mask_id: int
    vocabulary_size: int

    @property
    def label_axis(self) -> str | None:
        """See the base class."""
        return "predictions"

    def widths(self, bins: np.ndarray | None = None) -> dict[str, int]:
        """See the base class; fewer than one row in 10^8 has more masked tokens."""
        return super().widths() | {"predictions": self._most_predictions(bins)}

    def _most_predictions(self, bins: np.ndarray | None) -> int:
        """The largest number of masked tokens of a row, up to six standard deviations."""
        words, splits = self.data.token_labels, self.data.rows.row_splits
        if words is None:
            raise DataError("Expected rows with numbered words, received rows without them.")
        starts = np.flatnonzero(np.diff(words, prepend=words[0] - 1))  # a word's first token
        sizes = np.diff(starts, append=len(words)) * (words[starts] != NO_LABEL)
        row = np.searchsorted(splits, starts, side="right") - 1
        rate, count = self.masking.rate, len(self.data.rows)
        least = sizes.max()  # one word of a row is masked, even if no draw chooses it
        lengths = self.lengths
        if bins is not None:
            row, count = bins[row], int(bins.max()) + 1
            least = least * np.bincount(bins).max()
            lengths = np.bincount(bins, lengths)
        mean = rate * np.bincount(row, sizes, count)
        together = length_shares(self.masking.max_ngram, self.masking.span_mean)
        run = float(together @ np.arange(1, len(together) + 1))  # words that are masked together
        spread = np.sqrt(rate * (1 - rate) * run * np.bincount(row, sizes**2, count))
        return int(min(lengths.max(), np.ceil((mean + 6 * spread).max()) + least))

    def finished(
        self,
        numbers: tf.data.Dataset,
        make: Callable[..., Any],
        *,
        shuffle: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> tf.data.Dataset:
        """See the base class; without `shuffle` the same words are masked in every epoch."""
        return masked_batches(
            super().finished(numbers, make),
            self.masking,
            mask_id=self.mask_id,
            vocabulary_size=self.vocabulary_size,
            seed=seed,
            every_epoch=shuffle,
            first_epoch=options.get("first_epoch", 0),
        )

    def one_batch(self, *, seed: int) -> tuple[Any, ...]:
        """See the base class."""
        inputs, words = super().one_batch(seed=seed)
        return masked_batch(
            inputs,
            words,
            self.masking,
            mask_id=self.mask_id,
            vocabulary_size=self.vocabulary_size,
            seed=seed,
        )


def check_count(values: Any, count: int, name: str) -> None:
    """Raises DataError unless there is one value per text; None is accepted."""
    if values is not None and len(listed(values, name)) != count:
        raise DataError(f"There are {count} texts but {len(listed(values, name))} {name}.")


def part_of(values: Any, rows: range) -> Any:
    """Returns some rows of a list, an array, a Series or a tensor; None for None."""
    if values is None:
        return None
    where = slice(rows.start, rows.stop)
    return values.iloc[where] if hasattr(values, "iloc") else values[where]


def in_parts(count: int) -> Iterator[slice]:
    """Yields slices of at most `TOKENIZED_AT_ONCE` texts that cover all `count` texts."""
    for begin in range(0, count, TOKENIZED_AT_ONCE):
        yield slice(begin, begin + TOKENIZED_AT_ONCE)


def token_rows(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> TokenRows:
    """Joins rows of tokens from several parts.

    Args:
        parts: token ids and segment ids, int32 (tokens,) each, and lengths, int (rows,).

    Returns:
        TokenRows.
    """
    empty = np.zeros(0, np.int32)
    ids, segments, lengths = (
        np.concatenate(arrays) for arrays in zip((empty, empty, empty), *parts, strict=True)
    )
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenRows(ids, splits, segments)


def packed_rows(
    tokenizer: Tokenizer,
    texts: Sequence[str | bytes],
    text_pairs: Sequence[str | bytes] | None = None,
    *,
    max_length: int,
) -> TokenRows:
    """Tokenizes texts in parts into packed rows.

    Args:
        tokenizer: Tokenizer.
        texts: list of str or bytes.
        text_pairs: list of the same length, or None.
        max_length: int, tokens of a row.

    Returns:
        TokenRows.
    """
    parts = []
    for rows in in_parts(len(texts)):
        part: Any = list(texts[rows])
        if text_pairs is not None:
            part = (part, list(text_pairs[rows]))
        batch = tokenizer(part, max_length=max_length)
        mask = batch["padding_mask"].numpy().astype(bool)
        ids, segments = (batch[name].numpy()[mask] for name in ("token_ids", "segment_ids"))
        parts.append((ids, segments, mask.sum(axis=1)))
    return token_rows(parts)


def labelled_texts(
    task: Any, examples: Any, targets: Any, weights: np.ndarray | None = None
) -> LabelledBatches:
    """Tokenizes texts or pairs of texts with one label each.

    Args:
        task: Task, for its tokenizer and `max_length`.
        examples: Examples.
        targets: array (E, ...), or None.
        weights: float32 (E,) or None.
    """
    rows = packed_rows(task.tokenizer, *examples.columns, max_length=task.max_length)
    data = LabelledRows(rows, targets, weights=weights)
    return LabelledBatches(data, task.tokenizer.pad_token_id)

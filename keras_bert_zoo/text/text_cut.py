"""Cuts texts at their added tokens, and joins the tokens of the pieces between them.

Legend: B texts, S matched added tokens in all texts, P pieces between them, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_bert_zoo.text import offsets, ragged_ops
from keras_bert_zoo.text.special_tokens import SpecialTokenFinder

Tokens = tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]


def tokenize_around(
    finder: SpecialTokenFinder | None,
    strings: tf.Tensor,
    tokenize: Callable[[tf.Tensor], Tokens],
    *,
    trim_offsets: bool = False,
) -> Tokens:
    """Tokenizes texts without splitting their added tokens.

    Args:
        finder: SpecialTokenFinder, or None without added tokens.
        strings: string (B,).
        tokenize: function that tokenizes the pieces between added tokens.
        trim_offsets: bool. See `TextCut`.

    Returns:
        ids int32 (T,), row splits int64 (B + 1,), and () or (starts, ends), int64 (T,) each.
    """
    if finder is None:
        return tokenize(strings)
    cut = TextCut(finder, strings, trim_offsets=trim_offsets)
    return cut.join(*tokenize(cut.pieces))


class TextCut:
    """Texts that are cut at their added tokens.

    A text with k added tokens has k + 1 pieces. Pieces may be empty, and must then have no tokens.

    Args:
        finder: SpecialTokenFinder.
        strings: string (B,).
        trim_offsets: bool. Exclude the whitespace that an added token takes from its offsets (as
            `trim_offsets` of RobertaProcessing and ByteLevel does).

    Attributes:
        pieces: string (P,).
        piece_starts: int64 (P,). The byte offset of each piece in its text.
        piece_splits: int64 (B + 1,). The pieces of each text.
    """

    def __init__(
        self, finder: SpecialTokenFinder, strings: tf.Tensor, *, trim_offsets: bool = False
    ) -> None:
        raw, splits = offsets.text_bytes(strings)
        matches = finder.find(raw, splits)
        self._ids, self._rows = matches.ids, matches.rows
        self._starts = matches.inner_starts if trim_offsets else matches.starts
        self._ends = matches.inner_ends if trim_offsets else matches.ends
        count = ragged_ops.size64(self._ids)
        lengths = splits[1:] - splits[:-1]
        texts = ragged_ops.size64(lengths)
        number = tf.range(count)
        # The number of added tokens before each text.
        per_row = _scatter(self._rows, tf.ones_like(number), texts)
        before = ragged_ops.splits_from_lengths(per_row)  # (B + 1,)
        row = tf.range(texts)
        # The edges of a text are 0, start, end, start, end, ..., length. Each pair of edges is a
        # piece.
        at = tf.concat(
            [
                2 * (before[:-1] + row),
                2 * (before[1:] + row) + 1,
                2 * (number + self._rows) + 1,
                2 * (number + self._rows) + 2,
            ],
            axis=0,
        )
        edges = _scatter(
            at,
            tf.concat([tf.zeros_like(lengths), lengths, matches.starts, matches.ends], axis=0),
            2 * (count + texts),
        )
        edges = tf.reshape(edges, [-1, 2])
        self.piece_starts = edges[:, 0]
        self.piece_splits = before + tf.range(texts + 1)  # (B + 1,)
        self._before = before
        self._number = number
        self.pieces = offsets.cut(strings, edges[:, 0], edges[:, 1], self.piece_splits)

    def join(
        self, ids: tf.Tensor, splits: tf.Tensor, spans: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Joins the tokens of the pieces to those of the texts.

        Args:
            ids: int32 (T,).
            splits: int64 (P + 1,).
            spans: () or (starts, ends), int64 (T,) each, in bytes of the piece.

        Returns:
            The same for the texts: ids (T + S,), splits (B + 1,), spans in bytes of the text.
        """
        tokens = ragged_ops.size64(ids)
        total = tokens + ragged_ops.size64(self._ids)
        at = tf.gather(splits, self._number + self._rows + 1) + self._number
        special = _scatter(at, tf.ones_like(self._number), total)
        source = tf.cumsum(1 - special) - 1
        # One additional value, for the positions of added tokens.
        source = tf.where(special > 0, tokens, source)

        def put(values: tf.Tensor, special_values: tf.Tensor) -> tf.Tensor:
            placed = _scatter(at, special_values, total)
            return tf.gather(tf.pad(values, [[0, 1]]), source) + placed

        if spans:
            pieces = ragged_ops.row_ids(splits, tokens)
            shift = tf.gather(self.piece_starts, pieces)
            spans = (put(spans[0] + shift, self._starts), put(spans[1] + shift, self._ends))
        splits = tf.gather(splits, self.piece_splits) + self._before
        return put(ids, self._ids), splits, spans


def _scatter(at: tf.Tensor, values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns zeros (size,) with the values (S,) at the indices int64 (S,)."""
    # One additional element, because LiteRT's kernel divides by the size.
    return tf.scatter_nd(at[:, tf.newaxis], values, [size + 1])[:-1]

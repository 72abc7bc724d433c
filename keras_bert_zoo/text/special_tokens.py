"""Special tokens that stand in the text itself stay whole: "[MASK]" is one token.

Hugging Face cuts them out of the raw text before anything else (leftmost first, then longest, by
exact case, whatever stands beside them), and tokenizes what lies between as separate texts.
The same is done here with the texts' bytes.

Legend: B texts, S special tokens found in all of them, T tokens between them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import offsets, ragged_ops


class SpecialTokenFinder:
    """Finds special tokens in texts.

    Args:
        tokens: special token -> id.

    Raises:
        ConfigError: two tokens can overlap in a text, for example "ab" and "bc".
    """

    def __init__(self, tokens: Mapping[str, int]) -> None:
        encoded = {token.encode("utf-8"): i for token, i in tokens.items()}
        for token in encoded:
            for at in range(1, len(token)):
                rest = token[at:]
                for other in encoded:
                    if rest.startswith(other) or other.startswith(rest):
                        raise ConfigError(
                            "expected special tokens that cannot overlap in a text, got "
                            f"{token.decode()!r} and {other.decode()!r}; rename one of them"
                        )
        # Shortest first: a longer token found at the same place overwrites it.
        self._tokens = sorted(encoded.items(), key=lambda item: len(item[0]))

    def find(
        self, raw: tf.Tensor, splits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Where the special tokens are.

        Args:
            raw: uint8 (bytes,). The bytes of all texts.
            splits: int64 (B + 1,). Where each text begins.

        Returns:
            ids int32 (S,), rows int64 (S,), starts int64 (S,), ends int64 (S,) in the order in
            which they stand; starts and ends count bytes in their own text.
        """
        longest = len(self._tokens[-1][0])
        raw = tf.pad(tf.cast(raw, tf.int32), [[0, longest]])
        first_bytes = sorted({token[0] for token, _ in self._tokens})
        candidate = tf.equal(raw, first_bytes[0])
        for byte in first_bytes[1:]:
            candidate = tf.logical_or(candidate, tf.equal(raw, byte))
        at = ragged_ops.indices(candidate)
        rows = tf.gather(ragged_ops.row_ids(splits, ragged_ops.size64(raw)), at)
        row_end = tf.gather(splits, rows + 1)
        token_id = tf.fill(tf.shape(at), -1)
        length = tf.zeros_like(at)
        for token, value in self._tokens:
            same = tf.less_equal(at + len(token), row_end)
            for place, byte in enumerate(token):
                same = tf.logical_and(same, tf.equal(tf.gather(raw, at + place), byte))
            token_id = tf.where(same, value, token_id)
            length = tf.where(same, tf.constant(len(token), tf.int64), length)
        found = ragged_ops.indices(token_id >= 0)
        rows = tf.gather(rows, found)
        starts = tf.gather(at, found) - tf.gather(splits, rows)
        return tf.gather(token_id, found), rows, starts, starts + tf.gather(length, found)


class TextCut:
    """Texts cut at their special tokens, and put together again when tokenized.

    A text with k special tokens makes k + 1 pieces of text, of which any may be empty.
    """

    def __init__(self, finder: SpecialTokenFinder, strings: tf.Tensor) -> None:
        raw, splits = offsets.text_bytes(strings)
        self._ids, self._rows, self._starts, self._ends = finder.find(raw, splits)
        count = ragged_ops.size64(self._ids)
        lengths = splits[1:] - splits[:-1]
        texts = ragged_ops.size64(lengths)
        number = tf.range(count)
        # Special tokens before each text.
        per_row = tf.scatter_nd(self._rows[:, tf.newaxis], tf.ones_like(number), [texts])
        before = ragged_ops.splits_from_lengths(per_row)  # (B + 1,)
        row = tf.range(texts)
        # The edges of a text, 0, start, end, start, end, ..., length, are even in number, so
        # that each pair of edges is a piece of text.
        at = tf.concat(
            [
                2 * (before[:-1] + row),
                2 * (before[1:] + row) + 1,
                2 * (number + self._rows) + 1,
                2 * (number + self._rows) + 2,
            ],
            axis=0,
        )
        edges = tf.scatter_nd(
            at[:, tf.newaxis],
            tf.concat([tf.zeros_like(lengths), lengths, self._starts, self._ends], axis=0),
            [2 * (count + texts)],
        )
        edges = tf.reshape(edges, [-1, 2])
        self._piece_starts = edges[:, 0]
        self._piece_splits = before + tf.range(texts + 1)  # (B + 1,)
        self._before = before
        self._number = number
        self.pieces = offsets.cut(strings, edges[:, 0], edges[:, 1], self._piece_splits)

    def join(
        self, ids: tf.Tensor, splits: tf.Tensor, spans: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """The tokens of the texts from those of the pieces.

        Args:
            ids: int32 (T,).
            splits: int64 (pieces + 1,).
            spans: () or (starts, ends), int64 (T,) each, in bytes of the piece.

        Returns:
            The same for the texts: ids (T + S,), splits (B + 1,), spans in bytes of the text.
        """
        tokens = ragged_ops.size64(ids)
        total = tokens + ragged_ops.size64(self._ids)
        at = tf.gather(splits, self._number + self._rows + 1) + self._number
        at = at[:, tf.newaxis]
        special = tf.scatter_nd(at, tf.ones_like(self._number), [total])
        source = tf.cumsum(1 - special) - 1
        # One more value, so that there is something to gather from where no token is.
        source = tf.where(special > 0, tokens, source)

        def put(values: tf.Tensor, special_values: tf.Tensor) -> tf.Tensor:
            placed = tf.scatter_nd(at, special_values, [total])
            return tf.gather(tf.pad(values, [[0, 1]]), source) + placed

        if spans:
            pieces = ragged_ops.row_ids(splits, tokens)
            shift = tf.gather(self._piece_starts, pieces)
            spans = (put(spans[0] + shift, self._starts), put(spans[1] + shift, self._ends))
        splits = tf.gather(splits, self._piece_splits) + self._before
        return put(ids, self._ids), splits, spans


def replace_rows(
    rows: tf.Tensor,
    replaced: tf.Tensor,
    splits: tf.Tensor,
    values: tuple[tf.Tensor, ...],
    new_splits: tf.Tensor,
    new_values: tuple[tf.Tensor, ...],
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Puts other values in the place of some rows.

    Args:
        rows: int64 (R,). Which rows.
        replaced: bool (B,). The same as a mask.
        splits: int64 (B + 1,).
        values: of (T,) each.
        new_splits: int64 (R + 1,).
        new_values: of (new T,) each.

    Returns:
        The splits and values of all rows.
    """
    shape = tf.shape(replaced, out_type=tf.int64)
    at = rows[:, tf.newaxis]
    old_total = splits[-1]
    lengths = tf.where(
        replaced,
        tf.scatter_nd(at, new_splits[1:] - new_splits[:-1], shape),
        splits[1:] - splits[:-1],
    )
    begin = tf.where(replaced, tf.scatter_nd(at, new_splits[:-1] + old_total, shape), splits[:-1])
    merged = ragged_ops.splits_from_lengths(lengths)
    row = ragged_ops.row_ids(merged, merged[-1])
    source = tf.range(merged[-1]) + tf.gather(begin - merged[:-1], row)
    return merged, tuple(
        tf.gather(tf.concat([old, new], axis=0), source)
        for old, new in zip(values, new_values, strict=True)
    )


def starts_with_ascii_punctuation(token: str) -> bool:
    """Whether a token begins with a character that is a token by itself in any BERT text."""
    code = ord(token[0])
    return code < 128 and bool(_ASCII_PUNCTUATION[code])


_ASCII_PUNCTUATION = np.zeros(128, bool)
for _first, _last in ((33, 47), (58, 64), (91, 96), (123, 126)):
    _ASCII_PUNCTUATION[_first : _last + 1] = True

"""The unigram model of SentencePiece and Hugging Face, in core ops.

The model splits a word into the pieces with the highest sum of scores. TensorFlow Text's op is not
used. It adds scores in 32 bits, Hugging Face in 64, so near ties differ. It also never matches
control pieces, and has another normalization. This module processes all words of a batch in
parallel:

1. From each character, follow the trie of pieces to the end of the word. This matches all pieces
   that begin there.
2. Cut a word where no piece crosses, because the parts are independent. Compute the best path to
   each character: for all first characters of parts, then for all second characters, and so on.
3. Follow the best paths backwards.

Sums are added in Hugging Face's order, with the same choice among equal sums. Cutting changes no
sum if all sums are exact. This follows from the scores and the length of the word. A word whose
sums may be inexact is not cut.

Legend: N characters of all words, P parts, T result pieces, D length of the longest matched piece.

Source: arXiv 1804.10959; tokenizers, `Unigram::encode_optimized`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.unicode.characters import (
    first_of,
    shifted,
    shifted_back,
)
from keras_bert_zoo.text.unicode.code_points import CodePointTable, utf8_lengths
from keras_bert_zoo.text.unicode.trie import build_trie

_UNKNOWN_PENALTY = 10.0
_NOTHING = np.int32(-1)
_MAXIMUM_PIECE_CHARACTERS = 1 << 12


@dataclass(frozen=True)
class Pieces:
    """The pieces of words.

    Attributes:
        ids: int32 (T,).
        first, last: int64 (T,). The first and the last character of each piece.
    """

    ids: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor


class UnigramModel:
    """Splits words into pieces.

    Args:
        pieces: the pieces and their scores, in the order of their ids.
        unk_id: int. The piece for unknown characters; adjacent ones become one piece.
        byte_fallback: bool. Replace unknown characters by the pieces of their bytes, such as
            "<0xE4>".

    Raises:
        ConfigError: a score is not finite, or is so high that it changes Hugging Face's rules for
            unknown characters; or a byte has no piece with `byte_fallback`.
    """

    def __init__(
        self, pieces: Sequence[tuple[str, float]], *, unk_id: int, byte_fallback: bool = False
    ) -> None:
        scores = np.array([score for _, score in pieces], np.float64)
        if not np.isfinite(scores).all():
            at = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise ConfigError(f"Expected finite scores, received {pieces[at]!r:.80}.")
        if scores.min() > 0 or scores[unk_id] > _UNKNOWN_PENALTY:
            raise ConfigError(
                "Expected a lowest score of at most 0 and a score of the unknown piece of at most "
                f"{_UNKNOWN_PENALTY}, received {scores.min()} and {scores[unk_id]}."
            )
        longest = max(len(piece) for piece, _ in pieces)
        if longest > _MAXIMUM_PIECE_CHARACTERS:
            raise ConfigError(
                f"Expected pieces of at most {_MAXIMUM_PIECE_CHARACTERS} characters, received "
                f"{longest}."
            )
        unk_score = scores.min() - _UNKNOWN_PENALTY
        # Two additional ids: an unknown character, and no piece.
        self._unknown = len(scores)
        self._none = len(scores) + 1
        scores = np.concatenate([scores, [unk_score, -np.inf]])
        self.exact_length = exact_length(scores[:-1])
        self._unk_id = unk_id
        trie = build_trie([piece for piece, _ in pieces])
        self._ranks = CodePointTable(trie.ranks)
        self._root = trie.root
        self._bytes: list[int] | None = None
        if byte_fallback:
            known = {piece: i for i, (piece, _) in enumerate(pieces)}
            names = [f"<0x{byte:02X}>" for byte in range(256)]
            missing = [name for name in names if name not in known]
            if missing:
                raise ConfigError(
                    "Expected a piece for each of the 256 bytes with byte_fallback, received none "
                    f"for {missing[0]}."
                )
            self._bytes = [known[name] for name in names]
        # Eager tensors, because all graphs share them. An array would be copied to each function.
        with tf.init_scope():
            self._scores = tf.constant(scores)
            self._units = tf.constant(trie.units)

    def __call__(self, points: tf.Tensor, words: tf.Tensor) -> Pieces:
        """Splits words.

        Args:
            points: int32 (N,). The characters of all words.
            words: int64 (N,). The word of each character, from 0 without gaps.
        """
        matches, depth = self._find_pieces(points, words)
        parts = self._cut(matches, depth, words)
        lengths = self._best_paths(matches, depth, parts)
        last = self._walk_back(lengths, parts)
        size = ragged_ops.size64(points)
        length = tf.gather(lengths, last)
        first = last - length + 1
        ids = tf.gather(tf.reshape(matches, [-1]), (length - 1) * size + first)
        return self._join_unknown(ids, first, last, points, words)

    def _find_pieces(self, points: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Matches all pieces in the words.

        Returns:
            int32 (D, N): the id of the piece of each length that begins at each character.
            int32 (): D, at least 1.
        """
        size = ragged_ops.size64(points)
        ranks = self._ranks(points)
        # The number of characters after each character in its word.
        begins = ragged_ops.indices(first_of(words))
        ends = tf.concat([begins[1:], size[tf.newaxis]], axis=0)
        left = tf.gather(tf.pad(ends, [[0, 1]]), words) - 1 - tf.range(size)

        def look(
            at: tf.Tensor, unit: tf.Tensor, node: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            """Returns the matched pieces, the walks that continue, and their bases."""
            row = tf.gather(self._units, unit)  # (walks, 3): parent, base, piece
            on = ragged_ops.indices(tf.equal(row[:, 0], node))
            row = tf.gather(row, on)
            at = tf.gather(at, on)
            ids = tf.tensor_scatter_nd_update(
                tf.fill(size[tf.newaxis], self._none), at[:, tf.newaxis], row[:, 2]
            )
            return ids, on, row[:, 1]

        at = tf.range(size)
        unit = self._root + ranks
        ids, on, base = look(at, unit, tf.fill(tf.shape(at), _NOTHING))
        # A character that is no piece is unknown.
        ids = tf.where(tf.equal(ids, self._none), self._unknown, ids)
        array = tf.TensorArray(tf.int32, size=1, dynamic_size=True, element_shape=[None])
        array = array.write(0, ids)

        def walk(
            depth: tf.Tensor, at: tf.Tensor, node: tf.Tensor, base: tf.Tensor, array: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
            unit = base + tf.gather(ranks, at + tf.cast(depth, tf.int64))
            ids, on, base = look(at, unit, node)
            at, node = tf.gather(at, on), tf.gather(unit, on)
            array = array.write(depth, ids)
            depth += 1
            inside = tf.gather(left, at) >= tf.cast(depth, tf.int64)
            on = ragged_ops.indices(tf.logical_and(inside, base >= 0))
            return depth, tf.gather(at, on), tf.gather(node, on), tf.gather(base, on), array

        at, node = tf.gather(at, on), tf.gather(unit, on)
        on = ragged_ops.indices(tf.logical_and(tf.gather(left, at) >= 1, base >= 0))
        vector = tf.TensorShape([None])
        depth, _, _, _, array = tf.while_loop(
            lambda depth, at, *_: tf.size(at) > 0,
            walk,
            (tf.constant(1), tf.gather(at, on), tf.gather(node, on), tf.gather(base, on), array),
            shape_invariants=(
                tf.TensorShape([]), vector, vector, vector, tf.TensorShape(None),
            ),
        )  # fmt: skip
        return array.stack(), depth

    def _cut(
        self, matches: tf.Tensor, depth: tf.Tensor, words: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Cuts words where no piece crosses: int64 (P,) first characters and (P,) lengths."""
        size = ragged_ops.size64(words)
        # For each character, the length of the longest piece that begins there.
        lengths = tf.range(1, depth + 1)[:, tf.newaxis]
        longest = tf.reduce_max(tf.where(tf.equal(matches, self._none), 0, lengths), axis=0)  # (N,)
        reach = tf.range(size) + tf.cast(longest, tf.int64)
        # A piece crosses a position if it begins before it and ends after it.
        crossings = tf.math.unsorted_segment_sum(tf.ones_like(reach), reach, size + 1)
        crossing = tf.range(size) - tf.cumsum(crossings)[:-1]
        free = tf.equal(crossing, 0)
        new_word = first_of(words)
        count = tf.math.segment_sum(tf.ones_like(words), words)
        exact = tf.gather(count, words) <= self.exact_length
        begins = ragged_ops.indices(tf.logical_or(new_word, tf.logical_and(free, exact)))
        ends = tf.concat([begins[1:], size[tf.newaxis]], axis=0)
        return begins, (ends - begins)[: tf.shape(begins)[0]]

    def _best_paths(
        self, matches: tf.Tensor, depth: tf.Tensor, parts: tuple[tf.Tensor, tf.Tensor]
    ) -> tf.Tensor:
        """Returns the length of the last piece of the best path to each character: int64 (N,)."""
        size = tf.shape(matches, out_type=tf.int64)[1]
        flat = tf.reshape(matches, [-1])
        first, lengths = parts
        # Longest pieces first. For equal sums, Hugging Face selects the piece that begins first.
        spans = tf.range(tf.cast(depth, tf.int64), 0, -1)  # (D,)
        shift = (spans - 1) * (size - 1)
        count = tf.size(first)
        # The sums of the paths to the last D positions. None begins before the first character.
        window = tf.concat(
            [
                tf.fill([count, depth - 1], tf.constant(-np.inf, tf.float64)),
                tf.zeros([count, 1], tf.float64),
            ],
            axis=1,
        )
        places, best = _vectors(), _vectors()

        def step(
            number: tf.Tensor, at: tf.Tensor, left: tf.Tensor, window: tf.Tensor,
            places: tf.TensorArray, best: tf.TensorArray,
        ) -> tuple[tf.Tensor | tf.TensorArray, ...]:  # fmt: skip
            ids = tf.gather(flat, at[:, tf.newaxis] + shift)  # (parts, D)
            sums = window + tf.gather(self._scores, ids)
            highest = tf.reduce_max(sums, axis=1, keepdims=True)
            same = tf.equal(sums, highest)
            places = places.write(number, at)
            best = best.write(number, tf.reduce_max(tf.where(same, spans, 0), axis=1))
            window = tf.concat([window[:, 1:], highest], axis=1)
            on = ragged_ops.indices(left > 1)
            return (
                number + 1, tf.gather(at, on) + 1, tf.gather(left, on) - 1, tf.gather(window, on),
                places, best,
            )  # fmt: skip

        vector, array = tf.TensorShape([None]), tf.TensorShape(None)
        *_, places, best = tf.while_loop(
            lambda number, at, *_: tf.size(at) > 0,
            step,
            (tf.constant(1), first, lengths, window, places, best),
            shape_invariants=(
                tf.TensorShape([]), vector, vector, tf.TensorShape([None, None]), array, array,
            ),
        )  # fmt: skip
        return tf.scatter_nd(places.concat()[:, tf.newaxis], best.concat(), size[tf.newaxis])

    @staticmethod
    def _walk_back(lengths: tf.Tensor, parts: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Returns the last characters of the pieces of the best paths: int64 (T,), ascending."""
        first, count = parts
        places = _vectors()

        def step(
            number: tf.Tensor, at: tf.Tensor, first: tf.Tensor, places: tf.TensorArray
        ) -> tuple[tf.Tensor | tf.TensorArray, ...]:
            places = places.write(number, at)
            at -= tf.gather(lengths, at)
            on = ragged_ops.indices(at >= first)
            return number + 1, tf.gather(at, on), tf.gather(first, on), places

        vector = tf.TensorShape([None])
        *_, places = tf.while_loop(
            lambda number, at, *_: tf.size(at) > 0,
            step,
            (tf.constant(1), first + count - 1, first, places),
            shape_invariants=(
                tf.TensorShape([]), vector, vector, tf.TensorShape(None),
            ),
        )  # fmt: skip
        at = places.concat()[:, tf.newaxis]
        marked = tf.scatter_nd(at, tf.ones_like(at[:, 0]), tf.shape(lengths, out_type=tf.int64))
        return ragged_ops.indices(marked > 0)

    def _join_unknown(
        self,
        ids: tf.Tensor,
        first: tf.Tensor,
        last: tf.Tensor,
        points: tf.Tensor,
        words: tf.Tensor,
    ) -> Pieces:
        """Joins adjacent unknown characters of a word to one piece."""
        unknown = tf.logical_or(tf.equal(ids, self._unknown), tf.equal(ids, self._unk_id))

        def join() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            word = tf.gather(words, first)
            continues = tf.logical_and(unknown, shifted(unknown, False))
            continues = tf.logical_and(continues, tf.logical_not(first_of(word)))
            heads = ragged_ops.indices(tf.logical_not(continues))
            tails = ragged_ops.indices(tf.logical_not(shifted_back(continues, False)))
            new_first, new_last = tf.gather(first, heads), tf.gather(last, tails)
            new_ids = tf.gather(tf.where(unknown, self._unk_id, ids), heads)
            if self._bytes is None:
                return new_ids, new_first, new_last
            # A single occurrence of the unknown piece's own text has no bytes to replace.
            itself = tf.logical_and(
                tf.equal(heads, tails), tf.equal(tf.gather(ids, heads), self._unk_id)
            )
            apart = tf.logical_and(tf.equal(new_ids, self._unk_id), tf.logical_not(itself))
            return self._to_bytes(new_ids, new_first, new_last, apart, points)

        joined = tf.cond(tf.reduce_any(unknown), join, lambda: (ids, first, last))
        return Pieces(*joined)

    def _to_bytes(
        self,
        ids: tf.Tensor,
        first: tf.Tensor,
        last: tf.Tensor,
        apart: tf.Tensor,
        points: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Replaces some pieces by the pieces of their bytes."""
        splits = ragged_ops.splits_from_lengths(utf8_lengths(points))  # (N + 1,)
        begin = tf.gather(splits, first)
        lengths = tf.where(apart, tf.gather(splits, last + 1) - begin, tf.ones_like(begin))
        new_splits = ragged_ops.splits_from_lengths(lengths)
        origin = ragged_ops.row_ids(new_splits, new_splits[-1])
        byte_at = tf.gather(begin - new_splits[:-1], origin) + tf.range(new_splits[-1])
        character = ragged_ops.row_ids(splits, splits[-1])
        character = tf.gather(character, byte_at)
        number = tf.cast(byte_at - tf.gather(splits, character), tf.int32)
        point = tf.gather(points, character)
        length = tf.cast(utf8_lengths(point), tf.int32)
        value = tf.bitwise.right_shift(point, 6 * (length - 1 - number))
        mark = tf.gather(tf.constant([0, 0, 0xC0, 0xE0, 0xF0]), length)
        value = tf.where(
            tf.equal(number, 0),
            tf.bitwise.bitwise_or(value, mark),
            tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(value, 0x3F), 0x80),
        )
        apart = tf.gather(apart, origin)
        of_bytes = tf.gather(tf.constant(self._bytes, tf.int32), tf.where(apart, value, 0))
        return (
            tf.where(apart, of_bytes, tf.gather(ids, origin)),
            tf.gather(first, origin),
            tf.gather(last, origin),
        )


def _vectors() -> tf.TensorArray:
    """Returns an array for vectors of different lengths; it contains an empty vector."""
    array = tf.TensorArray(
        tf.int64, size=1, dynamic_size=True, infer_shape=False, element_shape=[None]
    )
    return array.write(0, tf.zeros([0], tf.int64))


def exact_length(scores: np.ndarray) -> int:
    """Returns the largest length of a word, in characters, with exact sums of scores.

    Scores and their sums are multiples of a power of two. Sums are exact below 2**53 times that
    power.
    """
    mantissas, exponents = np.frexp(scores[scores != 0])
    if not len(mantissas):
        return 1 << 62
    whole = np.abs(np.ldexp(mantissas, 53)).astype(np.int64)
    zeros = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    lowest = int((exponents - 53 + zeros).min())
    bits = 53 + lowest - math.frexp(float(np.abs(scores).max()))[1]
    return 0 if bits <= 0 else 1 << min(bits, 62)

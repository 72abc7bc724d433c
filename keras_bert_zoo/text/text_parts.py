"""Cuts texts before single spaces, to tokenize repeated parts only once.

A text may be cut before a space if the parts before and after the cut do not affect each other.
This requires a plain character before the space: no normalizer deletes it, converts it to a space
or combines it with its neighbors.

Legend: B texts, C parts of all texts, U distinct parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import offsets, ragged_ops
from keras_bert_zoo.text.special_tokens import WHITESPACE
from keras_bert_zoo.text.unicode.characters import tables

_PLANE = 0x10000
_SPACE = 0x20
_UNDECODED = 0xFFFD


@dataclass(frozen=True)
class Parts:
    """The parts of texts.

    Attributes:
        texts: string (U,). The distinct parts.
        kinds: int32 (U,). The kind of the text for a part that begins the text; 0 for other parts.
        which: int64 (C,). The index of each part in `texts`.
        starts: int64 (C,). The byte offset of each part in its text.
        splits: int64 (B + 1,). The parts of each text.
    """

    texts: tf.Tensor
    kinds: tf.Tensor
    which: tf.Tensor
    starts: tf.Tensor
    splits: tf.Tensor


def plain_characters(image: Callable[[str], str]) -> np.ndarray:
    """Marks the characters of the first plane after which a text may be cut: bool (0x10000,).

    Args:
        image: function that normalizes a single character.
    """
    data = tables()
    plain = np.ones(_PLANE, bool)
    plain[0xD800:0xE000] = False
    plain[[0, _UNDECODED]] = False
    unsafe = (
        set(map(ord, WHITESPACE)) | data.regex_spaces | data.accents | set(data.combining_classes)
        | data.graphemes["prepend"] | data.graphemes["control"] | data.graphemes["joins_previous"]
    )  # fmt: skip
    plain[[point for point in unsafe if point < _PLANE]] = False
    for point in np.flatnonzero(plain).tolist():
        text = image(chr(point))
        if text == chr(point):
            continue
        ends = {ord(char) for char in text[:1] + text[-1:]}
        plain[point] = bool(text) and not ends & unsafe and not WHITESPACE.intersection(text)
    return plain


class TextCutter:
    """Cuts texts into parts.

    Args:
        plain: bool (0x10000,), see `plain_characters`; None: do not cut.
        with_kinds: bool. Treat equal parts of different kinds as distinct.
    """

    def __init__(self, plain: np.ndarray | None, *, with_kinds: bool) -> None:
        self._with_kinds = with_kinds
        self._plain = None
        if plain is not None:
            with tf.init_scope():
                self._plain = tf.constant(plain)

    def __call__(self, strings: tf.Tensor, kinds: tf.Tensor) -> Parts:
        """Cuts texts.

        Args:
            strings: string (B,).
            kinds: int32 (B,). 1 or more.
        """
        if self._plain is None:
            starts = tf.zeros_like(kinds, tf.int64)
            splits = tf.range(ragged_ops.size64(kinds) + 1)
            parts, part_kinds = strings, kinds
        else:
            starts, splits = self._places(strings)
            ends = tf.concat([starts[1:], tf.zeros([1], tf.int64)], axis=0)
            rows = ragged_ops.row_ids(splits, ragged_ops.size64(starts))
            # The last part of a text ends at the end of the text.
            lengths = tf.cast(tf.strings.length(strings), tf.int64)
            last = tf.gather(splits, rows + 1) - 1
            ends = tf.where(
                tf.equal(tf.range(ragged_ops.size64(starts)), last),
                tf.gather(lengths, rows),
                ends[: tf.shape(starts)[0]],
            )
            parts = offsets.cut(strings, starts, ends, splits)
            part_kinds = tf.where(tf.equal(starts, 0), tf.gather(kinds, rows), 0)
        texts, which = tf.unique(parts, tf.int64)
        if not self._with_kinds:
            return Parts(texts, tf.ones_like(texts, tf.int32), which, starts, splits)
        key = which * 4 + tf.cast(part_kinds, tf.int64)
        keys, which = tf.unique(key, tf.int64)
        return Parts(
            tf.gather(texts, keys // 4), tf.cast(keys % 4, tf.int32), which, starts, splits
        )

    def _places(self, strings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the byte offsets of the parts in their texts, int64 (C,), and row splits."""
        raw, text_splits = offsets.text_bytes(strings)
        at = ragged_ops.indices(tf.equal(raw, _SPACE))
        padded = tf.pad(raw, [[3, 3]])

        def byte(places: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.gather(padded, places + 3), tf.int32)

        begins = text_splits[:-1]
        of_row = tf.searchsorted(at, text_splits, out_type=tf.int64)
        rows = ragged_ops.row_ids(of_row, ragged_ops.size64(at))
        # A text with another first character is not cut: a deletion there moves all offsets.
        first = byte(begins), byte(begins + 1), byte(begins + 2)
        simple = tf.logical_or(self._is_plain(*first, backwards=False), tf.equal(first[0], _SPACE))
        before = byte(at - 3), byte(at - 2), byte(at - 1)
        cut = tf.logical_and(self._is_plain(*before, backwards=True), tf.gather(simple, rows))
        cut = ragged_ops.indices(tf.logical_and(cut, at > tf.gather(begins, rows)))
        at, rows = tf.gather(at, cut), tf.gather(rows, cut)
        of_row = tf.searchsorted(cut, of_row, out_type=tf.int64)
        # Every text begins with a part. An empty text has an empty part.
        texts = tf.range(ragged_ops.size64(begins) + 1)
        splits = of_row + texts
        places = rows + 1 + tf.range(ragged_ops.size64(at))
        starts = tf.scatter_nd(places[:, tf.newaxis], at - tf.gather(begins, rows), splits[-1:])
        return starts, splits

    def _is_plain(
        self, first: tf.Tensor, second: tf.Tensor, third: tf.Tensor, *, backwards: bool
    ) -> tf.Tensor:
        """Returns whether three bytes end (or begin) with a plain character."""

        def trails(byte: tf.Tensor) -> tf.Tensor:
            return tf.equal(tf.bitwise.bitwise_and(byte, 0xC0), 0x80)

        def bits(byte: tf.Tensor) -> tf.Tensor:
            return tf.bitwise.bitwise_and(byte, 0x3F)

        of_three = (first - 0xE0) * 0x1000 + bits(second) * 0x40 + bits(third)
        is_three = tf.logical_and(trails(second), trails(third))
        is_three = tf.logical_and(is_three, tf.logical_and(of_three >= 0x800, of_three < _PLANE))
        lead, trail = (second, third) if backwards else (first, second)
        of_two = (lead - 0xC0) * 0x40 + bits(trail)
        is_two = tf.logical_and(trails(trail), tf.logical_and(of_two >= 0x80, of_two < 0x800))
        of_one = third if backwards else first
        point = tf.where(is_three, of_three, _UNDECODED)
        point = tf.where(is_two, of_two, point)
        point = tf.where(of_one < 0x80, of_one, point)
        return tf.gather(self._plain, point)

"""Unicode's canonical composition (NFC) with the characters each result came from, in core ops.

ICU's, which TensorFlow Text has, follows a later Unicode version than Hugging Face's, and tells
other sources. Here both are Hugging Face's: the tables are read off its tokenizers, and the
sources are as its alignment says, which walks along the text: a character that came out takes the
next one of the text, and with it as many more as were composed into it; one that a decomposition
made besides its first takes none, and has the source of the one before.

Legend: C characters of all texts, D of them decomposed, B texts, G groups, P pairs.

Source: Unicode Standard Annex 15; `NormalizedString.transform` of tokenizers;
unicode-normalization-alignments, src/recompose.rs.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import code_points, ragged_ops

_HANGUL = range(0xAC00, 0xD7A4)
# No character decomposes into more than a starter and three marks, so that no more than three of
# equal class can be composed with one starter.
_MOST_OF_A_CLASS = 3


class Composer:
    """NFC of texts given as code points."""

    def __init__(self) -> None:
        rules = code_points.rules()
        decomposed = {int(c, 16): tuple(map(ord, text)) for c, text in rules["decomposed"].items()}
        decomposed.update((c, _decompose_hangul(c)) for c in _HANGUL)
        excluded = set(code_points.from_ranges(rules["not_composed"]))
        composed = _pairs(decomposed, excluded)
        classes = {
            c: int(number)
            for number, ranges in rules["combining_classes"].items()
            for c in code_points.from_ranges(ranges)
        }
        seconds = {second for _, second in composed}
        self._suspicious = code_points.CodePointTable(dict.fromkeys(excluded | seconds, 1))
        self._class = code_points.CodePointTable(classes)
        # Decompositions in one row; the first is that of all characters that have none.
        texts = list(dict.fromkeys(decomposed.values()))
        place = {text: i for i, text in enumerate(texts, 1)}
        self._which = code_points.CodePointTable({c: place[t] for c, t in decomposed.items()})
        lengths = np.array([1, *map(len, texts)], np.int64)
        firsts = {c: i for i, c in enumerate(sorted({first for first, _ in composed}), 1)}
        others = {c: i for i, c in enumerate(sorted(seconds), 1)}
        table = np.zeros((len(firsts) + 1, len(others) + 1), np.int32)
        for (first, second), c in composed.items():
            table[firsts[first], others[second]] = c
        # Neighbours in a decomposition of which the second is a starter: only those do not part.
        inner = {pair for text in texts for pair in itertools.pairwise(text)}
        inner = {pair for pair in inner if pair[1] not in classes}
        joined = np.zeros((len({a for a, _ in inner}) + 1, len({b for _, b in inner}) + 1), bool)
        left = {c: i for i, c in enumerate(sorted({a for a, _ in inner}), 1)}
        right = {c: i for i, c in enumerate(sorted({b for _, b in inner}), 1)}
        for first, second in inner:
            joined[left[first], right[second]] = True
        self._left, self._right = map(code_points.CodePointTable, (left, right))
        self._firsts, self._seconds = map(code_points.CodePointTable, (firsts, others))
        with tf.init_scope():
            self._lengths = tf.constant(lengths)
            self._begins = tf.constant(np.cumsum([0, *lengths[:-1]]))
            self._texts = tf.constant([0, *(c for text in texts for c in text)], tf.int32)
            self._composed = tf.constant(table.reshape(-1))
            self._composed_width = table.shape[1]
            self._joined = tf.constant(joined.reshape(-1))
            self._joined_width = joined.shape[1]

    def may_change(self, points: tf.Tensor, joins: tf.Tensor) -> tf.Tensor:
        """Which characters may make a text another in NFC.

        Args:
            points: int32 (C,).
            joins: bool (C,). Whether the character follows the one before in the same text.

        Returns:
            bool (C,). A text without any is in NFC.
        """
        numbers = self._class(points)
        before = tf.where(joins, tf.pad(numbers, [[1, 0]])[:-1], 0)
        unsorted = tf.logical_and(numbers > 0, before > numbers)
        return tf.logical_or(self._suspicious(points) > 0, unsorted)

    def compose(
        self, points: tf.Tensor, splits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Texts in NFC.

        Args:
            points: int32 (C,).
            splits: int64 (B + 1,). Where each text begins.

        Returns:
            int32 (composed,) code points, int64 (B + 1,) splits, and int64 (composed,) sources,
            places among the C characters.
        """
        points, splits_d, change = self._decompose(points, splits)
        rows = ragged_ops.row_ids(splits_d, ragged_ops.size64(points))
        points, change, numbers = self._sort(points, change, rows)
        points, change, kept = self._compose(points, change, numbers, rows)
        at = ragged_ops.indices(kept)
        new_splits = tf.gather(ragged_ops.counts_before(kept), splits_d)
        change = tf.gather(change, at)
        taken = tf.where(change > 0, tf.zeros_like(change), 1 - change)
        source = tf.cumsum(taken, exclusive=True)
        source = tf.where(change > 0, source - 1, source)
        # The first of a text cannot have the source of one before.
        source = tf.maximum(source, tf.gather(splits, tf.gather(rows, at)))
        return tf.gather(points, at), new_splits, source

    def _decompose(
        self, points: tf.Tensor, splits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Code points int32 (D,), splits int64 (B + 1,), and int64 (D,): 1 if not the first."""
        which = self._which(points)
        ends = ragged_ops.splits_from_lengths(tf.gather(self._lengths, which))
        source = ragged_ops.row_ids(ends, ends[-1])
        place = tf.range(ends[-1]) - tf.gather(ends, source)
        which = tf.gather(which, source)
        found = tf.gather(self._texts, tf.gather(self._begins, which) + place)
        found = tf.where(which > 0, found, tf.gather(points, source))
        return found, tf.gather(ends, splits), tf.minimum(place, 1)

    def _sort(
        self, points: tf.Tensor, change: tf.Tensor, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Sorts marks by their classes, between starters: points, changes and classes (D,)."""
        numbers = self._class(points)
        new_row = tf.not_equal(rows, tf.pad(rows, [[1, 0]], constant_values=-1)[:-1])
        run = tf.cumsum(tf.cast(tf.logical_or(tf.equal(numbers, 0), new_row), tf.int64))
        order = tf.argsort(run * 256 + tf.cast(numbers, tf.int64), stable=True)
        return tf.gather(points, order), tf.gather(change, order), tf.gather(numbers, order)

    def _compose(
        self, points: tf.Tensor, change: tf.Tensor, numbers: tf.Tensor, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Composes sorted characters: points and changes (D,), and which are left: bool (D,).

        What can be composed stands in one group; all groups are gone through side by side. Marks
        of a class of which three were before cannot be composed any more, and are left out, so
        that no text makes many steps.
        """
        previous = tf.pad(points, [[1, 0]])[:-1]
        same_row = tf.equal(rows, tf.pad(rows, [[1, 0]], constant_values=-1)[:-1])
        joined = self._left(previous) * self._joined_width + self._right(points)
        inside = tf.logical_or(numbers > 0, tf.gather(self._joined, joined))
        inside = tf.logical_and(inside, same_row)
        group = tf.cumsum(tf.cast(tf.logical_not(inside), tf.int64)) - 1  # (D,)
        same_class = tf.equal(numbers, tf.pad(numbers, [[1, 0]])[:-1])
        same_class = tf.logical_and(tf.logical_and(same_class, inside), numbers > 0)
        position = tf.range(ragged_ops.size64(points))
        class_starts = ragged_ops.indices(tf.logical_not(same_class))
        class_of = tf.cumsum(tf.cast(tf.logical_not(same_class), tf.int64)) - 1
        rank = position - tf.gather(class_starts, class_of)
        member = ragged_ops.indices(rank <= _MOST_OF_A_CLASS)
        member_group = tf.gather(group, member)
        # A group's first character is a member, as the first of its class.
        opens = tf.not_equal(member_group, tf.pad(member_group, [[1, 0]], constant_values=-1)[:-1])
        begins = ragged_ops.indices(opens)
        lengths = tf.concat([begins[1:], [ragged_ops.size64(member)]], axis=0) - begins

        def more(step: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
            return step < tf.reduce_max(tf.concat([lengths, [0]], axis=0))

        def body(
            step: tf.Tensor, points: tf.Tensor, change: tf.Tensor, kept: tf.Tensor,
            starter: tf.Tensor, last: tf.Tensor,
        ) -> tuple[tf.Tensor, ...]:  # fmt: skip
            active = ragged_ops.indices(lengths > step)
            at = tf.gather(member, tf.gather(begins, active) + step)
            number = tf.gather(numbers, at)
            base = tf.gather(starter, active)
            has_base = base >= 0
            base = tf.maximum(base, 0)
            before = tf.gather(last, active)  # class of the mark left before; -1: none
            pair = self._firsts(tf.gather(points, base)) * self._composed_width
            result = tf.gather(self._composed, pair + self._seconds(tf.gather(points, at)))
            composes = tf.logical_and(tf.logical_and(has_base, before < number), result > 0)
            done = ragged_ops.indices(composes)
            base_done, at_done = tf.gather(base, done), tf.gather(at, done)
            total = tf.gather(change, base_done) + tf.gather(change, at_done) - 1
            points = tf.tensor_scatter_nd_update(
                points, base_done[:, tf.newaxis], tf.gather(result, done)
            )
            change = tf.tensor_scatter_nd_update(change, base_done[:, tf.newaxis], total)
            kept = tf.tensor_scatter_nd_update(
                kept, at_done[:, tf.newaxis], tf.zeros_like(at_done, tf.bool)
            )
            left = tf.logical_not(composes)
            becomes = tf.logical_and(left, tf.equal(number, 0))
            new_base = tf.where(becomes, at, tf.where(has_base, base, -1))
            mark = tf.logical_and(tf.logical_and(left, has_base), number > 0)
            new_last = tf.where(becomes, -1, tf.where(mark, number, before))
            starter = tf.tensor_scatter_nd_update(starter, active[:, tf.newaxis], new_base)
            last = tf.tensor_scatter_nd_update(last, active[:, tf.newaxis], new_last)
            return step + 1, points, change, kept, starter, last

        state = (
            tf.constant(0, tf.int64),
            points,
            change,
            tf.ones_like(points, tf.bool),
            tf.fill(tf.shape(begins), tf.constant(-1, tf.int64)),
            tf.fill(tf.shape(begins), -1),
        )
        _, points, change, kept, _, _ = tf.while_loop(more, body, state)
        return points, change, kept


def _pairs(
    decomposed: Mapping[int, tuple[int, ...]], excluded: set[int]
) -> dict[tuple[int, int], int]:
    """What two characters are composed to."""
    whole = {text: c for c, text in decomposed.items() if c not in excluded}
    return {
        (text[0] if len(text) == 2 else whole[text[:-1]], text[-1]): c for text, c in whole.items()
    }


def _decompose_hangul(c: int) -> tuple[int, ...]:
    """The canonical decomposition of a Hangul syllable (The Unicode Standard, section 3.12)."""
    index = c - _HANGUL[0]
    tail = index % 28
    lead_vowel = (0x1100 + index // 588, 0x1161 + index % 588 // 28)
    return (*lead_vowel, 0x11A7 + tail) if tail else lead_vowel


@functools.cache
def composer() -> Composer:
    """The one composer, made when it is needed."""
    return Composer()

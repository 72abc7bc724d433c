"""Unicode's normalization forms with the sources of their characters, in core ops.

TensorFlow Text uses ICU, which has a later Unicode version than Hugging Face and other sources. The
tables of this module come from Hugging Face's tokenizers, and the sources follow its alignment. The
alignment goes through the text: a new character uses the next character of the text, and all
characters that are composed with it. If a character is decomposed, only its first part uses a
character of the text. The other parts have the same source.

Legend: N characters of all rows, D decomposed characters, R rows.

Source: Unicode Standard Annex 15; `NormalizedString.transform` of tokenizers;
unicode-normalization-alignments, src/recompose.rs.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.unicode.characters import (
    CharacterMap,
    Characters,
    first_of,
    shifted,
    tables,
    transform,
)
from keras_bert_zoo.text.unicode.code_points import CodePointTable

# A canonical decomposition has at most one starter and three marks. So at most three marks of the
# same class can be composed with a starter.
_MOST_OF_A_CLASS = 3


class UnicodeForm:
    """Converts rows of characters to a normalization form.

    Args:
        form: str. NFC, NFD, NFKC or NFKD.
    """

    def __init__(self, form: str) -> None:
        data = tables()
        self._composes = form.endswith("C")
        self._map = CharacterMap(data.nfkd if "K" in form else data.nfd)
        self._classes = CodePointTable(data.combining_classes)
        suspicious = {c for c in self._map.texts if self.image(chr(c)) != chr(c)}
        if self._composes:
            suspicious |= {second for _, second in data.compositions}
        self._suspicious = CodePointTable.of_set(suspicious)
        if self._composes:
            self._build_compositions()

    def _build_compositions(self) -> None:
        """Builds the tables of compositions, and of starters that may be composed."""
        data = tables()
        firsts = {c: i for i, c in enumerate(sorted({a for a, _ in data.compositions}), 1)}
        seconds = {c: i for i, c in enumerate(sorted({b for _, b in data.compositions}), 1)}
        table = np.zeros((len(firsts) + 1, len(seconds) + 1), np.int32)
        for (first, second), whole in data.compositions.items():
            table[firsts[first], seconds[second]] = whole
        # Adjacent characters of decompositions whose second is a starter. They stay in one group.
        inner = {pair for text in data.nfd.values() for pair in itertools.pairwise(map(ord, text))}
        inner = {pair for pair in inner if pair[1] not in data.combining_classes}
        left = {c: i for i, c in enumerate(sorted({a for a, _ in inner}), 1)}
        right = {c: i for i, c in enumerate(sorted({b for _, b in inner}), 1)}
        joined = np.zeros((len(left) + 1, len(right) + 1), bool)
        for first, second in inner:
            joined[left[first], right[second]] = True
        self._firsts, self._seconds = CodePointTable(firsts), CodePointTable(seconds)
        self._left, self._right = CodePointTable(left), CodePointTable(right)
        self._composed_width, self._joined_width = table.shape[1], joined.shape[1]
        with tf.init_scope():
            self._composed = tf.constant(table.reshape(-1))
            self._joined = tf.constant(joined.reshape(-1))

    def image(self, text: str) -> str:
        """Converts each character separately."""
        images = (self._map.texts.get(ord(char), char) for char in text)
        return "".join(map(_compose_text, images) if self._composes else images)

    def may_change(self, points: tf.Tensor, follows: tf.Tensor) -> tf.Tensor:
        """Marks characters that may change in this form.

        Args:
            points: int32 (N,).
            follows: bool (N,). Whether the previous character is in the same row.

        Returns:
            bool (N,). A row without such characters already has this form.
        """
        numbers = self._classes(points)
        before = tf.where(follows, shifted(numbers, 0), 0)
        unsorted = tf.logical_and(numbers > 0, before > numbers)
        return tf.logical_or(self._suspicious.contains(points), unsorted)

    def __call__(self, characters: Characters) -> Characters:
        """Returns the characters in this form."""
        entries = self._map.entries(characters.points)
        points, origin, within, _ = self._map.expand(characters.points, entries)
        rows = tf.gather(characters.rows, origin)
        change = tf.cast(within > 0, tf.int64)
        points, change, numbers = self._sort(points, change, rows)
        if self._composes:
            points, change, remains = self._compose(points, change, numbers, rows)
            at = ragged_ops.indices(remains)
            points, change, rows = (tf.gather(values, at) for values in (points, change, rows))
        return transform(characters, points, rows, change)

    def _sort(
        self, points: tf.Tensor, change: tf.Tensor, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Sorts the marks between starters by class: points, changes and classes (D,)."""
        numbers = self._classes(points)
        starts = tf.logical_or(tf.equal(numbers, 0), first_of(rows))
        # A row may begin with marks. Its first mark is not a starter, and may move.
        key = tf.cumsum(tf.cast(starts, tf.int64)) * 256 + tf.cast(numbers, tf.int64)

        def sort() -> tuple[tf.Tensor, ...]:
            size = ragged_ops.size64(key)
            # The keys are distinct, so equal classes stay in their order.
            order = tf.argsort(key * size + tf.range(size))
            return tuple(tf.gather(values, order) for values in (points, change, numbers))

        result: tuple[tf.Tensor, tf.Tensor, tf.Tensor] = tf.cond(
            tf.reduce_any(key[1:] < key[:-1]), sort, lambda: (points, change, numbers)
        )
        return result

    def _compose(
        self, points: tf.Tensor, change: tf.Tensor, numbers: tf.Tensor, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Composes sorted characters: points and changes (D,), and the remaining ones, bool (D,).

        Characters that can be composed are in one group. All groups are processed in parallel. A
        group has at most three marks of a class, because further ones cannot be composed. This
        bounds the number of steps for any text.
        """
        joined = self._left(shifted(points, 0)) * self._joined_width + self._right(points)
        inside = tf.logical_or(numbers > 0, tf.gather(self._joined, joined))
        inside = tf.logical_and(inside, tf.logical_not(first_of(rows)))
        group = tf.cumsum(tf.cast(tf.logical_not(inside), tf.int64)) - 1  # (D,)
        same_class = tf.equal(numbers, shifted(numbers, 0))
        same_class = tf.logical_and(tf.logical_and(same_class, inside), numbers > 0)
        position = tf.range(ragged_ops.size64(points))
        class_starts = ragged_ops.indices(tf.logical_not(same_class))
        class_of = tf.cumsum(tf.cast(tf.logical_not(same_class), tf.int64)) - 1
        rank = position - tf.gather(class_starts, class_of)
        member = ragged_ops.indices(rank <= _MOST_OF_A_CLASS)
        member_group = tf.gather(group, member)
        # The first character of a group is the first of its class, and so always a member.
        begins = ragged_ops.indices(first_of(member_group))
        lengths = tf.concat([begins[1:], [ragged_ops.size64(member)]], axis=0) - begins

        def more(step: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
            return step < tf.reduce_max(tf.concat([lengths, [0]], axis=0))

        def body(
            step: tf.Tensor, points: tf.Tensor, change: tf.Tensor, remains: tf.Tensor,
            starter: tf.Tensor, last: tf.Tensor,
        ) -> tuple[tf.Tensor, ...]:  # fmt: skip
            active = ragged_ops.indices(lengths > step)
            at = tf.gather(member, tf.gather(begins, active) + step)
            number = tf.gather(numbers, at)
            base = tf.gather(starter, active)
            has_base = base >= 0
            base = tf.maximum(base, 0)
            before = tf.gather(last, active)  # class of the previous remaining mark; -1: none
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
            remains = tf.tensor_scatter_nd_update(
                remains, at_done[:, tf.newaxis], tf.zeros_like(at_done, tf.bool)
            )
            left = tf.logical_not(composes)
            becomes = tf.logical_and(left, tf.equal(number, 0))
            new_base = tf.where(becomes, at, tf.where(has_base, base, -1))
            mark = tf.logical_and(tf.logical_and(left, has_base), number > 0)
            new_last = tf.where(becomes, -1, tf.where(mark, number, before))
            starter = tf.tensor_scatter_nd_update(starter, active[:, tf.newaxis], new_base)
            last = tf.tensor_scatter_nd_update(last, active[:, tf.newaxis], new_last)
            return step + 1, points, change, remains, starter, last

        state = (
            tf.constant(0, tf.int64),
            points,
            change,
            tf.ones_like(points, tf.bool),
            tf.fill(tf.shape(begins), tf.constant(-1, tf.int64)),
            tf.fill(tf.shape(begins), -1),
        )
        _, points, change, remains, _, _ = tf.while_loop(more, body, state)
        return points, change, remains


def _compose_text(text: str) -> str:
    """Composes a decomposed character again, if the whole text composes."""
    pairs = tables().compositions
    whole = ord(text[0])
    for char in text[1:]:
        if (whole, ord(char)) not in pairs:
            return text
        whole = pairs[whole, ord(char)]
    return chr(whole)


@functools.cache
def unicode_form(form: str) -> UnicodeForm:
    """Returns the object of a form, which is created only once."""
    return UnicodeForm(form)

"""Rows of characters as vectors of code points, in core ops.

Hugging Face's normalizers work on a text that knows for each of its characters which character of
the original it stands for. So do these: `source` is that character's place, and every step says
what becomes of it. What the steps have in common is here.

Legend: R rows (texts or parts of texts), N characters in all of them.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.unicode.code_points import CodePointTable


@dataclass(frozen=True)
class Characters:
    """The characters of rows.

    Attributes:
        points: int32 (N,). Code points.
        source: int64 (N,). Which character of the original each stands for.
        rows: int64 (N,). The row of each.
        count: int64 (). R.
    """

    points: tf.Tensor
    source: tf.Tensor
    rows: tf.Tensor
    count: tf.Tensor

    def splits(self) -> tf.Tensor:
        """Where each row begins: int64 (R + 1,)."""
        lengths = tf.scatter_nd(
            self.rows[:, tf.newaxis], tf.ones_like(self.rows), self.count[tf.newaxis]
        )
        return ragged_ops.splits_from_lengths(lengths)

    def first(self) -> tf.Tensor:
        """Which characters are the first of their row: bool (N,)."""
        return first_of(self.rows)

    def keep(self, mask: tf.Tensor) -> Characters:
        """Only the characters of a mask, which stand for what they stood for."""
        at = ragged_ops.indices(mask)
        return Characters(
            tf.gather(self.points, at),
            tf.gather(self.source, at),
            tf.gather(self.rows, at),
            self.count,
        )

    def flat(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The vectors, for the branches of a condition."""
        return self.points, self.source, self.rows


def first_of(values: tf.Tensor) -> tf.Tensor:
    """Where a vector differs from the value before: bool (N,); the first place always does."""
    return tf.not_equal(values, shifted(values, -1))


def shifted(values: tf.Tensor, fill: int | bool) -> tf.Tensor:
    """The value before each: (N,) to (N,)."""
    return tf.concat([tf.fill([1], tf.cast(fill, values.dtype)), values], axis=0)[:-1]


def shifted_back(values: tf.Tensor, fill: int | bool) -> tf.Tensor:
    """The value after each: (N,) to (N,)."""
    return tf.concat([values, tf.fill([1], tf.cast(fill, values.dtype))], axis=0)[1:]


def unless_absent(
    needed: tf.Tensor, step: Callable[[Characters], Characters], characters: Characters
) -> Characters:
    """Takes a step only if the batch has anything for it.

    Args:
        needed: bool (N,). Characters that the step is for.
        step: characters to characters.
        characters: of the batch.
    """
    points, source, rows = tf.cond(
        tf.reduce_any(needed), lambda: step(characters).flat(), characters.flat
    )
    return Characters(points, source, rows, characters.count)


def transform(
    characters: Characters, points: tf.Tensor, rows: tf.Tensor, change: tf.Tensor
) -> Characters:
    """Puts other characters in the place of all.

    Args:
        characters: what they were.
        points: int32 (M,). What they become.
        rows: int64 (M,).
        change: int64 (M,). 0: stands for the next character; 1: for the same as the one before;
            -n: for the next character, and n more are passed over.

    Source: tokenizers, `NormalizedString::transform`.
    """
    consumed = tf.where(change > 0, tf.zeros_like(change), 1 - change)
    before = tf.cumsum(consumed, exclusive=True)
    splits = Characters(points, change, rows, characters.count).splits()
    # One value more, for rows at the end that have become empty.
    base = tf.gather(tf.pad(before, [[0, 1]]), splits[:-1])
    at = tf.gather(characters.splits()[:-1] - base, rows) + before
    at = tf.where(change > 0, at - 1, at)
    source = tf.gather(characters.source, tf.maximum(at, 0))
    return Characters(points, source, rows, characters.count)


class CharacterMap:
    """A text for each of some characters.

    Args:
        texts: code point -> what it becomes; may be empty.
        more: further texts, which get entries of their own.

    Attributes:
        entries: of code points: 0 = stays as it is, else an entry.
        first_of_more: int. The entry of the first text of `more`.
    """

    def __init__(self, texts: Mapping[int, str], more: Iterable[str] = ()) -> None:
        more = list(more)
        self.texts = dict(texts)
        distinct = {text: i + 1 for i, text in enumerate(dict.fromkeys(self.texts.values()))}
        self.first_of_more = len(distinct) + 1
        all_texts = ["?", *distinct, *more]
        lengths = np.array([len(text) for text in all_texts], np.int64)
        pool = np.frombuffer("".join(all_texts).encode("utf-32-le", "surrogatepass"), np.int32)
        self.entries = CodePointTable({c: distinct[text] for c, text in self.texts.items()})
        with tf.init_scope():
            self._lengths = tf.constant(lengths)
            self._starts = tf.constant(np.cumsum(lengths) - lengths)
            self._pool = tf.constant(pool)

    def expand(
        self, points: tf.Tensor, entries: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Texts in the place of characters.

        Args:
            points: int32 (N,).
            entries: int32 (N,).

        Returns:
            int32 (M,) new points; int64 (M,) the place in `points` of what each came from;
            int64 (M,) which character of its text it is; int64 (N + 1,) where each text begins.
        """
        splits = ragged_ops.splits_from_lengths(tf.gather(self._lengths, entries))
        total = splits[-1]
        origin = ragged_ops.row_ids(splits, total)
        within = tf.range(total) - tf.gather(splits, origin)
        entry = tf.gather(entries, origin)
        mapped = tf.gather(
            self._pool, tf.gather(self._starts, entry) + within * tf.cast(entry > 0, tf.int64)
        )
        return tf.where(entry > 0, mapped, tf.gather(points, origin)), origin, within, splits

    def __call__(self, characters: Characters) -> Characters:
        """Replaces characters; all of a text stand for what the character stood for."""
        entries = self.entries(characters.points)

        def replace(characters: Characters) -> Characters:
            points, origin, _, _ = self.expand(characters.points, entries)
            return Characters(
                points,
                tf.gather(characters.source, origin),
                tf.gather(characters.rows, origin),
                characters.count,
            )

        return unless_absent(entries > 0, replace, characters)


@dataclass(frozen=True)
class Tables:
    """The contents of `character_tables.json` (written by tools/make_sentencepiece_tables.py)."""

    lowercase: dict[int, str]
    nfd: dict[int, str]
    nfkd: dict[int, str]
    combining_classes: dict[int, int]
    compositions: dict[tuple[int, int], int]
    accents: frozenset[int]
    regex_spaces: frozenset[int]
    graphemes: dict[str, frozenset[int]]


@functools.cache
def tables() -> Tables:
    """The tables, read once."""
    source = importlib.resources.files(__package__).joinpath("character_tables.json")
    data = json.loads(source.read_text("utf-8"))

    def points(ranges: Any) -> frozenset[int]:
        return frozenset(c for first, last in ranges for c in range(first, last + 1))

    def mapping(key: str) -> dict[int, str]:
        return {int(c, 16): text for c, text in data[key].items()} | (
            hangul_decompositions() if key != "lowercase" else {}
        )

    triples = np.array(data["compositions"]).reshape(-1, 3).tolist()
    compositions = {(first, second): whole for first, second, whole in triples}
    for syllable, parts in hangul_decompositions().items():
        first = parts[0] if len(parts) == 2 else chr(syllable - (syllable - 0xAC00) % 28)
        compositions[ord(first), ord(parts[-1])] = syllable
    return Tables(
        lowercase=mapping("lowercase"),
        nfd=mapping("nfd"),
        nfkd=mapping("nfkd"),
        combining_classes={
            c: int(key) for key, ranges in data["combining_classes"].items() for c in points(ranges)
        },
        compositions=compositions,
        accents=points(data["accents"]),
        regex_spaces=points(data["regex_spaces"]),
        graphemes={name: points(ranges) for name, ranges in data["graphemes"].items()},
    )


@functools.cache
def hangul_decompositions() -> dict[int, str]:
    """Canonical decompositions of syllables (The Unicode Standard, section 3.12)."""
    found = {}
    for index in range(11172):
        lead, vowel, tail = index // 588, index % 588 // 28, index % 28
        text = chr(0x1100 + lead) + chr(0x1161 + vowel)
        found[0xAC00 + index] = text + chr(0x11A7 + tail) if tail else text
    return found

"""Rows of characters as vectors of code points, in core ops.

Hugging Face's normalizers store for each character of a text its source: the index of a character
in the original text. So do the steps of this package, and each step updates `source`. This module
contains the functions that the steps share.

Legend: R rows (texts or parts of texts), N characters of all rows.
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
        source: int64 (N,). The index of each character's source in the original characters.
        rows: int64 (N,). The row of each character.
        count: int64 (). R.
    """

    points: tf.Tensor
    source: tf.Tensor
    rows: tf.Tensor
    count: tf.Tensor

    def splits(self) -> tf.Tensor:
        """Returns the row splits: int64 (R + 1,)."""
        lengths = tf.scatter_nd(
            self.rows[:, tf.newaxis], tf.ones_like(self.rows), self.count[tf.newaxis]
        )
        return ragged_ops.splits_from_lengths(lengths)

    def first(self) -> tf.Tensor:
        """Marks the first character of each row: bool (N,)."""
        return first_of(self.rows)

    def keep(self, mask: tf.Tensor) -> Characters:
        """Returns only the characters of a mask, with their sources."""
        at = ragged_ops.indices(mask)
        return Characters(
            tf.gather(self.points, at),
            tf.gather(self.source, at),
            tf.gather(self.rows, at),
            self.count,
        )

    def flat(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the vectors, for the branches of a condition."""
        return self.points, self.source, self.rows


def first_of(values: tf.Tensor) -> tf.Tensor:
    """Marks values that differ from the previous value: bool (N,). The first one always does."""
    return tf.not_equal(values, shifted(values, -1))


def shifted(values: tf.Tensor, fill: int | bool) -> tf.Tensor:
    """Returns the previous value of each value: (N,) to (N,)."""
    return tf.concat([tf.fill([1], tf.cast(fill, values.dtype)), values], axis=0)[:-1]


def shifted_back(values: tf.Tensor, fill: int | bool) -> tf.Tensor:
    """Returns the next value of each value: (N,) to (N,)."""
    return tf.concat([values, tf.fill([1], tf.cast(fill, values.dtype))], axis=0)[1:]


def unless_absent(
    needed: tf.Tensor, step: Callable[[Characters], Characters], characters: Characters
) -> Characters:
    """Applies a step only if the batch needs it.

    Args:
        needed: bool (N,). The characters that need the step.
        step: function of Characters to Characters.
        characters: the characters of the batch.
    """
    points, source, rows = tf.cond(
        tf.reduce_any(needed), lambda: step(characters).flat(), characters.flat
    )
    return Characters(points, source, rows, characters.count)


def transform(
    characters: Characters, points: tf.Tensor, rows: tf.Tensor, change: tf.Tensor
) -> Characters:
    """Replaces all characters, and computes the new sources.

    Args:
        characters: the old characters.
        points: int32 (M,). The new code points.
        rows: int64 (M,).
        change: int64 (M,). 0: the source is the next old character. 1: the source is the same as
            that of the previous new one. -n: as 0, and n old characters are skipped.

    Source: tokenizers, `NormalizedString::transform`.
    """
    consumed = tf.where(change > 0, tf.zeros_like(change), 1 - change)
    before = tf.cumsum(consumed, exclusive=True)
    splits = Characters(points, change, rows, characters.count).splits()
    # One additional value, for empty rows at the end.
    base = tf.gather(tf.pad(before, [[0, 1]]), splits[:-1])
    at = tf.gather(characters.splits()[:-1] - base, rows) + before
    at = tf.where(change > 0, at - 1, at)
    source = tf.gather(characters.source, tf.maximum(at, 0))
    return Characters(points, source, rows, characters.count)


class CharacterMap:
    """Maps characters to texts.

    Args:
        texts: dict of code point to text; texts may be empty.
        more: further texts, which get separate entries.

    Attributes:
        entries: CodePointTable. The entries of code points; 0 = unchanged.
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
        """Replaces characters by texts.

        Args:
            points: int32 (N,).
            entries: int32 (N,).

        Returns:
            int32 (M,) new points; int64 (M,) their origins, as indices into `points`; int64 (M,)
            their indices in the text; int64 (N + 1,) the splits of the texts.
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
        """Replaces characters; all characters of a text have the source of the old character."""
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
    """Returns the tables, and reads their file only once."""
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
    """Returns the decompositions of syllables (The Unicode Standard, section 3.12)."""
    decompositions = {}
    for index in range(11172):
        lead, vowel, tail = index // 588, index % 588 // 28, index % 28
        text = chr(0x1100 + lead) + chr(0x1161 + vowel)
        decompositions[0xAC00 + index] = text + chr(0x11A7 + tail) if tail else text
    return decompositions

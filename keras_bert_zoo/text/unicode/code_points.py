"""Properties of characters by tables of our own, and UTF-8, in core ops.

What an op knows about characters follows the Unicode version that it was compiled with, which no
two libraries share. The tables here are constants.

Legend: N bytes of all texts, C characters of all texts, B texts.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import ragged_ops

CODE_POINTS = 0x110000
_PAGE_BITS = 7


@functools.cache
def rules() -> dict[str, Any]:
    """byte_bpe_rules.json, read once; tools/make_byte_bpe_tables.py wrote it."""
    source = importlib.resources.files(__package__).joinpath("byte_bpe_rules.json")
    found: dict[str, Any] = json.loads(source.read_text("utf-8"))
    return found


def from_ranges(ranges: Iterable[tuple[int, int]]) -> list[int]:
    """[[1, 3], [7, 7]] -> [1, 2, 3, 7]."""
    return [c for first, last in ranges for c in range(first, last + 1)]


class CodePointTable:
    """A number for every code point; equal pages of them are stored once.

    Args:
        values: code point -> number, all others have 0; or int32 (0x110000,).
    """

    def __init__(self, values: Mapping[int, int] | np.ndarray) -> None:
        if isinstance(values, Mapping):
            flat = np.zeros(CODE_POINTS, np.int32)
            if values:
                flat[np.fromiter(values, np.int64)] = np.fromiter(values.values(), np.int32)
        else:
            flat = np.ascontiguousarray(values, np.int32)
        places: dict[bytes, int] = {}
        pages = flat.reshape(-1, 1 << _PAGE_BITS)
        which = [places.setdefault(page.tobytes(), len(places)) for page in pages]
        # Eager tensors, which all graphs share: an array would be written into each function.
        with tf.init_scope():
            self._which = tf.constant(np.array(which, np.int32) << _PAGE_BITS)
            self._values = tf.constant(np.frombuffer(b"".join(places), np.int32))

    @classmethod
    def of_set(cls, points: Iterable[int]) -> CodePointTable:
        """1 for the points of a set, 0 for all others."""
        return cls(dict.fromkeys(points, 1))

    def __call__(self, points: tf.Tensor) -> tf.Tensor:
        """int32 (...) code points to their numbers, int32 (...)."""
        page = tf.gather(self._which, tf.bitwise.right_shift(points, _PAGE_BITS))
        at = page + tf.bitwise.bitwise_and(points, (1 << _PAGE_BITS) - 1)
        return tf.gather(self._values, at)

    def contains(self, points: tf.Tensor) -> tf.Tensor:
        """Where the number is not 0: bool (...)."""
        return tf.not_equal(self(points), 0)


@dataclass(frozen=True)
class Leads:
    """The characters of more than one byte.

    Attributes:
        at: int64 (H,). Their first bytes.
        points: int32 (H,).
        lengths: int32 (H,). In bytes; 0 where there is no valid character.
    """

    at: tf.Tensor
    points: tf.Tensor
    lengths: tf.Tensor


def is_continuation(raw: tf.Tensor) -> tf.Tensor:
    """Bytes within a character: uint8 or int32 (T,) to bool (T,)."""
    return tf.equal(tf.bitwise.bitwise_and(raw, 0xC0), 0x80)


def long_characters(raw: tf.Tensor, splits: tf.Tensor) -> Leads:
    """Decodes all characters that are not ASCII.

    Args:
        raw: uint8 (N,). The bytes of all texts.
        splits: int64 (B + 1,). Where each text begins.

    Returns:
        Leads. As UTF-8 has it: shortest form, no surrogates, none cut off by the text's end.
    """
    at = ragged_ops.indices(raw >= 0xC0)
    padded = tf.pad(raw, [[0, 3]])
    first, second, third, fourth = (
        tf.cast(tf.gather(padded, at + place), tf.int32) for place in range(4)
    )
    three = first >= 0xE0
    four = first >= 0xF0
    lengths = 2 + tf.cast(three, tf.int32) + tf.cast(four, tf.int32)
    shift = tf.bitwise.left_shift
    low = tf.bitwise.bitwise_and(second, 0x3F)
    two_points = shift(tf.bitwise.bitwise_and(first, 0x1F), 6) + low
    low = shift(low, 6) + tf.bitwise.bitwise_and(third, 0x3F)
    three_points = shift(tf.bitwise.bitwise_and(first, 0x0F), 12) + low
    low = shift(low, 6) + tf.bitwise.bitwise_and(fourth, 0x3F)
    four_points = shift(tf.bitwise.bitwise_and(first, 0x07), 18) + low
    points = tf.where(four, four_points, tf.where(three, three_points, two_points))
    least = tf.where(four, 0x10000, tf.where(three, 0x800, 0x80))
    row_end = tf.gather(splits, tf.searchsorted(splits, at, side="right"))
    conditions = [
        is_continuation(second),
        tf.logical_or(is_continuation(third), tf.logical_not(three)),
        tf.logical_or(is_continuation(fourth), tf.logical_not(four)),
        points >= least,
        points < CODE_POINTS,
        tf.not_equal(tf.bitwise.right_shift(points, 11), 0xD800 >> 11),
        first < 0xF8,
        at + tf.cast(lengths, tf.int64) <= row_end,
    ]
    valid = conditions[0]
    for condition in conditions[1:]:
        valid = tf.logical_and(valid, condition)
    return Leads(at, tf.where(valid, points, 0), tf.where(valid, lengths, 0))


def utf8_lengths(points: tf.Tensor) -> tf.Tensor:
    """Bytes of each character: int32 (C,) to int64 (C,)."""
    longer = [tf.cast(points >= least, tf.int64) for least in (0x80, 0x800, 0x10000)]
    return 1 + longer[0] + longer[1] + longer[2]


def encode(points: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Code points int32 (C,) with row splits int64 (B + 1,) as texts, string (B,)."""
    encoded: tf.Tensor = tf.raw_ops.UnicodeEncode(
        input_values=points, input_splits=splits, output_encoding="UTF-8", errors="replace"
    )
    return encoded

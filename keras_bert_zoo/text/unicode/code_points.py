"""Character properties from the package's tables, and UTF-8, in core ops.

The ops of TensorFlow use the Unicode version that they were compiled with. Libraries differ in this
version, so the properties here come from constant tables.

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
    """Returns byte_bpe_rules.json, which tools/make_byte_bpe_tables.py writes."""
    source = importlib.resources.files(__package__).joinpath("byte_bpe_rules.json")
    content: dict[str, Any] = json.loads(source.read_text("utf-8"))
    return content


def from_ranges(ranges: Iterable[tuple[int, int]]) -> list[int]:
    """Expands ranges: [[1, 3], [7, 7]] to [1, 2, 3, 7]."""
    return [c for first, last in ranges for c in range(first, last + 1)]


class CodePointTable:
    """A table with a number for every code point; equal pages are stored once.

    Args:
        values: dict of code point to number, with 0 for all others; or int32 (0x110000,).
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
        # Eager tensors, because all graphs share them. An array would be copied to each function.
        with tf.init_scope():
            self._which = tf.constant(np.array(which, np.int32) << _PAGE_BITS)
            self._values = tf.constant(np.frombuffer(b"".join(places), np.int32))

    @classmethod
    def of_set(cls, points: Iterable[int]) -> CodePointTable:
        """Returns a table with 1 for the code points of a set and 0 for all others."""
        return cls(dict.fromkeys(points, 1))

    def __call__(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the numbers of code points: int32 (...) to int32 (...)."""
        page = tf.gather(self._which, tf.bitwise.right_shift(points, _PAGE_BITS))
        at = page + tf.bitwise.bitwise_and(points, (1 << _PAGE_BITS) - 1)
        return tf.gather(self._values, at)

    def contains(self, points: tf.Tensor) -> tf.Tensor:
        """Marks code points with another number than 0: int32 (...) to bool (...)."""
        return tf.not_equal(self(points), 0)


@dataclass(frozen=True)
class Leads:
    """The characters of more than one byte.

    Attributes:
        at: int64 (H,). The indices of their first bytes.
        points: int32 (H,).
        lengths: int32 (H,). Lengths in bytes; 0 for invalid characters.
    """

    at: tf.Tensor
    points: tf.Tensor
    lengths: tf.Tensor


def is_continuation(raw: tf.Tensor) -> tf.Tensor:
    """Marks continuation bytes: uint8 or int32 (T,) to bool (T,)."""
    return tf.equal(tf.bitwise.bitwise_and(raw, 0xC0), 0x80)


def long_characters(raw: tf.Tensor, splits: tf.Tensor) -> Leads:
    """Decodes all characters that are not ASCII.

    Args:
        raw: uint8 (N,). The bytes of all texts.
        splits: int64 (B + 1,). The bytes of each text.

    Returns:
        Leads. As in UTF-8, longer forms, surrogates and incomplete characters are invalid.
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
    """Returns the lengths of characters in bytes: int32 (C,) to int64 (C,)."""
    longer = [tf.cast(points >= least, tf.int64) for least in (0x80, 0x800, 0x10000)]
    return 1 + longer[0] + longer[1] + longer[2]


def encode(points: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Encodes code points int32 (C,) with row splits int64 (B + 1,) to texts, string (B,)."""
    encoded: tf.Tensor = tf.raw_ops.UnicodeEncode(
        input_values=points, input_splits=splits, output_encoding="UTF-8", errors="replace"
    )
    return encoded

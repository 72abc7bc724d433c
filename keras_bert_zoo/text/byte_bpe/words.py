r"""Splits texts into words for byte-level BPE, as GPT-2's regular expression does.

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

TensorFlow's RE2 has no lookahead and another Unicode version, so no regular expression is used. The
kinds of a character and its neighbors show whether a word begins there:

- Runs of letters, of numbers, of spaces and of other characters are words. A plain space joins the
  run after it, if this is no run of spaces. The last of several spaces is separate from those
  before it, unless the text ends there.
- An apostrophe with s, t, re, ve, m, ll or d is a word if it follows a letter, a number, a space
  other than the plain one, or the beginning of the text.

Legend: N bytes of all texts, C characters, W words, B texts.

Source: gpt-2, src/encoder.py; `ByteLevel` of tokenizers' pre_tokenizers.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import offsets, ragged_ops
from keras_bert_zoo.text.unicode import code_points
from keras_bert_zoo.text.unicode.characters import Characters
from keras_bert_zoo.text.unicode.forms import UnicodeForm

_OTHER, _LETTER, _NUMBER, _SPACE, _PLAIN_SPACE, _APOSTROPHE, _EDGE = range(7)
_KINDS = 7
_CONTRACTIONS = ("s", "t", "re", "ve", "m", "ll", "d")


def word_starts(raw: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Returns the first bytes of words.

    All bytes of a character get its kind. So the kinds of the neighbors are those of the adjacent
    bytes. The ends of texts, spaces of several bytes and apostrophes are corrected afterwards.

    Args:
        raw: uint8 (N,). The bytes of all texts, in valid UTF-8.
        splits: int64 (B + 1,). The bytes of each text.

    Returns:
        int64 (W,), indices into `raw`.
    """
    filled = ragged_ops.indices(splits[1:] > splits[:-1])
    first, last = tf.gather(splits, filled), tf.gather(splits, filled + 1) - 1
    kinds = tf.gather(tf.constant(_ascii_kinds()), tf.cast(raw, tf.int32))
    kinds, spaces, lengths = tf.cond(
        tf.reduce_any(raw >= 0x80),
        lambda: _with_long(kinds, raw, splits),
        lambda: (kinds, splits[:0], splits[:0]),
    )
    edge = tf.constant([_EDGE], tf.uint8)
    padded = tf.concat([edge, kinds, edge], axis=0)
    begins = _look_up(padded[:-2], kinds, padded[2:])

    # Spaces of several bytes, and spaces of one byte at the end of a text.
    ends_text = tf.gather(last, ragged_ops.indices(tf.gather(raw, last) <= ord(" ")))
    at = tf.concat([spaces, ends_text], axis=0)
    end = at + tf.concat([lengths, tf.ones_like(ends_text)], axis=0)
    row = tf.searchsorted(splits, at, side="right", out_type=tf.int64)
    before = tf.where(tf.equal(at, tf.gather(splits, row - 1)), edge, tf.gather(padded, at))
    following = tf.where(tf.equal(end, tf.gather(splits, row)), edge, tf.gather(padded, end + 1))
    for place in (2, 1):
        at_end = tf.maximum(at, end - place)
        begins = _put(begins, at_end, tf.zeros_like(at_end, tf.bool))
    begins = _put(begins, at, _look_up(before, tf.gather(kinds, at), following))
    begins = _put(begins, first, tf.ones_like(first, tf.bool))

    apostrophe = tf.equal(kinds, _APOSTROPHE)
    begins = tf.cond(
        tf.reduce_any(apostrophe),
        lambda: _contract(begins, ragged_ops.indices(apostrophe), raw, splits, padded),
        lambda: begins,
    )
    return ragged_ops.indices(begins)


def _with_long(
    kinds: tf.Tensor, raw: tf.Tensor, splits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Sets the kinds of characters of several bytes, at all their bytes.

    Returns:
        uint8 (N,) kinds; int64 positions and int64 lengths of the spaces among these characters.
    """
    long = code_points.long_characters(raw, splits)
    long_kinds = tf.cast(_kinds()(long.points), tf.uint8)
    for place in range(4):
        has = ragged_ops.indices(long.lengths > place)
        kinds = _put(kinds, tf.gather(long.at, has) + place, tf.gather(long_kinds, has))
    spaces = ragged_ops.indices(tf.equal(long_kinds, _SPACE))
    lengths = tf.cast(tf.gather(long.lengths, spaces), tf.int64)
    return kinds, tf.gather(long.at, spaces), lengths


def _contract(
    begins: tf.Tensor, at: tf.Tensor, raw: tf.Tensor, splits: tf.Tensor, padded: tf.Tensor
) -> tf.Tensor:
    """Separates contractions, such as 's.

    Args:
        begins: bool (N,). The bytes that begin words.
        at: int64 (A,). The positions of apostrophes.
        raw: uint8 (N,).
        splits: int64 (B + 1,).
        padded: uint8 (N + 2,). The kinds, with _EDGE at both ends.

    Returns:
        bool (N,).
    """
    row = tf.searchsorted(splits, at, side="right", out_type=tf.int64)
    row_end = tf.gather(splits, row)
    before = tf.cast(tf.gather(padded, at), tf.int32)
    before = tf.where(tf.equal(at, tf.gather(splits, row - 1)), _EDGE, before)
    apart = tf.gather(tf.constant(_before_contraction()), before)
    last = ragged_ops.size64(raw) - 1

    def letter(place: int) -> tf.Tensor:
        """Returns the byte `place` bytes after the apostrophe, or 0 after the end of the text."""
        char = tf.cast(tf.gather(raw, tf.minimum(at + place, last)), tf.int32)
        return tf.where(at + place < row_end, char, 0)

    one, two = letter(1), letter(2)
    length = tf.zeros_like(at)
    for ending in _CONTRACTIONS:
        same = tf.equal(one, ord(ending[0]))
        if len(ending) == 2:
            same = tf.logical_and(same, tf.equal(two, ord(ending[1])))
        length = tf.where(same, tf.constant(len(ending), tf.int64), length)
    matches = ragged_ops.indices(tf.logical_and(apart, length > 0))
    at, row_end = tf.gather(at, matches), tf.gather(row_end, matches)
    # The letters do not begin a word; the character after them does.
    begins = _put(begins, at + 1, tf.zeros_like(at, tf.bool))
    after = at + tf.gather(length, matches) + 1
    after = tf.gather(after, ragged_ops.indices(after < row_end))
    return _put(begins, after, tf.ones_like(after, tf.bool))


def _look_up(before: tf.Tensor, kind: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Returns whether characters begin words, by kinds uint8 (C,): bool (C,)."""
    before, kind, after = (tf.cast(kinds, tf.uint16) for kinds in (before, kind, after))
    code = (before * _KINDS + kind) * _KINDS + after
    return tf.gather(tf.constant(_begin_table()), tf.cast(code, tf.int32))


def _put(values: tf.Tensor, at: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Replaces the values at some positions."""
    return tf.tensor_scatter_nd_update(values, at[:, tf.newaxis], new)


Sources = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def clean(
    strings: tf.Tensor, raw: tf.Tensor, splits: tf.Tensor, form: UnicodeForm | None
) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor, Sources]:
    """Removes bytes that are not UTF-8, and converts texts to NFC.

    Args:
        strings: string (B,).
        raw: uint8 (N,). The bytes of all texts.
        splits: int64 (B + 1,). The bytes of each text.
        form: NFC; None: do not convert.

    Returns:
        The cleaned strings, raw and splits; bool (), whether any text changed; a function for
        changed texts. It converts row splits int64 (B + 1,) of tokens with their starts and ends
        int64 (T,) in the cleaned texts to starts and ends int64 (T,) in the given texts.
    """
    unchanged = tf.constant(False)

    def same() -> tuple[tf.Tensor, ...]:
        return strings, raw, splits, unchanged, splits[:0], splits[:0]

    def check() -> tuple[tf.Tensor, ...]:
        long = code_points.long_characters(raw, splits)
        lengths = tf.cast(long.lengths, tf.int64)
        suspect = tf.equal(lengths, 0)
        if form is not None:
            # Characters of different texts may count as neighbors, which only adds suspects.
            follows = tf.equal(tf.pad(long.at + lengths, [[1, 0]])[:-1], long.at)
            suspect = tf.logical_or(suspect, form.may_change(long.points, follows))
        covered = tf.reduce_sum(lengths)
        high = tf.math.count_nonzero(raw >= 0x80)
        needed = tf.logical_or(tf.reduce_any(suspect), tf.not_equal(covered, high))
        return tf.cond(
            needed,
            lambda: _rewrite(strings, raw, splits, long, suspect, form),
            same,
        )

    *cleaned, changed, begins, ends = tf.cond(tf.reduce_any(raw >= 0x80), check, same)
    byte_splits = cleaned[2]

    def sources(
        row_splits: tf.Tensor, starts: tf.Tensor, stops: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows = ragged_ops.row_ids(row_splits, ragged_ops.size64(starts))
        base = tf.gather(byte_splits, rows)
        return tf.gather(begins, base + starts), tf.gather(ends, base + stops - 1)

    return (cleaned[0], cleaned[1], byte_splits), changed, sources


def _rewrite(
    strings: tf.Tensor,
    raw: tf.Tensor,
    splits: tf.Tensor,
    long: code_points.Leads,
    suspect: tf.Tensor,
    form: UnicodeForm | None,
) -> tuple[tf.Tensor, ...]:
    """Cleans the texts that need it.

    Returns:
        The texts string (B,), their bytes uint8 (new N,), splits int64 (B + 1,), True, and int64
        (new N,) the start and the end of the source character of each byte.
    """
    # A text needs it if a character is suspect, or if a byte beyond ASCII is in no character.
    at = tf.searchsorted(long.at, splits)
    lengths = tf.cast(long.lengths, tf.int64)
    covered = tf.gather(ragged_ops.splits_from_lengths(lengths), at)
    suspects = tf.gather(ragged_ops.counts_before(suspect), at)
    high = tf.gather(ragged_ops.counts_before(raw >= 0x80), splits)
    uncovered = high - covered
    needed = tf.logical_or(suspects[1:] > suspects[:-1], uncovered[1:] > uncovered[:-1])
    rows = ragged_ops.indices(needed)

    texts = tf.gather(strings, rows)
    points, character_splits, begins, ends = _characters(texts)
    if form is not None:
        size = ragged_ops.size64(points)
        owner = ragged_ops.row_ids(character_splits, size)
        composed = form(Characters(points, tf.range(size), owner, ragged_ops.size64(texts)))
        points, character_splits = composed.points, composed.splits()
        begins, ends = (tf.gather(values, composed.source) for values in (begins, ends))
    byte_splits = ragged_ops.splits_from_lengths(code_points.utf8_lengths(points))
    owner = ragged_ops.row_ids(byte_splits, byte_splits[-1])
    offset = tf.range(splits[-1]) - tf.gather(splits, ragged_ops.row_ids(splits, splits[-1]))
    merged, values = ragged_ops.replace_rows(
        rows,
        needed,
        splits,
        (offset, offset + 1),
        tf.gather(byte_splits, character_splits),
        (tf.gather(begins, owner), tf.gather(ends, owner)),
    )
    both = tf.concat([strings, code_points.encode(points, character_splits)], axis=0)
    count = ragged_ops.size64(needed)
    index = tf.where(needed, count + ragged_ops.counts_before(needed)[:-1], tf.range(count))
    cleaned = tf.gather(both, index)
    new_raw, _ = offsets.text_bytes(cleaned)
    return cleaned, new_raw, merged, tf.constant(True), *values


def _characters(strings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes the valid characters of texts.

    Args:
        strings: string (B,).

    Returns:
        Code points int32 (C,), row splits int64 (B + 1,), and byte offsets in the text: starts and
        ends int64 (C,).
    """
    raw, splits = offsets.text_bytes(strings)
    long = code_points.long_characters(raw, splits)
    where = long.at[:, tf.newaxis]
    lengths = tf.tensor_scatter_nd_update(tf.cast(raw < 0x80, tf.int32), where, long.lengths)
    points = tf.tensor_scatter_nd_update(tf.cast(raw, tf.int32), where, long.points)
    at = ragged_ops.indices(lengths > 0)
    character_splits = tf.searchsorted(at, splits, out_type=tf.int64)
    base = tf.gather(splits, ragged_ops.row_ids(character_splits, ragged_ops.size64(at)))
    begins = at - base
    ends = begins + tf.cast(tf.gather(lengths, at), tf.int64)
    return tf.gather(points, at), character_splits, begins, ends


def widen(raw: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Extends spans of bytes to whole characters: int64 (T,) each."""

    def move() -> tuple[tf.Tensor, tf.Tensor]:
        padded = tf.pad(raw, [[0, 1]])
        first, last = starts, ends
        for _ in range(3):
            inside = code_points.is_continuation(tf.gather(padded, first))
            first -= tf.cast(inside, tf.int64)
            inside = code_points.is_continuation(tf.gather(padded, last))
            last += tf.cast(inside, tf.int64)
        return first, last

    spans: tuple[tf.Tensor, tf.Tensor] = tf.cond(
        tf.reduce_any(raw >= 0x80), move, lambda: (starts, ends)
    )
    return spans


def character_lengths(first: tf.Tensor) -> tf.Tensor:
    """Returns the lengths of characters by their first bytes: uint8 (T,) to int64 (T,)."""
    longer = [tf.cast(first >= least, tf.int64) for least in (0xC0, 0xE0, 0xF0)]
    return 1 + longer[0] + longer[1] + longer[2]


@functools.cache
def _begin_table() -> np.ndarray:
    """Marks beginnings of words by the kinds before, at and after a character: bool (343,)."""
    table = np.zeros((_KINDS, _KINDS, _KINDS), bool)
    spaces = (_SPACE, _PLAIN_SPACE)
    run = {_APOSTROPHE: _OTHER, _PLAIN_SPACE: _SPACE}  # kinds that form one run with another kind
    for before, kind, after in itertools.product(range(_KINDS), repeat=3):
        if kind in spaces:
            last = after not in (*spaces, _EDGE)
            table[before, kind, after] = before not in spaces or last
        elif before in spaces:
            table[before, kind, after] = before != _PLAIN_SPACE
        else:
            table[before, kind, after] = run.get(before, before) != run.get(kind, kind)
    return table.reshape(-1)


@functools.cache
def _before_contraction() -> np.ndarray:
    """Marks the kinds of characters after which an apostrophe begins a word: bool (7,)."""
    joined = (_OTHER, _APOSTROPHE, _PLAIN_SPACE)
    return np.array([kind not in joined for kind in range(_KINDS)])


def _kind_by_point() -> dict[int, int]:
    """Returns the kinds of code points that are not _OTHER."""
    rules = code_points.rules()
    return {
        **dict.fromkeys(code_points.from_ranges(rules["letters"]), _LETTER),
        **dict.fromkeys(code_points.from_ranges(rules["numbers"]), _NUMBER),
        **dict.fromkeys(code_points.from_ranges(rules["spaces"]), _SPACE),
        ord(" "): _PLAIN_SPACE,
        ord("'"): _APOSTROPHE,
    }


@functools.cache
def _kinds() -> code_points.CodePointTable:
    return code_points.CodePointTable(_kind_by_point())


@functools.cache
def _ascii_kinds() -> np.ndarray:
    """Returns the kinds of ASCII characters, and _OTHER for other bytes: uint8 (256,)."""
    kinds = _kind_by_point()
    return np.array([kinds.get(c, _OTHER) if c < 128 else _OTHER for c in range(256)], np.uint8)

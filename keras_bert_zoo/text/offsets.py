"""Byte and character offsets of tokens in the given text.

The normalizer op returns the source byte of each normalized byte. The WordPiece op returns the
offsets of tokens in the normalized text. A token starts at the source of its first byte.

A token ends after the source character of its last byte, as in Hugging Face. Deleted characters
after it are not included. If the source of the next byte follows directly, the token ends there.
Otherwise, the length of the character is read from its first byte in the given text.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# The raw ops, because tf_text.ByteSplitter adds asserts on row splits that take longer than the
# ops themselves.
from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter as byte_ops

from keras_bert_zoo.text import ragged_ops

# The length in bytes of the UTF-8 character that a byte begins. Other bytes have length 1: an
# unchanged character is mapped byte by byte, so its last byte may be looked up, too.
_BYTES_BY_FIRST = np.ones(256, np.int64)
_BYTES_BY_FIRST[0xC2:0xE0] = 2
_BYTES_BY_FIRST[0xE0:0xF0] = 3
_BYTES_BY_FIRST[0xF0:0xF5] = 4
# Whether a byte begins a character. LiteRT does not compare uint8.
_BEGINS_CHARACTER = (np.arange(256) & 0xC0) != 0x80


def text_bytes(strings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the bytes of all strings as one tensor, with row splits.

    Args:
        strings: string (B,).

    Returns:
        uint8 (bytes,) and int64 (B + 1,).

    Example:
        >>> raw, splits = text_bytes(tf.constant(["ab", "c"]))
        >>> raw.numpy().tolist(), splits.numpy().tolist()
        ([97, 98, 99], [0, 2, 3])
    """
    raw, row_splits, _, _ = byte_ops.tf_text_byte_split_with_offsets(strings)
    return raw, row_splits


def text_lengths(strings: tf.Tensor) -> tf.Tensor:
    """Returns the lengths of texts in bytes, in ops that LiteRT has.

    Args:
        strings: string (B,).

    Returns:
        int64 (B,).

    Example:
        >>> text_lengths(tf.constant(["aé", ""])).numpy().tolist()
        [3, 0]
    """
    _, splits = text_bytes(strings)
    return splits[1:] - splits[:-1]


def cut_rows(strings: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Returns several substrings of each text by byte offsets.

    Args:
        strings: string (B,).
        starts: int32 (B, K). Bytes.
        ends: int32 (B, K). Bytes, exclusive.

    Returns:
        string (B, K).

    Example:
        >>> cut_rows(tf.constant(["abc"]), [[0, 1]], [[1, 3]]).numpy().tolist()
        [[b'a', b'bc']]
    """
    shape = tf.shape(starts)
    lengths = tf.fill([shape[0]], tf.cast(shape[1], tf.int64))
    splits = ragged_ops.splits_from_lengths(lengths)
    flat = cut(strings, tf.reshape(starts, [-1]), tf.reshape(ends, [-1]), splits)
    return tf.reshape(flat, shape)


def cut(strings: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
    """Returns substrings of texts by byte offsets.

    Args:
        strings: string (B,).
        starts: int64 (P,). Byte offsets in the text of each substring.
        ends: int64 (P,). The same, exclusive.
        row_splits: int64 (B + 1,). The substrings of each text.

    Returns:
        string (P,).

    Example:
        >>> cut(tf.constant(["abc"]), [0, 1], [1, 3], [0, 2]).numpy().tolist()
        [b'a', b'bc']
    """
    parts, _ = byte_ops.tf_text_byte_split_by_offsets(
        strings, tf.cast(starts, tf.int32), tf.cast(ends, tf.int32), row_splits
    )
    return parts


def source_offsets(
    strings: tf.Tensor,
    source: tf.RaggedTensor,
    row_splits: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Converts offsets in the normalized texts to offsets in the given texts.

    Args:
        strings: string (B,). The texts.
        source: int64 (B, normalized bytes + 1). The source byte of each normalized byte.
        row_splits: int64 (B + 1,). The tokens of each text.
        starts: int64 (T,). In the normalized texts.
        ends: int64 (T,). In the normalized texts, exclusive.

    Returns:
        int64 (T,) starts and int64 (T,) ends.
    """
    rows = ragged_ops.row_ids(row_splits, ragged_ops.size64(starts))
    normalized_base = tf.gather(source.row_splits, rows)
    first = tf.gather(source.values, normalized_base + starts)
    last = tf.gather(source.values, normalized_base + ends - 1)
    following = tf.gather(source.values, normalized_base + ends)
    unclear = tf.not_equal(following, last + 1)
    at = ragged_ops.indices(unclear)
    more = _character_lengths(
        strings,
        tf.gather(last, at),
        tf.gather(ragged_ops.counts_before(unclear), row_splits),
    )
    # One additional element, because LiteRT's kernel divides by the size.
    extra = tf.scatter_nd(at[:, tf.newaxis], more - 1, [ragged_ops.size64(last) + 1])
    return first, last + 1 + extra[:-1]


def byte_offsets(text: bytes) -> np.ndarray:
    """Returns the byte offset of each character of one text, and of the end.

    A byte of the form 0b10xxxxxx continues a character; every other byte begins one.

    Args:
        text: bytes.

    Returns:
        int64 (characters + 1,).

    Example:
        >>> byte_offsets("aéb".encode()).tolist()
        [0, 1, 3, 4]
    """
    raw = np.frombuffer(text, np.uint8)
    return np.append(np.flatnonzero((raw & 0xC0) != 0x80), len(raw))


def character_offsets(
    strings: tf.Tensor, offsets: tf.Tensor, rows: tf.Tensor | None = None
) -> tf.Tensor:
    """Converts byte offsets to character offsets, in graph ops.

    In valid UTF-8, characters are code points, as in Python's str.

    Args:
        strings: string (B,).
        offsets: int32 or int64 (B, ...) or, with `rows`, (P,). Bytes, at most the text's length.
        rows: int64 (P,) or None. The text of each offset; None: the text of the same row.

    Returns:
        The type and shape of `offsets`.

    Example:
        >>> character_offsets(tf.constant(["aéb"]), tf.constant([[0, 1, 3, 4]])).numpy().tolist()
        [[0, 1, 2, 3]]
    """
    raw, splits = text_bytes(strings)
    begins = tf.gather(tf.constant(_BEGINS_CHARACTER), tf.cast(raw, tf.int32))
    before = ragged_ops.counts_before(begins)
    if rows is None:
        base = tf.reshape(splits[:-1], [-1] + [1] * (offsets.shape.rank - 1))
    else:
        base = tf.gather(splits, rows)
    count = tf.gather(before, base + tf.cast(offsets, tf.int64)) - tf.gather(before, base)
    return tf.cast(count, offsets.dtype)


def _character_lengths(strings: tf.Tensor, at: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
    """Returns the lengths in bytes of the characters at some bytes of the texts.

    Args:
        strings: string (B,).
        at: int64 (P,). Byte offsets in the text of each character.
        row_splits: int64 (B + 1,). The elements of `at` for each text.

    Returns:
        int64 (P,).
    """
    raw, _ = text_bytes(cut(strings, at, at + 1, row_splits))
    return tf.gather(tf.constant(_BYTES_BY_FIRST), tf.cast(raw, tf.int32))

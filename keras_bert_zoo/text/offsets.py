"""Byte offsets of tokens in the text that the caller gave.

The normalizer op says for each byte of its output where in the input it came from; the WordPiece op
says where in the normalized text a token lies. A token starts where its first byte came from.
Its end is harder: Hugging Face ends a token behind the character that its last byte came from,
whatever was deleted after it, while the byte that follows may have come from anywhere later (or,
when one character became several, from the same). Where the two do not follow on each other, the
character's length is read off its first byte in the text itself.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# The bare ops: tf_text.ByteSplitter checks their row splits with asserts, which take longer than
# the work.
from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter as byte_ops

from keras_bert_zoo.text import ragged_ops

# Bytes of the UTF-8 character that a byte begins. A byte that begins none counts as itself: an
# unchanged character is mapped byte by byte, so its last byte may be asked about.
_BYTES_BY_FIRST = np.ones(256, np.int64)
_BYTES_BY_FIRST[0xC2:0xE0] = 2
_BYTES_BY_FIRST[0xE0:0xF0] = 3
_BYTES_BY_FIRST[0xF0:0xF5] = 4


def text_bytes(strings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The bytes of all strings in one row, and where each string begins.

    Args:
        strings: string (B,).

    Returns:
        uint8 (bytes,) and int64 (B + 1,).
    """
    raw, row_splits, _, _ = byte_ops.tf_text_byte_split_with_offsets(strings)
    return raw, row_splits


def cut(strings: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
    """Parts of texts.

    Args:
        strings: string (B,).
        starts: int64 (P,). Bytes in their own text.
        ends: int64 (P,). The same, exclusive.
        row_splits: int64 (B + 1,). Of the parts.

    Returns:
        string (P,).
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
    """From offsets in the normalized texts to offsets in the texts.

    Args:
        strings: string (B,). The texts.
        source: int64 (B, normalized bytes + 1). Where each normalized byte came from.
        row_splits: int64 (B + 1,). Of the tokens.
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
    doubtful = tf.not_equal(following, last + 1)
    at = ragged_ops.indices(doubtful)
    more = _character_lengths(
        strings,
        tf.gather(last, at),
        tf.gather(ragged_ops.counts_before(doubtful), row_splits),
    )
    # One place more than there are tokens: LiteRT's kernel divides by the size.
    extra = tf.scatter_nd(at[:, tf.newaxis], more - 1, [ragged_ops.size64(last) + 1])
    return first, last + 1 + extra[:-1]


def _character_lengths(strings: tf.Tensor, at: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
    """Bytes of the characters at some bytes of the texts.

    Args:
        strings: string (B,).
        at: int64 (P,). Bytes in their own text.
        row_splits: int64 (B + 1,). Of `at`.

    Returns:
        int64 (P,).
    """
    raw, _ = text_bytes(cut(strings, at, at + 1, row_splits))
    return tf.gather(tf.constant(_BYTES_BY_FIRST), tf.cast(raw, tf.int32))

"""Texts of tokens, and texts with tokens in place of masks. B texts, M masks, K tokens each."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text.offsets import cut_rows, text_lengths
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["fill_masks", "token_texts"]

_SPACES = " \t\n\u2581"  # the last is SentencePiece's sign of a space


def token_texts(tokenizer: Tokenizer, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the text of each token, as an answer and as the replacement of a mask.

    Args:
        tokenizer: Tokenizer.
        rows: int. The rows of the encoder's token table. Rows without a token have empty texts.

    Returns:
        bytes (rows,) texts, and bytes (rows,) without "##" and without spaces before the text.
    """
    count = tokenizer.vocabulary_size
    with tf.init_scope():  # outside the graph under construction
        tokens = tf.RaggedTensor.from_row_lengths(tf.range(count), tf.ones([count], tf.int64))
        texts = [*tokenizer.detokenize(tokens).numpy(), *[b""] * (rows - count)]
    return np.array(texts, object), np.array([_without_sign(text) for text in texts], object)


def _without_sign(text: bytes) -> bytes:
    """A token's text without the sign that it continues or begins a word."""
    plain = text.decode("utf-8", "surrogateescape")
    if len(plain) > 2:
        plain = plain.removeprefix("##")
    return (plain.lstrip(_SPACES) or plain).encode("utf-8", "surrogateescape")


def fill_masks(
    texts: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, exists: tf.Tensor, tokens: tf.Tensor
) -> tf.Tensor:
    """Replaces the masks of texts by tokens, in graph ops.

    Args:
        texts: string (B,).
        starts: int32 (B, M). Bytes.
        ends: int32 (B, M).
        exists: bool (B, M). Texts with fewer masks than M have False at the end.
        tokens: string (B, M, K), empty where there is no mask.

    Returns:
        string (B, K), each text with the k-th token of every mask.

    Example:
        >>> fill_masks(tf.constant(["a _."]), [[2]], [[3]], [[True]], [[["b", "c"]]]).numpy()
        array([[b'a b.', b'a c.']], dtype=object)
    """
    tokens = tf.convert_to_tensor(tokens)
    sizes = tf.cast(text_lengths(texts), tf.int32)[:, tf.newaxis]  # (B, 1)
    begins = tf.concat([tf.zeros_like(sizes), tf.where(exists, ends, sizes)], axis=1)  # (B, M + 1)
    limits = tf.concat([tf.where(exists, starts, sizes), sizes], axis=1)
    between = cut_rows(texts, begins, limits)[:, :, tf.newaxis]  # (B, M + 1, 1)
    between = tf.repeat(between, tokens.shape[2], axis=2)  # joining does not broadcast
    joined = tf.strings.join([between[:, :-1], tokens])  # (B, M, K)
    return tf.strings.join([tf.strings.reduce_join(joined, axis=1), between[:, -1]])

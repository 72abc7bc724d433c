"""Converts Python texts to string tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError

Texts: TypeAlias = str | bytes | Sequence[str | bytes] | np.ndarray[Any, Any] | tf.Tensor

CHUNK_SIZE = 4096  # texts


def to_strings(strings: Any) -> tuple[tf.Tensor, bool]:
    """Converts texts to a string tensor.

    Args:
        strings: str, bytes, a sequence of them, or a string tensor of rank 0 or 1.

    Returns:
        string (B,); bool, whether `strings` is a single text.

    Raises:
        ConfigError: `strings` has another type or rank.

    Example:
        >>> to_strings(["a", b"b"])[0].numpy().tolist(), to_strings("a")[1]
        ([b'a', b'b'], True)
    """
    if isinstance(strings, str | bytes):
        return tf.constant([_encode(strings)], tf.string), True
    if isinstance(strings, tf.RaggedTensor):
        raise ConfigError(
            "Expected texts of rank 0 or 1, received a ragged tensor. Pass its values."
        )
    if not tf.is_tensor(strings):
        # With a shape, because an empty list would become float32.
        strings = tf.constant([_encode(text) for text in strings], tf.string, shape=[len(strings)])
    if strings.dtype != tf.string:
        raise ConfigError(f"Expected texts as a string tensor, received {strings.dtype.name}.")
    if strings.shape.rank == 0:
        return strings[tf.newaxis], True
    if strings.shape.rank != 1:
        raise ConfigError(f"Expected texts of rank 0 or 1, received shape {strings.shape}.")
    return strings, False


def check_rows(texts: Sequence[tf.Tensor]) -> None:
    """Raises DataError if segments have different static numbers of rows."""
    rows = [segment.shape[0] for segment in texts]
    if len(set(rows) - {None}) > 1:
        raise DataError(
            f"Expected one second text for each first text, received {rows[0]} first and {rows[1]} "
            "second texts."
        )


def chunks(texts: Sequence[Any], size: int = CHUNK_SIZE) -> Iterator[tuple[int, list[Any]]]:
    """Splits a sequence into chunks, to tokenize many texts with bounded memory.

    Args:
        texts: sequence.
        size: int. The largest number of texts in a chunk.

    Yields:
        int, the index of the chunk's first text; list, its texts.

    Example:
        >>> list(chunks(["a", "b", "c"], size=2))
        [(0, ['a', 'b']), (2, ['c'])]
    """
    for begin in range(0, len(texts), size):
        yield begin, list(texts[begin : begin + size])


def _encode(text: Any) -> bytes:
    """Encodes to UTF-8. Lone surrogates become invalid bytes, which tokenizers ignore."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    raise ConfigError(
        f"Expected texts as str or bytes, received {type(text).__name__}: {text!r:.40}."
    )

"""Runs of consecutive words that are masked together: n-grams (ALBERT) and spans (SpanBERT).

Legend: B batch, S length, W places of words in a row, equal to S.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.masking_options import LONGEST_RUN

__all__ = ["length_shares", "masked_runs", "start_rate"]


def length_shares(max_ngram: int, span_mean: float | None) -> np.ndarray:
    """Returns the probability of each length of a run, from 1 word on; float64 (lengths,).

    Args:
        max_ngram: int. N-grams have up to this number of words; an n-gram of n words has a
            probability proportional to 1 / n.
        span_mean: float of at least 1, or None. Lengths of spans are geometric with this mean, but
            for lengths above `LONGEST_RUN`, which are left out: 5 gives a mean of 3.8.

    Source: arXiv 1909.11942, section 3.1; arXiv 1907.10529, section 3.1 (a mean of 5).

    Example:
        >>> length_shares(3, None).round(3).tolist()
        [0.545, 0.273, 0.182]
    """
    shares: np.ndarray
    if span_mean is None:
        shares = 1 / np.arange(1, max_ngram + 1)
    else:
        others = 1 - 1 / span_mean
        shares = others ** np.arange(LONGEST_RUN)
    return np.asarray(shares / shares.sum())


def start_rate(rate: float, shares: np.ndarray) -> float:
    """Returns the probability that a run starts at a word, for a share `rate` of masked words.

    A word is not masked if none of the words before it starts a run that reaches it. At the begin
    of a row, fewer words are before it, and slightly fewer are masked.

    Args:
        rate: float in (0, 1).
        shares: see `length_shares`.

    Example:
        >>> start_rate(0.15, length_shares(1, None))
        0.15
    """
    reaches = np.cumsum(shares[::-1])[::-1]  # the probability of more than k words
    low, high = 0.0, rate
    for _ in range(60):
        middle = (low + high) / 2
        if 1 - np.prod(1 - middle * reaches) < rate:
            low = middle
        else:
            high = middle
    return round(high, 15)


def masked_runs(
    words: tf.Tensor,
    maskable: tf.Tensor,
    draw: tf.Tensor,
    other_draw: tf.Tensor,
    shares: Sequence[float],
    is_start: Callable[[tf.Tensor], tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the tokens of runs. A run ends before a token that is never masked.

    Args:
        words: int (B, S), the same number for all tokens of a word.
        maskable: bool (B, S).
        draw: float64 (B, S), a random number in [0, 1) for each word; 2 where not `maskable`.
        other_draw: float64 (B, S), another one.
        shares: see `length_shares`.
        is_start: which words start a run, from their draws.

    Returns:
        bool (B, S), whether a token is masked; and int32 (B, S), the column of the first token of
        the run, for masked tokens.
    """
    columns = tf.range(tf.shape(words)[1])[tf.newaxis]  # (1, S)
    before = tf.concat([words[:, :1] - 1, words[:, :-1]], axis=1)
    begins = tf.logical_or(words != before, tf.logical_not(maskable))
    place = tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1  # (B, S), the place of the word
    bounds = np.cumsum(shares)[:-1]
    lengths = 1 + tf.reduce_sum(tf.cast(other_draw[..., tf.newaxis] >= bounds, tf.int32), axis=-1)
    starts = tf.where(maskable & is_start(draw), lengths, 0)
    # From here on, one entry per word: (B, W).
    first = _of_words(tf.where(begins, columns, 0), place, begins)
    own = _of_words(starts, place, begins)
    allowed = _of_words(tf.cast(maskable, tf.int32), place, begins) > 0
    left, owner = own, first
    for _ in range(len(shares) - 1):
        shifted = tf.pad(left[:, :-1], [[0, 0], [1, 0]]) - 1
        goes_on = allowed & (shifted > own)
        owner = tf.where(goes_on, tf.pad(owner[:, :-1], [[0, 0], [1, 0]]), first)
        left = tf.where(goes_on, shifted, own)
    left, owner = (tf.gather(values, place, batch_dims=1) for values in (left, owner))
    return maskable & (left > 0), owner


def _of_words(values: tf.Tensor, place: tf.Tensor, begins: tf.Tensor) -> tf.Tensor:
    """Moves the values at the first tokens of words to the places of the words: int32 (B, W)."""
    shape = tf.shape(values)
    rows = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis], shape)
    indices = tf.stack([rows, place], axis=-1)
    return tf.scatter_nd(
        tf.reshape(indices, [-1, 2]), tf.reshape(tf.where(begins, values, 0), [-1]), shape
    )

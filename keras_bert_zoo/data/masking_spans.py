"""Runs of consecutive words that are masked together: n-grams (ALBERT) and spans (SpanBERT).

Legend: B batch, S length, W places of words in a row, equal to S.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.masking_options import LONGEST_RUN

__all__ = ["length_shares", "masked_runs", "start_rates"]


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


def start_rates(rate: float, shares: np.ndarray) -> np.ndarray:
    """Returns the probabilities that a run starts at the words after a border, float64 (places,).

    A border is the begin of a row or a token that is never masked. With these probabilities, each
    word is masked with the probability `rate`, those after a border as well. From the last place
    on, they are almost constant.

    A word is not masked if none of the words before it starts a run that reaches it, and it starts
    none itself.

    Args:
        rate: float in (0, 1).
        shares: see `length_shares`.

    Example:
        >>> start_rates(0.15, length_shares(1, None))
        array([0.15])
        >>> start_rates(0.15, length_shares(3, None)).round(3).tolist()
        [0.15, 0.088, 0.09, 0.099, 0.095]
    """
    reaches = 1 - np.cumsum(shares)[:-1]  # the probability of more than 1, 2, ... words
    rates: list[float] = []
    while True:
        before = np.array(rates[::-1][: len(reaches)])
        rates.append(1 - (1 - rate) / float(np.prod(1 - before * reaches[: len(before)])))
        latest = rates[-len(shares) :]
        if len(rates) >= len(shares) and max(latest) - min(latest) < 1e-2 * rate:
            return np.array(rates[: len(rates) - len(shares) + 1])


def masked_runs(
    words: tf.Tensor,
    maskable: tf.Tensor,
    draw: tf.Tensor,
    other_draw: tf.Tensor,
    shares: np.ndarray,
    rate: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the tokens of runs. A run ends before a token that is never masked.

    A row with words has at least one run.

    Args:
        words: int (B, S), the same number for all tokens of a word.
        maskable: bool (B, S).
        draw: float64 (B, S), a random number in [0, 1) for each word; 2 where not `maskable`.
        other_draw: float64 (B, S), another one.
        shares: see `length_shares`.
        rate: float. The probability of a word to be masked.

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
    # Some values have one entry per word: (B, W).
    allowed = _of_words(tf.cast(maskable, tf.int32), place, begins) > 0
    rates = start_rates(rate, shares)
    after = _words_since_border(allowed, len(rates) - 1)
    threshold = tf.gather(tf.constant(rates), tf.gather(after, place, batch_dims=1))
    least = tf.reduce_min(draw, axis=1, keepdims=True)
    starts = tf.where(maskable & ((draw < threshold) | (draw == least)), lengths, 0)
    first = _of_words(tf.where(begins, columns, 0), place, begins)
    own = _of_words(starts, place, begins)
    left, owner = own, first
    for _ in range(len(shares) - 1):
        shifted = tf.pad(left[:, :-1], [[0, 0], [1, 0]]) - 1
        goes_on = allowed & (shifted > own)
        owner = tf.where(goes_on, tf.pad(owner[:, :-1], [[0, 0], [1, 0]]), first)
        left = tf.where(goes_on, shifted, own)
    left, owner = (tf.gather(values, place, batch_dims=1) for values in (left, owner))
    return maskable & (left > 0), owner


def _words_since_border(allowed: tf.Tensor, most: int) -> tf.Tensor:
    """int32 (B, W). The number of allowed words directly before each word, at most `most`."""
    before = tf.pad(allowed[:, :-1], [[0, 0], [1, 0]])
    count = tf.zeros_like(allowed, tf.int32)
    for _ in range(most):
        count = tf.where(before, tf.pad(count[:, :-1], [[0, 0], [1, 0]]) + 1, 0)
    return count


def _of_words(values: tf.Tensor, place: tf.Tensor, begins: tf.Tensor) -> tf.Tensor:
    """Moves the values at the first tokens of words to the places of the words: int32 (B, W)."""
    shape = tf.shape(values)
    rows = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis], shape)
    indices = tf.stack([rows, place], axis=-1)
    return tf.scatter_nd(
        tf.reshape(indices, [-1, 2]), tf.reshape(tf.where(begins, values, 0), [-1]), shape
    )

"""Decoding of answer spans: from logits of windows to the best spans of each context.

A span of tokens that is in several windows counts once, with its best score. So spans of the
context are compared, however it is split into windows.

Legend: B questions, W windows of all of them, S length of a window, K spans per question, L tokens
of the longest answer, N token positions of all contexts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.offsets import character_offsets, cut_rows

NEVER = -1e30
"""The score of impossible spans. It is finite, because infinities make NaN."""
NO_SPAN = 1e4
"""The no-answer score of a context without a token: higher than any threshold."""


@dataclass(frozen=True)
class BestSpans:
    """The best spans of each question.

    Attributes:
        start: int32 (B, K). Bytes of the context.
        end: int32 (B, K). The same, exclusive.
        score: float32 (B, K). Sum of the logits of start and end, in descending order.
        exists: bool (B, K). False if the question has fewer spans.
        null: float32 (B,). The score of no answer: the lowest sum of the logits at [CLS] over the
            windows.
        total: float32 (B,). Log of the sum over all spans of the exponential of the score.
    """

    start: tf.Tensor
    end: tf.Tensor
    score: tf.Tensor
    exists: tf.Tensor
    null: tf.Tensor
    total: tf.Tensor

    @property
    def no_answer(self) -> tf.Tensor:
        """The score of no answer minus that of the best span: float32 (B,)."""
        return tf.where(self.exists[:, 0], self.null - self.score[:, 0], NO_SPAN)


def best_spans(
    logits: tf.Tensor, windows: Mapping[str, tf.Tensor], count: int, *, top_k: int, max_tokens: int
) -> BestSpans:
    """Finds the spans with the largest sum of start and end logits.

    Args:
        logits: float32 (W, S, 2). Start and end.
        windows: `starts`, `ends`, `document` and `window_start`, of `Tokenizer.windows`.
        count: int32 (). B.
        top_k: int. K.
        max_tokens: int. L.

    Returns:
        BestSpans.

    Source: arXiv 1810.04805, section 4.3; the score of no answer is that of Google's run_squad.py.
    """
    starts, ends, document = windows["starts"], windows["ends"], windows["document"]
    length = tf.shape(starts)[1]
    inside = ends > starts  # (W, S); a token without a character of the text is not an answer
    # Each window begins with the same question. So a token of the context has the same position in
    # all windows, counted in tokens from the start of the first window.
    sizes = tf.math.unsorted_segment_max(windows["window_start"], document, count) + length
    splits = ragged_ops.splits_from_lengths(tf.cast(sizes, tf.int64))  # (B + 1,)
    positions = tf.cast(splits[-1], tf.int32)  # N
    begin = tf.gather(tf.cast(splits, tf.int32), document) + windows["window_start"]  # (W,)
    at = tf.reshape(begin[:, tf.newaxis] + tf.range(length), [-1])  # (W * S,)

    start_logits = tf.where(inside, logits[:, :, 0], NEVER)
    end_logits = tf.pad(
        tf.where(inside, logits[:, :, 1], NEVER),
        [[0, 0], [0, max_tokens - 1]],
        constant_values=NEVER,
    )
    later = tf.range(length)[:, tf.newaxis] + tf.range(max_tokens)  # (S, L)
    scores = tf.expand_dims(start_logits, 2) + tf.gather(end_logits, later, axis=1)  # (W, S, L)
    scores = tf.math.unsorted_segment_max(tf.reshape(scores, [-1, max_tokens]), at, positions)
    possible = scores > NEVER / 2  # (N, L)
    rows = tf.cast(ragged_ops.row_ids(splits, splits[-1]), tf.int32)  # (N,)

    # First the best ends of each start: this leaves K candidates per position instead of L.
    each = min(top_k, max_tokens)
    candidates, tokens = (tf.reshape(x, [-1]) for x in tf.math.top_k(scores, k=each))  # (N * each,)
    candidate_rows = tf.repeat(rows, each)
    numbers = tf.range(positions * each)
    chosen, best = [], []
    for _ in range(top_k):
        best.append(tf.math.unsorted_segment_max(candidates, candidate_rows, count))  # (B,)
        wins = candidates >= tf.gather(best[-1], candidate_rows)
        # Of equal scores the first wins, so that the result does not depend on the batch.
        places = tf.where(wins, numbers, positions * each)
        chosen.append(tf.math.unsorted_segment_min(places, candidate_rows, count))
        is_chosen = tf.equal(numbers, tf.gather(chosen[-1], candidate_rows))
        candidates = tf.where(is_chosen, tf.float32.min, candidates)
    score = tf.stack(best, axis=1)  # (B, K)
    exists = score > NEVER / 2
    first = tf.where(exists, tf.stack(chosen, axis=1), 0)  # (B, K)
    start_at = first // each
    end_at = start_at + tf.gather(tf.pad(tokens, [[0, 1]]), first)

    def offsets(values: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
        by_position = tf.math.unsorted_segment_max(tf.reshape(values, [-1]), at, positions)  # (N,)
        # Padded, because N may be 0.
        return tf.where(exists, tf.gather(tf.pad(by_position, [[0, 1]]), where), 0)

    top = tf.gather(score[:, 0], rows)[:, tf.newaxis]  # (N, 1)
    weights = tf.where(possible, tf.exp(scores - tf.where(possible, top, 0.0)), 0.0)
    weight = tf.math.unsorted_segment_sum(tf.reduce_sum(weights, axis=1), rows, count)
    at_cls = tf.reduce_sum(logits[:, :1], axis=[1, 2])  # (W,); without windows, S is 0
    return BestSpans(
        start=offsets(starts, start_at),
        end=offsets(ends, end_at),
        score=score,
        exists=exists,
        null=tf.math.unsorted_segment_min(at_cls, document, count),
        total=tf.where(exists[:, 0], score[:, 0] + tf.math.log(tf.maximum(weight, 1.0)), NEVER),
    )


def span_columns(texts: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns answers and their offsets.

    Args:
        texts: string (B,).
        start: int32 (B, K). Bytes.
        end: int32 (B, K). Bytes, exclusive.

    Returns:
        `answer` string (B, K); `start`, `end`, `start_character`, `end_character` int32 (B, K).
    """
    return {
        "answer": cut_rows(texts, start, end),
        "start": start,
        "end": end,
        "start_character": character_offsets(texts, start),
        "end_character": character_offsets(texts, end),
    }


def different_spans(
    expected: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    names: Sequence[str],
    tolerance: float,
) -> np.ndarray | None:
    """Compares the spans of two answers to a question.

    Args:
        expected: name -> array of one row of answers, with `score`, a probability.
        got: another such row.
        names: the names to compare.
        tolerance: float. The effect of rounding on a logit.

    Returns:
        bool, whether the spans of the same rank differ; None if their scores differ by more than
        rounding. Spans with equal scores may be in any order.
    """
    different = np.logical_or.reduce([expected[name] != got[name] for name in names])
    # A rounding error of a logit is a factor of the probability.
    ratio = np.maximum(expected["score"], 1e-30) / np.maximum(got["score"], 1e-30)
    return None if (different & (np.abs(np.log(ratio)) > 20 * tolerance)).any() else different

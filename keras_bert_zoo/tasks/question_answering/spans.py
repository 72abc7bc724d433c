"""Spans of a text that answer a question: from logits to the best ones, and from answers to labels.

A question's context may be cut into windows. A span of tokens that stands in several of them counts
once, with its best score; so what is compared are spans of the text, whatever the windows are.

Legend: B questions, W windows of all of them, S length of a window, K answers asked for, L tokens
of the longest answer, N places of tokens of all contexts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.offsets import text_bytes

# What stands for the logits of spans that cannot be. Finite: infinities make NaN.
_NEVER = -1e30
NO_SPAN = 1e4
"""The no-answer score of a context without a token: beyond any threshold."""


@dataclass(frozen=True)
class BestSpans:
    """The best spans of each question.

    Attributes:
        start: int32 (B, K). Bytes of the context.
        end: int32 (B, K). The same, exclusive.
        score: float32 (B, K). Sum of the logits of start and end, falling.
        exists: bool (B, K). Whether there are so many spans.
        null: float32 (B,). The score of no answer: the least over windows of the logits at [CLS].
        total: float32 (B,). Logarithm of the sum over all spans of the exponential of the score.
    """

    start: tf.Tensor
    end: tf.Tensor
    score: tf.Tensor
    exists: tf.Tensor
    null: tf.Tensor
    total: tf.Tensor


def best_spans(
    logits: tf.Tensor, windows: Mapping[str, tf.Tensor], count: Any, *, top_k: int, max_tokens: int
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

    Source: arXiv 1810.04805, section 4.3; the score of no answer as Google's run_squad.py has it.
    """
    starts, ends, document = windows["starts"], windows["ends"], windows["document"]
    length = tf.shape(starts)[1]
    inside = ends > starts  # (W, S); a token without a character of the text is no answer
    # Each window begins with the same question, so a token of the context has in all windows the
    # same place, counted in tokens from where the first window begins.
    sizes = tf.math.unsorted_segment_max(windows["window_start"], document, count) + length
    splits = ragged_ops.splits_from_lengths(tf.cast(sizes, tf.int64))  # (B + 1,)
    places = tf.cast(splits[-1], tf.int32)  # N
    begin = tf.gather(tf.cast(splits, tf.int32), document) + windows["window_start"]  # (W,)
    at = tf.reshape(begin[:, tf.newaxis] + tf.range(length), [-1])  # (W * S,)

    def by_place(values: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_max(tf.reshape(values, [-1]), at, places)  # (N,)

    start_logits = tf.where(inside, logits[:, :, 0], _NEVER)
    end_logits = tf.pad(
        tf.where(inside, logits[:, :, 1], _NEVER),
        [[0, 0], [0, max_tokens - 1]],
        constant_values=_NEVER,
    )
    later = tf.range(length)[:, tf.newaxis] + tf.range(max_tokens)  # (S, L)
    scores = start_logits[:, :, tf.newaxis] + tf.gather(end_logits, later, axis=1)  # (W, S, L)
    scores = tf.math.unsorted_segment_max(tf.reshape(scores, [-1, max_tokens]), at, places)
    possible = scores > _NEVER / 2  # (N, L)
    rows = tf.cast(ragged_ops.row_ids(splits, splits[-1]), tf.int32)  # (N,)

    # The best ends of each start first, which leaves K candidates a place and not L.
    each = min(top_k, max_tokens)
    candidates, tokens = tf.math.top_k(scores, k=each)  # (N, each)
    candidates, tokens = tf.reshape(candidates, [-1]), tf.reshape(tokens, [-1])
    candidate_rows = tf.repeat(rows, each)
    numbers = tf.range(places * each)
    found, best = [], []
    for _ in range(top_k):
        score = tf.math.unsorted_segment_max(candidates, candidate_rows, count)  # (B,)
        wins = candidates >= tf.gather(score, candidate_rows)
        # Of equal ones the first: the same in every batch.
        first = tf.math.unsorted_segment_min(
            tf.where(wins, numbers, places * each), candidate_rows, count
        )
        found.append(first)
        best.append(score)
        candidates = tf.where(
            tf.equal(numbers, tf.gather(first, candidate_rows)), tf.float32.min, candidates
        )
    score = tf.stack(best, axis=1)  # (B, K)
    exists = score > _NEVER / 2
    chosen = tf.where(exists, tf.stack(found, axis=1), 0)  # (B, K)
    # One place more, so that there is one to read also where there is no text at all.
    start_bytes, end_bytes = (tf.pad(by_place(part), [[0, 1]]) for part in (starts, ends))
    start_at = chosen // each
    end_at = start_at + tf.gather(tf.pad(tokens, [[0, 1]]), chosen)

    top = tf.gather(score[:, 0], rows)[:, tf.newaxis]  # (N, 1)
    weights = tf.where(possible, tf.exp(scores - tf.where(possible, top, 0.0)), 0.0)
    weight = tf.math.unsorted_segment_sum(tf.reduce_sum(weights, axis=1), rows, count)
    at_cls = tf.reduce_sum(logits[:, :1], axis=[1, 2])  # (W,); of no windows S is 0
    return BestSpans(
        start=tf.where(exists, tf.gather(start_bytes, start_at), 0),
        end=tf.where(exists, tf.gather(end_bytes, end_at), 0),
        score=score,
        exists=exists,
        null=tf.math.unsorted_segment_min(at_cls, document, count),
        total=tf.where(exists[:, 0], score[:, 0] + tf.math.log(tf.maximum(weight, 1.0)), _NEVER),
    )


def character_offsets(texts: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Counts the characters before some bytes of texts.

    A character begins at every byte that does not go on with one (0b10xxxxxx): in valid UTF-8
    that counts code points, as Python's str does.

    Args:
        texts: string (B,).
        places: int32 (B, K). Bytes, each at most the text's length.

    Returns:
        int32 (B, K).
    """
    raw, splits = text_bytes(texts)
    before = ragged_ops.counts_before(tf.logical_or(raw < 0x80, raw >= 0xC0))
    base = splits[:-1, tf.newaxis]
    counted = tf.gather(before, base + tf.cast(places, tf.int64)) - tf.gather(before, base)
    return tf.cast(counted, tf.int32)


def span_labels(
    windows: Mapping[str, np.ndarray], spans: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the tokens at which answers start and end, in each window.

    An answer is in a window if the window has all tokens that share a byte with it. The others, and
    those of questions without an answer, have it at [CLS].

    Args:
        windows: as `best_spans` takes them.
        spans: int (B, 2). Bytes of the context; (0, 0): no answer.
        count: int. B.

    Returns:
        int32 (W, 2), the first and the last token; and bool (B,), whether the answer has a token
        at all, true where there is no answer.
    """
    starts, ends, document = windows["starts"], windows["ends"], windows["document"]
    asked = spans[document]  # (W, 2)
    touched = (ends > starts) & (ends > asked[:, :1]) & (starts < asked[:, 1:])  # (W, S)
    length = starts.shape[1]
    first = touched.argmax(axis=1)  # (W,)
    last = length - 1 - touched[:, ::-1].argmax(axis=1)
    some = touched.any(axis=1)
    # As places in the context, to tell whether a window has the whole.
    earliest = np.full(count, np.iinfo(np.int64).max)
    latest = np.full(count, -1)
    np.minimum.at(earliest, document[some], (windows["window_start"] + first)[some])
    np.maximum.at(latest, document[some], (windows["window_start"] + last)[some])
    whole = (
        some
        & (windows["window_start"] + first == earliest[document])
        & (windows["window_start"] + last == latest[document])
    )
    labels = np.where(whole[:, np.newaxis], np.stack([first, last], axis=1), 0)
    return labels.astype(np.int32), (latest >= 0) | (spans[:, 1] <= spans[:, 0])

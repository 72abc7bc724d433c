"""Selects the best answers to a question among the spans of several passages.

Legend: B questions, P passages read for each, K answers per question, C = P * K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_bert_zoo.tasks.options import CollectionOptions
from keras_bert_zoo.tasks.predicting import largest_difference
from keras_bert_zoo.tasks.question_answering.spans import (
    NEVER,
    BestSpans,
    different_spans,
    span_columns,
)

__all__ = ["collection_difference", "select_answers"]


def select_answers(
    passages: Mapping[str, tf.Tensor],
    spans: BestSpans,
    options: CollectionOptions,
    *,
    null_threshold: float | None,
) -> dict[str, tf.Tensor]:
    """Selects the best spans of all passages of a question.

    Args:
        passages: (B, P): `passage` string, `document_id`, `start` and `start_character` int32,
            `passage_score` float32, the similarities.
        spans: BestSpans of the B * P passages, in the order of their questions.
        options: CollectionOptions.
        null_threshold: float or None. If given, the logits of no answer are subtracted from those
            of the spans, and no answer in each passage has a share of the probability. A passage
            with a higher `no_answer` gives no answer.

    Returns:
        the answers of `OpenDomainQuestionAnswerer`. With `options.by_passage`, for each passage,
        (B, P): `answer` string; `reader_score`, `no_answer` and `passage_score` float32.
    """
    shape = tf.shape(passages["passage"])
    count = passages["passage"].shape[1] or shape[1]  # P

    def by_question(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [shape[0], count, *values.shape[1:]])

    scores, totals = by_question(spans.score), by_question(spans.total)  # (B, P, K), (B, P)
    exists, no_answer = by_question(spans.exists), by_question(spans.no_answer)
    if null_threshold is not None:
        null = by_question(spans.null)  # (B, P)
        scores, totals = scores - null[:, :, tf.newaxis], totals - null
        exists = tf.logical_and(exists, (no_answer <= null_threshold)[:, :, tf.newaxis])
    columns = span_columns(tf.reshape(passages["passage"], [-1]), spans.start, spans.end)
    columns = {name: by_question(values) for name, values in columns.items()}
    if options.by_passage:
        return {
            "answer": columns["answer"][:, :, 0],
            "reader_score": scores[:, :, 0],
            "no_answer": no_answer,
            "passage_score": passages["passage_score"],
        }
    for name in ("start", "end", "start_character", "end_character"):  # in the document
        columns[name] += passages[name.replace("end", "start")][:, :, tf.newaxis]
    for name in ("document_id", "passage", "passage_score"):
        columns[name] = tf.repeat(passages[name][:, :, tf.newaxis], scores.shape[2], axis=2)

    similarity = options.retriever_weight * passages["passage_score"]  # (B, P)
    scores += similarity[:, :, tf.newaxis]
    totals += similarity
    if null_threshold is not None:
        totals = tf.concat([totals, similarity], axis=1)
    total = tf.reduce_logsumexp(totals, axis=1, keepdims=True)  # (B, 1)
    width = scores.shape[1] * scores.shape[2]
    scores = tf.reshape(tf.where(exists, scores, NEVER), [-1, width])  # (B, C)
    columns = {name: tf.reshape(values, [-1, width]) for name, values in columns.items()}
    if options.top_k > 1:
        scores = _without_duplicates(scores, columns)
    score, chosen = tf.math.top_k(scores, k=options.top_k)  # (B, K)
    some = score > NEVER / 2
    probability = tf.where(some, tf.exp(tf.where(some, score - total, 0.0)), 0.0)
    if null_threshold is not None:
        none = tf.exp(tf.reduce_logsumexp(similarity, axis=1, keepdims=True) - total)  # (B, 1)
        first = tf.where(some[:, :1], probability[:, :1], none)
        probability = tf.concat([first, probability[:, 1:]], axis=1)
    answers = {"answer": columns["answer"], "score": probability} | columns
    for name, values in columns.items():
        value = tf.gather(values, chosen, batch_dims=1)
        empty: str | int = "" if value.dtype == tf.string else -int(name == "document_id")
        answers[name] = tf.where(some, value, tf.constant(empty, value.dtype))
    if options.top_k == 1:
        answers = {name: values[:, 0] for name, values in answers.items()}
    return answers | {"no_answer": tf.reduce_min(no_answer, axis=1)}


def _without_duplicates(scores: tf.Tensor, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Keeps the best of equal spans of a document, from overlapping passages; others get `NEVER`.

    Args:
        scores: float32 (B, C).
        columns: `document_id`, `start` and `end`, int32 (B, C).
    """

    def pairs(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return values[:, :, tf.newaxis], values[:, tf.newaxis, :]  # (B, C, 1), (B, 1, C)

    keys = ("document_id", "start", "end")
    same = tf.reduce_all([tf.equal(*pairs(columns[name])) for name in keys], axis=0)  # (B, C, C)
    score, other = pairs(scores)
    order = tf.range(tf.shape(scores)[1])
    earlier = order[tf.newaxis, :] < order[:, tf.newaxis]
    better = tf.logical_or(other > score, tf.logical_and(tf.equal(other, score), earlier))
    duplicate = tf.reduce_any(tf.logical_and(same, better), axis=2)
    return tf.where(duplicate, NEVER, scores)


def collection_difference(
    expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float, *, weight: float
) -> float | None:
    """Compares two answers to a question; see `Task.answer_difference`.

    Args:
        expected: name -> array.
        got: the same.
        tolerance: float.
        weight: float. The weight of similarities.
    """
    names: tuple[str, ...]
    if "answer" not in expected:  # passages, for token ids
        names = ("document_id", "start", "passage")
        different = np.logical_or.reduce([expected[n] != got[n] for n in names])
        differences = np.abs(expected["passage_score"] - got["passage_score"])
        if (differences[different] > 2 * tolerance).any():
            return None
        return largest_difference(expected["passage_score"], got["passage_score"])
    names = ("answer", "document_id", "start", "end", "start_character", "end_character")
    other_spans = different_spans(expected, got, names, tolerance)
    if other_spans is None:
        return None
    similarities = [np.where(other_spans, 0, a["passage_score"]) for a in (expected, got)]
    score = largest_difference(expected["score"], got["score"])
    return max(
        score / max(1.0, weight / 10),  # the weight multiplies the similarities' rounding
        largest_difference(*similarities),
        largest_difference(expected["no_answer"], got["no_answer"]) / 4,  # a sum of four logits
    )

"""The best answers among the spans of several passages: from a reader's scores to answers.

Legend: B questions, P passages read for each, K answers asked for, C = P * K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from keras_bert_zoo.tasks.question_answering.spans import NO_SPAN, BestSpans, character_offsets

_NEVER = -1e30  # of spans that cannot be, as in `answer_spans`
_PLACES = ("start", "end", "start_character", "end_character")


@dataclass(frozen=True)
class PassageSpans:
    """The best spans of each passage that was read.

    Attributes:
        columns: `answer` string, `start`, `end`, `start_character` and `end_character` int32
            (B, P, K), places in the document; `document_id` int32, `passage` string and
            `passage_score` float32, all (B, P, K).
        exists: bool (B, P, K). Whether there are so many spans.
        scores: float32 (B, P, K). What the reader says of them, such that passages compare: logits
            of start and end, less those of no answer where there is a threshold on these.
        totals: float32 (B, P). Logarithm of the sum over all spans of the exponential of `scores`.
        no_answer: float32 (B, P). By how much the logits of no answer exceed those of the best.
    """

    columns: dict[str, tf.Tensor]
    exists: tf.Tensor
    scores: tf.Tensor
    totals: tf.Tensor
    no_answer: tf.Tensor


def passage_spans(
    found: Mapping[str, tf.Tensor], spans: BestSpans, *, less_null: bool
) -> PassageSpans:
    """Says where spans of passages are in their documents.

    Args:
        found: passages that were read, (B, P): `passage` string, `document_id`, `start` and
            `start_character` int32, `passage_score` float32.
        spans: BestSpans of the B * P passages, in the order of their questions.
        less_null: bool. Whether the logits of no answer are subtracted.

    Returns:
        PassageSpans.
    """
    shape = tf.shape(found["passage"])
    nearest = found["passage"].shape[1] or shape[1]
    texts = tf.reshape(found["passage"], [-1])  # (B * P,)

    def by_question(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [shape[0], nearest, *values.shape[1:]])

    columns = {
        "answer": tf.strings.substr(texts[:, tf.newaxis], spans.start, spans.end - spans.start),
        "start": spans.start,
        "end": spans.end,
        "start_character": character_offsets(texts, spans.start),
        "end_character": character_offsets(texts, spans.end),
    }
    columns = {name: by_question(values) for name, values in columns.items()}
    for name in _PLACES:
        base = found["start_character" if name.endswith("character") else "start"]
        columns[name] += base[:, :, tf.newaxis]
    for name in ("document_id", "passage", "passage_score"):
        columns[name] = tf.repeat(found[name][:, :, tf.newaxis], spans.score.shape[1], axis=2)
    score, exists = by_question(spans.score), by_question(spans.exists)  # (B, P, K)
    null, total = by_question(spans.null), by_question(spans.total)  # (B, P)
    no_answer = tf.where(exists[:, :, 0], null - score[:, :, 0], NO_SPAN)
    if less_null:
        score, total = score - null[:, :, tf.newaxis], total - null
    return PassageSpans(columns, exists, score, total, no_answer)


def best_answers(
    spans: PassageSpans,
    passage_score: tf.Tensor,
    *,
    top_k: int,
    weight: float,
    null_threshold: float | None,
) -> dict[str, tf.Tensor]:
    """Chooses among the spans of all passages of a question.

    Args:
        spans: PassageSpans.
        passage_score: float32 (B, P). Similarities.
        top_k: int. K.
        weight: float. Of the similarities, beside the reader's scores.
        null_threshold: float or None. Of `no_answer`, above which a passage gives no answer. With
            one, no answer in each passage has a share of the probability.

    Returns:
        dict of tensors (B, K), falling in `score`: float32, the probability; the columns of
        `spans`, with "" and 0, and a `document_id` of -1, where there are no more answers.
        `no_answer` float32 (B,): the least of its passages.
    """
    exists = spans.exists
    similarity = weight * passage_score  # (B, P)
    scores = spans.scores + similarity[:, :, tf.newaxis]
    totals = spans.totals + similarity
    if null_threshold is not None:
        exists = tf.logical_and(exists, (spans.no_answer <= null_threshold)[:, :, tf.newaxis])
        totals = tf.concat([totals, similarity], axis=1)
    total = tf.reduce_logsumexp(totals, axis=1, keepdims=True)  # (B, 1)

    width = scores.shape[1] * scores.shape[2]
    scores = tf.reshape(tf.where(exists, scores, _NEVER), [-1, width])  # (B, C)
    columns = {name: tf.reshape(values, [-1, width]) for name, values in spans.columns.items()}
    if top_k > 1:
        scores = _without_twins(scores, columns)
    score, chosen = tf.math.top_k(scores, k=top_k)  # (B, K)
    some = score > _NEVER / 2
    probability = tf.where(some, tf.exp(tf.where(some, score - total, 0.0)), 0.0)
    if null_threshold is not None:
        none = tf.exp(tf.reduce_logsumexp(similarity, axis=1, keepdims=True) - total)  # (B, 1)
        first = tf.where(some[:, :1], probability[:, :1], none)
        probability = tf.concat([first, probability[:, 1:]], axis=1)
    answers = {}
    for name, values in columns.items():
        value = tf.gather(values, chosen, batch_dims=1)
        empty: str | int = "" if value.dtype == tf.string else -int(name == "document_id")
        answers[name] = tf.where(some, value, tf.constant(empty, value.dtype))
    return {
        "answer": answers.pop("answer"),
        "score": probability,
        **answers,
        "no_answer": tf.reduce_min(spans.no_answer, axis=1),
    }


def _without_twins(scores: tf.Tensor, columns: dict[str, tf.Tensor]) -> tf.Tensor:
    """Leaves of equal spans of a document, from passages that overlap, the best.

    Args:
        scores: float32 (B, C).
        columns: `document_id`, `start` and `end`, int32 (B, C).

    Returns:
        float32 (B, C), lowered where a better one is the same span.
    """
    same = tf.reduce_all(
        [
            tf.equal(columns[name][:, :, tf.newaxis], columns[name][:, tf.newaxis, :])
            for name in ("document_id", "start", "end")
        ],
        axis=0,
    )  # (B, C, C)
    order = tf.range(tf.shape(scores)[1])
    ahead = scores[:, tf.newaxis, :] > scores[:, :, tf.newaxis]
    tied = tf.logical_and(
        tf.equal(scores[:, tf.newaxis, :], scores[:, :, tf.newaxis]),
        order[tf.newaxis, :] < order[:, tf.newaxis],
    )
    twin = tf.reduce_any(tf.logical_and(same, tf.logical_or(ahead, tied)), axis=2)
    return tf.where(twin, _NEVER, scores)

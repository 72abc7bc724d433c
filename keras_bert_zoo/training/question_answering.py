"""Training of question answerers: answers, labelled windows, loss and accuracy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.inputs import byte_span
from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.data.questions import Answer, QuestionExamples
from keras_bert_zoo.data.squad import misplaced_answers
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.loss_units import SharedUnit
from keras_bert_zoo.training.rows import in_parts, token_rows
from keras_bert_zoo.validation import is_integer

__all__ = [
    "SpanLoss",
    "answer_lists",
    "answer_targets",
    "label_windows",
    "reference_answers",
    "span_accuracy",
    "span_labels",
]

_logger = logging.getLogger(__name__)


def answer_lists(y: Any, examples: QuestionExamples) -> list[list[Answer]]:
    """Converts answers in the forms that `fit` accepts.

    Args:
        y: for each question a list of (text, start), or in SQuAD's form
            `{"text": [...], "answer_start": [...]}`.
        examples: the questions.

    Returns:
        for each question a list of Answer.

    Raises:
        DataError: the lengths differ, or an answer has another form.
    """
    form = "a list of answers (text, start), start in characters of the context"
    rows = _answer_rows(y, examples, _is_answer, form)
    return [[Answer(str(text), int(start)) for text, start in row] for row in rows]


def answer_targets(examples: QuestionExamples) -> list[list[Answer]]:
    """Returns the checked answers to train on.

    Raises:
        DataError: there are no answers, or the position of one is missing or wrong.
    """
    if examples.answers is None or examples.references is not None:
        for index, texts in enumerate(examples.references or ()):
            if texts and not (examples.answers and examples.answers[index]):
                raise DataError(
                    f"{examples.where(index)}: Expected an answer with its position to train on, "
                    "received only its text; read the file without scoring=True."
                )
    if examples.answers is None:
        raise DataError(
            "Expected answers, received none; pass QuestionExamples with answers, or `y`: for each "
            "question a list of (text, start), start in characters of the context."
        )
    answers = answer_lists(examples.answers, examples)
    placed = replace(examples, answers=answers, references=None)
    for index, _, reason in misplaced_answers(placed):
        raise DataError(f"{placed.where(index)}: {reason}")
    return answers


def reference_answers(
    examples: QuestionExamples, y: Any = None
) -> tuple[list[list[Answer]], list[list[str]]]:
    """Returns the reference answers.

    Args:
        examples: the questions.
        y: as for `answer_lists`, or texts without a position; None: the answers of `examples`.

    Returns:
        for each question the answers with a known position, and the texts of all answers.

    Raises:
        DataError: there are no answers, the lengths differ, or an answer has another form.
    """
    if y is not None:
        form = "a list of texts, or of answers (text, start)"
        rows = _answer_rows(y, examples, lambda a: isinstance(a, str) or _is_answer(a), form)
        pairs = [[a if not isinstance(a, str) else (a, -1) for a in row] for row in rows]
        answers = [[Answer(str(text), int(start)) for text, start in row] for row in pairs]
        placed = [[answer for answer in row if answer.start >= 0] for row in answers]  # CMRC has -1
        return placed, [[answer.text for answer in row] for row in answers]
    texts = examples.right_texts()
    if texts is None:
        raise DataError(
            "Expected answers, received none; pass QuestionExamples with answers, or `y`: for each "
            "question a list of texts, or of (text, start), start in characters of its context."
        )
    return examples.answers or [[] for _ in texts], texts


def _answer_rows(
    y: Any, examples: QuestionExamples, is_valid: Callable[[Any], bool], expected: str
) -> list[Sequence[Any]]:
    """Returns the answers to each question; SQuAD's objects become lists of pairs."""
    values = listed(y, "answers")
    if len(values) != len(examples):
        raise DataError(
            f"Expected answers to {len(examples)} questions, received answers to {len(values)}."
        )
    rows = []
    for index, value in enumerate(values):
        row = _answer_row(value)
        if row is None or not all(map(is_valid, row)):
            raise DataError(
                f"{examples.where(index)}: Expected {expected}, received {clipped(repr(value))}."
            )
        rows.append(row)
    return rows


def _answer_row(row: Any) -> Sequence[Any] | None:
    """Returns a list of answers; None if `row` has another form."""
    if not isinstance(row, Mapping):
        return row if isinstance(row, list | tuple) else None
    try:
        texts, starts = listed(row["text"]), listed(row["answer_start"])
    except (DataError, KeyError):
        return None
    return list(zip(texts, starts, strict=True)) if len(texts) == len(starts) else None


def _is_answer(answer: Any) -> bool:
    is_pair = isinstance(answer, tuple | list) and len(answer) == 2
    return is_pair and isinstance(answer[0], str) and is_integer(answer[1])


def label_windows(
    tokenizer: Tokenizer,
    examples: QuestionExamples,
    targets: list[list[Answer]],
    weights: np.ndarray | None,
    *,
    max_length: int,
    stride: int,
) -> LabelledRows:
    """Splits contexts into windows with labels, from the first answer to each question.

    Args:
        tokenizer: Tokenizer.
        examples: questions and contexts.
        targets: the answers to each question.
        weights: float32 (questions,) or None.
        max_length: int, tokens of a window.
        stride: int, tokens that two windows share.

    Returns:
        LabelledRows, one row per window. Labels are int32 (windows, 2): the positions of the
        answer's first and last token, or 0 and 0 if it is in another window.
    """
    rows, labels, questions = [], [], []
    lost = 0
    for part in in_parts(len(examples)):
        contexts = examples.contexts[part]
        tensors = tokenizer.windows(
            contexts, first=examples.questions[part], max_length=max_length, stride=stride
        )
        windows = {name: values.numpy() for name, values in tensors.items()}
        spans = [
            byte_span(context, answers[0].start, answers[0].text) if answers else (0, 0)
            for context, answers in zip(contexts, targets[part], strict=True)
        ]
        window_labels, has_token = span_labels(windows, np.array(spans), len(contexts))
        lost += int((~has_token).sum())
        used = has_token[windows["document"]]
        mask = windows["padding_mask"].astype(bool) & used[:, np.newaxis]
        ids, segments = windows["token_ids"][mask], windows["segment_ids"][mask]
        rows.append((ids, segments, mask.sum(axis=1)[used]))
        labels.append(window_labels[used])
        questions.append(windows["document"][used] + part.start)
    if lost:
        _logger.warning(
            "Left out %d of %d questions: the tokenizer makes no token of their answers.",
            lost,
            len(examples),
        )
    if weights is not None:
        weights = weights[np.concatenate(questions)]
    return LabelledRows(token_rows(rows), np.concatenate(labels), weights=weights)


def span_labels(
    windows: Mapping[str, np.ndarray], spans: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the tokens at which answers start and end, in each window.

    A window contains an answer if it has all tokens that share a byte with the answer. Other
    windows, and those of questions without an answer, are labelled at [CLS].

    Args:
        windows: `starts`, `ends`, `document` and `window_start`, of `Tokenizer.windows`.
        spans: int (B, 2). Bytes of the context; (0, 0): no answer.
        count: int. B.

    Returns:
        int32 (W, 2), the first and the last token; and bool (B,), whether the answer has a token,
        or True if there is no answer.
    """
    starts, ends, document = windows["starts"], windows["ends"], windows["document"]
    answer = spans[document]  # (W, 2)
    inside = (ends > starts) & (ends > answer[:, :1]) & (starts < answer[:, 1:])  # (W, S)
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    tokens = np.stack([inside.argmax(axis=1), last], axis=1)
    # Positions in the context show whether a window has the whole answer.
    positions = tokens + windows["window_start"][:, np.newaxis]
    overlaps = inside.any(axis=1)
    bounds = np.tile([np.iinfo(np.int64).max, -1], (count, 1))  # (B, 2)
    np.minimum.at(bounds[:, 0], document[overlaps], positions[overlaps, 0])
    np.maximum.at(bounds[:, 1], document[overlaps], positions[overlaps, 1])
    whole = overlaps & (positions == bounds[document]).all(axis=1)
    labels = np.where(whole[:, np.newaxis], tokens, 0)
    return labels.astype(np.int32), (bounds[:, 1] >= 0) | (spans[:, 1] <= spans[:, 0])


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class SpanLoss(keras.losses.Loss):
    """Mean of the cross-entropies of the answer's first and last token.

    Call arguments:
        y_true: int32 (B, 2). Positions of the tokens.
        y_pred: float32 (B, S, 2). Logits.

    Source: Hugging Face's BertForQuestionAnswering.
    """

    unit: ClassVar[SharedUnit] = "rows"

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes float32 (B,)."""
        logits = tf.transpose(y_pred, [0, 2, 1])  # (B, 2, S)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y_true, tf.int32), logits)
        return tf.reduce_mean(losses, axis=-1)


def span_accuracy(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Whether both the first and the last token of an answer are predicted: float32 (B,)."""
    predicted = tf.argmax(y_pred, axis=1, output_type=tf.int32)  # (B, 2)
    correct = tf.reduce_all(tf.equal(predicted, tf.cast(y_true, tf.int32)), axis=-1)
    return tf.cast(correct, tf.float32)

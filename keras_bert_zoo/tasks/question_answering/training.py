"""Training of question answerers: windows with labels, the loss, and what tells epochs apart."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.pipeline import LabelledRows, TokenRows
from keras_bert_zoo.data.squad import Answer, QuestionExamples
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.tasks.question_answering.spans import span_labels
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.loop import was_validated
from keras_bert_zoo.training.replicas import SharedUnit

if TYPE_CHECKING:
    from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer

_AT_ONCE = 1024  # questions; bounds the memory that padding takes while tokenizing

_logger = logging.getLogger(__name__)


def answer_lists(y: Any, examples: QuestionExamples) -> list[list[Answer]]:
    """Takes answers in the forms that `fit` accepts.

    Args:
        y: for each question a list of (text, start), or as SQuAD has them
            `{"text": [...], "answer_start": [...]}`.
        examples: the questions.

    Returns:
        for each question a list of Answer.

    Raises:
        DataError: the lengths differ, or an answer has another form.
    """
    found = []
    for index, row in enumerate(_answer_rows(y, examples)):
        if row is None or not all(map(_is_answer, row)):
            raise DataError(
                f"{examples.where(index)}: expected a list of answers (text, start), start in "
                f"characters of the context; got {clipped(repr(listed(y)[index]))}"
            )
        found.append([Answer(str(text), int(start)) for text, start in row])
    return found


def answer_texts(y: Any, examples: QuestionExamples) -> tuple[list[list[str]], list[list[Answer]]]:
    """Takes answers to compare with: as `answer_lists`, and texts without a place.

    Returns:
        for each question the texts of its answers; and a list of Answer, of those with a place.

    Raises:
        DataError: the lengths differ, or an answer has another form.
    """
    texts, placed = [], []
    for index, row in enumerate(_answer_rows(y, examples)):
        if row is None or not all(isinstance(a, str) or _is_answer(a) for a in row):
            raise DataError(
                f"{examples.where(index)}: expected a list of texts, or of answers (text, start); "
                f"got {clipped(repr(listed(y)[index]))}"
            )
        texts.append([str(a if isinstance(a, str) else a[0]) for a in row])
        known = [a for a in row if not isinstance(a, str) and a[1] >= 0]  # CMRC has -1
        placed.append([Answer(str(text), int(start)) for text, start in known])
    return texts, placed


def _answer_rows(y: Any, examples: QuestionExamples) -> list[Sequence[Any] | None]:
    """Each question's answers, those of SQuAD's form as pairs; None for what is of no form."""
    rows = listed(y, "answers")
    if len(rows) != len(examples):
        raise DataError(f"There are {len(examples)} questions but answers to {len(rows)}.")
    return [_answer_row(row) for row in rows]


def _answer_row(row: Any) -> Sequence[Any] | None:
    if not isinstance(row, Mapping):
        return row if isinstance(row, list | tuple) else None
    if not {"text", "answer_start"} <= set(row):
        return None
    try:
        texts, starts = listed(row["text"]), listed(row["answer_start"])
    except DataError:
        return None
    return list(zip(texts, starts, strict=True)) if len(texts) == len(starts) else None


def _is_answer(answer: Any) -> bool:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return False
    whole = isinstance(answer[1], int | np.integer) and not isinstance(answer[1], bool)
    return isinstance(answer[0], str) and whole


def label_windows(
    tokenizer: Tokenizer,
    examples: QuestionExamples,
    targets: list[list[Answer]],
    weights: np.ndarray | None,
    *,
    max_length: int,
    stride: int,
) -> LabelledRows:
    """Cuts contexts into windows; of several answers to a question the first is learned.

    Args:
        tokenizer: Tokenizer.
        examples: questions and contexts.
        targets: the answers to each.
        weights: float32 (questions,) or None.
        max_length: int, tokens of a window.
        stride: int, tokens that two windows share.

    Returns:
        LabelledRows, a row for each window; labels int32 (windows, 2), the places of the answer's
        first and last token, 0 and 0 where it is in another window.
    """
    ids, segments, lengths, labels, of_window = [], [], [], [], []
    lost = 0
    for begin in range(0, len(examples), _AT_ONCE):
        chosen = slice(begin, begin + _AT_ONCE)
        contexts = examples.contexts[chosen]
        windows = {
            name: values.numpy()
            for name, values in tokenizer.windows(
                contexts,
                first=examples.questions[chosen],
                max_length=max_length,
                stride=stride,
            ).items()
        }
        spans = np.array([_bytes_of(*pair) for pair in zip(contexts, targets[chosen], strict=True)])
        found, has_token = span_labels(windows, spans, len(contexts))
        lost += int((~has_token).sum())
        kept = has_token[windows["document"]]
        mask = windows["padding_mask"].astype(bool) & kept[:, np.newaxis]
        ids.append(windows["token_ids"][mask])
        segments.append(windows["segment_ids"][mask])
        lengths.append(mask.sum(axis=1)[kept])
        labels.append(found[kept])
        of_window.append(windows["document"][kept] + begin)
    if lost:
        _logger.warning(
            "%d of %d answers have no token, as they are of characters that the tokenizer "
            "passes over; their questions are left out",
            lost,
            len(examples),
        )
    splits = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    rows = TokenRows(np.concatenate(ids), splits, np.concatenate(segments))
    if weights is not None:
        weights = weights[np.concatenate(of_window)]
    return LabelledRows(rows, np.concatenate(labels), weights=weights)


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class SpanLoss(keras.losses.Loss):
    """Mean of the cross-entropies of the answer's first and last token.

    Call arguments:
        y_true: int32 (B, 2). The tokens' places.
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
    """Whether the first and the last token of a window's answer are both told: float32 (B,)."""
    told = tf.argmax(y_pred, axis=1, output_type=tf.int32)  # (B, 2)
    right = tf.reduce_all(tf.equal(told, tf.cast(y_true, tf.int32)), axis=-1)
    return tf.cast(right, tf.float32)


class AnswerF1(keras.callbacks.Callback):
    """Adds `val_f1` and `val_exact_match` of whole questions to an epoch's logs.

    Args:
        task: QuestionAnswerer.
        examples: the held-out questions.
        references: the texts of their right answers.
        batch_size: int.
    """

    def __init__(
        self,
        task: QuestionAnswerer,
        examples: QuestionExamples,
        references: list[list[str]],
        batch_size: int,
    ) -> None:
        super().__init__()
        self._task, self._data, self._batch_size = task, (examples, references), batch_size

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Answers the held-out questions."""
        if not was_validated(logs):
            return
        report = self._task._report(*self._data, self._batch_size)
        if logs is not None:
            logs["val_f1"] = report.f1
            logs["val_exact_match"] = report.exact_match


def _bytes_of(context: str, answers: Sequence[Answer]) -> tuple[int, int]:
    """Where the first answer stands, in bytes; (0, 0): there is none."""
    if not answers:
        return 0, 0
    start = len(context[: answers[0].start].encode("utf-8", "surrogatepass"))
    return start, start + len(answers[0].text.encode("utf-8", "surrogatepass"))

"""Extractive question answering: finds the span of a text that answers a question."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import form_of
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.inputs import as_examples
from keras_bert_zoo.data.questions import Answer, QuestionExamples
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.metrics.question_answering import (
    QuestionReport,
    Segmentation,
    best_threshold,
    question_report,
)
from keras_bert_zoo.tasks.files import saved_task_name
from keras_bert_zoo.tasks.loading import AS_SAVED, TaskSource
from keras_bert_zoo.tasks.options import LoadOptions, QuestionAnsweringOptions, TaskOption
from keras_bert_zoo.tasks.predicting import largest_difference, predict_texts
from keras_bert_zoo.tasks.question_answering.spans import best_spans, different_spans, span_columns
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.question_answering import (
    SpanLoss,
    answer_lists,
    answer_targets,
    label_windows,
    reference_answers,
    span_accuracy,
)
from keras_bert_zoo.training.rows import LabelledBatches
from keras_bert_zoo.validation import check_integer, check_number

# The logit of padding, as in transformers' pipeline.
_MASKED_LOGIT = -1e4


@keras.saving.register_keras_serializable("keras_bert_zoo")
class QuestionAnswerer(TrainableTask):
    """Finds the answer to a question in a text, or predicts that the text has no answer.

    A context that is too long for the encoder is split into overlapping windows. Each window
    starts with the whole question. The answer is the span of at most `max_answer_tokens` tokens
    with the largest sum of start and end logits in any window.

    `predict` and the exported model take `question` and `context` and return

    - `answer` str, a substring of the context; "" if there is no answer;
    - `score` float32, its probability: a softmax over the sums of logits of all spans of the
      context and, unless `null_threshold` is None, of no answer. (The pipeline of transformers
      multiplies a softmax over starts and a softmax over ends in each window. Its spans of a window
      have the same order, but other numbers.);
    - `start`, `end` int32, bytes of the context: `context_bytes[start:end]` is the answer, even if
      the context is not UTF-8; `start_character`, `end_character` int32, the same in characters,
      counted at each byte other than 0b10xxxxxx. All are 0 if there is no answer;
    - `no_answer` float32 (texts,): the sum of the logits at [CLS], in the window with the lowest
      sum, minus that of the best span. Above `null_threshold` the answer is "".

    Their shape is (texts,) or, with `top_k` above 1, (texts, top_k), best first. Without an answer,
    "" comes first and spans follow.

    `fit` takes `QuestionExamples` as returned by `data.squad.read_squad`. If some of them have no
    answer, a `null_threshold` of None becomes 0; `tune_threshold` finds a better one.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer.
        head: TokenClassificationHead of two units.
        max_length: int, tokens of a window with its question. Default 384.
        stride: int. Tokens of the context that neighbouring windows share; None: 128, or a third
            of `max_length` if that is less.
        max_answer_tokens: int. Default 30, as in Google's run_squad.py.
        top_k: int. Number of answers per question.
        null_threshold: float or None. None: every question is answered.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a number is invalid, or `max_length` exceeds the encoder's positions.
    """

    spec = TaskSpec(
        name="question-answering",
        head="question_answering",
        options=QuestionAnsweringOptions,
        pairs=True,
        texts=("question", "context"),
        default_max_length=384,
    )
    stride: TaskOption[int] = TaskOption()
    max_answer_tokens: TaskOption[int] = TaskOption()
    top_k: TaskOption[int] = TaskOption()
    null_threshold: TaskOption[float | None] = TaskOption()

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        head: TokenClassificationHead | None = None,
        *,
        max_length: int | None = None,
        stride: int | None = None,
        max_answer_tokens: int = 30,
        top_k: int = 1,
        null_threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        check_integer("max_answer_tokens", max_answer_tokens, minimum=1, maximum=512)
        check_integer("top_k", top_k, minimum=1, maximum=512)
        if null_threshold is not None:
            check_number("null_threshold", null_threshold)
        options = QuestionAnsweringOptions(
            max_length=max_length,
            max_answer_tokens=max_answer_tokens,
            top_k=top_k,
            null_threshold=null_threshold,
        )
        head = head or make_head(self.spec.head, encoder)
        super().__init__(encoder, tokenizer, head, options=options, **kwargs)
        if stride is None:
            stride = min(128, self.max_length // 3)
        # A window has room for special tokens, the shared tokens and one more.
        room = self.max_length - 2 - tokenizer.separators_between
        self.stride = check_integer("stride", stride, minimum=0, maximum=room - 1)

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool | None = None,
        stride: int | None = None,
        max_answer_tokens: int | None = None,
        top_k: int | None = None,
        null_threshold: Any = AS_SAVED,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds a question answerer from a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. True starts a new head, to be trained; False loads the preset's head;
                None loads it if the preset was saved as a question answerer.
            stride: int, tokens. None: as saved with the loaded head.
            max_answer_tokens: int. None: as saved, otherwise 30.
            top_k: int. None: as saved, otherwise 1.
            null_threshold: float or None. Omitted: as saved, otherwise None.
            **options: see `LoadOptions`.

        Returns:
            QuestionAnswerer.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, or has no head to load.
        """
        source = TaskSource(cls, preset, **options)
        if new_head is None:
            new_head = saved_task_name(source.directory, source.config) != cls.spec.name
        parts = source.load(new_head=new_head)
        if options.get("max_length") is not None:
            parts.side.pop("stride", None)  # it may be too large for the new length
        if null_threshold is not AS_SAVED:
            parts.side["null_threshold"] = null_threshold
        return parts.build(
            cls, parts.head, stride=stride, max_answer_tokens=max_answer_tokens, top_k=top_k
        )

    # === The graph ===

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """Computes start and end logits, float32 (W, S, 2); see `Task.connect`.

        They are -10,000 at padding, so that a softmax over the tokens ignores it.
        """
        states = encoder.token_states(dict(inputs), **layout)
        is_token = keras.ops.expand_dims(inputs["padding_mask"] > 0, -1)
        return keras.ops.where(is_token, head(*states), _MASKED_LOGIT)

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Splits contexts (B,) into windows after their questions (B,); see `Task.encode_texts`.

        Returns:
            inputs, int32 (W, S); and the windows and contexts, for `decode`.
        """
        questions, contexts = texts
        windows = self.tokenizer.windows(
            contexts, first=questions, max_length=self.max_length, stride=self.stride
        )
        inputs = {name: windows.pop(name) for name in INPUT_NAMES}
        return inputs, windows | {"context": contexts}

    def decode(
        self, outputs: Any, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts logits (W, S, 2) to answers; see the class and `Task.decode`.

        Returns:
            dict of tensors (B,), or (B, K) with a `top_k` above 1. Without a context,
            `start_logits` and `end_logits`, float32 (W, S).
        """
        if context is None:
            return {"start_logits": outputs[:, :, 0], "end_logits": outputs[:, :, 1]}
        options = self.options if options is None else options
        threshold = options.null_threshold
        texts = context["context"]
        spans = best_spans(
            outputs,
            context,
            tf.shape(texts)[0],
            top_k=options.top_k,
            max_tokens=options.max_answer_tokens,
        )
        start, end, total = spans.start, spans.end, spans.total
        if threshold is not None:
            high = tf.maximum(total, spans.null)
            total = high + tf.math.log1p(tf.exp(tf.minimum(total, spans.null) - high))
        score = tf.exp(tf.where(spans.exists, spans.score - total[:, tf.newaxis], 0.0))
        score = tf.where(spans.exists, score, 0.0)
        if threshold is not None:
            none = (spans.no_answer > threshold)[:, tf.newaxis]  # (B, 1)
            zero = tf.zeros_like(start[:, :1])
            null = tf.exp(spans.null - total)[:, tf.newaxis]
            score, start, end = (
                tf.where(none, tf.concat([first, values[:, :-1]], axis=1), values)
                for first, values in ((null, score), (zero, start), (zero, end))
            )
        columns = span_columns(texts, start, end)
        answers = {"answer": columns["answer"], "score": score} | columns
        if options.top_k == 1:
            answers = {name: tf.reshape(values, [-1]) for name, values in answers.items()}
        return answers | {"no_answer": spans.no_answer}

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; spans with equal scores may be in any order."""
        if "answer" not in expected:  # logits of token ids: rounding grows with the largest
            pairs = [(values, got[name]) for name, values in expected.items()]
            largest = max(np.max(np.abs(v), where=v > _MASKED_LOGIT, initial=1) for v, _ in pairs)
            return max(largest_difference(a / largest, b / largest) for a, b in pairs)
        names = ("answer", "start", "end", "start_character", "end_character")
        if different_spans(expected, got, names, tolerance) is None:
            return None
        return max(
            largest_difference(expected["score"], got["score"]),
            # A sum of four logits.
            largest_difference(expected["no_answer"], got["no_answer"]) / 4,
        )

    # === Training ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> QuestionExamples:
        """Converts QuestionExamples or (questions, contexts); `y` replaces the answers."""
        if not isinstance(x, QuestionExamples | Examples | tuple):
            raise DataError(
                "Expected QuestionExamples, or a tuple of two lists, questions and contexts, "
                f"received {form_of(x)}."
            )
        if not isinstance(x, QuestionExamples):
            pairs = as_examples(x)
            if pairs.text_pairs is None:
                raise DataError("Expected questions and contexts, received only one text each.")
            x = QuestionExamples(pairs.texts, pairs.text_pairs, rows=pairs.rows, path=pairs.path)
        return x if y is None else replace(x, answers=answer_lists(y, x), references=None)

    def targets(self, examples: QuestionExamples, y: Any = None) -> list[list[Answer]]:
        """Returns the answers to each question, checked."""
        return answer_targets(examples)

    def rows(
        self,
        examples: QuestionExamples,
        targets: list[list[Answer]],
        weights: np.ndarray | None = None,
    ) -> LabelledBatches:
        """Makes one row per window, labelled with the positions of the answer."""
        data = label_windows(
            self.tokenizer,
            examples,
            targets,
            weights,
            max_length=self.max_length,
            stride=self.stride,
        )
        return LabelledBatches(data, self.tokenizer.pad_token_id)

    def objective(self, examples: Any = None) -> Objective:
        """Cross-entropy of first and last tokens; the best epoch has the highest F1."""
        return Objective(
            outputs=Outputs(
                "other",
                type(self).__name__,
                accuracy=functools.partial(keras.metrics.MeanMetricWrapper, span_accuracy),
            ),
            loss=SpanLoss,
            metrics=lambda: [span_accuracy],
            monitor=("val_f1", "max"),
            measure=self._measure,
            adopt=self._adopt,
        )

    def _adopt(self, examples: QuestionExamples) -> None:
        if examples.has_unanswerable and self.null_threshold is None:
            self.null_threshold = 0.0

    def _measure(self, examples: QuestionExamples, _: Any, batch_size: int) -> dict[str, float]:
        report = self.report(examples, batch_size=batch_size)
        return {"f1": report.f1, "exact_match": report.exact_match}

    # === Evaluation ===

    def report(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 64,
        segmentation: Segmentation = "auto",
    ) -> QuestionReport:
        """Computes exact match and F1, as the official scorers of SQuAD and CMRC do.

        Args:
            x: QuestionExamples with answers.
            y: or a list of answers for each question: texts, or as in `fit`. Only the texts are
                compared.
            batch_size: int. Questions per batch.
            segmentation: "words", "characters" or "auto"; see `question_report`.

        Returns:
            QuestionReport, with the best threshold if some questions have no answer.

        Raises:
            DataError: there are no answers to compare with.
        """
        examples = self.examples(x)
        _, references = reference_answers(examples, y)
        texts, no_answer = self._spans(examples, batch_size)
        return question_report(
            texts,
            references,
            no_answer=no_answer,
            null_threshold=self.null_threshold,
            segmentation=segmentation,
        )

    def tune_threshold(
        self, x: Any, y: Any = None, *, batch_size: int = 64, segmentation: Segmentation = "auto"
    ) -> float:
        """Sets `null_threshold` to the value with the best F1 on held-out data.

        Args:
            x: as in `report`; some questions have an answer, others do not.
            y: as in `report`.
            batch_size: int. Questions per batch.
            segmentation: as in `report`.

        Returns:
            float, the threshold.

        Raises:
            DataError: all questions have an answer, or none has.
        """
        examples = self.examples(x)
        _, references = reference_answers(examples, y)
        if len({bool(answers) for answers in references}) < 2:
            raise DataError(
                "Expected questions that have an answer and questions that have none, received "
                "only one kind; tune the threshold on data with both."
            )
        texts, no_answer = self._spans(examples, batch_size)
        self.null_threshold = best_threshold(
            texts, references, no_answer, segmentation=segmentation
        )
        return self.null_threshold

    def _spans(self, examples: QuestionExamples, batch_size: int) -> tuple[list[str], np.ndarray]:
        """Returns the best span of each question, ignoring the threshold; and `no_answer`."""
        options = self.options.replace(null_threshold=None, top_k=1)
        answers = predict_texts(self, examples, batch_size=batch_size, verbose=0, options=options)
        return answers["answer"].tolist(), answers["no_answer"]

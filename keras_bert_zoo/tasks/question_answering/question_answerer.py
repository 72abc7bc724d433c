"""Extractive question answering: the span of a text that answers a question, or none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.data.columns import form_of
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.data.squad import Answer, QuestionExamples, misplaced_answers
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.metrics.question_answering import (
    QuestionReport,
    Segmentation,
    best_threshold,
    question_report,
)
from keras_bert_zoo.presets.io import find_preset
from keras_bert_zoo.tasks.answering import Context, largest_difference
from keras_bert_zoo.tasks.files import saved_task_name
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.question_answering.spans import NO_SPAN, best_spans, character_offsets
from keras_bert_zoo.tasks.question_answering.training import (
    AnswerF1,
    SpanLoss,
    answer_lists,
    answer_texts,
    label_windows,
    span_accuracy,
)
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.outputs import Outputs

# Of padding, which is no place for an answer to start; what transformers' pipeline takes.
_MASKED_LOGIT = -1e4


class QuestionAnswerer(Task):
    """Finds the answer to a question in a text, or says that it is not there.

    A context that is too long for the encoder is read in overlapping windows, each with the whole
    question before it. The answer is the span of at most `max_answer_tokens` tokens with the
    largest sum of start and end logits in any window.

    `predict` and the exported model take `question` and `context` and answer with

    - `answer` str, cut out of the context; "" where there is none;
    - `score` float32, its probability: a softmax over the sums of logits of all spans of the
      context, with that of no answer among them unless `null_threshold` is None. (transformers'
      pipeline multiplies one softmax over starts and one over ends, window by window: the order of
      the spans of a window is the same, the number is not.);
    - `start`, `end` int32, bytes of the context: `context_bytes[start:end]` is the answer, also
      where they are not UTF-8; `start_character`, `end_character` int32, the same in characters,
      counted at each byte other than 0b10xxxxxx. All are 0 where there is no answer;
    - `no_answer` float32 (texts,): by how much the logits at [CLS], of the window where they are
      least, exceed those of the best span. Above `null_threshold` the answer is "".

    They are of the shape (texts,), or with `top_k` above 1 of (texts, top_k), from the best to the
    least; where there is no answer, "" comes first and spans follow.

    `fit` takes `QuestionExamples`, as `data.squad.read_squad` gives them. If some of them have no
    answer, a `null_threshold` of None becomes 0; `tune_threshold` finds a better one.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer.
        head: TokenClassificationHead of two units.
        max_length: int, tokens of a window with its question. Default 384.
        stride: int. Tokens of the context that neighbouring windows share; None: 128, or a third
            of `max_length` where that is less.
        max_answer_tokens: int. Default 30, as in Google's run_squad.py.
        top_k: int. How many answers are given.
        null_threshold: float or None. None: every question is answered.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a number that makes no sense, or a `max_length` beyond the encoder's positions.
    """

    task_name: ClassVar[str] = "question-answering"
    head_kind: ClassVar[str] = "question_answering"
    takes_pairs: ClassVar[bool | None] = True
    default_max_length: ClassVar[int] = 384
    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

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
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        for name, value in (("max_answer_tokens", max_answer_tokens), ("top_k", top_k)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 512:
                raise ConfigError(f"`{name}` must be between 1 and 512, got {value!r}.")
        if null_threshold is not None and not (
            isinstance(null_threshold, int | float) and np.isfinite(null_threshold)
        ):
            raise ConfigError(f"`null_threshold` must be a number or None, got {null_threshold!r}.")
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.head_kind, encoder),
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )
        if stride is None:
            stride = min(128, self.max_length // 3)
        room = self.max_length - 2 - tokenizer.separators_between
        if isinstance(stride, bool) or not isinstance(stride, int) or not 0 <= stride < room:
            raise ConfigError(
                f"`stride` must be between 0 and {room - 1}, less than a window of {max_length} "
                f"tokens has beside its special tokens, got {stride!r}."
            )
        self.stride = stride
        self.max_answer_tokens = max_answer_tokens
        self.top_k = top_k
        self.null_threshold = null_threshold

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads what `save` wrote, or a Hugging Face directory of a question-answering model.

        Args:
            directory: path.
            **kwargs: as for `from_preset`.

        Returns:
            QuestionAnswerer.

        Raises:
            ConfigError: the config asks for something unsupported.
            CheckpointError: the directory is not there, has no head or does not fit.
        """
        return super().load(directory, **{"new_head": False} | kwargs)

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
        **options: Any,
    ) -> Self:
        """Builds a question answerer on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. True starts a new head, to be trained; False loads the preset's own;
                None loads it where the preset was saved as a question answerer.
            max_length: int, tokens. None: as saved with the head that is loaded, otherwise 384.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. See `open_checkpoint`.
            ignore_config_keys: config.json keys to leave unread although they are unknown.
            **options: `stride`, `max_answer_tokens`, `top_k` and `null_threshold`; see the class.
                Left out: as saved with the head that is loaded.

        Returns:
            QuestionAnswerer.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, or has no head to load.
        """
        if new_head is None:
            directory = find_preset(preset, allow_pickle=allow_pickle)
            new_head = saved_task_name(directory, read_config(directory)) != cls.task_name
        encoder, tokenizer, head, side = cls._load_parts(
            preset,
            head_width=2 if new_head else None,
            ignore_config_keys=ignore_config_keys,
            dtype=dtype,
            allow_pickle=allow_pickle,
        )
        saved = {name: side[name] for name in _OPTIONS if name in side}
        if max_length is not None:
            saved.pop("stride", None)  # which may be too much for it
        task = cls(
            encoder,
            tokenizer,
            head,
            max_length=side.get("max_length") if max_length is None else max_length,
            token_layout=token_layout,
            **saved | options,
        )
        task._restore(side)
        return task

    @classmethod
    def _head_hint(cls) -> str:
        return "new_head=True"

    def _task_config(self) -> dict[str, Any]:
        return {}

    def _side_config(self) -> dict[str, Any]:
        return super()._side_config() | {name: getattr(self, name) for name in _OPTIONS}

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), *(getattr(self, name) for name in _OPTIONS))

    # === The graph ===

    @classmethod
    def connect(
        cls,
        encoder: Encoder,
        head: Any,
        inputs: Mapping[str, Any],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> Any:
        """Connects encoder and head: logits of start and end, float32 (W, S, 2).

        At padding they are -10,000, so that a softmax over the tokens passes it over.
        """
        x, layout = encoder.token_states(
            dict(inputs), token_layout=token_layout, attention_groups=attention_groups
        )
        is_token = keras.ops.expand_dims(inputs["padding_mask"] > 0, -1)
        return keras.ops.where(is_token, head(x, layout), _MASKED_LOGIT)

    def text_specs(self, *, pair: bool | None = None) -> dict[str, tf.TensorSpec]:
        """`question` and `context`, string (B,) each."""
        return {
            name: tf.TensorSpec([None], tf.string, name=name) for name in ("question", "context")
        }

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], Context]:
        """Cuts contexts into windows, each with its question before it.

        Args:
            *texts: questions and contexts, string (B,) each.

        Returns:
            inputs, int32 (W, S); and what `decode` needs of the windows and the contexts.
        """
        questions, contexts = texts
        windows = self.tokenizer.windows(
            contexts, first=questions, max_length=self.max_length, stride=self.stride
        )
        inputs = {name: windows.pop(name) for name in INPUT_NAMES}
        return inputs, windows | {"context": contexts}

    def decode(self, outputs: Any, context: Context) -> dict[str, tf.Tensor]:
        """Turns logits into answers; see the class.

        Args:
            outputs: float32 (W, S, 2).
            context: what `encode_texts` returned.

        Returns:
            dict of tensors (B,), or (B, K) with a `top_k` above 1.
        """
        texts = context["context"]
        spans = best_spans(
            outputs,
            context,
            tf.shape(texts)[0],
            top_k=self.top_k,
            max_tokens=self.max_answer_tokens,
        )
        some = spans.exists[:, 0]  # (B,)
        no_answer = tf.where(some, spans.null - spans.score[:, 0], NO_SPAN)
        start, end, total = spans.start, spans.end, spans.total
        if self.null_threshold is not None:
            high = tf.maximum(total, spans.null)
            total = high + tf.math.log1p(tf.exp(tf.minimum(total, spans.null) - high))
        score = tf.exp(tf.where(spans.exists, spans.score - total[:, tf.newaxis], 0.0))
        score = tf.where(spans.exists, score, 0.0)
        if self.null_threshold is not None:
            none = (no_answer > self.null_threshold)[:, tf.newaxis]  # (B, 1)
            first = tf.exp(spans.null - total)[:, tf.newaxis]
            zero = tf.zeros_like(start[:, :1])
            score = tf.where(none, tf.concat([first, score[:, :-1]], axis=1), score)
            start = tf.where(none, tf.concat([zero, start[:, :-1]], axis=1), start)
            end = tf.where(none, tf.concat([zero, end[:, :-1]], axis=1), end)
        answers = {
            "answer": tf.strings.substr(texts[:, tf.newaxis], start, end - start),
            "score": score,
            "start": start,
            "end": end,
            "start_character": character_offsets(texts, start),
            "end_character": character_offsets(texts, end),
        }
        if self.top_k == 1:
            answers = {name: values[:, 0] for name, values in answers.items()}
        return answers | {"no_answer": no_answer}

    def answers(self, outputs: Any) -> dict[str, tf.Tensor]:
        """For callers who send token ids: `start_logits` and `end_logits`, float32 (W, S)."""
        return {"start_logits": outputs[:, :, 0], "end_logits": outputs[:, :, 1]}

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; spans that are as good as equally probable may change places."""
        if "answer" not in expected:  # logits of token ids, whose rounding grows with the largest
            pairs = [(values, got[name]) for name, values in expected.items()]
            largest = max(np.max(np.abs(v), where=v > _MASKED_LOGIT, initial=1) for v, _ in pairs)
            return max(largest_difference(a / largest, b / largest) for a, b in pairs)
        places = ("answer", "start", "end", "start_character", "end_character")
        different = ~np.logical_and.reduce([expected[n] == got[n] for n in places])
        if different.any():
            # One step of rounding in the logits is one factor of the probability.
            scores = [np.maximum(answer["score"], 1e-30) for answer in (expected, got)]
            if (np.abs(np.log(scores[0] / scores[1]))[different] > 20 * tolerance).any():
                return None
        return max(
            largest_difference(expected["score"], got["score"]),
            # A sum of four logits.
            largest_difference(expected["no_answer"], got["no_answer"]) / 4,
        )

    # === Training ===

    def _examples(self, x: Any) -> QuestionExamples:
        if isinstance(x, QuestionExamples):
            return x
        if not isinstance(x, Examples | tuple):
            raise DataError(
                "Expected QuestionExamples, or a tuple of two lists, questions and contexts, got "
                f"{form_of(x)}."
            )
        pairs = as_examples(x)
        if pairs.text_pairs is None:
            raise DataError("Expected questions and contexts, got texts without a second one.")
        return QuestionExamples(pairs.texts, pairs.text_pairs, rows=pairs.rows, path=pairs.path)

    def _text_columns(self, examples: QuestionExamples) -> tuple[Sequence[Any], ...]:
        return examples.questions, examples.contexts

    def _targets(self, y: Any, examples: QuestionExamples) -> list[list[Answer]]:
        if y is None:
            y = examples.answers
            for index, texts in enumerate(examples.references or ()):
                if texts and not (y and y[index]):
                    raise DataError(
                        f"{examples.where(index)}: expected the place of an answer to train on, "
                        "got its text alone; read the file without scoring=True"
                    )
        if y is None:
            raise DataError(
                "There are no answers: give QuestionExamples with answers, or `y`: for each "
                "question a list of (text, start), start in characters of the context."
            )
        answers = answer_lists(y, examples)
        placed = replace(examples, answers=answers, references=None)
        for index, _, reason in misplaced_answers(placed):
            raise DataError(f"{placed.where(index)}: {reason}")
        return answers

    def _prepared(self, x: Any, y: Any) -> tuple[QuestionExamples, list[list[Answer]]]:
        examples, answers = super()._prepared(x, y)
        if y is not None:  # which say, too, whether there are questions without an answer
            examples = replace(examples, answers=answers, references=None)
        return examples, answers

    def _adopt(self, examples: QuestionExamples) -> None:
        if examples.has_unanswerable and self.null_threshold is None:
            self.null_threshold = 0.0

    def _labelled_rows(
        self,
        examples: QuestionExamples,
        targets: list[list[Answer]],
        weights: np.ndarray | None = None,
    ) -> LabelledRows:
        return label_windows(
            self.tokenizer,
            examples,
            targets,
            weights,
            max_length=self.max_length,
            stride=self.stride,
        )

    def _output_kind(self) -> Outputs:
        return Outputs("other", type(self).__name__, accuracy=_span_accuracy)

    def _default_loss(self) -> keras.losses.Loss:
        return SpanLoss()

    def _default_metrics(self) -> list[Any]:
        return [span_accuracy]

    def _dev_callbacks(
        self, examples: QuestionExamples, targets: list[list[Answer]], batch_size: int
    ) -> list[keras.callbacks.Callback]:
        return [AnswerF1(self, *self._references(examples, None), batch_size)]

    def _monitor(self) -> tuple[str, str]:
        return "val_f1", "max"

    def predict_logits(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> np.ndarray:
        """Not for this task: logits are of windows, and there are any number of them a text."""
        raise ConfigError("A QuestionAnswerer has logits of windows: call it on `encode_texts`.")

    # === Measuring ===

    def _references(self, x: Any, y: Any) -> tuple[QuestionExamples, list[list[str]]]:
        """Questions and the texts of their right answers, whose places do not matter."""
        examples = self._examples(x)
        texts = examples.right_texts() if y is None else answer_texts(y, examples)[0]
        if texts is None:
            raise DataError(
                "There are no answers: give QuestionExamples with answers, or `y`: for each "
                "question a list of texts, or of (text, start)."
            )
        return examples, texts

    def report(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 64,
        segmentation: Segmentation = "auto",
    ) -> QuestionReport:
        """Exact match and F1, as SQuAD's own scorers compute them, or CMRC's.

        Args:
            x: QuestionExamples with answers.
            y: or questions' answers, a list for each: of texts, or as `fit` takes them. Only the
                texts are compared.
            batch_size: int. Questions at once.
            segmentation: "words", "characters" or "auto"; see `question_report`.

        Returns:
            QuestionReport, with the best threshold where there are questions without an answer.

        Raises:
            DataError: there are no answers to compare with.
        """
        return self._report(*self._references(x, y), batch_size, segmentation)

    def tune_threshold(
        self, x: Any, y: Any = None, *, batch_size: int = 64, segmentation: Segmentation = "auto"
    ) -> float:
        """Sets `null_threshold` to the one with the best F1 on held-out data.

        Args:
            x: QuestionExamples with answers, and some without.
            y: or questions' answers.
            batch_size: int. Questions at once.
            segmentation: as for `report`.

        Returns:
            float, the threshold.

        Raises:
            DataError: every question has an answer, or none.
        """
        examples, references = self._references(x, y)
        if len({bool(answers) for answers in references}) < 2:
            raise DataError(
                "A threshold can be tuned only on data with both: questions that have an answer "
                "and questions that have none."
            )
        texts, no_answer = self._spans(examples, batch_size)
        self.null_threshold = best_threshold(
            texts, references, no_answer, segmentation=segmentation
        )
        return self.null_threshold

    def _report(
        self,
        examples: QuestionExamples,
        references: list[list[str]],
        batch_size: int,
        segmentation: Segmentation = "auto",
    ) -> QuestionReport:
        texts, no_answer = self._spans(examples, batch_size)
        return question_report(
            texts,
            references,
            no_answer=no_answer,
            null_threshold=self.null_threshold,
            segmentation=segmentation,
        )

    def _spans(self, examples: QuestionExamples, batch_size: int) -> tuple[list[str], np.ndarray]:
        """The best span of each question, whether or not it is answered; and `no_answer`."""
        kept = self.null_threshold, self.top_k
        try:
            self.null_threshold, self.top_k = None, 1
            answers = self.predict(examples, batch_size=batch_size)
        finally:
            self.null_threshold, self.top_k = kept
        return answers["answer"].tolist(), answers["no_answer"]


def _span_accuracy(name: str) -> keras.metrics.Metric:
    return keras.metrics.MeanMetricWrapper(span_accuracy, name=name)


_OPTIONS = ("stride", "max_answer_tokens", "top_k", "null_threshold")

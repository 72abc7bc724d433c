"""Choosing among several answers or endings to a text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.choices import ChoiceExamples
from keras_bert_zoo.data.columns import form_of, listed
from keras_bert_zoo.data.pipeline import LabelledRows, length_order, restore_order
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.metrics.choices import ChoiceReport, choice_report
from keras_bert_zoo.presets.io import find_preset
from keras_bert_zoo.tasks.answering import Context, largest_difference
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.outputs import Outputs


class MultipleChoice(Task):
    """Chooses one of C texts that go with a text: answers to a question, endings of a story.

    Every choice is read together with the text, `[CLS] text [SEP] choice [SEP]`, and gets one
    logit; a softmax over the choices makes probabilities of them. All examples have the same C,
    set when the task is built: the exported graph takes `choices` of that width.

    `predict` and the exported model answer with `choice` (texts,) int32, the number of the chosen
    one, from 0; `label` (texts,) str, its text; `score` (texts,) float32, its probability; and
    `scores` (texts, C) float32. The signature on token ids, int32 (B, C, S), has no `label`.

    `fit` takes ChoiceExamples; or `(texts, choices)` as `x`, a list of str and a list of lists of
    C str, and the numbers of the right ones, from 0, or one-hot rows as `y`. `predict` takes
    `(texts, choices)`, too.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        num_choices: int, at least 2. C.
        head: ClassificationHead with one unit.
        max_length: int, tokens of text and choice together. What is longer is truncated, the
            longer of the two first; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: fewer than two choices, or a `max_length` beyond the encoder's positions.

    Source: arXiv 1810.04805, section 4.4; transformers' BertForMultipleChoice.
    """

    task_name: ClassVar[str] = "multiple-choice"
    head_kind: ClassVar[str] = "multiple_choice"
    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        num_choices: int,
        *,
        head: ClassificationHead | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        if not isinstance(num_choices, int) or isinstance(num_choices, bool) or num_choices < 2:
            raise ConfigError(f"`num_choices` must be at least 2, got {num_choices!r}.")
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.head_kind, encoder),
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )
        self.num_choices = num_choices

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        num_choices: int | None = None,
        new_head: bool | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds the task on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            num_choices: int. How many choices each text has; None: as saved with the head.
            new_head: bool. Whether the head starts from fresh weights; None: if `num_choices` is
                given.
            max_length: int, tokens. None: as saved with the head that is loaded, otherwise 128.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            MultipleChoice.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, has no head to load, or does
                not say how many choices there are.
        """
        if new_head is None:
            new_head = num_choices is not None
        encoder, tokenizer, head, side = cls._load_parts(
            preset,
            head_width=1 if new_head else None,
            ignore_config_keys=ignore_config_keys,
            dtype=dtype,
            allow_pickle=allow_pickle,
        )
        count = side.get("num_choices") if num_choices is None else num_choices
        if count is None:
            raise CheckpointError(
                f"{find_preset(preset)} does not say how many choices each text has (transformers "
                f"keeps no such number, `save` here writes it to {SIDE_FILE}). Give `num_choices`"
                f"{'.' if new_head else ' and `new_head=False`.'}"
            )
        task = cls(
            encoder,
            tokenizer,
            count,
            head=head,
            max_length=side.get("max_length") if max_length is None else max_length,
            token_layout=token_layout,
        )
        task._restore(side)
        return task

    @classmethod
    def _head_hint(cls) -> str:
        return "num_choices=..."

    def _task_config(self) -> dict[str, Any]:
        return {}

    def _side_config(self) -> dict[str, Any]:
        return super()._side_config() | {"num_choices": self.num_choices}

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self.num_choices)

    # === The graph ===

    @classmethod
    def model_inputs(cls) -> dict[str, keras.KerasTensor]:
        """int32 (B, C, S) each."""
        return {
            name: keras.Input(shape=(None, None), dtype="int32", name=name) for name in INPUT_NAMES
        }

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
        """See `AnsweringModel.connect`; the outputs are float32 logits (B, C)."""
        rows = {name: ChoicesToRows()(inputs[name]) for name in INPUT_NAMES}
        logits = super().connect(
            encoder, head, rows, token_layout=token_layout, attention_groups=attention_groups
        )
        return RowsToChoices()(logits, inputs["token_ids"])

    def text_specs(self, *, pair: bool | None = None) -> dict[str, tf.TensorSpec]:
        """`text` string (B,), `choices` string (B, C)."""
        return {
            "text": tf.TensorSpec([None], tf.string, name="text"),
            "choices": tf.TensorSpec([None, self.num_choices], tf.string, name="choices"),
        }

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], Context]:
        """Sets the text beside each choice, and tokenizes both."""
        text, choices = texts
        count = choices.shape[1]
        pairs = (tf.repeat(text, count), tf.reshape(choices, [-1]))
        packed = self.tokenizer(pairs, max_length=self.max_length)
        inputs = {
            name: tf.reshape(rows, [tf.shape(choices)[0], count, tf.shape(rows)[1]])
            for name, rows in packed.items()
        }
        return inputs, {"choices": choices}

    def answers(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns logits into `choice`, `score` and `scores`; see the class."""
        scores = tf.nn.softmax(outputs)
        return {
            "choice": tf.argmax(scores, axis=-1, output_type=tf.int32),
            "score": tf.reduce_max(scores, axis=-1),
            "scores": scores,
        }

    def decode(self, outputs: tf.Tensor, context: Context) -> dict[str, tf.Tensor]:
        """Adds the text of the chosen one, `label`."""
        answers = self.answers(outputs)
        return answers | {"label": tf.gather(context["choices"], answers["choice"], batch_dims=1)}

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; choices that are as good as equally probable may change places."""
        scores, chosen = expected["scores"], int(got["choice"])
        if chosen != expected["choice"]:
            known = 0 <= chosen < len(scores)
            if not known or scores.max() - scores[chosen] > 2 * tolerance:
                return None
        elif "label" in expected and not np.array_equal(expected["label"], got["label"]):
            return None
        return max(largest_difference(expected[name], got[name]) for name in ("score", "scores"))

    # === Training and measuring ===

    def _examples(self, x: Any) -> ChoiceExamples:
        if isinstance(x, ChoiceExamples):
            examples = x
        elif isinstance(x, tuple) and len(x) == 2:
            texts, choices = listed(x[0]), listed(x[1], "choices")
            examples = ChoiceExamples(texts, [_as_list(row) for row in choices])
        else:
            raise DataError(
                "Expected ChoiceExamples, or a tuple of a list of texts and a list of lists of "
                f"choices; got {form_of(x)}."
            )
        if examples.num_choices not in (None, self.num_choices):
            raise DataError(
                f"{examples.where(0)}: expected {self.num_choices} choices a text, as the model "
                f"was built for, got {examples.num_choices}"
            )
        for index, row in enumerate(zip(examples.texts, examples.choices, strict=True)):
            for text in (row[0], *row[1]):
                if not isinstance(text, str | bytes):
                    raise DataError(
                        f"{examples.where(index)}: expected texts and choices as str, got "
                        f"{type(text).__name__}"
                    )
        return examples

    def _text_columns(self, examples: ChoiceExamples) -> tuple[Sequence[Any], ...]:
        return (examples.texts, examples.choices)

    def _adopt(self, examples: ChoiceExamples) -> None:
        """There is nothing to learn from the data that the constructor was not told."""

    def _targets(self, y: Any, examples: ChoiceExamples) -> np.ndarray:
        if y is None and examples.labels is None:
            raise DataError("There are no labels: give `y`, or ChoiceExamples with labels.")
        labels: Any = examples.labels
        if y is not None:
            labels = [self._number(value) for value in listed(y, "labels", flatten=True)]
        checked = ChoiceExamples(
            examples.texts, examples.choices, labels, examples.rows, examples.path
        )
        return np.asarray(checked.labels, np.int32)

    def _number(self, value: Any) -> Any:
        """The number of a choice, which may be a float without a fraction or a one-hot row."""
        if isinstance(value, float | np.floating) and value == np.floor(value):
            return int(value) if np.isfinite(value) else value
        if isinstance(value, list | tuple | np.ndarray) and len(value) == self.num_choices:
            ones = [place for place, item in enumerate(value) if item == 1]
            if len(ones) == 1 and sum(map(bool, value)) == 1:
                return ones[0]
        return value

    def _labelled_rows(
        self, examples: ChoiceExamples, targets: Any, weights: np.ndarray | None = None
    ) -> LabelledRows:
        texts = [text for text in examples.texts for _ in range(self.num_choices)]
        choices = [choice for row in examples.choices for choice in row]
        rows = self.tokenize_rows(texts, choices)
        return LabelledRows(rows, targets, weights=weights, group=self.num_choices)

    def predict_logits(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> np.ndarray:
        """Computes logits of choices.

        Args:
            x: as in `predict`.
            batch_size: int. Texts at once, each with all its choices. None: 64.
            verbose: as in Keras.

        Returns:
            float32 (texts, C), in the order of `x`.

        Raises:
            DataError: `x` is not of texts and choices.
        """
        examples = self._examples(x)
        if not len(examples):
            return np.zeros((0, self.num_choices), np.float32)
        data = self._labelled_rows(examples, None)
        size = 64 if batch_size is None else batch_size
        batches = self._batches(data, batch_size=size, shuffle=False)
        logits = keras.Model.predict(self, self._shared_out(batches), verbose=verbose)
        return restore_order(logits, length_order(data.lengths))

    def _output_kind(self) -> Outputs:
        return Outputs("label", type(self).__name__, self.num_choices)

    def _default_loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def _monitor(self) -> tuple[str, str]:
        return "val_accuracy", "max"

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> ChoiceReport:
        """Accuracy, beside chance and how probable it is by chance.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            ChoiceReport.

        Raises:
            DataError: labels that are no choice, or do not fit the texts.
        """
        examples, targets = self._prepared(x, y)
        logits = self.predict_logits(examples, batch_size=batch_size)
        return choice_report(targets, logits.argmax(axis=-1), self.num_choices)


class ChoicesToRows(keras.layers.Layer):
    """int32 (B, C, S) -> (B * C, S)."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Reshapes; see the class."""
        # Sizes are given: of an empty batch, -1 could not be told.
        shape = tf.shape(x)
        return tf.reshape(x, [shape[0] * shape[1], shape[2]])


class RowsToChoices(keras.layers.Layer):
    """float (B * C, 1) -> (B, C), as the int32 (B, C, S) that the rows came from."""

    def call(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Reshapes; see the class."""
        return tf.reshape(x, tf.shape(like)[:2])


def _as_list(row: Any) -> Any:
    return row if isinstance(row, str | bytes) else list(row)

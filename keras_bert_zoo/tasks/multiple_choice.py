"""Choosing among several answers or endings to a text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.choice_inputs import as_choice_examples, choice_labels
from keras_bert_zoo.data.choices import ChoiceExamples
from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.layers.choices import ChoicesToRows, RowsToChoices
from keras_bert_zoo.metrics.choices import ChoiceReport, choice_report
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.options import ChoiceOptions, LoadOptions, TaskOption
from keras_bert_zoo.tasks.predicting import Answers, largest_difference, predict_logits
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.text_classifier import labelled_logits
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.rows import LabelledBatches, packed_rows
from keras_bert_zoo.training.text_labels import labels_of
from keras_bert_zoo.validation import check_integer


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MultipleChoice(TrainableTask):
    """Chooses one of C texts for a text: answers to a question, or endings of a story.

    The encoder reads every choice with the text, `[CLS] text [SEP] choice [SEP]`, and the head
    returns one logit. A softmax over the choices returns probabilities. All examples have the same
    C, which the constructor sets: the exported graph takes `choices` of that width.

    `predict` and the exported model answer with `choice` (texts,) int32, the index of the best
    choice; `label` (texts,) str, its text; `score` (texts,) float32, its probability; and `scores`
    (texts, C) float32. The signature on token ids, int32 (B, C, S), has no `label`.

    `fit` takes ChoiceExamples; or `(texts, choices)` as `x`, a list of str and a list of lists of
    C str, and as `y` the indices of the right choices, or one-hot rows. `predict` takes `(texts,
    choices)`, too.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        num_choices: int, at least 2. C.
        head: ClassificationHead with one unit.
        max_length: int, tokens of text and choice together; default 128. The longer of the two is
            truncated first.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: fewer than two choices, or a `max_length` beyond the encoder's positions.

    Source: arXiv 1810.04805, section 4.4; transformers' BertForMultipleChoice.
    """

    spec = TaskSpec(
        name="multiple-choice",
        head="multiple_choice",
        head_hint="num_choices=...",
        options=ChoiceOptions,
        texts=("text", "choices"),
        text_widths={"choices": "num_choices"},
        inputs=lambda: {
            name: keras.Input(shape=(None, None), dtype="int32", name=name) for name in INPUT_NAMES
        },
    )
    num_choices: TaskOption[int] = TaskOption()

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        num_choices: int,
        *,
        head: ClassificationHead | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_integer("num_choices", num_choices, minimum=2)
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.spec.head, encoder),
            options=ChoiceOptions(max_length=max_length, num_choices=num_choices),
            **kwargs,
        )

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        num_choices: int | None = None,
        new_head: bool | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds the task on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            num_choices: int. Choices per text; None: as saved with the head.
            new_head: bool. Whether the head starts from fresh weights; None: only with
                `num_choices`.
            **options: see `LoadOptions`.

        Returns:
            MultipleChoice.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, has no head to load, or has no
                number of choices.
        """
        if new_head is None:
            new_head = num_choices is not None
        source = TaskSource(cls, preset, **options)
        parts = source.load(new_head=new_head)
        if num_choices is None and "num_choices" not in parts.side:
            raise CheckpointError(
                f"{source.directory} does not say how many choices each text has. (`save` writes "
                f"the number to {SIDE_FILE}; transformers does not.) Give `num_choices`"
                f"{'.' if new_head else ' and `new_head=False`.'}"
            )
        return parts.build(cls, num_choices=num_choices, head=parts.head)

    # === The graph ===

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """See `Task.connect`; the outputs are float32 logits (B, C)."""
        rows = {name: ChoicesToRows()(inputs[name]) for name in INPUT_NAMES}
        return RowsToChoices()(super().connect(encoder, head, rows, **layout), inputs["token_ids"])

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Tokenizes the text with each choice."""
        text, choices = texts
        count = choices.shape[1]
        pairs = (tf.repeat(text, count), tf.reshape(choices, [-1]))
        packed = self.tokenizer(pairs, max_length=self.max_length)
        inputs = {
            name: tf.reshape(rows, [tf.shape(choices)[0], count, tf.shape(rows)[1]])
            for name, rows in packed.items()
        }
        return inputs, {"choices": choices}

    def decode(
        self, outputs: tf.Tensor, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts logits to `choice`, `score`, `scores` and, with the texts, `label`."""
        scores = tf.nn.softmax(outputs)
        answers = {
            "choice": tf.argmax(scores, axis=-1, output_type=tf.int32),
            "score": tf.reduce_max(scores, axis=-1),
            "scores": scores,
        }
        if context is None:
            return answers
        choices = context["choices"]
        first = tf.range(tf.shape(choices)[0]) * self.num_choices
        # LiteRT gathers strings along one axis alone.
        label = tf.gather(tf.reshape(choices, [-1]), first + answers["choice"])
        return answers | {"label": label}

    def answer_difference(self, expected: Answers, got: Answers, tolerance: float) -> float | None:
        """Compares two answers; choices of almost equal probability may swap."""
        scores, choice = expected["scores"], int(got["choice"])
        if choice != expected["choice"]:
            exists = 0 <= choice < len(scores)
            if not exists or scores.max() - scores[choice] > 2 * tolerance:
                return None
        elif "label" in expected and not np.array_equal(expected["label"], got["label"]):
            return None
        return max(largest_difference(expected[name], got[name]) for name in ("score", "scores"))

    # === Training and measuring ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> ChoiceExamples:
        """Takes ChoiceExamples or (texts, choices); see `as_choice_examples`."""
        return as_choice_examples(x, self.num_choices)

    def targets(self, examples: ChoiceExamples, y: Any = None) -> np.ndarray:
        """int32 (texts,), the indices of the right choices."""
        return choice_labels(examples, labels_of(examples, y))

    def rows(
        self, examples: ChoiceExamples, targets: Any, weights: np.ndarray | None = None
    ) -> LabelledBatches:
        """One group of rows per text, one row per choice."""
        texts = [text for text in examples.texts for _ in range(self.num_choices)]
        choices = [choice for row in examples.choices for choice in row]
        rows = packed_rows(self.tokenizer, texts, choices, max_length=self.max_length)
        data = LabelledRows(rows, targets, weights=weights, group=self.num_choices)
        return LabelledBatches(data, self.tokenizer.pad_token_id)

    def predict_logits(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> np.ndarray:
        """Computes logits of choices, float32 (texts, C); see `tasks.predicting.predict_logits`."""
        return predict_logits(
            self, x, batch_size=batch_size, verbose=verbose, width=self.num_choices
        )

    def objective(self, examples: Any = None) -> Objective:
        """The cross-entropy of choices; the best epoch has the highest accuracy."""
        return Objective(
            outputs=Outputs("label", type(self).__name__, self.num_choices),
            loss=lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=lambda: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            monitor=("val_accuracy", "max"),
        )

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> ChoiceReport:
        """Accuracy, the accuracy by chance, and the probability of this accuracy by chance.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            ChoiceReport.

        Raises:
            DataError: labels that are not choices, or do not fit the texts.
        """
        targets, logits = labelled_logits(self, x, y, batch_size=batch_size)
        return choice_report(targets, logits.argmax(axis=-1), self.num_choices)

"""Predicts whether one sentence follows another."""

from __future__ import annotations

import os
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.documents import NEXT_LABELS
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.inputs import as_examples
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.options import LoadOptions, TaskOptions
from keras_bert_zoo.tasks.predicting import Answers, largest_difference
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.text.tokenizer import Tokenizer

# Ids are those of transformers: True would be 1, "is not next".
_NO_BOOLEANS = (
    f"Expected labels {' and '.join(map(repr, NEXT_LABELS))}, or ids (0: is next), received "
    f"booleans. Pass names: numpy.where(follows, {', '.join(map(repr, NEXT_LABELS))})."
)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class NextSentence(TextClassifier):
    """Predicts whether the second text of a pair follows the first.

    `predict` and the exported model take `text` and `text_pair`. They answer with `is_next`
    (texts,) float32, the probability that the second text follows; `label` (texts,) str, `is_next`
    or `not_next`; and `score` (texts,) float32, the label's probability.

    `fit` takes a tuple of two lists of str and labels, as names or as ids (0 = is next, as in
    transformers); or Examples, such as `data.documents.sentence_pairs` makes from documents.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        head: ClassificationHead with two units.
        max_length: int, tokens of both texts together; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a `max_length` beyond the encoder's positions.

    Source: arXiv 1810.04805, section 3.1; transformers' BertForNextSentencePrediction.
    """

    spec = TaskSpec(
        name="next-sentence", head="next_sentence", pairs=True, constants=("label_map",)
    )

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        *,
        head: ClassificationHead | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        options = TaskOptions(max_length=max_length)
        super().__init__(encoder, tokenizer, NEXT_LABELS, head=head, options=options, **kwargs)

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool = False,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds the task on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. Whether the head starts from fresh weights.
            **options: see `LoadOptions`.

        Returns:
            NextSentence.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, or has no head to load.
        """
        parts = TaskSource(cls, preset, **options).load(new_head=new_head)
        return parts.build(cls, head=parts.head)

    def saved_parts(self) -> SavedParts:
        """The encoder, head and tokenizer: transformers' class has no labels."""
        return SavedParts()

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> Examples:
        """Takes pairs of texts."""
        examples = as_examples(x)
        if examples.text_pairs is None:
            raise DataError("Expected pairs of texts, a tuple of two lists; received single texts.")
        return examples

    def targets(self, examples: Examples, y: Any = None) -> np.ndarray:
        """int32 (texts,), 0 if the second text follows."""
        values = [] if y is None else listed(y, "labels", flatten=True)
        if any(isinstance(value, bool | np.bool_) for value in values):
            raise DataError(_NO_BOOLEANS)
        return super().targets(examples, y)

    def _dataset_targets(self, y: Any) -> Any:
        if getattr(y, "dtype", None) == tf.bool:
            raise DataError(_NO_BOOLEANS)
        return super()._dataset_targets(y)

    def decode(
        self, outputs: tf.Tensor, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts logits to `is_next`, `label` and `score`; see the class."""
        answers = super().decode(outputs, context, options=options)
        return {"is_next": answers.pop("scores")[:, 0], **answers}

    def answer_difference(self, expected: Answers, got: Answers, tolerance: float) -> float | None:
        """Compares two answers; at a probability of 0.5 either label may win."""
        even = abs(float(expected["is_next"]) - 0.5) <= tolerance
        if not even and not np.array_equal(expected["label"], got["label"]):
            return None
        return max(largest_difference(expected[name], got[name]) for name in ("is_next", "score"))

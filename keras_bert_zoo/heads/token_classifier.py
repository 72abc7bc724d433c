"""Heads with logits for every token: labels of tokens, and answer spans."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.layers.token_layout import Layout, spec_of_batch, to_batch


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TokenClassificationHead(ClassificationHead):
    """Maps each token's state to one logit per label, after an optional transform and dropout.

    With two units it is the head of extractive question answering: the logits of the start and
    the end of the answer at each token.

    Args:
        units, ...: as `ClassificationHead`.

    Call arguments:
        x: float (T, H). The encoder's states, one row per token.
        layout: the output of `TokenLayout`.
        training: bool.

    Returns:
        float32 (B, S, units). The packed layout leaves zeros at padding.

    Source: Hugging Face's BertForTokenClassification and BertForQuestionAnswering.
    """

    def compute_output_spec(self, x: Any, layout: Layout, *_: Any, **__: Any) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        return spec_of_batch(layout, self.units, dtype=self.compute_dtype)

    def call(  # type: ignore[override]
        self, x: tf.Tensor, layout: Layout, training: bool = False
    ) -> tf.Tensor:
        """Computes the logits; see the class."""
        return to_batch(super().call(x, training=training), layout)

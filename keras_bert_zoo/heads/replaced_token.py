"""The head of replaced token detection, ELECTRA's pre-training task."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.layers.token_layout import Layout, spec_of_batch


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ReplacedTokenHead(TokenClassificationHead):
    """Computes the logit that a token was replaced, for every token.

    Args: as `ClassificationHead`; `units` must be 1.

    Call arguments:
        x: float (T, H). The encoder's states, one row per token.
        layout: the output of `TokenLayout`.
        training: bool.

    Returns:
        float32 (B, S). The packed layout leaves zeros at padding.

    Source: arXiv 2003.10555, section 2; Hugging Face's ElectraDiscriminatorPredictions.
    """

    def compute_output_spec(self, x: Any, layout: Layout, *_: Any, **__: Any) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        return spec_of_batch(layout, dtype=self.compute_dtype)

    def call(  # type: ignore[override]
        self, x: tf.Tensor, layout: Layout, training: bool = False
    ) -> tf.Tensor:
        """Computes the logits; see the class."""
        return tf.squeeze(super().call(x, layout, training=training), axis=-1)

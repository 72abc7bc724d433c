"""The head of replaced token detection, ELECTRA's pre-training task."""

from __future__ import annotations

import tensorflow as tf

from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.layers.token_layout import Layout


class ReplacedTokenHead(TokenClassificationHead):
    """Computes one logit for every token: that it was replaced.

    Args: as `ClassificationHead`; `units` must be 1.

    Call arguments:
        x: float (T, H). The encoder's states, one row a token.
        layout: what `TokenLayout` returned.
        training: bool.

    Returns:
        float32 (B, S). The packed layout leaves zeros at padding.

    Source: arXiv 2003.10555, section 2; Hugging Face's ElectraDiscriminatorPredictions.
    """

    def call(  # type: ignore[override]
        self, x: tf.Tensor, layout: Layout, training: bool = False
    ) -> tf.Tensor:
        """Computes the logits; see the class."""
        return tf.squeeze(super().call(x, layout, training=training), axis=-1)

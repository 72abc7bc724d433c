"""BERT: absolute positions, segment embeddings, post-LayerNorm (arXiv 1810.04805)."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import Pooler


@keras.saving.register_keras_serializable("keras_bert_zoo")
class BertEncoder(Encoder):
    """A BERT encoder; see `Encoder` for arguments and outputs.

    Also runs MiniLM, the multilingual, Chinese and whole-word-masking models and every other
    checkpoint whose model_type is "bert".
    """

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        return Parts(
            embeddings=Embeddings(config, dtype=dtype, name="embeddings"),
            blocks=[
                EncoderBlock(config, dtype=dtype, name=f"block_{i}")
                for i in range(config.num_layers)
            ],
            pooler=Pooler(
                config.hidden_dim,
                initializer_range=config.initializer_range,
                dtype=dtype,
                name="pooler",
            )
            if pooler
            else None,
        )

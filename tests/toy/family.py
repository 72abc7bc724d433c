"""A toy family: BERT under another name, without its pooler's activation."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_bert_zoo.checkpoints.names.bert import BLOCK, EMBEDDINGS, POOLER, prefixed, repeated
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import Pooler

NAMES = FamilyNames(
    prefix="toy.",
    encoder=lambda config: prefixed("toy.", EMBEDDINGS | repeated(BLOCK, config)),
    poolers={"": prefixed("toy.", POOLER)},
    architectures={"": "ToyModel"},
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(EncoderConfig):
    """The configuration: BERT's."""

    family: str = "toy"


@keras.saving.register_keras_serializable("tests")
class ToyEncoder(Encoder):
    """The encoder: BERT with a linear pooler."""

    config_class = ToyConfig

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers."""
        blocks = [
            EncoderBlock(config, dtype=dtype, name=f"block_{i}") for i in range(config.num_layers)
        ]
        pool = Pooler(config.hidden_dim, activation="linear", dtype=dtype, name="pooler")
        embeddings = Embeddings(config, dtype=dtype, name="embeddings")
        return Parts(embeddings=embeddings, blocks=blocks, pooler=pool if pooler else None)

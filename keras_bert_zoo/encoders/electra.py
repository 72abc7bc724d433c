"""ELECTRA's generator and discriminator: BERT on narrower embeddings (arXiv 2003.10555)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_bert_zoo.config import (
    EncoderConfig,
    check_flags,
    check_integers,
    check_rates,
    check_strings,
)
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import FirstToken, Pooler


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElectraConfig(EncoderConfig):
    """Configuration of an ELECTRA encoder, with the defaults of transformers' ElectraConfig.

    Args:
        embedding_dim: int. Width of the embedding tables. If it is not `hidden_dim`, a dense layer
            maps it to `hidden_dim`.
        summary_projected: bool. Only for multiple choice: whether there is a dense layer between
            the first token and the activation.
        summary_activation: str. Only for multiple choice: the activation; "" for none.
        summary_dropout: float in [0, 1). Only for multiple choice: before the last layer.
        **others: see `EncoderConfig`.
    """

    embedding_dim: int = 128
    hidden_dim: int = 256
    num_heads: int = 4
    intermediate_dim: int = 1024
    summary_projected: bool = True
    summary_activation: str = "gelu"
    summary_dropout: float = 0.1
    family: str = "electra"

    names: ClassVar[Mapping[str, str]] = {
        **EncoderConfig.names,
        "embedding_size": "embedding_dim",
        "summary_use_proj": "summary_projected",
        "summary_activation": "summary_activation",
        "summary_last_dropout": "summary_dropout",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **EncoderConfig.fixed,
        # The other types also pool padding, so that the result of a text depends on its batch.
        "summary_type": ("first",),
        "summary_first_dropout": (0,),
        "summary_proj_to_labels": (False, None),
    }

    def problems(self) -> list[str]:
        """Adds the problems of the family's own fields."""
        return [
            *super().problems(),
            *check_integers(self, "embedding_dim"),
            *check_flags(self, "summary_projected"),
            *check_rates(self, "summary_dropout"),
            *check_strings(self, "summary_activation"),
        ]

    def pooler_is_learned(self, pooled_for: str = "") -> bool:
        """Whether the pooler has weights; see `EncoderConfig.pooler_is_learned`."""
        return self.summary_projected or pooled_for != "multiple_choice"

    @classmethod
    def adapt(cls, values: dict[str, Any]) -> list[str]:
        """Reads null as no activation, as older transformers did."""
        if values.get("summary_activation", "") is None:
            values["summary_activation"] = ""
        return super().adapt(values)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ElectraEncoder(Encoder):
    """An ELECTRA encoder; see `Encoder` for arguments and outputs.

    The pooler is the dense layer with GELU before a classifier. Checkpoints without a head do not
    have it. Multiple choice has another pooler, which the config describes.
    """

    config_class = ElectraConfig
    config: ElectraConfig

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        blocks = shapes.blocks(shapes.numbered(config), shapes.post_norm_block(config))
        return shapes.embeddings(config, width=config.embedding_dim) | blocks

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        width = self.config.embedding_dim
        return Parts(
            embeddings=Embeddings(
                config,
                width=width,
                projected=width != config.hidden_dim,
                dtype=dtype,
                name="embeddings",
            ),
            blocks=[
                EncoderBlock(config, dtype=dtype, name=f"block_{i}")
                for i in range(config.num_layers)
            ],
            pooler=self._make_pooler(dtype) if pooler else None,
        )

    def _make_pooler(self, dtype: Any) -> keras.layers.Layer:
        config = self.config
        activation, dropout = "gelu", self.head_options("classification")["dropout"]
        if self.pooled_for == "multiple_choice":
            activation, dropout = config.summary_activation or "linear", 0.0
            if not config.summary_projected:
                return FirstToken(activation=activation, dtype=dtype, name="pooler")
        return Pooler(
            config.hidden_dim,
            activation=activation,
            dropout=dropout,
            initializer_range=config.initializer_range,
            dtype=dtype,
            name="pooler",
        )

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind == "masked_lm":
            # Hugging Face's ElectraGeneratorPredictions ignores `hidden_act`.
            options["transform_activation"] = "gelu"
            options["transform_units"] = config.embedding_dim
        elif kind == "multiple_choice":
            options["dropout"] = config.summary_dropout
        return options

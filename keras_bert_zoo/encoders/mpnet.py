"""MPNet: BERT with relative positions, shared by all blocks, and no segments (arXiv 2004.09297)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_bert_zoo.config import EncoderConfig, check_integers
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import Pooler
from keras_bert_zoo.layers.relative_positions import NUM_BUCKETS, RelativePositionBias

# Hugging Face's MPNetEmbeddings counts positions from this id and ignores `pad_token_id`.
_PADDING_ID = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class MPNetConfig(EncoderConfig):
    """Configuration of an MPNet encoder, with the defaults of transformers' MPNetConfig.

    Args:
        num_segments: int. Must be 0: there are no segment embeddings, and segment ids are
            ignored.
        relative_buckets: int. Rows of the table of relative positions, at least 32. Only the
            first 32 are used.
        **others: see `EncoderConfig`.
    """

    vocabulary_size: int = 30527
    num_segments: int = 0
    pad_token_id: int = 1
    relative_buckets: int = NUM_BUCKETS
    family: str = "mpnet"

    names: ClassVar[Mapping[str, str]] = {
        "vocab_size": "vocabulary_size",
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "intermediate_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "max_position_embeddings": "max_sequence_length",
        "layer_norm_eps": "layer_norm_epsilon",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
        "relative_attention_num_buckets": "relative_buckets",
        "tie_word_embeddings": "tie_word_embeddings",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: values
        for key, values in EncoderConfig.fixed.items()
        if key not in ("position_embedding_type", "directionality", "pooler_type")
    }
    least_segments: ClassVar[int] = 0

    def problems(self) -> list[str]:
        """Adds the problems of the family's own fields."""
        problems = [
            *super().problems(),
            *check_integers(self, "relative_buckets", least=NUM_BUCKETS),
        ]
        if self.num_segments != 0:
            problems.append(f"`num_segments` must be 0, received {self.num_segments!r}")
        if self.classifier_dropout is not None:
            # config.json has no key for it, so another value could not be saved.
            problems.append(
                f"`classifier_dropout` must be None, received {self.classifier_dropout!r}"
            )
        if not problems and self.max_tokens < 1:
            problems.append(
                f"`max_sequence_length` must be above {_PADDING_ID + 1}, "
                f"received {self.max_sequence_length}"
            )
        return problems

    @property
    def max_tokens(self) -> int:
        """The longest input, in tokens."""
        return self.max_sequence_length - _PADDING_ID - 1


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MPNetEncoder(Encoder):
    """An MPNet encoder; see `Encoder` for arguments and outputs."""

    config_class = MPNetConfig
    config: MPNetConfig

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        table = {"relative_positions/table": (config.relative_buckets, config.num_heads)}
        return super().weight_shapes(config) | table

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        return Parts(
            embeddings=Embeddings(
                config, positions="counted_positions", dtype=dtype, name="embeddings"
            ),
            context=RelativePositionBias(
                config.num_heads,
                rows=self.config.relative_buckets,
                initializer_range=config.initializer_range,
                dtype=dtype,
                name="relative_positions",
            ),
            blocks=[
                EncoderBlock(config, dtype=dtype, name=f"block_{i}")
                for i in range(config.num_layers)
            ],
            pooler=Pooler(
                config.hidden_dim,
                dropout=config.dropout,
                initializer_range=config.initializer_range,
                dtype=dtype,
                name="pooler",
            )
            if pooler
            else None,
        )

    def layout_options(self) -> dict[str, Any]:
        """Requests positions that are counted from the ids."""
        return {"padding_id": _PADDING_ID}

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind == "masked_lm":
            # Hugging Face's MPNetLMHead ignores `hidden_act`.
            options["transform_activation"] = "gelu"
        return options

"""DistilBERT: BERT with half of the blocks, without segments and pooler (arXiv 1910.01108)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np

from keras_bert_zoo.config import EncoderConfig, check_flags, check_rates
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import Pooler


@keras.saving.register_keras_serializable("keras_bert_zoo")
class SinusoidalPositions(keras.initializers.Initializer):
    """Initializes a position table with sines (even columns) and cosines (odd columns).

    Source: arXiv 1706.03762, section 3.5.
    """

    def __call__(self, shape: tuple[int, int], dtype: Any = None) -> Any:
        """Returns the table, float (rows, width)."""
        rows, width = shape
        column = np.arange(width)
        angles = np.arange(rows)[:, np.newaxis] / 10000 ** (2 * (column // 2) / width)
        table = np.where(column % 2, np.cos(angles), np.sin(angles))
        return keras.ops.convert_to_tensor(table, dtype=dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilBertConfig(EncoderConfig):
    """Configuration of a DistilBERT encoder, with the defaults of transformers' DistilBertConfig.

    Args:
        num_segments: int. Must be 0: there are no segment embeddings, and segment ids are
            ignored.
        classifier_dropout: float in [0, 1) or None. `seq_classif_dropout`: before the heads that
            read the pooled output.
        span_dropout: float in [0, 1). `qa_dropout`: before the head of question answering.
        sinusoidal_positions: bool. Whether a new position table starts as sinusoids.
        **others: see `EncoderConfig`.
    """

    num_layers: int = 6
    classifier_dropout: float | None = 0.2
    num_segments: int = 0
    span_dropout: float = 0.1
    sinusoidal_positions: bool = False
    family: str = "distilbert"

    names: ClassVar[Mapping[str, str]] = {
        "vocab_size": "vocabulary_size",
        "dim": "hidden_dim",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "hidden_dim": "intermediate_dim",
        "activation": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "max_position_embeddings": "max_sequence_length",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
        "seq_classif_dropout": "classifier_dropout",
        "qa_dropout": "span_dropout",
        "sinusoidal_pos_embds": "sinusoidal_positions",
        "tie_word_embeddings": "tie_word_embeddings",
    }
    aliases: ClassVar[Mapping[str, str]] = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "is_decoder": (False,),
        "is_encoder_decoder": (False,),
        "add_cross_attention": (False,),
        "cross_attention_hidden_size": (None,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
        # Written by the first versions of transformers' DistilBERT.
        "tie_weights_": (True, None),
    }
    least_segments: ClassVar[int] = 0

    def problems(self) -> list[str]:
        """Adds the problems of the family's own fields."""
        problems = [
            *super().problems(),
            *check_rates(self, "span_dropout"),
            *check_flags(self, "sinusoidal_positions"),
        ]
        if self.num_segments != 0:
            problems.append(f"`num_segments` must be 0, received {self.num_segments!r}")
        if self.layer_norm_epsilon != 1e-12:
            # config.json has no key for it, so another value could not be saved.
            problems.append(
                f"`layer_norm_epsilon` must be 1e-12, received {self.layer_norm_epsilon!r}"
            )
        return problems


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DistilBertEncoder(Encoder):
    """A DistilBERT encoder; see `Encoder` for arguments and outputs.

    The pooler is the dense layer with ReLU before a classifier. Checkpoints without a head do not
    have it.
    """

    config_class = DistilBertConfig
    config: DistilBertConfig

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        initializer = SinusoidalPositions() if self.config.sinusoidal_positions else None
        return Parts(
            embeddings=Embeddings(
                config, position_initializer=initializer, dtype=dtype, name="embeddings"
            ),
            blocks=[
                EncoderBlock(config, dtype=dtype, name=f"block_{i}")
                for i in range(config.num_layers)
            ],
            pooler=Pooler(
                config.hidden_dim,
                activation="relu",
                initializer_range=config.initializer_range,
                dtype=dtype,
                name="pooler",
            )
            if pooler
            else None,
        )

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind == "token_classification":
            options["dropout"] = config.dropout
        elif kind == "question_answering":
            options["dropout"] = config.span_dropout
        return options

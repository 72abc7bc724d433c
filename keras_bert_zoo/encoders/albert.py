"""ALBERT: BERT on narrower embeddings, with blocks that share weights (arXiv 1909.11942)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_bert_zoo.config import MOST_LAYERS, EncoderConfig, check_integers
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import Pooler


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlbertConfig(EncoderConfig):
    """Configuration of an ALBERT encoder; defaults are those of AlbertConfig (xxlarge).

    Args:
        embedding_dim: int. Width of the embedding tables.
        num_layers: int. Number of layers; each layer applies one group.
        num_groups: int. Groups of blocks, at most `num_layers`. Blocks of a group do not share
            weights. The layers are divided evenly among the groups.
        blocks_per_group: int.
        **others: see `EncoderConfig`.
    """

    vocabulary_size: int = 30000
    embedding_dim: int = 128
    hidden_dim: int = 4096
    num_groups: int = 1
    blocks_per_group: int = 1
    num_heads: int = 64
    intermediate_dim: int = 16384
    activation: str = "gelu_new"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float | None = 0.1
    family: str = "albert"

    names: ClassVar[Mapping[str, str]] = {
        **{
            theirs: ours
            for theirs, ours in EncoderConfig.names.items()
            if ours != "classifier_dropout"
        },
        "classifier_dropout_prob": "classifier_dropout",
        "embedding_size": "embedding_dim",
        "num_hidden_groups": "num_groups",
        "inner_group_num": "blocks_per_group",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **EncoderConfig.fixed,
        # Google's checkpoints contain options of experiments that transformers does not support.
        "down_scale_factor": (1, None),
        "gap_size": (0, None),
        "layers_to_keep": ([], None),
        "net_structure_type": (0, None),
        "num_memory_blocks": (0, None),
    }

    def problems(self) -> list[str]:
        """Adds the problems of the family's own fields."""
        problems = [
            *super().problems(),
            *check_integers(self, "embedding_dim", "num_groups", "blocks_per_group"),
        ]
        if not problems and self.num_groups > self.num_layers:
            problems.append(
                f"`num_groups` must be at most `num_layers` = {self.num_layers}, received "
                f"{self.num_groups}"
            )
        if not problems and self.num_layers * self.blocks_per_group > MOST_LAYERS:
            problems.append(
                f"`num_layers` * `blocks_per_group` must be at most {MOST_LAYERS}, received "
                f"{self.num_layers} * {self.blocks_per_group}"
            )
        return problems

    def group_of(self, layer: int) -> int:
        """Returns the index of a layer's group.

        >>> config = AlbertConfig(num_layers=5, num_groups=2)
        >>> [config.group_of(layer) for layer in range(5)]
        [0, 0, 0, 1, 1]
        """
        # Hugging Face's AlbertTransformer divides floats in this order.
        return int(layer / (self.num_layers / self.num_groups))


@keras.saving.register_keras_serializable("keras_bert_zoo")
class AlbertEncoder(Encoder):
    """An ALBERT encoder; see `Encoder` for arguments and outputs.

    It returns hidden states and attention scores for each application of a block: `num_layers` *
    `blocks_per_group` of them.
    """

    config_class = AlbertConfig
    config: AlbertConfig

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        names = [
            f"group_{group}_block_{block}"
            for group in range(config.num_groups)
            for block in range(config.blocks_per_group)
        ]
        tables = shapes.embeddings(config, width=config.embedding_dim, projected=True)
        return tables | shapes.blocks(names, shapes.post_norm_block(config))

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        groups = [
            [
                EncoderBlock(config, dtype=dtype, name=f"group_{group}_block_{block}")
                for block in range(self.config.blocks_per_group)
            ]
            for group in range(self.config.num_groups)
        ]
        return Parts(
            embeddings=Embeddings(
                config,
                width=self.config.embedding_dim,
                projected=True,
                dtype=dtype,
                name="embeddings",
            ),
            blocks=[
                block
                for layer in range(config.num_layers)
                for block in groups[self.config.group_of(layer)]
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

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind == "masked_lm":
            options["transform_units"] = config.embedding_dim
        elif kind == "sentence_order":
            options["dropout"] = super().options_for_head(config, "classification")["dropout"]
        return options

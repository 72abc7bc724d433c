"""MobileBERT: narrow blocks between bottlenecks, trigram input (arXiv 2004.02984)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_bert_zoo.config import MOST_LAYERS, EncoderConfig, check_flags, check_integers
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.bottleneck_block import BottleneckBlock
from keras_bert_zoo.layers.normalization import NORMS
from keras_bert_zoo.layers.pooler import FirstToken, Pooler
from keras_bert_zoo.layers.trigram_embeddings import TrigramEmbeddings
from keras_bert_zoo.validation import show


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileBertConfig(EncoderConfig):
    """Configuration of a MobileBERT encoder, with the defaults of transformers' MobileBertConfig.

    Args:
        embedding_dim: int. Width of the token embedding.
        trigram_input: bool. Whether the input of a token includes its neighbours' embeddings.
        use_bottleneck: bool. Whether blocks compute in the width `bottleneck_dim`; otherwise in
            `hidden_dim`. `num_heads` must divide the width that is used.
        bottleneck_dim: int.
        use_bottleneck_attention: bool. Whether attention reads only the bottleneck's output.
        key_query_shared_bottleneck: bool. Whether queries and keys are computed from a second
            bottleneck.
        num_feedforward: int. Feed-forward networks in a block.
        normalization: str. "no_norm" (a scale and a shift) or "layer_norm".
        classifier_activation: bool. Whether the pooler is a dense layer with tanh; otherwise it
            returns the first token's state.
        **others: see `EncoderConfig`.
    """

    hidden_dim: int = 512
    num_layers: int = 24
    num_heads: int = 4
    intermediate_dim: int = 512
    activation: str = "relu"
    dropout: float = 0.0
    embedding_dim: int = 128
    trigram_input: bool = True
    use_bottleneck: bool = True
    bottleneck_dim: int = 128
    use_bottleneck_attention: bool = False
    key_query_shared_bottleneck: bool = True
    num_feedforward: int = 4
    normalization: str = "no_norm"
    classifier_activation: bool = True
    family: str = "mobilebert"

    names: ClassVar[Mapping[str, str]] = {
        **EncoderConfig.names,
        "embedding_size": "embedding_dim",
        "trigram_input": "trigram_input",
        "use_bottleneck": "use_bottleneck",
        "intra_bottleneck_size": "bottleneck_dim",
        "use_bottleneck_attention": "use_bottleneck_attention",
        "key_query_shared_bottleneck": "key_query_shared_bottleneck",
        "num_feedforward_networks": "num_feedforward",
        "normalization_type": "normalization",
        "classifier_activation": "classifier_activation",
        # Redundant; `adapt` checks it against two other keys.
        "true_hidden_size": "attention_dim",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: values
        for key, values in EncoderConfig.fixed.items()
        if key not in ("position_embedding_type", "directionality", "pooler_type")
    }

    @property
    def attention_dim(self) -> int:
        """The width in which blocks compute, divided among the attention heads."""
        return self.bottleneck_dim if self.use_bottleneck else self.hidden_dim

    def problems(self) -> list[str]:
        """Adds the problems of the family's own fields."""
        problems = [
            *super().problems(),
            *check_integers(self, "embedding_dim", "bottleneck_dim"),
            *check_integers(self, "num_feedforward", most=MOST_LAYERS),
            *check_flags(
                self,
                "trigram_input",
                "use_bottleneck",
                "use_bottleneck_attention",
                "key_query_shared_bottleneck",
                "classifier_activation",
            ),
        ]
        if self.normalization not in tuple(NORMS):
            problems.append(
                f"`normalization` must be one of {', '.join(NORMS)}, received "
                f"{show(self.normalization)}"
            )
        if problems:
            return problems
        if self.attention_dim % self.num_heads:
            problems.append(
                f"`num_heads` must divide the width of the blocks, {self.attention_dim}, received "
                f"{self.num_heads}"
            )
        reads_input = not (self.use_bottleneck_attention or self.key_query_shared_bottleneck)
        if self.use_bottleneck and reads_input and self.bottleneck_dim != self.hidden_dim:
            problems.append(
                "`use_bottleneck_attention` or `key_query_shared_bottleneck` must be true if "
                f"`bottleneck_dim` ({self.bottleneck_dim}) is not `hidden_dim` ({self.hidden_dim})"
            )
        return problems

    def head_problems(self) -> list[str]:
        """Returns no problems: `problems` checks `num_heads` against the width of the blocks."""
        return []

    @classmethod
    def adapt(cls, values: dict[str, Any]) -> list[str]:
        """Checks and removes the redundant key; see `EncoderConfig.adapt`."""
        size = values.pop("attention_dim", None)
        default = {field.name: field.default for field in dataclasses.fields(cls)}
        values_or_defaults = default | values
        key = "bottleneck_dim" if values_or_defaults["use_bottleneck"] else "hidden_dim"
        expected = values_or_defaults[key]
        if size is None or size == expected:
            return []
        return [
            f"`true_hidden_size` = {show(size)} is not supported (expected `{key}`, {expected})"
        ]

    def pooler_is_learned(self, pooled_for: str = "") -> bool:
        """Whether the pooler has weights; see `EncoderConfig.pooler_is_learned`."""
        return self.classifier_activation


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MobileBertEncoder(Encoder):
    """A MobileBERT encoder; see `Encoder` for arguments and outputs."""

    config_class = MobileBertConfig
    config: MobileBertConfig

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        hidden, narrow = config.hidden_dim, config.embedding_dim
        # The tables of positions and segments are added after the projection.
        result = shapes.embeddings(config, projected=False)
        result["embeddings/token_table"] = (config.vocabulary_size, narrow)
        columns = 3 * narrow if config.trigram_input else narrow
        result |= shapes.dense("embeddings/projection", columns, hidden)
        return result | shapes.blocks(shapes.numbered(config), _block_shapes(config))

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        mobile = self.config
        return Parts(
            embeddings=TrigramEmbeddings(
                config,
                width=mobile.embedding_dim,
                trigram=mobile.trigram_input,
                norm=mobile.normalization,
                dtype=dtype,
                name="embeddings",
            ),
            blocks=[
                BottleneckBlock(
                    hidden_dim=config.hidden_dim,
                    bottleneck_dim=mobile.bottleneck_dim if mobile.use_bottleneck else None,
                    num_heads=config.num_heads,
                    intermediate_dim=config.intermediate_dim,
                    activation=config.activation,
                    num_feedforward=mobile.num_feedforward,
                    norm=mobile.normalization,
                    epsilon=config.layer_norm_epsilon,
                    dropout=config.dropout,
                    attention_dropout=config.attention_dropout,
                    attend_bottleneck=mobile.use_bottleneck_attention,
                    shared_bottleneck=mobile.key_query_shared_bottleneck,
                    initializer_range=config.initializer_range,
                    dtype=dtype,
                    name=f"block_{i}",
                )
                for i in range(config.num_layers)
            ],
            pooler=self._make_pooler(dtype) if pooler else None,
        )

    def layout_options(self) -> dict[str, Any]:
        """Requests the ids of neighbours for trigram input."""
        return {"neighbours": self.config.trigram_input}

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind == "masked_lm":
            options["extra_units"] = config.hidden_dim - config.embedding_dim
            if options["extra_units"] < 0:
                raise ConfigError(
                    "Expected a token embedding no wider than the hidden states for a "
                    f"masked-language-model head, received `embedding_dim` {config.embedding_dim} "
                    f"and `hidden_dim` {config.hidden_dim}."
                )
        return options

    def _make_pooler(self, dtype: Any) -> keras.layers.Layer:
        if not self.config.pooler_is_learned():
            return FirstToken(dtype=dtype, name="pooler")
        return Pooler(
            self.config.hidden_dim,
            initializer_range=self.config.initializer_range,
            dtype=dtype,
            name="pooler",
        )


def _block_shapes(config: MobileBertConfig) -> Shapes:
    """Returns the shapes of a block. Its narrow layers have the width `attention_dim`."""
    hidden, width = config.hidden_dim, config.attention_dim
    narrow = config.use_bottleneck and config.use_bottleneck_attention
    shared = config.use_bottleneck and config.key_query_shared_bottleneck
    result = shapes.attention(
        width if narrow or shared else hidden, width if narrow else hidden, width
    )
    for i in range(config.num_feedforward - 1):
        result |= shapes.feed_forward(f"feed_forward_{i}/", width, config.intermediate_dim)
    result |= shapes.feed_forward("feed_forward/", width, config.intermediate_dim)
    bottlenecks = [("input_bottleneck", hidden, width), ("output_bottleneck", width, hidden)]
    if shared:
        bottlenecks.append(("query_key_bottleneck", hidden, width))
    for name, inputs, units in bottlenecks if config.use_bottleneck else []:
        result |= shapes.dense(f"{name}/dense", inputs, units) | shapes.norm(f"{name}/norm", units)
    return result

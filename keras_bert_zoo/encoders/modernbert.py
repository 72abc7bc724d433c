"""ModernBERT: rotary positions, local and global attention, GeGLU, pre-norm (arXiv 2412.13663)."""

from __future__ import annotations

from typing import Any, cast

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.encoders.modernbert_config import GLOBAL, LOCAL, ModernBertConfig
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.layers.attention_groups import MASKED_SCORE, group_positions
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.embeddings import look_up
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.pre_norm_block import (
    FusedRotarySelfAttention,
    GatedFeedForward,
    PreNormBlock,
)
from keras_bert_zoo.layers.rotary import rotary_frequencies, rotary_tables, spec_of_tables
from keras_bert_zoo.layers.token_layout import Layout, mean_of_tokens
from keras_bert_zoo.layers.training_hooks import add_perturbation


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ModernBertEmbeddings(ConfiguredLayer):
    """Looks up token embeddings, normalizes them and applies dropout; it adds no positions.

    Args:
        config: ModernBertConfig.

    Call arguments:
        layout: the output of `TokenLayout`.
        training: bool.

    Returns:
        float (T, H), compute dtype.
    """

    def __init__(self, config: ModernBertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token_table = self.add_weight(
            name="token_table",
            shape=(config.vocabulary_size, config.hidden_dim),
            initializer=TruncatedNormal(stddev=config.initializer_range),
            autocast=False,
        )
        self.norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon,
            use_bias=config.norm_bias,
            dtype="float32",
            name="norm",
        )
        self.dropout = Dropout(config.dropout, dtype=self.dtype_policy)

    def build(self, *_: Any) -> None:
        """Creates the weights of the norm."""
        self.norm.build(self.token_table.shape)

    def compute_output_spec(self, layout: Layout, training: bool = False) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        shape = (layout["token_ids"].shape[0], self.token_table.shape[1])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def call(self, layout: Layout, training: bool = False) -> tf.Tensor:
        """Embeds the tokens; see the class."""
        x = add_perturbation(look_up(self.token_table, layout["token_ids"]), layout)
        x = self.norm(x, training=training)
        return self.dropout(tf.cast(x, self.compute_dtype), training=training)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class LocalAndGlobal(ConfiguredLayer):
    """Computes the rotary tables of both kinds of attention, and the local window, for all blocks.

    Args:
        config: ModernBertConfig.

    Call arguments:
        layout: the output of `TokenLayout`.

    Returns:
        dict: `full_attention`, `sliding_attention`: rotary tables, see `rotary_tables`; and
        `window`, a list of float32 (n, 1, s, s), one per group: the mask, plus a large negative
        number where a key is too far from a query.
    """

    def __init__(self, config: ModernBertConfig, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.reach = config.local_attention // 2
        self.frequencies = {
            GLOBAL: rotary_frequencies(config.head_dim, base=config.global_theta)
            / config.global_factor,
            LOCAL: rotary_frequencies(config.head_dim, base=config.local_theta)
            / config.local_factor,
        }
        self.kinds = sorted(set(config.types))

    def compute_output_spec(self, layout: Layout) -> dict[str, Any]:
        """Returns the shapes and dtypes of `call`'s output, without a graph."""
        shared: dict[str, Any] = {
            kind: spec_of_tables(layout, 2 * len(self.frequencies[kind])) for kind in self.kinds
        }
        if LOCAL in self.kinds:
            shared["window"] = [
                keras.KerasTensor((None, 1, None, None), dtype="float32") for _ in layout["attend"]
            ]
        return shared

    def call(self, layout: Layout) -> dict[str, Any]:
        """Computes the shared tensors; see the class."""
        shared: dict[str, Any] = {
            kind: rotary_tables(layout, self.frequencies[kind]) for kind in self.kinds
        }
        if LOCAL in self.kinds:
            shared["window"] = [
                mask + self._far(positions)
                for mask, positions in zip(layout["attend"], group_positions(layout), strict=True)
            ]
        return shared

    def _far(self, positions: tf.Tensor) -> tf.Tensor:
        distance = tf.abs(positions[:, :, tf.newaxis] - positions[:, tf.newaxis, :])
        return tf.where(distance <= self.reach, 0.0, MASKED_SCORE)[:, tf.newaxis]


@keras.saving.register_keras_serializable("keras_bert_zoo")
class PredictionHead(ConfiguredLayer):
    """Pools by the first token or the mean; applies a dense layer, an activation and a LayerNorm.

    Args:
        config: ModernBertConfig.

    Call arguments:
        x: float (T, H), or (B, H) if it holds only the first tokens.
        layout: the output of `TokenLayout`; None if `x` holds only the first tokens.
        training: bool.

    Returns:
        float (B, H), compute dtype.

    Source: Hugging Face's modeling_modernbert.py, "ModernBertPredictionHead".
    """

    def __init__(self, config: ModernBertConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reads_first_token = config.classifier_pooling == "cls"
        self.dense = Dense(
            config.hidden_dim,
            activation=config.classifier_activation,
            use_bias=config.classifier_bias,
            initializer_range=config.initializer_range,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon,
            use_bias=config.norm_bias,
            dtype=self.dtype_policy,
            name="norm",
        )

    def build(self, x_shape: tuple[int | None, ...], *_: Any) -> None:
        """Creates the weights of the dense layer and of the norm."""
        self.dense.build(x_shape)
        self.norm.build((None, self.dense.units))

    def compute_output_spec(
        self, x: Any, layout: Layout | None = None, training: bool = False
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        rows = x.shape[0] if layout is None else layout["first_tokens"].shape[0]
        return keras.KerasTensor((rows, self.dense.units), dtype=self.compute_dtype)

    def call(self, x: tf.Tensor, layout: Layout | None = None, training: bool = False) -> tf.Tensor:
        """Pools; see the class."""
        if layout is not None:
            if self.reads_first_token:
                x = tf.gather(x, layout["first_tokens"])
            else:
                x = mean_of_tokens(x, layout)
        return self.norm(self.dense(x, training=training), training=training)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ModernBertEncoder(Encoder):
    """A ModernBERT encoder; see `Encoder` for arguments and outputs.

    It has no segments and ignores `segment_ids`. The pooler is the prediction head of Hugging
    Face's sequence classifiers.
    """

    config_class = ModernBertConfig

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        width, bias = config.hidden_dim, config.norm_bias
        result: Shapes = {"embeddings/token_table": (config.vocabulary_size, width)}
        result |= shapes.norm("embeddings/norm", width, bias=bias)
        result |= shapes.blocks(shapes.numbered(config), _block_shapes(config))
        if config.num_layers > 1:  # the first block has no norm before its attention
            norm = shapes.norm("attention_norm", width, bias=bias)
            result |= shapes.blocks(shapes.numbered(config)[1:], norm)
        return result | shapes.norm("final_norm", width, bias=bias)

    @classmethod
    def pooler_shapes(cls, config: Any, pooled_for: str = "") -> Shapes:
        """Returns the shapes of the pooler; see `Encoder.pooler_shapes`."""
        if not config.pooler_is_learned(pooled_for):
            return {}
        width = config.hidden_dim
        kernel = shapes.dense("pooler/dense", width, width, bias=config.classifier_bias)
        return kernel | shapes.norm("pooler/norm", width, bias=config.norm_bias)

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        config = cast(ModernBertConfig, config)
        return Parts(
            embeddings=ModernBertEmbeddings(config, dtype=dtype, name="embeddings"),
            context=LocalAndGlobal(config, dtype=dtype, name="local_and_global"),
            blocks=[_block(config, i, dtype) for i in range(config.num_layers)],
            final=LayerNormalization(
                epsilon=config.layer_norm_epsilon,
                use_bias=config.norm_bias,
                dtype=dtype,
                name="final_norm",
            ),
            pooler=PredictionHead(config, dtype=dtype, name="pooler") if pooler else None,
        )

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind in ("masked_lm", "token_classification", "question_answering"):
            options |= {
                "dropout": 0.0 if kind == "masked_lm" else config.classifier_dropout or 0.0,
                "transform_units": config.hidden_dim,
                "transform_activation": config.classifier_activation,
                "transform_bias": config.classifier_bias,
                "norm_epsilon": config.layer_norm_epsilon,
                "norm_bias": config.norm_bias,
            }
        if kind == "masked_lm":
            options["decoder_bias"] = config.decoder_bias
        return options


def _block(config: ModernBertConfig, index: int, dtype: Any) -> PreNormBlock:
    kind = config.types[index]
    shared = {"initializer_range": config.initializer_range, "dtype": dtype}
    attention = FusedRotarySelfAttention(
        hidden_dim=config.hidden_dim,
        num_heads=config.num_heads,
        dropout=config.attention_dropout,
        tables=kind,
        bias="window" if kind == LOCAL else "",
        use_bias=config.attention_bias,
        name="attention",
        **shared,
    )
    feed_forward = GatedFeedForward(
        intermediate_dim=config.intermediate_dim,
        output_dim=config.hidden_dim,
        activation=config.activation,
        use_bias=config.feed_forward_bias,
        dropout=config.feed_forward_dropout,
        name="feed_forward",
        **shared,
    )
    return PreNormBlock(
        attention=attention,
        feed_forward=feed_forward,
        hidden_dim=config.hidden_dim,
        epsilon=config.layer_norm_epsilon,
        norm_bias=config.norm_bias,
        normalize_first=index > 0,
        output_bias=config.attention_bias,
        dropout=config.attention_dropout,
        name=f"block_{index}",
        **shared,
    )


def _block_shapes(config: ModernBertConfig) -> Shapes:
    """Returns the shapes of a block, without the norm before its attention."""
    width, inner = config.hidden_dim, config.intermediate_dim
    result = shapes.dense("attention/projection", width, 3 * width, bias=config.attention_bias)
    result |= shapes.dense("attention_output", width, width, bias=config.attention_bias)
    bias = config.feed_forward_bias
    result |= shapes.dense("feed_forward/expansion", width, 2 * inner, bias=bias)
    result |= shapes.dense("feed_forward/contraction", inner, width, bias=bias)
    return result | shapes.norm("feed_forward_norm", width, bias=config.norm_bias)

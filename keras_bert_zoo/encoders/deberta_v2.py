"""DeBERTa v2 and v3: disentangled attention (arXiv 2006.03654, 2111.09543)."""

from __future__ import annotations

from typing import Any, cast

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.deberta_v2_config import DebertaV2Config
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.layers.activations import get_activation
from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.disentangled_attention import (
    DisentangledSelfAttention,
    RelativeDistances,
)
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.embeddings import look_up
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.pooler import Pooler
from keras_bert_zoo.layers.token_layout import Layout, from_batch, to_batch
from keras_bert_zoo.layers.training_hooks import add_perturbation


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DebertaEmbeddings(ConfiguredLayer):
    """Sums, projects and normalizes the embeddings, and sets masked tokens to zero.

    Args:
        config: DebertaV2Config.

    Call arguments:
        layout: the output of `TokenLayout`.
        training: bool.

    Returns:
        float (T, H), compute dtype; zeros where a token is masked.

    Source: microsoft/DeBERTa, bert.py, "BertEmbeddings".
    """

    def __init__(self, config: DebertaV2Config, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = config.hidden_dim
        width = config.embedding_dim or config.hidden_dim
        initializer = TruncatedNormal(stddev=config.initializer_range)

        def table(name: str, rows: int) -> Any:
            return self.add_weight(
                name=name, shape=(rows, width), initializer=initializer.clone(), autocast=False
            )

        self.token_table = table("token_table", config.vocabulary_size)
        self.position_table = (
            table("position_table", config.max_sequence_length)
            if config.position_biased_input
            else None
        )
        self.segment_table = (
            table("segment_table", config.num_segments) if config.num_segments else None
        )
        self.projection = None
        if width != config.hidden_dim:
            self.projection = Dense(
                config.hidden_dim,
                use_bias=False,
                initializer_range=config.initializer_range,
                dtype="float32",
                name="projection",
            )
        self.norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype="float32", name="norm"
        )
        self.dropout = Dropout(config.dropout, dtype=self.dtype_policy)

    def build(self, *_: Any) -> None:
        """Creates the weights of the projection and of the norm."""
        if self.projection is not None:
            self.projection.build(self.token_table.shape)
        self.norm.build((None, self.hidden_dim))

    def compute_output_spec(self, layout: Layout, training: bool = False) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        shape = (layout["token_ids"].shape[0], self.hidden_dim)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def call(self, layout: Layout, training: bool = False) -> tf.Tensor:
        """Embeds the tokens; see the class."""
        x = add_perturbation(look_up(self.token_table, layout["token_ids"]), layout)
        if self.position_table is not None:
            x += tf.gather(self.position_table.value, layout["positions"])
        if self.segment_table is not None:
            x += tf.gather(self.segment_table.value, layout["segment_ids"])
        if self.projection is not None:
            x = self.projection(x, training=training)
        x = self.norm(x, training=training)
        x *= tf.cast(layout["attended"], x.dtype)[:, tf.newaxis]
        return self.dropout(tf.cast(x, self.compute_dtype), training=training)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TokenConvolution(ConfiguredLayer):
    """Convolves each text's tokens, adds the first block's output and normalizes.

    It is one matrix product over the concatenated neighbours, because rank-2 kernels are fast.

    Args:
        config: DebertaV2Config.

    Call arguments:
        embedded: float (T, H). Output of the embeddings.
        x: float (T, H). Output of the first block.
        layout: the output of `TokenLayout`.
        training: bool.

    Returns:
        float (T, H).

    Source: microsoft/DeBERTa, bert.py, "ConvLayer".
    """

    def __init__(self, config: DebertaV2Config, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = config.conv_kernel_size
        self.groups = config.conv_groups
        self.initializer_range = config.initializer_range
        self.activate = get_activation(config.conv_activation)
        self.norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.dropout = Dropout(config.dropout, dtype=self.dtype_policy)

    def build(self, embedded_shape: tuple[Any, ...], x_shape: Any = None) -> None:
        """Creates `kernel` (width, H / groups, H) and `bias` (H,)."""
        hidden = embedded_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.width, hidden // self.groups, hidden),
            initializer=TruncatedNormal(stddev=self.initializer_range),
        )
        self.bias = self.add_weight(name="bias", shape=(hidden,), initializer="zeros")
        self.norm.build(embedded_shape)

    def call(
        self, embedded: tf.Tensor, x: tf.Tensor, layout: Layout, training: bool = False
    ) -> tf.Tensor:
        """Convolves; see the class."""
        attended = tf.cast(layout["attended"], x.dtype)[:, tf.newaxis]
        batch = to_batch(embedded * attended, layout)  # (B, S, H), zeros at padding
        reach = self.width // 2
        columns = tf.shape(batch)[1]
        padded = tf.pad(batch, [[0, 0], [reach, reach], [0, 0]])
        shifted = [
            from_batch(padded[:, offset : offset + columns], layout) for offset in range(self.width)
        ]
        if "slots" in layout:  # tokens of other examples are no neighbours
            slots = layout["slots"][:, tf.newaxis] + 1  # (T, 1)
            places = tf.pad(to_batch(slots, layout), [[0, 0], [reach, reach], [0, 0]])
            for offset, neighbours in enumerate(shifted):
                same = from_batch(places[:, offset : offset + columns], layout) == slots
                shifted[offset] = neighbours * tf.cast(same, neighbours.dtype)
        kernel = tf.convert_to_tensor(self.kernel)
        outputs = []
        for group in range(self.groups):
            begin, end = group * kernel.shape[1], (group + 1) * kernel.shape[1]
            neighbourhood = tf.concat([tokens[:, begin:end] for tokens in shifted], axis=1)
            outputs.append(tf.matmul(neighbourhood, _group_kernel(kernel, group, self.groups)))
        convolved = tf.nn.bias_add(tf.concat(outputs, axis=1), self.bias) * attended
        convolved = self.activate(self.dropout(convolved, training=training))
        return self.norm(x + convolved, training=training) * attended


def _group_kernel(kernel: tf.Tensor, group: int, groups: int) -> tf.Tensor:
    """(width, in, out) of all groups -> (width * in, out / groups) of one."""
    outputs = kernel.shape[2] // groups
    part = kernel[:, :, group * outputs : (group + 1) * outputs]
    return tf.reshape(part, [-1, outputs])


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DebertaBlock(EncoderBlock):
    """A post-LayerNorm block with disentangled attention; the first may have a convolution.

    Args:
        config: DebertaV2Config.
        convolution: bool. Whether this is the block with the convolution.
    """

    def __init__(
        self, config: DebertaV2Config, *, convolution: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(config, **kwargs)
        self.convolution = None
        if convolution:
            self.convolution = TokenConvolution(config, dtype=self.dtype_policy, name="convolution")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the layers' weights, for an input (T, H)."""
        super().build(input_shape)
        if self.convolution is not None:
            self.convolution.build(input_shape)

    def make_attention(self, config: EncoderConfig, **options: Any) -> SelfAttention:
        """Builds the attention; see `EncoderBlock.make_attention`."""
        config = cast(DebertaV2Config, config)
        return DisentangledSelfAttention(
            hidden_dim=config.hidden_dim,
            num_heads=config.num_heads,
            dropout=config.attention_dropout,
            content_to_position="c2p" in config.position_attention,
            position_to_content="p2c" in config.position_attention,
            share_projections=config.share_attention_key,
            position_dropout=config.dropout,
            name="attention",
            **options,
        )

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        training: bool = False,
        first_token_only: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Transforms the tokens; see `EncoderBlock`."""
        if self.convolution is None:
            return super().call(x, layout, training=training, first_token_only=first_token_only)
        # The convolution computes all tokens. `first_token_only` is only set here in a model of one
        # block, and then selects from the result.
        transformed, probabilities = super().call(x, layout, training=training)
        output = self.convolution(x, transformed, layout, training=training)
        if first_token_only:
            output = tf.gather(output, layout["first_tokens"])
        return output, probabilities


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DebertaV2Encoder(Encoder):
    """A DeBERTa v2 or v3 encoder; see `Encoder` for arguments and outputs.

    The pooler is Hugging Face's ContextPooler, which its classifiers use.
    """

    config_class = DebertaV2Config

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        hidden, width = config.hidden_dim, config.embedding_dim or config.hidden_dim
        result = shapes.embeddings(
            config, width=width, positions=config.position_biased_input, projected=False
        )
        result |= shapes.norm("embeddings/norm", hidden)
        if width != hidden:
            result |= shapes.dense("embeddings/projection", width, hidden, bias=False)
        block = shapes.post_norm_block(config)
        if config.relative_attention:
            span = config.position_buckets if config.position_buckets > 0 else config.distance_limit
            result["relative_distances/table"] = (2 * span, hidden)
            if config.normalize_distances:
                result |= shapes.norm("relative_distances/norm", hidden)
            if not config.share_attention_key:
                for kind, name in (("c2p", "position_key"), ("p2c", "position_query")):
                    if kind in config.position_attention:
                        block |= shapes.dense(f"attention/{name}", hidden, hidden)
        result |= shapes.blocks(shapes.numbered(config), block)
        if config.conv_kernel_size:
            inputs = hidden // config.conv_groups
            result["block_0/convolution/kernel"] = (config.conv_kernel_size, inputs, hidden)
            result["block_0/convolution/bias"] = (hidden,)
            result |= shapes.norm("block_0/convolution/norm", hidden)
        return result

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        config = cast(DebertaV2Config, config)
        context = None
        if config.relative_attention:
            buckets = config.position_buckets
            context = RelativeDistances(
                span=buckets if buckets > 0 else config.distance_limit,
                num_buckets=buckets,
                max_distance=config.distance_limit,
                hidden_dim=config.hidden_dim,
                normalize=config.normalize_distances,
                epsilon=config.layer_norm_epsilon,
                initializer_range=config.initializer_range,
                dtype=dtype,
                name="relative_distances",
            )
        return Parts(
            embeddings=DebertaEmbeddings(config, dtype=dtype, name="embeddings"),
            context=context,
            blocks=[
                DebertaBlock(
                    config,
                    convolution=i == 0 and config.conv_kernel_size > 0,
                    dtype=dtype,
                    name=f"block_{i}",
                )
                for i in range(config.num_layers)
            ],
            pooler=Pooler(
                config.hidden_dim,
                activation=config.pooler_activation,
                dropout=config.pooler_dropout,
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
        if kind == "masked_lm" and config.legacy:
            options["transform_units"] = config.embedding_dim or config.hidden_dim
        elif kind == "masked_lm":
            options["tied"] = True  # transformers ignores the config here
        if kind == "token_classification":
            options["dropout"] = config.dropout  # `cls_dropout` is the sequence classifier's
        return options

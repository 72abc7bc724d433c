"""DeBERTa v2 and v3: disentangled attention (arXiv 2006.03654, 2111.09543)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import keras
import tensorflow as tf

from keras_bert_zoo.config import (
    EncoderConfig,
    check_flags,
    check_integers,
    check_rates,
    check_strings,
    is_integer,
    short,
)
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.layers.activations import get_activation
from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.disentangled_attention import (
    DisentangledSelfAttention,
    RelativeDistances,
)
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.pooler import Pooler
from keras_bert_zoo.layers.token_layout import Layout, from_batch, to_batch

_POSITION_ATTENTION = ("c2p", "p2c")

# Options outside transformers' config class, and what their absence means.
_ABSENT = {
    "position_buckets": -1,
    "share_att_key": False,
    "norm_rel_ebd": "none",
    "conv_kernel_size": 0,
    "conv_act": "tanh",
    "conv_groups": 1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebertaV2Config(EncoderConfig):
    """DeBERTa v2's and v3's configuration; see `EncoderConfig` for the fields that all share.

    Defaults are those of Hugging Face's DebertaV2Config.

    Args:
        embedding_dim: int or None. Width of the embeddings; None: `hidden_dim`.
        relative_attention: bool. Whether attention knows relative positions.
        max_relative_positions: int. The largest distance; below 1: `max_sequence_length`.
        position_buckets: int. Positive: far distances share logarithmic buckets.
        position_attention: tuple of "c2p" (content to position) and "p2c" (position to content).
        share_attention_key: bool. Distances use the projections of contents.
        normalize_distances: bool. Whether the embeddings of distances are layer-normalized.
        position_biased_input: bool. Whether the embeddings hold absolute positions.
        conv_kernel_size: int. Positive: a convolution beside the first block, over so many tokens.
        conv_groups: int. Of that convolution.
        conv_activation: str. Behind it.
        pooler_activation: str.
        pooler_dropout: float in [0, 1). Before the pooler's dense layer.
        legacy: bool. Whether a masked-language-model head is Hugging Face's first one.

    Raises:
        ConfigError: a value outside its range; the message names the field.
    """

    vocabulary_size: int = 128100
    hidden_dim: int = 1536
    num_layers: int = 24
    num_heads: int = 24
    intermediate_dim: int = 6144
    num_segments: int = 0
    layer_norm_epsilon: float = 1e-7
    embedding_dim: int | None = None
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_buckets: int = -1
    position_attention: tuple[str, ...] = ()
    share_attention_key: bool = False
    normalize_distances: bool = False
    position_biased_input: bool = True
    conv_kernel_size: int = 0
    conv_groups: int = 1
    conv_activation: str = "tanh"
    pooler_activation: str = "gelu"
    pooler_dropout: float = 0.0
    legacy: bool = True
    family: str = "deberta-v2"

    names: ClassVar[Mapping[str, str]] = {
        key: name
        for key, name in EncoderConfig.names.items()
        if key not in ("classifier_dropout", "position_embedding_type")
    } | {
        "cls_dropout": "classifier_dropout",
        "embedding_size": "embedding_dim",
        "relative_attention": "relative_attention",
        "max_relative_positions": "max_relative_positions",
        "position_buckets": "position_buckets",
        "pos_att_type": "position_attention",
        "share_att_key": "share_attention_key",
        "norm_rel_ebd": "normalize_distances",
        "position_biased_input": "position_biased_input",
        "conv_kernel_size": "conv_kernel_size",
        "conv_groups": "conv_groups",
        "conv_act": "conv_activation",
        "pooler_hidden_act": "pooler_activation",
        "pooler_dropout": "pooler_dropout",
        "legacy": "legacy",
        # Read for what they imply, and taken out by `adapt`.
        "pooler_hidden_size": "pooler_hidden_size",
        "attention_head_size": "attention_head_size",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "is_decoder": (False,),
        "is_encoder_decoder": (False,),
        "add_cross_attention": (False,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
        "z_steps": (0, 1, None),
    }
    neutral: ClassVar[frozenset[str]] = frozenset({"position_embedding_type", "padding_idx"})
    least_segments: ClassVar[int] = 0

    @classmethod
    def adapt(cls, values: dict[str, Any]) -> list[str]:
        """Reads lists written as "p2c|c2p", and sizes that must be what they are here."""
        problems = []
        told = values.get("position_attention")
        kinds = told.lower().split("|") if isinstance(told, str) else told or ()
        kinds = list(kinds) if isinstance(kinds, list | tuple) else [kinds]
        kinds = [kind.strip() if isinstance(kind, str) else kind for kind in kinds]
        kinds = [kind for kind in kinds if kind not in ("", "none")]
        if any(kind not in _POSITION_ATTENTION for kind in kinds):
            problems.append(
                f"`pos_att_type` = {short(told)} is not supported (expected some of "
                f"{', '.join(_POSITION_ATTENTION)})"
            )
        values["position_attention"] = tuple(dict.fromkeys(map(str, kinds)))
        norms = values.get("normalize_distances", "none")
        parts = (
            [part.strip() for part in norms.lower().split("|")] if isinstance(norms, str) else []
        )
        if not isinstance(norms, bool):
            if any(part not in ("none", "layer_norm", "") for part in parts) or not parts:
                problems.append(
                    f"`norm_rel_ebd` = {short(norms)} is not supported (expected layer_norm)"
                )
            values["normalize_distances"] = "layer_norm" in parts
        hidden = values.get("hidden_dim", cls.hidden_dim)
        heads = values.get("num_heads", cls.num_heads)
        told_sizes = {
            key: values.pop(key, None) for key in ("pooler_hidden_size", "attention_head_size")
        }
        if not (is_integer(hidden) and is_integer(heads) and heads > 0):
            return problems  # which `problems` says of the fields themselves
        expected = {"pooler_hidden_size": hidden, "attention_head_size": hidden // heads}
        for key, found in told_sizes.items():
            if found is not None and found != expected[key]:
                problems.append(
                    f"`{key}` = {short(found)} is not supported (expected {expected[key]})"
                )
        return problems

    def problems(self) -> list[str]:
        """Says what is wrong with the values, a clause each."""
        problems = [
            *super().problems(),
            *check_flags(
                self,
                "relative_attention",
                "share_attention_key",
                "normalize_distances",
                "position_biased_input",
                "legacy",
            ),
            *check_integers(self, "conv_kernel_size", least=0),
            *check_integers(self, "max_relative_positions", "position_buckets", least=-1),
            *check_integers(self, "conv_groups"),
            *check_rates(self, "pooler_dropout"),
            *check_strings(self, "conv_activation", "pooler_activation"),
        ]
        if self.embedding_dim is not None:
            problems += check_integers(self, "embedding_dim")
        if problems:
            return problems
        if self.conv_kernel_size and self.conv_kernel_size % 2 == 0:
            problems.append(f"`conv_kernel_size` must be odd, got {self.conv_kernel_size}")
        if self.hidden_dim % self.conv_groups:
            problems.append(f"`conv_groups` must divide `hidden_dim`, got {self.conv_groups}")
        middle = self.position_buckets // 2  # the first distance that shares a bucket
        if self.position_buckets > 0 and not 1 <= middle < self.distance_limit - 1:
            problems.append(
                "`position_buckets` must be at least 2, and half of it less than the largest "
                f"distance - 1, got {self.position_buckets} and {self.distance_limit}"
            )
        return problems

    @property
    def distance_limit(self) -> int:
        """The largest relative distance."""
        limit = self.max_relative_positions
        return limit if limit >= 1 else self.max_sequence_length

    def with_positions(self, positions: int) -> Self:
        """Keeps the largest distance, which may be said by the table's length alone."""
        return dataclasses.replace(
            self, max_sequence_length=positions, max_relative_positions=self.distance_limit
        )

    def to_huggingface(self) -> dict[str, Any]:
        """Returns the encoder's part of a Hugging Face config.json as a dict."""
        config: dict[str, Any] = {"model_type": self.family}
        for theirs, ours in self.names.items():
            if ours not in ("pooler_hidden_size", "attention_head_size"):
                config[theirs] = getattr(self, ours)
        config["pos_att_type"] = list(self.position_attention)
        config["norm_rel_ebd"] = "layer_norm" if self.normalize_distances else "none"
        config["pooler_hidden_size"] = self.hidden_dim
        # transformers' class has no fields for these: what is not said is off.
        for key, absent in _ABSENT.items():
            if config[key] == absent:
                del config[key]
        if not self.position_attention:
            del config["pos_att_type"]
        return {key: value for key, value in config.items() if value is not None}


class DebertaEmbeddings(keras.layers.Layer):
    """Sums the embeddings, projects, normalizes them and silences masked tokens.

    Args:
        config: DebertaV2Config.

    Call arguments:
        layout: what `TokenLayout` returned.
        training: bool.

    Returns:
        float (T, H), compute dtype; zeros where a token is masked.

    Source: microsoft/DeBERTa, bert.py, "BertEmbeddings".
    """

    def __init__(self, config: DebertaV2Config, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)

    def call(self, layout: Layout, training: bool = False) -> tf.Tensor:
        """Embeds the tokens; see the class."""
        x = tf.gather(self.token_table.value, layout["token_ids"])
        if self.position_table is not None:
            x += tf.gather(self.position_table.value, layout["positions"])
        if self.segment_table is not None:
            x += tf.gather(self.segment_table.value, layout["segment_ids"])
        if self.projection is not None:
            x = self.projection(x, training=training)
        x = self.norm(x, training=training)
        x *= tf.cast(layout["attended"], x.dtype)[:, tf.newaxis]
        return self.dropout(tf.cast(x, self.compute_dtype), training=training)


class TokenConvolution(keras.layers.Layer):
    """Convolves each text's tokens, adds the first block's output and normalizes.

    Written as one product over the tokens laid side by side, on which rank-2 kernels are fast.

    Args:
        config: DebertaV2Config.

    Call arguments:
        embedded: float (T, H). What the embeddings gave.
        x: float (T, H). What the first block gave.
        layout: what `TokenLayout` returned.
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
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)

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
        # A model of one block: the convolution needs the neighbours' embeddings, not their outputs,
        # but is written for all tokens.
        transformed, probabilities = super().call(x, layout, training=training)
        output = self.convolution(x, transformed, layout, training=training)
        if first_token_only:
            output = tf.gather(output, layout["first_tokens"])
        return output, probabilities


class DebertaV2Encoder(Encoder):
    """A DeBERTa v2 or v3 encoder; see `Encoder` for arguments and outputs.

    The pooler is Hugging Face's ContextPooler, which stands before classifiers.
    """

    config_class = DebertaV2Config

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

    def head_options(self, kind: str) -> dict[str, Any]:
        """What a head is made of; see `Encoder.head_options`."""
        config = cast(DebertaV2Config, self.config)
        options = super().head_options(kind)
        if kind == "masked_lm" and config.legacy:
            options["transform_units"] = config.embedding_dim or config.hidden_dim
        elif kind == "masked_lm":
            options["tied"] = True  # whatever the config says
        if kind == "token_classification":
            options["dropout"] = config.dropout  # `cls_dropout` is the sequence classifier's
        return options

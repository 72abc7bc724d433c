"""ModernBERT: rotary positions, local and global attention, GeGLU, pre-norm (arXiv 2412.13663)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import keras
import tensorflow as tf

from keras_bert_zoo.config import (
    MOST_LAYERS,
    EncoderConfig,
    check_flags,
    check_integers,
    check_positive,
    check_rates,
    check_strings,
    is_integer,
    short,
)
from keras_bert_zoo.config_keys import list_unread
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.pre_norm_block import (
    FusedRotarySelfAttention,
    GatedFeedForward,
    PreNormBlock,
)
from keras_bert_zoo.layers.rotary import rotary_frequencies, rotary_tables
from keras_bert_zoo.layers.token_layout import Layout, group_positions, mean_of_tokens

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_POOLINGS = ("cls", "mean")
_MASKED_SCORE = -1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """ModernBERT's configuration; see `EncoderConfig` for the fields that all share.

    Defaults are those of Hugging Face's ModernBertConfig.

    Args:
        dropout: float in [0, 1). Behind the embeddings.
        feed_forward_dropout: float in [0, 1). Inside the feed-forward parts.
        attention_dropout: float in [0, 1). On the probabilities and behind the attention.
        attention_types: tuple of "full_attention" and "sliding_attention", one per block; empty:
            full in every third block, from the first.
        local_attention: int, tokens. The window of sliding attention, half of it on either side.
        global_theta, local_theta: float. Bases of the rotary angles of full and sliding attention.
        global_factor, local_factor: float. Angles are divided by it (linear scaling).
        attention_bias, feed_forward_bias, norm_bias: bool. Which layers have biases.
        decoder_bias: bool. Whether a masked-language-model head adds a bias to its logits.
        classifier_bias: bool. Whether the dense layer before a head's last one has a bias.
        classifier_activation: str. Behind that layer.
        classifier_pooling: "cls" or "mean". What a sequence classifier reads.

    Raises:
        ConfigError: a value outside its range; the message names the field.
    """

    vocabulary_size: int = 50368
    num_layers: int = 22
    intermediate_dim: int = 1152
    max_sequence_length: int = 8192
    num_segments: int = 0
    layer_norm_epsilon: float = 1e-5
    pad_token_id: int = 50283
    dropout: float = 0.0
    attention_dropout: float = 0.0
    feed_forward_dropout: float = 0.0
    classifier_dropout: float | None = 0.0
    attention_types: tuple[str, ...] = ()
    local_attention: int = 128
    global_theta: float = 160_000.0
    local_theta: float = 10_000.0
    global_factor: float = 1.0
    local_factor: float = 1.0
    attention_bias: bool = False
    feed_forward_bias: bool = False
    norm_bias: bool = False
    decoder_bias: bool = True
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    classifier_pooling: str = "cls"
    family: str = "modernbert"

    names: ClassVar[Mapping[str, str]] = {
        "vocab_size": "vocabulary_size",
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "intermediate_dim",
        "hidden_activation": "activation",
        "max_position_embeddings": "max_sequence_length",
        "norm_eps": "layer_norm_epsilon",
        "norm_bias": "norm_bias",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
        "attention_bias": "attention_bias",
        "attention_dropout": "attention_dropout",
        "embedding_dropout": "dropout",
        "mlp_bias": "feed_forward_bias",
        "mlp_dropout": "feed_forward_dropout",
        "decoder_bias": "decoder_bias",
        "classifier_pooling": "classifier_pooling",
        "classifier_dropout": "classifier_dropout",
        "classifier_bias": "classifier_bias",
        "classifier_activation": "classifier_activation",
        "local_attention": "local_attention",
        "tie_word_embeddings": "tie_word_embeddings",
        "layer_types": "attention_types",
        # Read by `adapt`, which takes them out: half of `local_attention`, over which it wins; and
        # today's spelling and the hub's older one.
        "sliding_window": "sliding_window",
        "rope_parameters": "rope_parameters",
        "rope_scaling": "rope_scaling",
        "global_attn_every_n_layers": "global_attn_every_n_layers",
        "global_rope_theta": "global_theta",
        "local_rope_theta": "local_theta",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "is_decoder": (False,),
        "is_encoder_decoder": (False,),
        "add_cross_attention": (False,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
        "position_embedding_type": ("absolute", "rope"),
        "head_dim": (None,),  # transformers gives the rotary tables this width
    }
    # How weights start, how a GPU kernel rounds, how training gathers its loss, and an epsilon
    # that nothing reads (`norm_eps` is the one that counts).
    neutral: ClassVar[frozenset[str]] = frozenset(
        """initializer_cutoff_factor deterministic_flash_attn reference_compile
        repad_logits_with_grad sparse_prediction sparse_pred_ignore_index layer_norm_eps""".split()
    )
    least_segments: ClassVar[int] = 0

    @classmethod
    def adapt(cls, values: dict[str, Any]) -> list[str]:
        """Reads the window, the pattern of layers and the rotary parameters in either spelling."""
        half = values.pop("sliding_window", None)
        if half is not None and (not is_integer(half) or half < 1):
            return [f"`sliding_window` = {short(half)} is not supported (expected 1 or more)"]
        if half is not None:
            values["local_attention"] = 2 * half
        every = values.pop("global_attn_every_n_layers", None)
        scaling = values.pop("rope_scaling", None)
        parameters = values.pop("rope_parameters", None)
        types = values.get("attention_types")
        problems = [
            f"`{key}` = {short(value)} is not supported (expected {expected})"
            for key, value, kind, expected in (
                ("rope_scaling", scaling, Mapping, "an object"),
                ("rope_parameters", parameters, Mapping, "an object"),
                ("layer_types", types, list, "a list"),
            )
            if value is not None and not isinstance(value, kind)
        ]
        if problems:
            return problems
        if types is None:
            every = 3 if every is None else every
            count = values.get("num_layers", cls.num_layers)
            if not is_integer(every) or every < 1:
                problems.append(f"`global_attn_every_n_layers` = {short(every)} is not supported")
            elif is_integer(count) and count <= MOST_LAYERS:
                types = [_LOCAL if i % every else _GLOBAL for i in range(count)]
        values["attention_types"] = tuple(types or ())
        parameters = parameters or {}
        unknown = sorted(set(map(str, parameters)) - {_GLOBAL, _LOCAL})
        if unknown:
            problems.append(f"`rope_parameters` has the unknown keys {list_unread(unknown)}")
        for kind, side in ((_GLOBAL, "global"), (_LOCAL, "local")):
            own = parameters.get(kind)
            if own is not None and not isinstance(own, Mapping):
                problems.append(
                    f"`rope_parameters` = {short(own)} for {kind} is not supported (expected an "
                    "object)"
                )
                continue
            found = {**(own or {}), **(scaling or {})}
            rope = found.pop("rope_type", found.pop("type", "default"))
            found.pop("type", None)
            if rope not in ("default", "linear"):
                problems.append(
                    f"`rope_parameters` = {short(rope)} for {kind} is not supported (expected "
                    "default or linear)"
                )
                continue
            if "rope_theta" in found:
                values[f"{side}_theta"] = found.pop("rope_theta")
            if rope == "linear":
                values[f"{side}_factor"] = found.pop("factor", 1.0)
            if found:
                problems.append(
                    f"`rope_parameters` has the unknown keys {list_unread(map(str, found))}"
                )
        return problems

    def problems(self) -> list[str]:
        """Says what is wrong with the values, a clause each."""
        problems = [
            *super().problems(),
            *check_flags(
                self,
                "attention_bias",
                "feed_forward_bias",
                "norm_bias",
                "decoder_bias",
                "classifier_bias",
            ),
            *check_rates(self, "feed_forward_dropout"),
            *check_integers(self, "local_attention"),
            *check_positive(self, "global_theta", "local_theta", "global_factor", "local_factor"),
            *check_strings(self, "classifier_activation"),
        ]
        if self.classifier_pooling not in _POOLINGS:
            problems.append(
                f"`classifier_pooling` must be one of {_POOLINGS}, got "
                f"{short(self.classifier_pooling)}"
            )
        unknown = [kind for kind in self.attention_types if kind not in (_GLOBAL, _LOCAL)]
        if unknown:
            problems.append(f"`layer_types` must be {_GLOBAL} or {_LOCAL}, got {short(unknown[0])}")
        if not problems and len(self.types) != self.num_layers:
            problems.append(
                f"`layer_types` must name {self.num_layers} blocks, got {len(self.types)}"
            )
        if not problems and self.head_dim % 2:
            problems.append(f"`head_dim` must be even for rotary positions, got {self.head_dim}")
        return problems

    @property
    def types(self) -> tuple[str, ...]:
        """The kind of attention of each block."""
        if self.attention_types:
            return self.attention_types
        return tuple(_LOCAL if i % 3 else _GLOBAL for i in range(self.num_layers))

    def to_huggingface(self) -> dict[str, Any]:
        """Returns the encoder's part of a Hugging Face config.json as a dict."""
        config: dict[str, Any] = {"model_type": self.family}
        for theirs, ours in self.names.items():
            if hasattr(self, ours) and not theirs.endswith("_rope_theta"):
                config[theirs] = getattr(self, ours)
        config["layer_types"] = list(self.types)
        config["rope_parameters"] = {
            kind: {"rope_type": "default", "rope_theta": theta}
            if factor == 1
            else {"rope_type": "linear", "rope_theta": theta, "factor": factor}
            for kind, theta, factor in (
                (_GLOBAL, self.global_theta, self.global_factor),
                (_LOCAL, self.local_theta, self.local_factor),
            )
        }
        return config


class ModernBertEmbeddings(keras.layers.Layer):
    """Looks up token embeddings, normalizes them and applies dropout; positions come later.

    Args:
        config: ModernBertConfig.

    Call arguments:
        layout: what `TokenLayout` returned.
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
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)

    def call(self, layout: Layout, training: bool = False) -> tf.Tensor:
        """Embeds the tokens; see the class."""
        x = self.norm(tf.gather(self.token_table.value, layout["token_ids"]), training=training)
        return self.dropout(tf.cast(x, self.compute_dtype), training=training)


class LocalAndGlobal(keras.layers.Layer):
    """What the blocks share: rotary tables for both kinds of attention, and the local window.

    Args:
        config: ModernBertConfig.

    Call arguments:
        layout: what `TokenLayout` returned.

    Returns:
        dict: `full_attention`, `sliding_attention`: rotary tables, see `rotary_tables`; and
        `window`, a list of float32 (n, 1, s, s), one per group: the mask, and a large negative
        number where a key is too far from a query.
    """

    def __init__(self, config: ModernBertConfig, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.reach = config.local_attention // 2
        self.frequencies = {
            _GLOBAL: rotary_frequencies(config.head_dim, base=config.global_theta)
            / config.global_factor,
            _LOCAL: rotary_frequencies(config.head_dim, base=config.local_theta)
            / config.local_factor,
        }
        self.kinds = sorted(set(config.types))

    def call(self, layout: Layout) -> dict[str, Any]:
        """Computes what is shared; see the class."""
        shared: dict[str, Any] = {
            kind: rotary_tables(layout, self.frequencies[kind]) for kind in self.kinds
        }
        if _LOCAL in self.kinds:
            shared["window"] = [
                mask + self._far(positions)
                for mask, positions in zip(layout["attend"], group_positions(layout), strict=True)
            ]
        return shared

    def _far(self, positions: tf.Tensor) -> tf.Tensor:
        distance = tf.abs(positions[:, :, tf.newaxis] - positions[:, tf.newaxis, :])
        return tf.where(distance <= self.reach, 0.0, _MASKED_SCORE)[:, tf.newaxis]


class PredictionHead(keras.layers.Layer):
    """Pools by the first token or the mean, then a dense layer, its activation and a LayerNorm.

    Args:
        config: ModernBertConfig.

    Call arguments:
        x: float (T, H), or (B, H) when it holds the first tokens alone.
        layout: what `TokenLayout` returned; None when `x` holds the first tokens alone.
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

    def call(self, x: tf.Tensor, layout: Layout | None = None, training: bool = False) -> tf.Tensor:
        """Pools; see the class."""
        if layout is not None:
            if self.reads_first_token:
                x = tf.gather(x, layout["first_tokens"])
            else:
                x = mean_of_tokens(x, layout)
        return self.norm(self.dense(x, training=training), training=training)


class ModernBertEncoder(Encoder):
    """A ModernBERT encoder; see `Encoder` for arguments and outputs.

    It has no segments: `segment_ids` are taken and not read. The pooler is the prediction head
    that stands before Hugging Face's sequence classifiers.
    """

    config_class = ModernBertConfig

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

    def head_options(self, kind: str) -> dict[str, Any]:
        """What a head is made of; see `Encoder.head_options`."""
        config = cast(ModernBertConfig, self.config)
        options = super().head_options(kind)
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
        bias="window" if kind == _LOCAL else "",
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

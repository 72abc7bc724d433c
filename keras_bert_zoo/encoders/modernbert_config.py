"""The configuration of ModernBERT."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from keras_bert_zoo.config import (
    MOST_LAYERS,
    EncoderConfig,
    check_flags,
    check_integers,
    check_positive,
    check_rates,
    check_strings,
)
from keras_bert_zoo.config_keys import list_unread
from keras_bert_zoo.validation import is_integer, show

GLOBAL, LOCAL = "full_attention", "sliding_attention"
_POOLINGS = ("cls", "mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """Configuration of ModernBERT; see `EncoderConfig` for the fields of all families.

    Defaults are those of transformers' ModernBertConfig.

    Args:
        dropout: float in [0, 1). After the embeddings.
        feed_forward_dropout: float in [0, 1). Inside the feed-forward parts.
        attention_dropout: float in [0, 1). On the probabilities and after the attention.
        attention_types: tuple of "full_attention" and "sliding_attention", one per block. Empty:
            full attention in every third block, starting with the first.
        local_attention: int, tokens. The window of sliding attention, half of it on each side.
        global_theta, local_theta: float. Bases of the rotary angles of full and sliding attention.
        global_factor, local_factor: float. Angles are divided by it (linear scaling).
        attention_bias, feed_forward_bias, norm_bias: bool. Whether these layers have a bias.
        decoder_bias: bool. Whether a masked-language-model head adds a bias to its logits.
        classifier_bias: bool. Whether the dense layer before a head's last layer has a bias.
        classifier_activation: str. After that dense layer.
        classifier_pooling: "cls" or "mean". How a sequence classifier pools the tokens.

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
        # `adapt` reads these in both spellings. `sliding_window` is half of `local_attention`, and
        # overrides it.
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
    # Options of initial weights, GPU kernels and the training loss, and an epsilon that nothing
    # reads (ModernBERT uses `norm_eps`).
    neutral: ClassVar[frozenset[str]] = frozenset(
        """initializer_cutoff_factor deterministic_flash_attn reference_compile
        repad_logits_with_grad sparse_prediction sparse_pred_ignore_index layer_norm_eps""".split()
    )
    least_segments: ClassVar[int] = 0

    @classmethod
    def adapt(cls, values: dict[str, Any]) -> list[str]:
        """Reads the window, the pattern of layers and the rotary parameters in both spellings."""
        half = values.pop("sliding_window", None)
        if half is not None and (not is_integer(half) or half < 1):
            return [f"`sliding_window` = {show(half)} is not supported (expected 1 or more)"]
        if half is not None:
            values["local_attention"] = 2 * half
        every = values.pop("global_attn_every_n_layers", None)
        scaling = values.pop("rope_scaling", None)
        parameters = values.pop("rope_parameters", None)
        types = values.get("attention_types")
        problems = [
            f"`{key}` = {show(value)} is not supported (expected {expected})"
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
                problems.append(f"`global_attn_every_n_layers` = {show(every)} is not supported")
            elif is_integer(count) and count <= MOST_LAYERS:
                types = [LOCAL if i % every else GLOBAL for i in range(count)]
        values["attention_types"] = tuple(types or ())
        parameters = parameters or {}
        unknown = sorted(set(map(str, parameters)) - {GLOBAL, LOCAL})
        if unknown:
            problems.append(f"`rope_parameters` has the unknown keys {list_unread(unknown)}")
        for kind, side in ((GLOBAL, "global"), (LOCAL, "local")):
            given = parameters.get(kind)
            if given is not None and not isinstance(given, Mapping):
                problems.append(
                    f"`rope_parameters` = {show(given)} for {kind} is not supported (expected an "
                    "object)"
                )
                continue
            options = {**(given or {}), **(scaling or {})}
            rope = options.pop("rope_type", options.pop("type", "default"))
            options.pop("type", None)
            if rope not in ("default", "linear"):
                problems.append(
                    f"`rope_parameters` = {show(rope)} for {kind} is not supported (expected "
                    "default or linear)"
                )
                continue
            if "rope_theta" in options:
                values[f"{side}_theta"] = options.pop("rope_theta")
            if rope == "linear":
                values[f"{side}_factor"] = options.pop("factor", 1.0)
            if options:
                problems.append(
                    f"`rope_parameters` has the unknown keys {list_unread(map(str, options))}"
                )
        return problems

    def problems(self) -> list[str]:
        """Returns the problems of the values, one clause each."""
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
                f"`classifier_pooling` must be one of {_POOLINGS}, received "
                f"{show(self.classifier_pooling)}"
            )
        unknown = [kind for kind in self.attention_types if kind not in (GLOBAL, LOCAL)]
        if unknown:
            problems.append(
                f"`layer_types` must be {GLOBAL} or {LOCAL}, received {show(unknown[0])}"
            )
        if not problems and len(self.types) != self.num_layers:
            problems.append(
                f"`layer_types` must name {self.num_layers} blocks, received {len(self.types)}"
            )
        if not problems and self.head_dim % 2:
            problems.append(
                f"`head_dim` must be even for rotary positions, received {self.head_dim}"
            )
        return problems

    @property
    def types(self) -> tuple[str, ...]:
        """The kind of attention of each block."""
        if self.attention_types:
            return self.attention_types
        return tuple(LOCAL if i % 3 else GLOBAL for i in range(self.num_layers))

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
                (GLOBAL, self.global_theta, self.global_factor),
                (LOCAL, self.local_theta, self.local_factor),
            )
        }
        return config

"""The configuration of DeBERTa v2 and v3."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from keras_bert_zoo.config import (
    EncoderConfig,
    check_flags,
    check_integers,
    check_rates,
    check_strings,
)
from keras_bert_zoo.validation import is_integer, show

_POSITION_ATTENTION = ("c2p", "p2c")

# Keys that transformers' config class does not have, and the values that a missing key means.
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
    """Configuration of DeBERTa v2 and v3; see `EncoderConfig` for the fields of all families.

    Defaults are those of transformers' DebertaV2Config.

    Args:
        embedding_dim: int or None. Width of the embeddings; None: `hidden_dim`.
        relative_attention: bool. Whether attention uses relative positions.
        max_relative_positions: int. The largest distance; below 1: `max_sequence_length`.
        position_buckets: int. Positive: far distances share logarithmic buckets.
        position_attention: tuple of "c2p" (content to position) and "p2c" (position to content).
        share_attention_key: bool. Whether distances use the projections of contents.
        normalize_distances: bool. Whether the embeddings of distances are layer-normalized.
        position_biased_input: bool. Whether the embeddings hold absolute positions.
        conv_kernel_size: int. Tokens in the convolution parallel to the first block; 0: none.
        conv_groups: int. Groups of the convolution.
        conv_activation: str. Activation after the convolution.
        pooler_activation: str.
        pooler_dropout: float in [0, 1). Before the pooler's dense layer.
        legacy: bool. Whether a masked-language-model head follows Hugging Face's first version.

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
        # `adapt` checks and removes these.
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
        """Reads lists written as "p2c|c2p", and checks sizes that other fields determine."""
        problems = []
        received = values.get("position_attention")
        kinds = received.lower().split("|") if isinstance(received, str) else received or ()
        kinds = list(kinds) if isinstance(kinds, list | tuple) else [kinds]
        kinds = [kind.strip() if isinstance(kind, str) else kind for kind in kinds]
        kinds = [kind for kind in kinds if kind not in ("", "none")]
        if any(kind not in _POSITION_ATTENTION for kind in kinds):
            problems.append(
                f"`pos_att_type` = {show(received)} is not supported (expected some of "
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
                    f"`norm_rel_ebd` = {show(norms)} is not supported (expected layer_norm)"
                )
            values["normalize_distances"] = "layer_norm" in parts
        hidden = values.get("hidden_dim", cls.hidden_dim)
        heads = values.get("num_heads", cls.num_heads)
        sizes = {
            key: values.pop(key, None) for key in ("pooler_hidden_size", "attention_head_size")
        }
        if not (is_integer(hidden) and is_integer(heads) and heads > 0):
            return problems  # the method `problems` reports invalid fields
        expected = {"pooler_hidden_size": hidden, "attention_head_size": hidden // heads}
        for key, size in sizes.items():
            if size is not None and size != expected[key]:
                problems.append(
                    f"`{key}` = {show(size)} is not supported (expected {expected[key]})"
                )
        return problems

    def problems(self) -> list[str]:
        """Returns the problems of the values, one clause each."""
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
            problems.append(f"`conv_kernel_size` must be odd, received {self.conv_kernel_size}")
        if self.hidden_dim % self.conv_groups:
            problems.append(f"`conv_groups` must divide `hidden_dim`, received {self.conv_groups}")
        middle = self.position_buckets // 2  # the first distance that shares a bucket
        if self.position_buckets > 0 and not 1 <= middle < self.distance_limit - 1:
            problems.append(
                "`position_buckets` must be at least 2, and half of it less than the largest "
                f"distance - 1, received {self.position_buckets} and {self.distance_limit}"
            )
        return problems

    @property
    def distance_limit(self) -> int:
        """The largest relative distance."""
        limit = self.max_relative_positions
        return limit if limit >= 1 else self.max_sequence_length

    def with_positions(self, positions: int) -> Self:
        """Keeps the largest distance, whose default is the number of positions."""
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
        # transformers' class has no fields for these. A missing key means off.
        for key, absent in _ABSENT.items():
            if config[key] == absent:
                del config[key]
        if not self.position_attention:
            del config["pos_att_type"]
        return {key: value for key, value in config.items() if value is not None}

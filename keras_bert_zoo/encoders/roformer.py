"""RoFormer: BERT with rotary positions (arXiv 2104.09864)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_bert_zoo.config import EncoderConfig, check_flags, check_integers
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import LastToken, Pooler
from keras_bert_zoo.layers.rotary import RotarySelfAttention, SinusoidTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoFormerConfig(EncoderConfig):
    """Configuration of a RoFormer encoder, with the defaults of transformers' RoFormerConfig.

    Args:
        max_sequence_length: int, tokens. Rows of the table of sines and cosines.
        embedding_dim: int or None. Width of the embeddings; None becomes `hidden_dim`. A dense
            layer maps another width to `hidden_dim`.
        rotary_value: bool. Whether attention also rotates its values.
        **others: see `EncoderConfig`.
    """

    vocabulary_size: int = 50000
    max_sequence_length: int = 1536
    embedding_dim: int | None = None
    rotary_value: bool = False
    family: str = "roformer"

    names: ClassVar[Mapping[str, str]] = {
        key: field
        for key, field in EncoderConfig.names.items()
        if key != "classifier_dropout"  # the heads' dropout is `hidden_dropout_prob`
    } | {"embedding_size": "embedding_dim", "rotary_value": "rotary_value"}
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        key: values
        for key, values in EncoderConfig.fixed.items()
        if key not in ("position_embedding_type", "directionality", "pooler_type")
    } | {
        # How ForMultipleChoice pools. Hugging Face's config class does not have these keys, but its
        # model reads them from config.json.
        "summary_type": ("last", "cls_index"),
        "summary_use_proj": (False, None),
        "summary_activation": ("", None),
        # The only dropout is before the last layer, and it is off (`head_options`).
        "summary_first_dropout": (0, None),
        "summary_last_dropout": (0, None),
    }
    neutral: ClassVar[frozenset[str]] = frozenset({"summary_proj_to_labels"})

    def __post_init__(self) -> None:
        if self.embedding_dim is None:
            object.__setattr__(self, "embedding_dim", self.hidden_dim)
        super().__post_init__()

    def problems(self) -> list[str]:
        """Adds the problems of the family's own fields."""
        problems = [
            *super().problems(),
            *check_integers(self, "embedding_dim"),
            *check_flags(self, "rotary_value"),
        ]
        if self.classifier_dropout is not None:
            # config.json has no key for it, so another value could not be saved.
            problems.append(
                f"`classifier_dropout` must be None, received {self.classifier_dropout!r}"
            )
        if not problems and self.head_dim % 2:
            problems.append(
                "`hidden_dim` / `num_heads` must be even for rotary positions, received "
                f"{self.hidden_dim} / {self.num_heads} = {self.head_dim}"
            )
        return problems

    def pooler_is_learned(self, pooled_for: str = "") -> bool:
        """Whether the pooler has weights; see `EncoderConfig.pooler_is_learned`."""
        return pooled_for != "multiple_choice"


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RoFormerEncoder(Encoder):
    """A RoFormer encoder; see `Encoder` for arguments and outputs.

    The pooler is the dense layer with `hidden_act` before a classifier. Checkpoints without a head
    do not have it. For "multiple_choice" the pooled output is the last column's state.
    """

    config_class = RoFormerConfig
    config: RoFormerConfig

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        table = {"sinusoids/table": (config.max_sequence_length, config.head_dim)}
        blocks = shapes.blocks(shapes.numbered(config), shapes.post_norm_block(config))
        tables = shapes.embeddings(config, width=config.embedding_dim, positions=False)
        return tables | table | blocks

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        width = self.config.embedding_dim
        return Parts(
            embeddings=Embeddings(
                config,
                width=width,
                projected=width != config.hidden_dim,
                positions=None,
                dtype=dtype,
                name="embeddings",
            ),
            context=SinusoidTable(
                config.max_sequence_length, config.head_dim, dtype=dtype, name="sinusoids"
            ),
            blocks=[
                _Block(self.config, dtype=dtype, name=f"block_{i}")
                for i in range(config.num_layers)
            ],
            pooler=self._make_pooler(dtype) if pooler else None,
        )

    def layout_options(self) -> dict[str, Any]:
        """Requests the last column if the pooler reads it."""
        return {"last_tokens": not self.config.pooler_is_learned(self.pooled_for)}

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind == "masked_lm":
            options["transform_units"] = config.embedding_dim
        elif kind == "multiple_choice":
            options["dropout"] = 0.0
        return options

    def _make_pooler(self, dtype: Any) -> keras.layers.Layer:
        if not self.config.pooler_is_learned(self.pooled_for):
            return LastToken(dtype=dtype, name="pooler")
        return Pooler(
            self.config.hidden_dim,
            activation=self.config.activation,
            dropout=self.config.dropout,
            initializer_range=self.config.initializer_range,
            dtype=dtype,
            name="pooler",
        )


@keras.saving.register_keras_serializable("keras_bert_zoo")
class _Block(EncoderBlock):
    """BERT's block with rotary attention."""

    config: RoFormerConfig

    def __init__(self, config: RoFormerConfig, **kwargs: Any) -> None:
        # With autocast, Keras would cast the rotary tables to the compute dtype.
        super().__init__(config, autocast=False, **kwargs)

    def make_attention(self, config: EncoderConfig, **options: Any) -> SelfAttention:
        """Builds the attention; see `EncoderBlock.make_attention`."""
        return RotarySelfAttention(
            interleaved=True,
            rotate_values=self.config.rotary_value,
            hidden_dim=config.hidden_dim,
            num_heads=config.num_heads,
            dropout=config.attention_dropout,
            name="attention",
            **options,
        )

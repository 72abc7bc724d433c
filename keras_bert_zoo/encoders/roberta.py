"""RoBERTa, XLM-RoBERTa and CamemBERT (arXiv 1907.11692, 1911.02116, 1911.03894).

They compute what BERT does, except for positions: these are counted from the token ids, and start
after the position of padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.encoder import Encoder, Parts
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import Pooler


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaConfig(EncoderConfig):
    """Configuration of a RoBERTa encoder, with the defaults of transformers' RobertaConfig.

    Args:
        max_sequence_length: int. Rows of the position embedding. The first `pad_token_id + 1`
            rows are not for text; see `max_tokens`.
        pad_token_id: int. Tokens with this id have this number as their position, and the
            positions of other tokens do not count them. The padding mask has no effect on this.
        **others: see `EncoderConfig`.
    """

    vocabulary_size: int = 50265
    pad_token_id: int = 1
    family: str = "roberta"

    def problems(self) -> list[str]:
        """Adds the problems of the positions."""
        problems = super().problems()
        if not problems and self.max_tokens < 1:
            problems.append(
                f"`max_sequence_length` must be above `pad_token_id` + 1 = "
                f"{self.pad_token_id + 1}, received {self.max_sequence_length}"
            )
        return problems

    @property
    def max_tokens(self) -> int:
        """The longest input, in tokens."""
        return self.max_sequence_length - self.pad_token_id - 1

    @classmethod
    def from_huggingface(
        cls, config: Mapping[str, Any], *, ignore: Iterable[str] = ()
    ) -> EncoderConfig:
        """Reads a config.json; see `EncoderConfig.from_huggingface`."""
        if isinstance(config, Mapping) and config.get("pad_token_id", 1) is None:
            raise ConfigError(
                "Expected an integer `pad_token_id`, received null: positions are counted from it. "
                "Set it to the id of the padding token (1 in RoBERTa's vocabulary)."
            )
        return super().from_huggingface(config, ignore=ignore)


@dataclasses.dataclass(frozen=True, kw_only=True)
class XLMRobertaConfig(RobertaConfig):
    """Configuration of an XLM-RoBERTa encoder, with the defaults of XLMRobertaConfig."""

    vocabulary_size: int = 30522
    family: str = "xlm-roberta"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CamembertConfig(RobertaConfig):
    """Configuration of a CamemBERT encoder, with the defaults of CamembertConfig."""

    vocabulary_size: int = 30522
    family: str = "camembert"


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RobertaEncoder(Encoder):
    """A RoBERTa encoder; see `Encoder` for arguments and outputs.

    It uses segment ids, but most checkpoints have only the segment 0.
    """

    config_class = RobertaConfig

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        return Parts(
            embeddings=Embeddings(
                config, positions="counted_positions", dtype=dtype, name="embeddings"
            ),
            blocks=[
                EncoderBlock(config, dtype=dtype, name=f"block_{i}")
                for i in range(config.num_layers)
            ],
            pooler=Pooler(
                config.hidden_dim,
                dropout=self.head_options("classification")["dropout"],
                initializer_range=config.initializer_range,
                dtype=dtype,
                name="pooler",
            )
            if pooler
            else None,
        )

    def layout_options(self) -> dict[str, Any]:
        """Requests positions that are counted from the ids."""
        return {"padding_id": self.config.pad_token_id}

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `Encoder.options_for_head`."""
        options = super().options_for_head(config, kind)
        if kind == "masked_lm":
            # Hugging Face's RobertaLMHead ignores `hidden_act`.
            options["transform_activation"] = "gelu"
        elif kind == "multiple_choice":
            options["dropout"] = config.dropout
        return options


@keras.saving.register_keras_serializable("keras_bert_zoo")
class XLMRobertaEncoder(RobertaEncoder):
    """An XLM-RoBERTa encoder; see `RobertaEncoder`."""

    config_class = XLMRobertaConfig


@keras.saving.register_keras_serializable("keras_bert_zoo")
class CamembertEncoder(RobertaEncoder):
    """A CamemBERT encoder; see `RobertaEncoder`."""

    config_class = CamembertConfig

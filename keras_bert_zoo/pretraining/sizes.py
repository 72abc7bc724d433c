"""Sizes of encoders that are pretrained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.errors import ConfigError

__all__ = ["ELECTRA_RATE", "FAMILIES", "LEARNING_RATE", "SIZES", "Size", "sized_config"]


class Size(NamedTuple):
    """The dimensions of an encoder, and the peak learning rate of its pretraining.

    A head has 64 dimensions. The feed-forward part is 4 times as wide as the hidden states. BERT
    base has 1e-4 and ELECTRA-small 5e-4; the smallest learn in minutes with 1e-3.
    """

    num_layers: int
    hidden_dim: int
    learning_rate: float


SIZES: Mapping[str, Size] = {
    "tiny": Size(2, 128, 1e-3),
    "mini": Size(4, 256, 1e-3),
    "small": Size(4, 512, 5e-4),
    "medium": Size(8, 512, 5e-4),
    "base": Size(12, 768, 1e-4),
}
"""Name -> dimensions, of Google's BERT miniatures (arXiv 1908.08962) and BERT-base."""

LEARNING_RATE = 1e-4
"""The peak learning rate of encoders of other sizes."""

ELECTRA_RATE = 5e-4
"""The highest default rate with replaced tokens, that of ELECTRA-small. With 1e-3, the states of an
encoder of 4 layers collapsed to a few values."""

FAMILIES = (
    "bert", "roberta", "xlm-roberta", "albert", "electra", "distilbert", "deberta-v2",
    "modernbert", "roformer",
)  # fmt: skip
"""The families whose dimensions the sizes set."""

_HEAD_DIM = 64
_WIDENING = 4


def sized_config(
    family: str, size: str, *, vocabulary_size: int, pad_token_id: int, max_length: int
) -> EncoderConfig:
    """Returns the configuration of an encoder of a size.

    Args:
        family: str. One of `FAMILIES`.
        size: str. One of `SIZES`.
        vocabulary_size: int.
        pad_token_id: int. The token id of padding.
        max_length: int. The longest input, in tokens.

    Returns:
        EncoderConfig, of the family's class; all other fields are its defaults.

    Raises:
        ConfigError: the family or size is unknown.

    Example:
        >>> sized_config("bert", "mini", vocabulary_size=8000, pad_token_id=0,
        ...     max_length=128).num_heads
        4
    """
    from keras_bert_zoo.encoders.registry import encoder_class

    for name, value, known in (("family", family, FAMILIES), ("size", size, tuple(SIZES))):
        if value not in known:
            raise ConfigError(f"expected the {name} to be one of {', '.join(known)}, got {value!r}")
    layers, width, _ = SIZES[size]
    config = encoder_class(family).config_class(
        vocabulary_size=vocabulary_size,
        pad_token_id=pad_token_id,
        num_layers=layers,
        hidden_dim=width,
        num_heads=width // _HEAD_DIM,
        intermediate_dim=_WIDENING * width,
        max_sequence_length=max_length,
    )
    # RoBERTa's positions begin after the padding id.
    return config.with_positions(2 * max_length - config.max_tokens)

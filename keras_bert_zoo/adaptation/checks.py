"""Checks of the arguments of adaptation."""

from __future__ import annotations

from typing import Any

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError


def check_is_encoder(value: Any) -> None:
    """Checks that a value is an encoder, and not a model that contains one.

    Args:
        value: the value.

    Raises:
        ConfigError: it is not an Encoder.

    Example:
        >>> check_is_encoder("bert")
        Traceback (most recent call last):
        keras_bert_zoo.errors.ConfigError: Expected an Encoder, received a str.
    """
    if isinstance(value, Encoder):
        return
    hint = ""
    if isinstance(getattr(value, "encoder", None), Encoder):
        hint = " Pass the encoder inside it: `x.encoder`."
    raise ConfigError(f"Expected an Encoder, received a {type(value).__name__}.{hint}")

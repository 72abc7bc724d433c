"""Heads in the config of a Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.masked_lm import MaskedLMHead
from keras_bert_zoo.layers.scopes import root_scope

__all__ = ["head_config", "head_from_config"]


def head_config(head: keras.layers.Layer) -> dict[str, Any]:
    """Returns a head's class, arguments and build configuration.

    Example:
    >>> from keras_bert_zoo.heads.classifier import ClassificationHead
    >>> head_config(ClassificationHead(3, dropout=0.1))["registered_name"]
    'keras_bert_zoo>ClassificationHead'
    """
    if isinstance(head, MaskedLMHead) and head.tied:
        return {"tied": True, "config": head.arguments()}
    config: dict[str, Any] = keras.saving.serialize_keras_object(head)
    return config


def head_from_config(config: Mapping[str, Any], encoder: Encoder) -> keras.layers.Layer:
    """Builds a head with random weights.

    Args:
        config: result of `head_config`.
        encoder: Encoder. A tied head uses its token embedding.

    Returns:
        Keras layer.

    Raises:
        ConfigError: `config` is not the config of a layer.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping):
        raise ConfigError(f"Expected the config of a head, received {config!r:.80}.")
    with root_scope():
        if config.get("tied"):
            head: Any = MaskedLMHead(**config["config"], embeddings=encoder.embeddings)
            head.build((None, encoder.config.hidden_dim))
            return head
        head = keras.saving.deserialize_keras_object(config)
    if not isinstance(head, keras.layers.Layer):
        raise ConfigError(f"Expected a layer as a head, received a {type(head).__name__}.")
    return head

"""Copies of models whose encoder has another configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.registry import EncoderConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.initializers import untouched_weights

AnyModel = TypeVar("AnyModel", bound=Any)


def encoder_of(model: Any) -> Encoder:
    """Returns the encoder of a model with one encoder, or the encoder itself.

    Raises:
        ConfigError: another object, a translator, or a collection of models.
    """
    encoder = getattr(model, "encoder", model)
    several = hasattr(model, "stages") and len(model.stages()) > 1
    if not isinstance(encoder, Encoder) or several or hasattr(model, "target_tokenizer"):
        raise ConfigError(
            "Expected an Encoder, a HeadedModel or a task with one encoder, received a "
            f"{type(model).__name__}."
        )
    return encoder


def rebuilt(
    model: AnyModel,
    config: EncoderConfig,
    edit: Callable[[dict[str, Any], dict[str, Any]], None],
    value: Callable[[str, tuple[int, ...]], np.ndarray],
) -> AnyModel:
    """Returns a model of the same class with another configuration of its encoder.

    Args:
        model: Encoder, HeadedModel, or a task; see `encoder_of`.
        config: EncoderConfig of the new encoder.
        edit: changes the configs from `get_config`, the model's and its encoder's, in place.
        value: returns the value of the weight with this path and shape.
    """
    plain = model.get_config()
    of_encoder = plain if isinstance(model, Encoder) else plain["encoder"]
    of_encoder["config"] = config.to_huggingface()
    edit(plain, of_encoder)
    with untouched_weights():  # all of them are assigned below
        new: AnyModel = type(model).from_config(plain)
    for variable in new.weights:
        variable.assign(value(variable.path, tuple(variable.shape)))
    return new

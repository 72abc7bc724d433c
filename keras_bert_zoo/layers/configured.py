"""`ConfiguredLayer`: a layer whose config is the arguments of its constructor."""

from __future__ import annotations

import inspect
from typing import Any, Self

import keras

__all__ = ["ConfiguredLayer"]


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose `get_config` returns the arguments of its constructor.

    Keras does so only for layers whose arguments are numbers, strings and booleans. Here they may
    also be other serializable objects: an `EncoderConfig`, a dtype policy, or another layer.

    Example:
    >>> from keras_bert_zoo.layers.attention import SelfAttention
    >>> layer = SelfAttention(hidden_dim=8, num_heads=2, dropout=0.1, name="attention")
    >>> config = layer.get_config()
    >>> config["num_heads"], SelfAttention.from_config(config).get_config() == config
    (2, True)
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Records the arguments."""
        layer: Self = super().__new__(cls, *args, **kwargs)
        arguments = dict(inspect.signature(cls.__init__).bind(layer, *args, **kwargs).arguments)
        arguments.pop("self")
        arguments |= arguments.pop("kwargs", {})
        # Not through Keras, which would track the layers among them.
        object.__setattr__(layer, "_arguments", lambda: arguments)
        return layer

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, serialized."""
        arguments = {name: _serialize(value) for name, value in self._arguments().items()}
        return arguments | super().get_config()

    def get_build_config(self) -> None:
        """Returns None: Keras builds the layer when it is called."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds a layer with random weights from `get_config`."""
        return cls(
            **{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}
        )


def _serialize(value: Any) -> Any:
    config = keras.saving.serialize_keras_object(value)
    if isinstance(value, keras.layers.Layer):
        config.pop("build_config", None)  # the outer layer builds it
    return config

"""Distribution strategies by name."""

from __future__ import annotations

import functools

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

STRATEGIES = ("default", "mirrored")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns a tf.distribute strategy; models are built in its `scope()`.

    Args:
        name: "default" (one device) or "mirrored" (every GPU of this machine; without GPUs, every
            logical CPU device).

    Returns:
        tf.distribute.Strategy.

    Raises:
        ConfigError: unknown name.
    """
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return _mirrored()
    raise ConfigError(f"Strategy {name!r} is unknown. Expected one of: {', '.join(STRATEGIES)}.")


@functools.cache
def _mirrored() -> tf.distribute.Strategy:
    # Cached, because a second strategy would use the collectives of the first one.
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices(kind)]
    )

"""The device that layers run on."""

from __future__ import annotations

import tensorflow as tf


def on_cpu() -> bool:
    """Whether TensorFlow sees no GPU: passes that are fused for CPU pay off there only.

    Example:
        >>> from keras_bert_zoo.layers.devices import on_cpu
        >>> on_cpu() or bool(tf.config.list_physical_devices("GPU"))
        True
    """
    return not tf.config.list_physical_devices("GPU")

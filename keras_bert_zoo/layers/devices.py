"""The device that layers run on."""

from __future__ import annotations

import tensorflow as tf

# On CPU, TensorFlow fuses products with activations or sums, and layer normalization, only if they
# have a bias; and its optimizer removes a bias of zeros. Added to a number above 1e-22, this one
# changes nothing.
ALMOST_ZERO = 1e-30


def on_cpu() -> bool:
    """Whether TensorFlow sees no GPU: passes that are fused for CPU pay off there only.

    Example:
        >>> from keras_bert_zoo.layers.devices import on_cpu
        >>> on_cpu() or bool(tf.config.get_visible_devices("GPU"))
        True
    """
    return not tf.config.get_visible_devices("GPU")

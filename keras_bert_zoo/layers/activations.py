"""Feed-forward activations under Hugging Face's names, written in the form that oneDNN fuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

Activation = Callable[[tf.Tensor], tf.Tensor]


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Returns x * Phi(x), with the error function (arXiv 1606.08415; Google's BERT).

    The literal order of the operations is the one that TensorFlow's remapper turns, together with
    the MatMul and BiasAdd before it, into one `_FusedMatMul` node; `tf.nn.gelu` computes the same.
    """
    half, one, scale = (tf.cast(value, x.dtype) for value in (0.5, 1.0, math.sqrt(0.5)))
    return half * x * (one + tf.math.erf(x * scale))


def gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    """Returns the tanh approximation of GELU (arXiv 1606.08415, section 2)."""
    return tf.nn.gelu(x, approximate=True)


def quick_gelu(x: tf.Tensor) -> tf.Tensor:
    """Returns x * sigmoid(1.702 x) (arXiv 1606.08415, section 2)."""
    return x * tf.sigmoid(tf.cast(1.702, x.dtype) * x)


# Keys are the values of `hidden_act` in transformers' ACT2FN.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": tf.nn.relu,
    "relu2": lambda x: tf.square(tf.nn.relu(x)),
    "relu6": tf.nn.relu6,
    "leaky_relu": lambda x: tf.nn.leaky_relu(x, alpha=0.01),  # torch.nn.LeakyReLU's slope
    "silu": tf.nn.silu,
    "swish": tf.nn.silu,
    "mish": lambda x: x * tf.tanh(tf.nn.softplus(x)),
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
    "linear": tf.identity,
}


def get_activation(name: str) -> Activation:
    """Looks up an activation.

    Args:
        name: str. A value of `hidden_act` in a Hugging Face config.json.

    Returns:
        callable, float tensor -> float tensor of the same shape and dtype.

    Raises:
        ConfigError: the name is unknown; the message lists the known ones.
    """
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"Activation (`hidden_act`) {name!r} is not supported. "
            f"Expected one of: {', '.join(sorted(ACTIVATIONS))}."
        )
    return ACTIVATIONS[name]

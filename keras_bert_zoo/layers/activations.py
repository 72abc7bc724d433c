"""Feed-forward activations under Hugging Face's names, written in the form that oneDNN fuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

Activation = Callable[[tf.Tensor], tf.Tensor]


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Returns x * Phi(x), with the error function (arXiv 1606.08415; Google's BERT).

    Keep the order of the operations: TensorFlow's remapper fuses them, with the MatMul and BiasAdd
    before them, into one `_FusedMatMul` node. `tf.nn.gelu` computes the same.
    """
    half, one, scale = (tf.constant(value, x.dtype) for value in (0.5, 1.0, math.sqrt(0.5)))
    return half * x * (one + tf.math.erf(x * scale))


@tf.custom_gradient
def trained_gelu(x: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Computes `gelu(x + bias)` with a custom gradient; each is compiled to one pass over `x`.

    For training on CPU. TensorFlow cannot fuse the elementwise operations of the gradient there:
    it reads the model's widest tensor nine times, in bfloat16 without vector instructions. And it
    fuses the sum with the product before it, which takes twice the time if weights are variables.

    Args:
        x: float (T, I).
        bias: float (I,).

    Returns:
        float (T, I), same dtype; computed in float32.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inner = _gelu_gradient(x, bias, upstream)
        return inner, sum_of_rows(inner)

    return _gelu_forward(x, bias), gradient


def sum_of_rows(x: tf.Tensor) -> tf.Tensor:
    """Sums (T, I) to (I,) as a product with ones.

    On CPU in bfloat16 this is several times faster than BiasAddGrad, and it sums in float32.
    """
    ones = tf.ones([1, tf.shape(x)[0]], x.dtype)
    return tf.squeeze(tf.matmul(ones, x), 0)


@tf.function(jit_compile=True)
def _gelu_forward(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.cast(gelu(tf.cast(x, tf.float32) + tf.cast(bias, tf.float32)), x.dtype)


@tf.function(jit_compile=True)
def _gelu_gradient(x: tf.Tensor, bias: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(x, tf.float32) + tf.cast(bias, tf.float32)
    cumulative = 0.5 * (1.0 + tf.math.erf(wide * math.sqrt(0.5)))
    density = tf.exp(-0.5 * tf.square(wide)) / math.sqrt(2 * math.pi)
    return tf.cast(tf.cast(upstream, tf.float32) * (cumulative + wide * density), x.dtype)


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
            "Expected the activation (`hidden_act`) to be one of "
            f"{', '.join(sorted(ACTIVATIONS))}, received {name!r}."
        )
    return ACTIVATIONS[name]

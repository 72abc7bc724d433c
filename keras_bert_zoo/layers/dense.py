"""The dense layer of all projections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.activations import gelu, get_activation, sum_of_rows, trained_gelu
from keras_bert_zoo.layers.devices import ALMOST_ZERO, on_cpu
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.int8 import Int8Product, int8_affine, join_products
from keras_bert_zoo.layers.scopes import compute_scope

Observer = Callable[["Dense", tf.Tensor, tf.Tensor], None]
"""Receives a layer, its input and its output."""


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Dense(keras.layers.Layer):
    """Computes `activation(x @ kernel + bias)` on rank-2 inputs.

    `keras.layers.Dense` uses tensordot and a broadcast addition. This layer uses MatMul and
    BiasAdd. TensorFlow fuses these two on CPU, together with an exact GELU or a residual addition
    after them.

    Args:
        units: int. Output width.
        activation: str. Name of the activation, see `layers.activations`.
        use_bias: bool. Whether there is a bias.
        initializer_range: float. Standard deviation of the kernel's truncated normal initializer
            (0.02 is Google's BERT); the bias starts at zero.

    Call arguments:
        x: float (T, input width).
        training: bool.

    Returns:
        float (T, units), compute dtype.

    Raises:
        ConfigError: unknown activation.
    """

    def __init__(
        self,
        units: int,
        *,
        activation: str = "linear",
        use_bias: bool = True,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = activation
        self.use_bias = use_bias
        self.bias: Any = None
        self.initializer_range = initializer_range
        self.lora_a: Any = None
        self.lora_b: Any = None
        self.int8: Int8Product | None = None  # set on the copy of a layer that is exported
        self.observer: Observer | None = None
        self._activate = get_activation(activation)
        # On other devices, the compiler or the device fuses the gradient of autodiff.
        self._trains_with_gelu = self._activate is gelu and use_bias and on_cpu()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates `kernel` (input width, units) and, with `use_bias`, `bias` (units,)."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=TruncatedNormal(stddev=self.initializer_range),
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def compute_output_spec(self, x: Any, *_: Any, **__: Any) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        return keras.KerasTensor((*x.shape[:-1], self.units), dtype=self.compute_dtype)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Applies the layer; see the class."""
        if self.int8 is not None:
            y = int8_affine(self.int8, x, dtype=self.compute_dtype)
            return y if self.int8.fuses else self._activate(y)
        if training and self._trains_with_gelu:
            y = tf.matmul(x, self.kernel)
            if self.lora_a is not None:
                y += self._low_rank(x, training)
            return trained_gelu(y, tf.convert_to_tensor(self.bias))
        y = self._affine(x, training)
        if self.activation != "linear":
            y = self._activate(y)
        if self.observer is not None:
            self.observer(self, x, y)
        return y

    def _affine(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        inputs = x
        if not self.use_bias:
            kernel = tf.convert_to_tensor(self.kernel)
            x = tf.matmul(x, kernel)
            if _is_constant(kernel):
                x = tf.nn.bias_add(x, tf.fill([self.units], tf.cast(ALMOST_ZERO, x.dtype)))
        elif training:
            kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
            x = _trained_affine(x, kernel, bias)
        else:
            x = tf.nn.bias_add(tf.matmul(x, self.kernel), self.bias)
        if self.lora_a is not None:
            x += self._low_rank(inputs, training)
        return x

    def enable_lora(self, rank: int, *, alpha: float, dropout: float = 0.0) -> None:
        """Adds a low-rank update to the kernel: `kernel + alpha / rank * lora_a @ lora_b`.

        `lora_a` (input width, rank) starts as He-uniform, and `lora_b` (rank, units) as zeros:
        outputs do not change before training. See `adaptation.lora` for whole encoders.

        Args:
            rank: int.
            alpha: float.
            dropout: float in [0, 1). On the input of the update.

        Source: arXiv 2106.09685, section 4.1.
        """
        self.lora_scale = alpha / rank
        self.lora_dropout = dropout
        self._tracker.unlock()  # as Keras' layers do, to add weights after `build`
        self._dropout_layer = Dropout(dropout) if dropout else None
        self.lora_a = self.add_weight(
            name="lora_a",
            shape=(self.kernel.shape[0], rank),
            initializer=keras.initializers.HeUniform(),
        )
        self.lora_b = self.add_weight(name="lora_b", shape=(rank, self.units), initializer="zeros")
        self._tracker.lock()

    def disable_lora(self) -> None:
        """Removes the low-rank update; the kernel does not change."""
        del self.lora_a, self.lora_b
        self.lora_a = self.lora_b = None

    def _low_rank(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        if self._dropout_layer is not None:
            x = self._dropout_layer(x, training=training)
        scale = tf.cast(self.lora_scale, x.dtype)
        return tf.matmul(tf.matmul(x, self.lora_a), self.lora_b) * scale

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "initializer_range": self.initializer_range,
        }


def add_dense(
    dense: Dense,
    x: tf.Tensor,
    residual: tf.Tensor,
    *,
    dropout: keras.layers.Layer | None = None,
    training: bool = False,
) -> tf.Tensor:
    """Computes `dropout(dense(x)) + residual`: the end of each part of a block.

    Args:
        dense: Dense layer without activation.
        x: float (T, input width).
        residual: float (T, units).
        dropout: Keras layer or None.
        training: bool.

    Returns:
        float (T, units).
    """
    if dense.int8 is not None:
        return int8_affine(dense.int8, x, dtype=dense.compute_dtype, residual=residual)
    y = dense(x, training=training)
    if dropout is not None:
        y = dropout(y, training=training)
    return y + residual


def apply_jointly(layers: Sequence[Dense], x: tf.Tensor) -> tf.Tensor | None:
    """Applies several linear layers to one input in one product, if their weights are constants.

    TensorFlow joins constants once, when it loads the graph. It would join variables in each call.

    Args:
        layers: Dense layers without activation.
        x: float (T, H).

    Returns:
        float (T, sum of units). None: the weights are no constants, or a layer has no bias or a
        low-rank update.
    """
    products = [layer.int8 for layer in layers if layer.int8 is not None]
    if len(products) == len(layers):
        return int8_affine(join_products(products), x, dtype=layers[0].compute_dtype)
    if products:
        return None
    if len(layers) < 2 or any(layer.lora_a is not None or not layer.use_bias for layer in layers):
        return None
    with compute_scope(layers[0]):
        kernels = [tf.convert_to_tensor(layer.kernel) for layer in layers]
        biases = [tf.convert_to_tensor(layer.bias) for layer in layers]
    if not all(map(_is_constant, kernels)):
        return None
    return tf.nn.bias_add(tf.matmul(x, tf.concat(kernels, axis=1)), tf.concat(biases, axis=0))


def _is_constant(x: tf.Tensor) -> bool:
    return tf.is_symbolic_tensor(x) and x.op.type == "Const"


def apply_halves(layer: Dense, x: tf.Tensor) -> list[tf.Tensor] | None:
    """Applies the halves of a linear layer in two products, if its weights are constants.

    TensorFlow fuses an activation of one half with its product, but not with a part of a product.

    Args:
        layer: Dense layer without activation.
        x: float (T, H).

    Returns:
        two tensors, float (T, units / 2). None: the weights are no constants, or the layer has a
        low-rank update or computes in int8.
    """
    if layer.int8 is not None or layer.observer is not None or layer.lora_a is not None:
        return None
    with compute_scope(layer):
        kernel = tf.convert_to_tensor(layer.kernel)
        bias = layer.bias if layer.use_bias else tf.fill([layer.units], ALMOST_ZERO)
        bias = tf.cast(tf.convert_to_tensor(bias), kernel.dtype)
    if not _is_constant(kernel):
        return None
    parts = zip(tf.split(kernel, 2, axis=1), tf.split(bias, 2), strict=True)
    return [tf.nn.bias_add(tf.matmul(x, part), shift) for part, shift in parts]


@tf.custom_gradient
def _trained_affine(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return (
            tf.matmul(upstream, kernel, transpose_b=True),
            tf.matmul(x, upstream, transpose_a=True),
            sum_of_rows(upstream),
        )

    return tf.nn.bias_add(tf.matmul(x, kernel), bias), gradient

"""Layer normalization in the form that TensorFlow fuses on CPU."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.devices import ALMOST_ZERO, on_cpu
from keras_bert_zoo.layers.shared_functions import share
from keras_bert_zoo.litert_scope import is_for_litert

# Starting oneDNN's kernel takes longer than to normalize these.
_FEW_ROWS = 96


@keras.saving.register_keras_serializable("keras_bert_zoo")
class LayerNormalization(keras.layers.Layer):
    """Normalizes each row to mean 0 and variance 1, then scales and shifts it.

    The statistics are always float32. Inference on CPU uses FusedBatchNormV3 with rows as
    channels: only this pattern is replaced by TensorFlow's remapper with oneDNN's layer
    normalization of the same epsilon. A few rows, training and other devices compute the moments.

    Args:
        epsilon: float. Added to the variance. BERT uses 1e-12.
        use_bias: bool. Whether to add a bias, `beta`.

    Call arguments:
        x: float (T, H).
        training: bool.

    Returns:
        float (T, H), compute dtype.

    Source: arXiv 1607.06450.
    """

    def __init__(self, *, epsilon: float, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.use_bias = use_bias
        # A GPU has kernels for the moments, and the batch-norm form would be slower on it.
        self._fuse = on_cpu()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates `gamma` (H,) and, with `use_bias`, `beta` (H,)."""
        width = input_shape[-1]
        self.gamma = self.add_weight(name="gamma", shape=(width,), initializer="ones")
        if self.use_bias:
            self.beta = self.add_weight(name="beta", shape=(width,), initializer="zeros")

    def compute_output_spec(self, x: Any, training: bool = False) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalizes; see the class."""
        gamma = tf.convert_to_tensor(self.gamma)
        beta = tf.convert_to_tensor(self.beta) if self.use_bias else tf.zeros_like(gamma)
        if training or not self._fuse:
            return _normalize_rows(x, gamma, beta, self.epsilon)
        rows = x.shape[0]  # unknown in graphs

        # Outside of the branch, TensorFlow casts constants only once.
        wide_gamma, wide_beta = tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)

        def plain() -> tf.Tensor:
            return _normalized(x, wide_gamma, wide_beta, self.epsilon)[0]

        if is_for_litert():
            return plain()
        if rows is not None:
            return plain() if rows <= _FEW_ROWS else self._fused(x, gamma, beta)
        fused = share(self._fused, x, gamma, beta)
        normalized = tf.cond(tf.shape(x)[0] <= _FEW_ROWS, plain, fused)
        # After a `tf.cond`, the optimizer does not know the shape, and fuses no residual sum.
        return tf.reshape(normalized, tf.shape(x))

    def _fused(self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(x)  # T, H
        rows_as_channels = tf.reshape(x, [1, shape[0], shape[1], 1])
        normalized = tf.raw_ops.FusedBatchNormV3(
            x=rows_as_channels,
            scale=tf.fill([shape[0]], 1.0),
            offset=tf.fill([shape[0]], 0.0),
            mean=tf.constant([], tf.float32),
            variance=tf.constant([], tf.float32),
            epsilon=self.epsilon,
            data_format="NCHW",
            is_training=True,
        ).y
        if not self.use_bias:
            beta += tf.cast(ALMOST_ZERO, beta.dtype)
        return tf.reshape(normalized, shape) * gamma + beta

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"epsilon": self.epsilon, "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("keras_bert_zoo")
class NoNorm(ConfiguredLayer):
    """Scales and shifts each column, without normalizing.

    Call arguments:
        x: float (T, H).
        training: bool. Ignored.

    Returns:
        float (T, H), compute dtype.

    Source: arXiv 2004.02984, section 3.3.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates `gamma` (H,) and `beta` (H,)."""
        width = input_shape[-1]
        self.gamma = self.add_weight(name="gamma", shape=(width,), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(width,), initializer="zeros")

    def compute_output_spec(self, x: Any, training: bool = False) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Scales and shifts; see the class."""
        return x * self.gamma + self.beta


# Keys are MobileBERT's `normalization_type`.
NORMS = ("layer_norm", "no_norm")


def make_norm(kind: str, *, epsilon: float, **kwargs: Any) -> keras.layers.Layer:
    """Builds a norm.

    Args:
        kind: str. One of `NORMS`.
        epsilon: float. See `LayerNormalization`; "no_norm" has none.
        **kwargs: options of `keras.layers.Layer`.

    Returns:
        Keras layer, called with `(x, training=...)`.

    Raises:
        ConfigError: unknown kind.
    """
    if kind not in NORMS:
        raise ConfigError(f"Expected a norm, one of {', '.join(NORMS)}, received {kind!r}.")
    return NoNorm(**kwargs) if kind == "no_norm" else LayerNormalization(epsilon=epsilon, **kwargs)


@tf.custom_gradient
def _normalize_rows(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, Any]:
    # A custom gradient, because autodiff of the moments reads the tensor about twelve more times,
    # and this runs 2 * num_layers + 1 times per step.
    y, normalized, inverse = _normalized(x, gamma, beta, epsilon)
    scale = tf.cast(gamma, tf.float32)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, None]:
        dy = tf.cast(upstream, tf.float32)
        scaled = dy * scale
        dx = inverse * (
            scaled
            - tf.reduce_mean(scaled, axis=-1, keepdims=True)
            - normalized * tf.reduce_mean(scaled * normalized, axis=-1, keepdims=True)
        )
        return (
            tf.cast(dx, x.dtype),
            tf.cast(tf.reduce_sum(dy * normalized, axis=0), gamma.dtype),
            tf.cast(tf.reduce_sum(dy, axis=0), beta.dtype),
            None,
        )

    return y, gradient


def _normalized(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the result; in float32, the rows without scale (T, H) and 1 / deviation (T, 1)."""
    wide = tf.cast(x, tf.float32)
    centered = wide - tf.reduce_mean(wide, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
    inverse = tf.math.rsqrt(variance + epsilon)
    normalized = centered * inverse
    y = normalized * tf.cast(gamma, tf.float32) + tf.cast(beta, tf.float32)
    return tf.cast(y, x.dtype), normalized, inverse

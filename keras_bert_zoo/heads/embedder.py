"""The head that computes one vector per text: pooling, projections, normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.token_layout import Layout, mean_of_tokens, to_batch
from keras_bert_zoo.validation import check_integer

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens")
"""Poolings, in the order in which sentence-transformers concatenates them."""

# Epsilon of torch.nn.functional.normalize: a vector of zeros stays zero.
_SMALLEST_NORM = 1e-12


@keras.saving.register_keras_serializable("keras_bert_zoo")
class EmbeddingHead(keras.layers.Layer):
    """Pools a text's tokens into one vector, and projects, truncates and normalizes it.

    It computes in float32, for any encoder: sums over tokens need the precision.

    Args:
        pooling: one of `POOLINGS`, or several, whose vectors are concatenated. "cls" is the first
            token's state. "mean", "max" and "mean_sqrt_len_tokens" (the sum, divided by the square
            root of the count) use all attended tokens, including [CLS] and [SEP].
        layer_start: int or None. Pool a weighted mean of the layers from this one on (0 is the
            embeddings' output). The weights are learned and start at 1. None: the last layer.
        dense: sequence of dicts with `units`, `activation` and `use_bias` of the dense layers
            after the pooling, in this order; see `Dense`.
        normalize: bool. Whether the result is scaled to length 1.
        dimensions: int or None. Truncate the vector to this size (Matryoshka) before it is
            scaled.

    Call arguments:
        states: float (T, H), one row per token. With `layer_start`, a list of these, one per
            layer, the embeddings' output first. Only for "cls", also float (B, H), first tokens.
        layout: the output of `TokenLayout`; None if `states` holds only the first tokens.

    Returns:
        float32 (B, D).

    Raises:
        ConfigError: an unknown `pooling` or activation, or an impossible size.

    Source: arXiv 1908.10084, section 3; sentence-transformers' Pooling, WeightedLayerPooling,
    Dense and Normalize; arXiv 2205.13147 for `dimensions`.
    """

    built: bool

    def __init__(
        self,
        pooling: str | Sequence[str] = "mean",
        *,
        layer_start: int | None = None,
        dense: Sequence[Mapping[str, Any]] = (),
        normalize: bool = True,
        dimensions: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "autocast": False} | kwargs)
        modes = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        if not modes or any(mode not in POOLINGS for mode in modes):
            raise ConfigError(
                f"Expected `pooling` to be some of {', '.join(POOLINGS)}, received {pooling!r}."
            )
        if dimensions is not None:
            dimensions = check_integer("dimensions", dimensions, minimum=1)
        if layer_start is not None:
            layer_start = check_integer("layer_start", layer_start, minimum=0)
        self.pooling = modes
        self.layer_start = layer_start
        self.normalize = normalize
        self.dimensions = dimensions
        self.dense = [
            Dense(
                options["units"],
                activation=options.get("activation", "tanh"),
                use_bias=options.get("use_bias", True),
                dtype="float32",
                name=f"dense_{index}",
            )
            for index, options in enumerate(dense)
        ]
        self.layer_weights: Any = None

    @property
    def reads_first_token(self) -> bool:
        """Whether this head reads only the last states of the first tokens."""
        return self.pooling == ("cls",) and self.layer_start is None

    def pooled_dim(self, hidden_dim: int) -> int:
        """Returns the width of the vectors before truncation, for the width of an encoder."""
        return self.dense[-1].units if self.dense else hidden_dim * len(self.pooling)

    def connect_weights(self, num_layers: int, hidden_dim: int) -> None:
        """Creates the variables; called once the encoder is known.

        Args:
            num_layers: int. The encoder's blocks.
            hidden_dim: int. Their width.

        Raises:
            ConfigError: `layer_start` beyond the layers, or `dimensions` beyond the width.
        """
        if self.built:
            return
        if self.layer_start is not None:
            if self.layer_start > num_layers:
                raise ConfigError(
                    f"Expected `layer_start` to be at most {num_layers}, the encoder's layers, "
                    f"received {self.layer_start}."
                )
            self.layer_weights = self.add_weight(
                name="layer_weights",
                shape=(num_layers + 1 - self.layer_start,),
                initializer="ones",
            )
        width = hidden_dim * len(self.pooling)
        for layer in self.dense:
            layer.build((None, width))
            width = layer.units
        if self.dimensions is not None and self.dimensions > width:
            raise ConfigError(
                f"Expected `dimensions` to be at most {width}, the width of the embeddings, "
                f"received {self.dimensions}."
            )
        self.built = True

    def build(self, *_: Any) -> None:
        """Checks that `connect_weights` created the variables."""
        if not self.built:
            raise ConfigError("Expected a connected head; call `connect_weights` first.")

    def compute_output_spec(self, states: Any, layout: Layout | None = None) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        state = states if self.layer_start is None else states[-1]
        rows = state.shape[0] if layout is None else layout["first_tokens"].shape[0]
        width = self.dimensions or self.pooled_dim(state.shape[-1])
        return keras.KerasTensor((rows, width), dtype="float32")

    def call(self, states: Any, layout: Layout | None = None) -> tf.Tensor:
        """Computes the embeddings; see the class."""
        if self.layer_start is None:
            x = tf.cast(states, tf.float32)
        else:
            weights = tf.convert_to_tensor(self.layer_weights)
            x = tf.add_n(
                [
                    tf.cast(state, tf.float32) * weights[index]
                    for index, state in enumerate(states[self.layer_start :])
                ]
            ) / tf.reduce_sum(weights)
        pooled = [_pool(mode, x, layout) for mode in self.pooling]
        x = pooled[0] if len(pooled) == 1 else tf.concat(pooled, axis=-1)  # (B, H * modes)
        for layer in self.dense:
            x = layer(x)
        if self.dimensions is not None:
            x = x[:, : self.dimensions]
        return unit_length(x) if self.normalize else x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "pooling": list(self.pooling),
            "layer_start": self.layer_start,
            "dense": [
                {"units": d.units, "activation": d.activation, "use_bias": d.use_bias}
                for d in self.dense
            ],
            "normalize": self.normalize,
            "dimensions": self.dimensions,
        }


def unit_length(x: tf.Tensor) -> tf.Tensor:
    """Scales float (..., D) to length 1 along the last axis; zeros stay zeros.

    The gradient at zeros is zero. That of a norm would be NaN.
    """
    squares = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
    return x * tf.math.rsqrt(tf.maximum(squares, _SMALLEST_NORM**2))


def _pool(mode: str, x: tf.Tensor, layout: Layout | None) -> tf.Tensor:
    """Pools float (T, H), or the first tokens (B, H) without a layout, to (B, H)."""
    if mode == "cls":
        return x if layout is None else tf.gather(x, layout["first_tokens"])
    if layout is None:
        raise ConfigError(f"Expected a `layout` for the pooling {mode!r}, received None.")
    if mode == "mean":
        return mean_of_tokens(x, layout)
    attended = tf.cast(layout["attended"], tf.float32)[:, tf.newaxis]
    if mode == "max":
        batch, mask = to_batch(x, layout), to_batch(attended, layout)  # (B, S, H), (B, S, 1)
        return tf.reduce_max(tf.where(mask > 0, batch, x.dtype.min), axis=1)
    counts = tf.reduce_sum(to_batch(attended, layout), axis=1)  # (B, 1)
    return mean_of_tokens(x, layout) * tf.sqrt(counts)

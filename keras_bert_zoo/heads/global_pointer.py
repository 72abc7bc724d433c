"""GlobalPointer: a score for every span and type, so that entities may overlap and be nested.

Legend: B rows, S tokens of the longest row, T tokens of all rows, C types, D head size.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.rotary import rotary_frequencies, rotate, spread_tables
from keras_bert_zoo.layers.token_layout import Layout, spec_of_batch, to_batch

# Added to both terms of a token, so that initially no span is an entity. Few spans are entities:
# without this prior, the first epoch learns little else (see RetinaNet, arXiv 1708.02002).
_PRIOR = -2.0

# The score of spans that are not candidates. exp(-1e9) is 0, and -infinity would cause NaN.
_MASKED = -1e9


@keras.saving.register_keras_serializable("keras_bert_zoo")
class GlobalPointerHead(Dense):
    """Computes a query and a key of each token for every type; a span's score is their product.

    Queries and keys have rotary positions, so that the score of a span from i to j depends on its
    length, `j - i`. The score is the query at i times the key at j, divided by the square root of
    D, plus a term for the start i and a term for the end j (Efficient GlobalPointer). Queries and
    keys contain these terms as two more elements, each multiplied by one. `span_scores` computes
    the products, so that the output grows with S and not with its square.

    Args:
        types: int, C. Number of entity types.
        head_dim: int, D, even. 64 in the paper.
        dropout: float in [0, 1). On the states.
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (T, H). The encoder's states, one row per token.
        layout: the output of `TokenLayout`.
        training: bool.

    Returns:
        float32 (B, S, 2 * C * (D + 2)): the queries of all types, already divided, then the keys.
        Zero at padding, so that scores are 0 there: no entity.

    Raises:
        ConfigError: an odd `head_dim`, or no types.

    Source: arXiv 2208.03054. The authors' code rotates neighbours, and this layer one element of
    each half. The two are equivalent for random initial weights.
    """

    def __init__(
        self,
        types: int,
        *,
        head_dim: int = 64,
        dropout: float = 0.0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        if types < 1 or head_dim < 2 or head_dim % 2:
            raise ConfigError(
                "Expected `types` to be at least 1 and `head_dim` to be a positive even number, "
                f"received {types} and {head_dim}."
            )
        super().__init__(
            2 * types * (head_dim + 1),
            initializer_range=initializer_range,
            **{"dtype": "float32"} | kwargs,
        )
        self.types = types
        self.head_dim = head_dim
        self.dropout = Dropout(dropout, dtype="float32")
        self._frequencies = rotary_frequencies(head_dim)

    def compute_output_spec(self, x: Any, layout: Layout, *_: Any, **__: Any) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        width = 2 * self.types * (self.head_dim + 2)
        return spec_of_batch(layout, width, dtype=self.compute_dtype)

    def call(  # type: ignore[override]
        self, x: tf.Tensor, layout: Layout, training: bool = False
    ) -> tf.Tensor:
        """Computes queries and keys; see the class."""
        x = self.dropout(tf.cast(x, self.compute_dtype), training=training)
        x = super().call(x, training=training)
        rotated, terms = tf.split(x, [2 * self.types * self.head_dim, 2 * self.types], axis=-1)
        rotated = tf.reshape(rotated, [-1, 2 * self.types, 1, self.head_dim])  # (T, 2C, 1, D)
        positions = tf.cast(layout["positions"], tf.float32)[:, tf.newaxis, tf.newaxis]  # (T, 1, 1)
        angles = positions * self._frequencies  # (T, 1, D / 2)
        rotated = rotate(rotated, spread_tables(tf.cos(angles), tf.sin(angles)))
        queries, keys = tf.split(rotated[:, :, 0], 2, axis=1)  # (T, C, D)
        begins, ends = tf.split(terms[:, :, tf.newaxis] + _PRIOR, 2, axis=1)  # (T, C, 1)
        ones = tf.ones_like(begins)
        queries = tf.concat([queries * self.head_dim**-0.5, begins, ones], axis=-1)
        keys = tf.concat([keys, ones, ends], axis=-1)
        x = tf.concat([queries, keys], axis=1)  # (T, 2C, D + 2)
        x *= tf.cast(layout["attended"], x.dtype)[:, tf.newaxis, tf.newaxis]
        return to_batch(tf.reshape(x, [-1, 2 * self.types * (self.head_dim + 2)]), layout)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config() | {
            "types": self.types,
            "head_dim": self.head_dim,
            "dropout": self.dropout.rate,
        }
        del config["units"], config["activation"], config["use_bias"]
        return config


def span_scores(pointers: tf.Tensor, types: int) -> tf.Tensor:
    """Computes the score of every span and type: above 0 for an entity.

    Args:
        pointers: float32 (B, S, 2 * C * (D + 2)), from `GlobalPointerHead`.
        types: int, C.

    Returns:
        float32 (B, C, S, S), from the row's token to the column's.
    """
    shape = tf.shape(pointers)
    width = pointers.shape[-1] // (2 * types)  # D + 2
    parts = tf.reshape(pointers, [shape[0], shape[1], 2, types, width])
    parts = tf.transpose(parts, [2, 0, 3, 1, 4])  # (2, B, C, S, D + 2)
    return tf.matmul(parts[0], parts[1], transpose_b=True)


def span_loss(scores: tf.Tensor, candidates: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Computes Su's multi-label loss: entities score above 0, all other candidates below.

    For each type, log(1 + sum of exp(-s) over entities) + log(1 + sum of exp(s) over the others).
    Few spans are entities: with one cross-entropy per span, the model would learn to find none.

    Args:
        scores: float32 (B, C, S, S).
        candidates: bool (B, S, S). Whether a span may be an entity; the others are ignored.
        targets: bool (B, C, S, S). Whether a span is an entity.

    Returns:
        float32 (B,), the mean over types.

    Source: arXiv 2208.03054, equation 9 (ZLPR, arXiv 2208.02955).
    """
    others = candidates[:, tf.newaxis] & ~targets

    def one_and(exponents: tf.Tensor) -> tf.Tensor:  # (B, C): log(1 + sum of exp)
        return tf.nn.softplus(tf.reduce_logsumexp(exponents, axis=[2, 3]))

    entities = one_and(tf.where(targets, -scores, _MASKED))
    return tf.reduce_mean(entities + one_and(tf.where(others, scores, _MASKED)), axis=-1)

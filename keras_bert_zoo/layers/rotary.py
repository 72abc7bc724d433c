"""Rotary position embedding: rotates queries and keys by angles that grow with the position."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.attention_groups import Layout, distinct_positions
from keras_bert_zoo.layers.devices import on_cpu

# Models pair the elements of a head in two ways. The paper and RoFormer rotate neighbours: (0, 1),
# (2, 3), ... GPT-NeoX, ModernBERT and most later models take one element from each half: (0, D/2),
# (1, D/2 + 1), ... A checkpoint works with only one of them.

Tables = tuple[tf.Tensor, tf.Tensor]
"""Cosines and signed sines, float32 (n, 1, s, D) each; see `spread_tables`."""


def rotary_frequencies(head_dim: int, *, base: float = 10000.0) -> np.ndarray:
    """Returns the angle per position of each pair, base ** (-2 i / D).

    Args:
        head_dim: int, D, even.
        base: float. 10,000 in the paper; ModernBERT's `rope_theta`.

    Returns:
        float32 (D / 2,).

    Source: arXiv 2104.09864, section 3.2.2.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return (np.float32(1) / np.float32(base) ** exponents).astype(np.float32)


def rotary_tables(
    layout: Layout, frequencies: np.ndarray, *, interleaved: bool = False, scale: float = 1.0
) -> list[Tables]:
    """Computes the tables of `rotate` for all tokens of a batch.

    Args:
        layout: the output of `TokenLayout`.
        frequencies: float (D / 2,); see `rotary_frequencies`.
        interleaved: bool. Whether pairs are neighbours; otherwise one element of each half.
        scale: float. Multiplies both tables (YaRN's attention factor).

    Returns:
        list of (cosines, signed sines), float32 (n or 1, 1, s, D), one per group of the layout.
    """
    tables = []
    for positions in distinct_positions(layout):
        angles = tf.cast(positions, tf.float32)[..., tf.newaxis] * frequencies  # (n, s, D / 2)
        cosines, sines = tf.cos(angles) * scale, tf.sin(angles) * scale
        tables.append(spread_tables(cosines, sines, interleaved=interleaved))
    return tables


def spread_tables(cosines: tf.Tensor, sines: tf.Tensor, *, interleaved: bool = False) -> Tables:
    """Repeats the value of each pair for its two elements, with the signs of a rotation.

    Args:
        cosines: float32 (n, s, D / 2).
        sines: float32 (n, s, D / 2).
        interleaved: see `rotary_tables`.

    Returns:
        (cosines, signed sines): float32 (n, 1, s, D).
    """
    if interleaved:
        shape = tf.shape(cosines)  # n, s, D / 2
        whole = [shape[0], shape[1], 2 * cosines.shape[-1]]
        cosines = tf.reshape(tf.stack([cosines, cosines], axis=-1), whole)
        sines = tf.reshape(tf.stack([-sines, sines], axis=-1), whole)
    else:
        cosines = tf.concat([cosines, cosines], axis=-1)
        sines = tf.concat([-sines, sines], axis=-1)
    return cosines[:, tf.newaxis], sines[:, tf.newaxis]


def spec_of_tables(layout: Layout, head_dim: int) -> list[tuple[Any, Any]]:
    """Returns the shapes and dtypes of `rotary_tables`' output, without a graph."""

    def table() -> keras.KerasTensor:
        return keras.KerasTensor((None, 1, None, head_dim), dtype="float32")

    return [(table(), table()) for _ in layout["attend"]]


def rotate(
    x: tf.Tensor, tables: Tables, *, interleaved: bool = False, first_token_only: bool = False
) -> tf.Tensor:
    """Rotates each pair of elements by the angle of its position, in float32.

    Args:
        x: float (n, N, s, D), or (n, N, 1, D) with `first_token_only`.
        tables: the output of `rotary_tables` for the group, with the same `interleaved`.
        interleaved: see `rotary_tables`.
        first_token_only: bool. Whether `x` holds only the rows' first columns.

    Returns:
        float of `x`'s shape and dtype.

    Source: arXiv 2104.09864, equation 34.
    """
    cosines, sines = tables
    if first_token_only:
        cosines, sines = cosines[:, :, :1], sines[:, :, :1]
    # Keras may have cast the tables to the compute dtype of a layer.
    cosines, sines = tf.cast(cosines, tf.float32), tf.cast(sines, tf.float32)
    wide, swapped = tf.cast(x, tf.float32), tf.cast(_swap(x, interleaved), tf.float32)
    return tf.cast(wide * cosines + swapped * sines, x.dtype)


def _swap(x: tf.Tensor, interleaved: bool) -> tf.Tensor:
    # Swaps the elements of each pair.
    if x.dtype == tf.bfloat16 and on_cpu():
        # Faster than to split and to join. In bfloat16, a product with a permutation is exact on
        # every device. In float32, some devices round the inputs of products.
        width = x.shape[-1]
        order = np.arange(width) ^ 1 if interleaved else np.roll(np.arange(width), width // 2)
        permutation = tf.constant(np.eye(width)[order], x.dtype)
        return tf.reshape(tf.matmul(tf.reshape(x, [-1, width]), permutation), tf.shape(x))
    if not interleaved:
        first, second = tf.split(x, 2, axis=-1)
        return tf.concat([second, first], axis=-1)
    shape = tf.shape(x)  # n, N, s, D
    pairs = tf.reshape(x, [shape[0], shape[1], shape[2], x.shape[-1] // 2, 2])
    return tf.reshape(tf.reverse(pairs, axis=[-1]), shape)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class SinusoidTable(keras.layers.Layer):
    """Computes the tables of `RotarySelfAttention` from a stored table of sines and cosines.

    RoFormer's checkpoints contain the table. It is not trained. Its frequencies and base are
    those of `rotary_frequencies`, and pairs are neighbours.

    Args:
        rows: int. Number of positions.
        head_dim: int, D, even.

    Call arguments:
        layout: the output of `TokenLayout`.

    Returns:
        dict: `rotary`, a list of (cosines, signed sines), float32 (n or 1, 1, s, D), one per group
        of the layout.

    Raises:
        tf.errors.InvalidArgumentError: on CPU, a position outside the table.

    Source: Hugging Face's modeling_roformer.py, RoFormerSinusoidalPositionalEmbedding.
    """

    def __init__(self, rows: int, head_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = self.add_weight(
            name="table",
            shape=(rows, head_dim),
            initializer=_sinusoids,
            trainable=False,
            autocast=False,
        )

    def compute_output_spec(self, layout: Layout) -> Layout:
        """Returns the shapes and dtypes of `call`'s output, without a graph."""
        return {"rotary": spec_of_tables(layout, self.table.shape[1])}

    def call(self, layout: Layout) -> Layout:
        """Reads the rows of the tokens' positions; see the class."""
        tables = []
        for positions in distinct_positions(layout):
            rows = tf.gather(self.table.value, positions)  # (n or 1, s, D)
            sines, cosines = tf.split(rows, 2, axis=-1)
            tables.append(spread_tables(cosines, sines, interleaved=True))
        return {"rotary": tables}


def _sinusoids(shape: tuple[int, int], dtype: Any = None) -> Any:
    # Sines in the first half of the columns, cosines in the second; angles in float64.
    rows, head_dim = shape
    angles = np.arange(rows)[:, np.newaxis] / 10000 ** (np.arange(0, head_dim, 2) / head_dim)
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return keras.ops.convert_to_tensor(table, dtype=dtype)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RotarySelfAttention(SelfAttention):
    """Self-attention that rotates queries and keys by the positions of their tokens.

    The family's context layer computes the tables, one pair of tables per group.

    Args:
        interleaved: bool. Whether pairs are neighbours; otherwise one element of each half.
        rotate_values: bool. Whether to rotate the values too.
        tables: str. Key of the tables in the layout.
        **kwargs: see `SelfAttention`.

    Source: arXiv 2104.09864, section 3.2.
    """

    def __init__(
        self,
        *,
        interleaved: bool = False,
        rotate_values: bool = False,
        tables: str = "rotary",
        **kwargs: Any,
    ) -> None:
        # With autocast, Keras would cast the tables to the compute dtype. Blocks disable it too.
        super().__init__(autocast=False, **kwargs)
        self.interleaved = interleaved
        self.rotate_values = rotate_values
        self.tables = tables

    def place(
        self, x: tf.Tensor, layout: Layout, group: int, *, first_token_only: bool = False
    ) -> tf.Tensor:
        """Rotates queries or keys; see `SelfAttention.place`."""
        tables = layout[self.tables][group]
        return rotate(x, tables, interleaved=self.interleaved, first_token_only=first_token_only)

    def place_values(self, x: tf.Tensor, layout: Layout, group: int) -> tf.Tensor:
        """Rotates the values if `rotate_values`; see `SelfAttention.place_values`."""
        return self.place(x, layout, group) if self.rotate_values else x

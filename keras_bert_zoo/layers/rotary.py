"""Rotary position embedding: queries and keys are turned by angles that grow with the position."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.token_layout import Layout, group_positions

# Which elements of a head make a pair that is turned together: neighbours, (0, 1), (2, 3), ..., as
# in the paper and in RoFormer; or one from each half, (0, D/2), (1, D/2 + 1), ..., as in GPT-NeoX,
# ModernBERT and most models since. Each has its own checkpoints: they cannot be exchanged.

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
    """Computes what `rotate` needs, for all tokens of a batch.

    Args:
        layout: what `TokenLayout` returned.
        frequencies: float (D / 2,); see `rotary_frequencies`.
        interleaved: bool. Whether pairs are neighbours; else one of each half.
        scale: float. Multiplies both tables (YaRN's attention factor).

    Returns:
        list of (cosines, signed sines), float32 (n or 1, 1, s, D), one per group of the layout.
    """
    tables = []
    for positions in group_positions(layout):
        if "shape_of" in layout:
            positions = positions[:1]  # the same in all rows
        angles = tf.cast(positions, tf.float32)[..., tf.newaxis] * frequencies  # (n, s, D / 2)
        cosines, sines = tf.cos(angles) * scale, tf.sin(angles) * scale
        tables.append(spread_tables(cosines, sines, interleaved=interleaved))
    return tables


def spread_tables(cosines: tf.Tensor, sines: tf.Tensor, *, interleaved: bool = False) -> Tables:
    """Lays one value a pair out as one value an element, with the sign that turning needs.

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


def rotate(
    x: tf.Tensor, tables: Tables, *, interleaved: bool = False, first_token_only: bool = False
) -> tf.Tensor:
    """Turns each pair of elements by its position's angle, in float32.

    Args:
        x: float (n, N, s, D), or (n, N, 1, D) with `first_token_only`.
        tables: what `rotary_tables` returned for the group, spread in the same way.
        interleaved: see `rotary_tables`.
        first_token_only: bool. Whether `x` holds the rows' first columns alone.

    Returns:
        float of `x`'s shape and dtype.

    Source: arXiv 2104.09864, equation 34.
    """
    cosines, sines = tables
    if first_token_only:
        cosines, sines = cosines[:, :, :1], sines[:, :, :1]
    # A layer that Keras casts the inputs of gets tables of its compute dtype.
    cosines, sines = tf.cast(cosines, tf.float32), tf.cast(sines, tf.float32)
    wide = tf.cast(x, tf.float32)
    return tf.cast(wide * cosines + _swap(wide, interleaved) * sines, x.dtype)


def _swap(x: tf.Tensor, interleaved: bool) -> tf.Tensor:
    # Each element's partner in its pair.
    if not interleaved:
        first, second = tf.split(x, 2, axis=-1)
        return tf.concat([second, first], axis=-1)
    shape = tf.shape(x)  # n, N, s, D
    pairs = tf.reshape(x, [shape[0], shape[1], shape[2], x.shape[-1] // 2, 2])
    return tf.reshape(tf.reverse(pairs, axis=[-1]), shape)


class SinusoidTable(keras.layers.Layer):
    """A stored table of sines and cosines, and from it the tables of `RotarySelfAttention`.

    RoFormer's checkpoints keep the table, which is not trained; its frequencies and base are
    those of `rotary_frequencies`, and pairs are neighbours.

    Args:
        rows: int. One per position.
        head_dim: int, D, even.

    Call arguments:
        layout: what `TokenLayout` returned.

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

    def call(self, layout: Layout) -> Layout:
        """Reads the rows of the tokens' positions; see the class."""
        tables = []
        for positions in group_positions(layout):
            if "shape_of" in layout:
                positions = positions[:1]  # the same in all rows
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


class RotarySelfAttention(SelfAttention):
    """Self-attention whose queries and keys are turned by the positions of their tokens.

    The tables come from the family's context layer: `layout["rotary"]`, one pair of tables per
    group, or another key.

    Args:
        interleaved: bool. Whether pairs are neighbours (RoFormer); else one of each half.
        rotate_values: bool. Whether the values are turned, too.
        tables: str. The layout's key that holds the tables.
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
        # Keras would cast the tables to the compute dtype. The block around it must not, either.
        super().__init__(autocast=False, **kwargs)
        self.interleaved = interleaved
        self.rotate_values = rotate_values
        self.tables = tables

    def place(
        self, x: tf.Tensor, layout: Layout, group: int, *, first_token_only: bool = False
    ) -> tf.Tensor:
        """Turns queries or keys; see `SelfAttention.place`."""
        tables = layout[self.tables][group]
        return rotate(x, tables, interleaved=self.interleaved, first_token_only=first_token_only)

    def place_values(self, x: tf.Tensor, layout: Layout, group: int) -> tf.Tensor:
        """Turns values where the model does that; see `SelfAttention.place_values`."""
        return self.place(x, layout, group) if self.rotate_values else x

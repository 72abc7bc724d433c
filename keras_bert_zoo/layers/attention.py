"""Multi-head self-attention for both token layouts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.attention_groups import (
    Layout,
    in_fastest_groups,
    merge_first_heads,
    merge_heads,
    padded_groups,
    split_first_heads,
    split_heads,
)
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense, apply_jointly
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.litert_scope import is_for_litert


@keras.saving.register_keras_serializable("keras_bert_zoo")
class SelfAttention(ConfiguredLayer):
    """Computes scaled dot-product attention between the tokens of each text.

    Args:
        hidden_dim: int.
        num_heads: int. Must divide `hidden_dim`.
        dropout: float. On the attention probabilities.
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (T, H).
        layout: the output of `TokenLayout` for the batch.
        training: bool.
        first_token_only: bool. Whether to compute only the output of each row's first token.

    Returns:
        (context, probabilities): float (T, H), or (B, H) with `first_token_only`; and the list of
        attention probabilities, one float (n, N, s, s) per group ((n, N, 1, s) with
        `first_token_only`), before dropout. The list is empty if the layout has several groups.

    Raises:
        ConfigError: `hidden_dim % num_heads != 0`.

    Source: arXiv 1706.03762, section 3.2.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_heads: int,
        dropout: float,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if hidden_dim % num_heads:
            raise ConfigError(
                f"Expected `num_heads` to divide `hidden_dim` {hidden_dim}, received {num_heads}."
            )
        self.num_heads = num_heads
        self.head_dim = hidden_dim // num_heads
        self.scale = 1 / math.sqrt(self.head_dim)
        self.make_projections(
            units=hidden_dim, initializer_range=initializer_range, dtype=self.dtype_policy
        )
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the projections' weights, for an input (T, H)."""
        for layer in self._layers:
            if isinstance(layer, Dense) and not layer.built:
                layer.build(input_shape)

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        training: bool = False,
        first_token_only: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Attends; see the class."""
        first, tokens = self.project(x, layout, first_token_only=first_token_only)

        probabilities: list[tf.Tensor] = []
        if "few" not in layout:
            context, probabilities = self._attend(layout, first, tokens, training=training)
        elif training:
            context, _ = self._attend(padded_groups(layout), first, tokens, training=True)
        else:
            context = in_fastest_groups(
                lambda *arguments: self._attend(*arguments)[0],
                layout,
                first,
                tokens,
                single=first_token_only,
            )
        width = self.num_heads * self.head_dim
        if is_for_litert():  # XNNPACK reshapes to constant shapes
            return tf.reshape(context, [-1, width]), probabilities
        # With the shape of the tensor that the result's projection is added to, TensorFlow fuses
        # the sum with the product.
        shape = tf.shape(x if first is None else first)
        if x.shape[-1] != width:
            shape = tf.stack([shape[0], width])
        return tf.reshape(context, shape), probabilities

    def _attend(
        self,
        layout: Layout,
        first: tf.Tensor | None,
        tokens: list[tf.Tensor],
        training: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the heads' outputs, (T or B, N, D), and a list of each group's probabilities."""
        width = self.num_heads * self.head_dim
        parts = [
            part
            for x in tokens
            for part in split_heads(x, layout, heads=self.num_heads, parts=x.shape[-1] // width)
        ]
        queries, keys, values = parts[0], parts[-2], parts[-1]
        if first is not None:
            queries = split_first_heads(first, layout, heads=self.num_heads)
        only = {"first_token_only": first is not None}
        dtype = values[0].dtype
        scale = tf.cast(self.scale, dtype)
        contexts, probabilities = [], []
        for group, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
            q = self.place(q, layout, group, **only)
            k = self.place(k, layout, group)
            added = self.added_scores(layout, group, **only)
            if added is None:
                scores = self.products(q * scale, k, layout, group, **only)
            else:
                # In this order, product, scale and mask are fused into one batch product on CPU.
                scores = self.products(q, k, layout, group, **only) * scale
                scores += tf.cast(added, dtype)  # (n, N, s, s)
            probability = tf.nn.softmax(scores)
            probabilities.append(probability)
            v = self.place_values(v, layout, group)
            contexts.append(tf.matmul(self.dropout(probability, training=training), v))
        merge = merge_heads if first is None else merge_first_heads
        return merge(contexts, layout), probabilities

    def step(
        self, x: tf.Tensor, cache: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Computes attention of the next token of each row to itself and all earlier tokens.

        For absolute positions, which `x` contains: `place` and `added_scores` are not called.

        Args:
            x: float (R, H).
            cache: keys and values of the t earlier tokens, float (R, N, t, D) each.

        Returns:
            float (R, H), and the cache of t + 1 tokens.
        """
        keys, values = (
            tf.concat([before, self._split(layer(x)[:, tf.newaxis])], axis=2)
            for before, layer in zip(cache, (self.key, self.value), strict=True)
        )
        scores = tf.matmul(self._split(self.query(x)[:, tf.newaxis]), keys, transpose_b=True)
        probability = tf.nn.softmax(scores * tf.cast(self.scale, x.dtype))
        return self._merge(tf.matmul(probability, values))[:, 0], (keys, values)

    def make_projections(self, **options: Any) -> None:
        """Builds the layers that `project` needs. A family may override it.

        Args:
            **options: options of `Dense`.
        """
        self.query = Dense(name="query", **options)
        self.key = Dense(name="key", **options)
        self.value = Dense(name="value", **options)

    def project(
        self, x: tf.Tensor, layout: Layout, *, first_token_only: bool
    ) -> tuple[tf.Tensor | None, list[tf.Tensor]]:
        """Computes queries, keys and values.

        Args:
            x: float (T, H).
            layout: the output of `TokenLayout`.
            first_token_only: bool. See `place`.

        Returns:
            (first, tokens): the queries of the rows' first tokens, float (B, N * D), or None
            without `first_token_only`; and tensors float (T, P * N * D) which contain, side by
            side, queries (not needed with `first_token_only`), keys and values.
        """
        if first_token_only:
            first = self.query(tf.gather(x, layout["first_tokens"]))  # (B, H)
            return first, self.apply((self.key, self.value), x)
        return None, self.apply((self.query, self.key, self.value), x)

    def apply(self, layers: Sequence[Dense], x: tf.Tensor) -> list[tf.Tensor]:
        """Applies projections to one input (T, any), in one product where that is faster."""
        joint = apply_jointly(layers, x)
        return [layer(x) for layer in layers] if joint is None else [joint]

    def place(
        self, x: tf.Tensor, layout: Layout, group: int, *, first_token_only: bool = False
    ) -> tf.Tensor:
        """Applies positions to queries or keys. This class returns `x`; a family may override it.

        Args:
            x: float (n, N, s, D), or (n, N, 1, D) with `first_token_only`.
            layout: the output of `TokenLayout` and of the family's context.
            group: int.
            first_token_only: bool. Whether `x` holds only the queries of the rows' first columns.

        Returns:
            float of the same shape.
        """
        return x

    def place_values(self, x: tf.Tensor, layout: Layout, group: int) -> tf.Tensor:
        """Applies positions to values (n, N, s, D), as `place` does to queries and keys."""
        return x

    def products(
        self,
        queries: tf.Tensor,
        keys: tf.Tensor,
        layout: Layout,
        group: int,
        *,
        first_token_only: bool = False,
    ) -> tf.Tensor:
        """Computes the scores before scaling.

        Args:
            queries: float (n, N, s, D), or (n, N, 1, D) with `first_token_only`.
            keys: float (n, N, s, D).
            layout: the output of `TokenLayout` and of the family's context.
            group: int.
            first_token_only: bool. See `place`.

        Returns:
            float (n, N, s or 1, s).
        """
        return tf.matmul(queries, keys, transpose_b=True)

    def added_scores(
        self, layout: Layout, group: int, *, first_token_only: bool = False
    ) -> tf.Tensor | None:
        """Returns the tensor to add to scores: the mask, or `attention_bias`, which includes it.

        Args:
            layout: the output of `TokenLayout` and of the family's context.
            group: int.
            first_token_only: bool. Whether the only queries are the rows' first columns.

        Returns:
            float32 (n, 1, 1, s), or (n, N or 1, s or 1, s). None: every key is attended to.
        """
        added = layout["attention_bias" if "attention_bias" in layout else "attend"][group]
        return added[:, :, :1] if first_token_only and added is not None else added

    def _split(self, x: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(x)  # n, s, H
        x = tf.reshape(x, [shape[0], shape[1], self.num_heads, self.head_dim])
        return tf.transpose(x, [0, 2, 1, 3])  # (n, N, s, D)

    def _merge(self, x: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(x)  # n, N, s, D
        x = tf.transpose(x, [0, 2, 1, 3])
        return tf.reshape(x, [shape[0], shape[2], self.num_heads * self.head_dim])

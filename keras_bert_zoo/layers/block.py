"""What every Transformer block promises."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.layers.token_layout import Layout


class Block(keras.layers.Layer):
    """A Transformer block, which tells the shapes of its outputs without being traced.

    Keras would find them, and the weights' shapes before, by tracing each block's operations
    twice. Most of the time that it takes to build an encoder would go there, so a block has a
    `build` that makes all its weights, and inherits the rest from here.

    Args:
        hidden_dim: int, H.
        num_heads: int.
        **kwargs: of every Keras layer.

    Call arguments:
        x: float (T, H).
        layout: what `TokenLayout` returned for the batch, and what the family's context adds.
        training: bool.
        first_token_only: bool. Compute the output of each row's first token alone: all that a
            pooled output needs of the last block.

    Returns:
        (output, probabilities): float (T, H), or (B, H) with `first_token_only`; and the
        attention probabilities as `SelfAttention` returns them.
    """

    def __init__(self, *, hidden_dim: int, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads

    def compute_output_spec(
        self,
        x: Any,
        layout: Layout,
        training: bool = False,
        first_token_only: bool = False,
    ) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
        """Returns the shapes and dtypes that `call` gives; numbers of rows are left open."""
        dtype = self.compute_dtype
        queries = 1 if first_token_only else None
        probabilities = [
            keras.KerasTensor((None, self.num_heads, queries, None), dtype=dtype)
            for _ in layout["attend"]
        ]
        return keras.KerasTensor((None, self.hidden_dim), dtype=dtype), probabilities

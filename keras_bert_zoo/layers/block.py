"""The base class of Transformer blocks."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.recomputation import recomputed
from keras_bert_zoo.layers.token_layout import Layout


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Block(ConfiguredLayer):
    """A Transformer block that computes the shapes of its outputs without being traced.

    Otherwise Keras would trace each block twice, for the shapes of its weights and of its outputs.
    This would take most of the time of building an encoder. A block therefore creates all its
    weights in `build`, and inherits `compute_output_spec`.

    Args:
        hidden_dim: int, H.
        num_heads: int.
        **kwargs: options of `keras.layers.Layer`.

    Call arguments:
        x: float (T, H).
        layout: the output of `TokenLayout` for the batch, and of the family's context layer.
        training: bool.
        first_token_only: bool. Whether to compute only the output of each row's first token. A
            pooled output needs no more from the last block.

    Returns:
        (output, probabilities): float (T, H), or (B, H) with `first_token_only`; and the
        attention probabilities as `SelfAttention` returns them.

    Attributes:
        gradient_checkpointing: bool. Whether training stores only the input and computes the block
            again for the gradient; see `recomputation`. Attention probabilities then have no
            gradient.
    """

    gradient_checkpointing = False

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
        """Returns the shapes and dtypes of `call`'s outputs; numbers of rows are None."""
        dtype = self.compute_dtype
        queries = 1 if first_token_only else None
        probabilities = [
            keras.KerasTensor((None, self.num_heads, queries, None), dtype=dtype)
            for _ in ([] if "few" in layout else layout["attend"])
        ]
        return keras.KerasTensor((None, self.hidden_dim), dtype=dtype), probabilities

    def __call__(self, x: Any, layout: Layout, *others: Any, **options: Any) -> Any:
        """Calls the block, and again for the gradient with `gradient_checkpointing`."""
        # `others`: the memory of a decoder's block would have no gradient.
        if others or not (self.gradient_checkpointing and options.get("training")):
            return super().__call__(x, layout, *others, **options)
        # All floats of a layout may have gradients, such as those of relative positions.
        values = tf.nest.flatten(layout)
        floats = [i for i, value in enumerate(values) if _is_float(value)]
        probabilities: list[tf.Tensor] = []

        def call(x: tf.Tensor, *tensors: tf.Tensor) -> tf.Tensor:
            for i, tensor in zip(floats, tensors, strict=True):
                values[i] = tensor
            packed = tf.nest.pack_sequence_as(layout, values)
            y, probabilities[:] = super(Block, self).__call__(x, packed, **options)
            return y

        y = recomputed(call, [x, *(values[i] for i in floats)])
        return y, [tf.stop_gradient(tensor) for tensor in probabilities]


def _is_float(value: Any) -> bool:
    return tf.is_tensor(value) and value.dtype.is_floating

"""Pooling that takes one token of a text as it is."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.token_layout import Layout


class TokenPooler(keras.layers.Layer):
    """Takes the state of each row's first or last column; there are no weights.

    The last column is that of the batch, whether it is attended or not: what Hugging Face's
    sequence summaries take unless they are told otherwise. Texts are to be padded on the left
    there. It needs a `TokenLayout` with `last_tokens`.

    Args:
        last: bool. Whether to take the last column; else the first.

    Call arguments:
        x: float (T, H), or (B, H) when it holds the first tokens alone.
        layout: what `TokenLayout` returned; None when `x` holds the first tokens alone.

    Returns:
        float (B, H).
    """

    def __init__(self, *, last: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reads_first_token = not last

    def call(self, x: tf.Tensor, layout: Layout | None = None) -> tf.Tensor:
        """Pools; see the class."""
        if layout is None:
            return x
        return tf.gather(x, layout["first_tokens" if self.reads_first_token else "last_tokens"])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"last": not self.reads_first_token}

"""The embedding part of an encoder: tokens, positions and segments."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.token_layout import Layout


class Embeddings(keras.layers.Layer):
    """Sums token, position and segment embeddings, normalizes them and applies dropout.

    Tables stay float32 and the sum is normalized in float32; only the result is in the compute
    dtype. (Casting a table of 30,522 rows to read some hundred of them would cost more than the
    rest of the layer.)

    Args:
        config: EncoderConfig.

    Call arguments:
        layout: what `TokenLayout` returned: `token_ids`, `segment_ids`, `positions` int32 (T,).
        training: bool.

    Returns:
        float (T, H), compute dtype.

    Raises:
        tf.errors.InvalidArgumentError: on CPU, an id or a position outside its table.

    Source: arXiv 1810.04805, section 3.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype="float32", name="norm"
        )
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)
        initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)

        def table(name: str, rows: int) -> Any:
            return self.add_weight(
                name=name,
                shape=(rows, config.hidden_dim),
                initializer=initializer.clone(),
                autocast=False,
            )

        self.token_table = table("token_table", config.vocabulary_size)
        self.position_table = table("position_table", config.max_sequence_length)
        self.segment_table = table("segment_table", config.num_segments)

    def call(self, layout: Layout, training: bool = False) -> tf.Tensor:
        """Embeds the tokens; see the class."""
        x = tf.gather(self.token_table.value, layout["token_ids"])  # (T, H)
        x += tf.gather(self.position_table.value, layout["positions"])
        x += tf.gather(self.segment_table.value, layout["segment_ids"])
        x = self.norm(x, training=training)
        return self.dropout(tf.cast(x, self.compute_dtype), training=training)

"""The embedding part of an encoder: tokens, positions and segments."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.scopes import rows_scope
from keras_bert_zoo.layers.token_layout import Layout
from keras_bert_zoo.layers.training_hooks import add_perturbation


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Embeddings(ConfiguredLayer):
    """Sums token, position and segment embeddings, normalizes them and applies dropout.

    The tables and the norm are float32. Only the result has the compute dtype: casting a table of
    30,522 rows to read a few hundred of them would cost more than the rest of the layer.

    Args:
        config: EncoderConfig. If `num_segments` is 0, there is no segment table.
        width: int or None. Width of the tables. None: `hidden_dim`.
        projected: bool. Whether a final dense layer, `projection`, maps the tables' width to
            `hidden_dim` (arXiv 1909.11942, section 3.1).
        positions: str or None. Key in the layout of the tokens' positions: "positions" or
            "counted_positions". None: no position table.
        position_initializer: Keras initializer of the position table. None: the other tables'.

    Call arguments:
        layout: the output of `TokenLayout`: `token_ids`, `segment_ids`, `positions` int32 (T,).
        training: bool.

    Returns:
        float (T, H), compute dtype; H is `width` if not projected.

    Raises:
        tf.errors.InvalidArgumentError: on CPU, an id or a position outside its table.

    Source: arXiv 1810.04805, section 3.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        width: int | None = None,
        projected: bool = False,
        positions: str | None = "positions",
        position_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.width = config.hidden_dim if width is None else width
        self.positions = positions
        self.norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype="float32", name="norm"
        )
        self.dropout = Dropout(config.dropout, dtype=self.dtype_policy)
        self.token_table = self.add_table("token_table", config.vocabulary_size)
        self.position_table: Any = None
        if positions is not None:
            self.position_table = self.add_table(
                "position_table", config.max_sequence_length, initializer=position_initializer
            )
        self.segment_table = None
        if config.num_segments:
            self.segment_table = self.add_table("segment_table", config.num_segments)
        self.projection = None
        if projected:
            self.projection = Dense(
                config.hidden_dim,
                initializer_range=config.initializer_range,
                dtype=self.dtype_policy,
                name="projection",
            )

    def add_table(self, name: str, rows: int, *, initializer: Any = None) -> Any:
        """Creates a float32 table (rows, width), for any compute dtype."""
        if initializer is None:
            initializer = TruncatedNormal(stddev=self.config.initializer_range)
        return self.add_weight(
            name=name, shape=(rows, self.width), initializer=initializer, autocast=False
        )

    def build(self, *_: Any) -> None:
        """Creates the weights of the norm and of the projection."""
        self.norm.build((None, self.width))
        if self.projection is not None:
            self.projection.build((None, self.width))

    def compute_output_spec(self, layout: Layout, training: bool = False) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        width = self.width if self.projection is None else self.config.hidden_dim
        return keras.KerasTensor((layout["token_ids"].shape[0], width), dtype=self.compute_dtype)

    def call(self, layout: Layout, training: bool = False) -> tf.Tensor:
        """Embeds the tokens; see the class."""
        x = self.norm(self.embed(layout), training=training)
        x = self.dropout(tf.cast(x, self.compute_dtype), training=training)
        return x if self.projection is None else self.projection(x, training=training)

    def embed(self, layout: Layout) -> tf.Tensor:
        """Returns the sum of the embeddings, float32 (T, width). A family may add to it."""
        x = add_perturbation(look_up(self.token_table, layout["token_ids"]), layout)
        if self.positions is not None:
            x += tf.gather(self.position_table.value, layout[self.positions])
        if self.segment_table is not None:
            x += tf.gather(self.segment_table.value, layout["segment_ids"])
        return x


def look_up(table: Any, ids: tf.Tensor) -> tf.Tensor:
    """Gathers rows of a table of tokens; an export may store the table in bfloat16.

    See also `scopes.only_rows_are_read`.

    Args:
        table: Keras variable (V, width).
        ids: int32 (T,).

    Returns:
        float32 (T, width).
    """
    with rows_scope():
        rows = table.value
    return tf.cast(tf.gather(rows, ids), tf.float32)

"""R-BERT's head: the relation between two marked entities of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.token_layout import Layout, to_batch
from keras_bert_zoo.validation import check_choice

POOLINGS = ("mean", "start")


def find_entities(
    token_ids: tf.Tensor, padding_mask: tf.Tensor, marker_ids: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the tokens of two entities between their markers.

    An entity is between its first opening marker and the first closing marker after that.

    Args:
        token_ids: int32 (B, S).
        padding_mask: int32 (B, S).
        marker_ids: four ids: opening and closing marker of the first entity, then of the second.

    Returns:
        int32 (B, 2) starts, int32 (B, 2) ends, exclusive, and bool (B, 2), whether the entity
        exists and has at least one token. If not, start and end are 0.
    """
    columns = tf.shape(token_ids)[1]
    places = tf.range(columns)[tf.newaxis]  # (1, S)
    attended = padding_mask != 0
    begins, ends = [], []
    for opening, closing in (marker_ids[:2], marker_ids[2:]):
        # Minima, because argmax fails without columns, as in a batch without rows.
        opened = tf.where((token_ids == opening) & attended, places, columns)
        begin = tf.reduce_min(opened, axis=1, keepdims=True) + 1  # (B, 1)
        closed = tf.where((token_ids == closing) & attended & (places >= begin), places, columns)
        begins.append(begin)
        ends.append(tf.reduce_min(closed, axis=1, keepdims=True))
    begin, end = tf.concat(begins, axis=1), tf.concat(ends, axis=1)  # (B, 2)
    exists = (end > begin) & (end < columns)
    return tf.where(exists, begin, 0), tf.where(exists, end, 0), exists


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RelationHead(keras.layers.Layer):
    """Maps the states of [CLS] and of two entities to one logit per relation.

    Tanh, dropout and a dense layer transform each of the three vectors; the entities share the
    dense layer. The vectors are concatenated, and dropout and a last dense layer follow. If the
    markers of an entity are missing, the state of [CLS] is used.

    Args:
        units: int. Number of labels.
        hidden_dim: int. Width of the encoder's states.
        marker_ids: four ints; see `find_entities`.
        pooling: "mean": an entity is the mean of its tokens' states, as in R-BERT; "start": the
            state of its opening marker (arXiv 1906.03158).
        dropout: float in [0, 1).
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (T, H). The encoder's states, one row per token.
        layout: the output of `TokenLayout`.
        token_ids: int32 (B, S).
        padding_mask: int32 (B, S).
        training: bool.

    Returns:
        float32 (B, units).

    Raises:
        ConfigError: unknown `pooling`.

    Source: arXiv 1905.08284, section 3.2.
    """

    def __init__(
        self,
        units: int,
        *,
        hidden_dim: int,
        marker_ids: Sequence[int],
        pooling: str = "mean",
        dropout: float = 0.1,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "autocast": False} | kwargs)
        check_choice("pooling", pooling, POOLINGS)
        self.units = units
        self.hidden_dim = hidden_dim
        self.marker_ids = tuple(int(index) for index in marker_ids)
        self.pooling = pooling
        options: dict[str, Any] = {"initializer_range": initializer_range, "dtype": "float32"}
        self.text = Dense(hidden_dim, name="text", **options)
        self.entity = Dense(hidden_dim, name="entity", **options)
        self.output_layer = Dense(units, name="output", **options)
        self.dropout = Dropout(dropout, dtype="float32")
        self.text.build((None, hidden_dim))
        self.entity.build((None, hidden_dim))
        self.output_layer.build((None, 3 * hidden_dim))
        self.built = True

    def extra_layers(self) -> dict[str, keras.layers.Layer]:
        """Returns the layers with weights, by name."""
        return {
            "relation.text": self.text,
            "relation.entity": self.entity,
            "relation.output": self.output_layer,
        }

    def compute_output_spec(
        self, x: Any, layout: Layout, token_ids: Any, *_: Any, **__: Any
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        return keras.KerasTensor((token_ids.shape[0], self.units), dtype="float32")

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        token_ids: tf.Tensor,
        padding_mask: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Computes the logits; see the class."""
        states = tf.cast(to_batch(x, layout), tf.float32)  # (B, S, H)
        first = tf.cast(tf.gather(x, layout["first_tokens"]), tf.float32)  # (B, H)
        begin, end, exists = find_entities(token_ids, padding_mask, self.marker_ids)
        places = tf.range(tf.shape(token_ids)[1])[tf.newaxis, tf.newaxis]  # (1, 1, S)
        begin, end = begin[:, :, tf.newaxis], end[:, :, tf.newaxis]  # (B, 2, 1)
        if self.pooling == "mean":
            inside = tf.cast((places >= begin) & (places < end), tf.float32)  # (B, 2, S)
            weights = inside / tf.maximum(tf.reduce_sum(inside, axis=2, keepdims=True), 1.0)
        else:
            weights = tf.cast(places == begin - 1, tf.float32)
        pooled = tf.matmul(weights, states)  # (B, 2, H)
        pooled = tf.where(exists[:, :, tf.newaxis], pooled, first[:, tf.newaxis])

        text = self._project(self.text, first, training)
        entities = tf.reshape(pooled, [-1, self.hidden_dim])  # (2B, H)
        entities = self._project(self.entity, entities, training)
        joined = tf.concat([text, tf.reshape(entities, [-1, 2 * self.hidden_dim])], axis=1)
        return self.output_layer(self.dropout(joined, training=training), training=training)

    def _project(self, dense: Dense, x: tf.Tensor, training: bool) -> tf.Tensor:
        return dense(self.dropout(tf.tanh(x), training=training), training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "units": self.units,
            "hidden_dim": self.hidden_dim,
            "marker_ids": self.marker_ids,
            "pooling": self.pooling,
            "dropout": self.dropout.rate,
            "initializer_range": self.output_layer.initializer_range,
        }


def make_relation_head(
    encoder: Encoder, units: int, *, marker_ids: Sequence[int], pooling: str = "mean"
) -> RelationHead:
    """Builds a head with fresh weights for an encoder; see `RelationHead` for the arguments."""
    return RelationHead(
        units,
        hidden_dim=encoder.output["sequence_output"].shape[-1],
        marker_ids=marker_ids,
        pooling=pooling,
        dropout=encoder.config.dropout,
        initializer_range=encoder.config.initializer_range,
        name="relation",
    )

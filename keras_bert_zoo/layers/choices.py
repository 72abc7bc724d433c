"""Layers between a text's choices and rows of one choice. B batch, C choices, S length."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ChoicesToRows(keras.layers.Layer):
    """Maps int32 (B, C, S) to (B * C, S).

    Example:
        >>> ChoicesToRows()(tf.zeros([2, 3, 4], tf.int32)).shape
        TensorShape([6, 4])
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Reshapes; see the class."""
        shape = tf.shape(x)  # an empty batch does not determine a size of -1
        return tf.reshape(x, [shape[0] * shape[1], shape[2]])


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RowsToChoices(keras.layers.Layer):
    """Maps float (B * C, 1) to (B, C), for rows from int32 (B, C, S).

    Example:
        >>> RowsToChoices()(tf.zeros([6, 1]), tf.zeros([2, 3, 4], tf.int32)).shape
        TensorShape([2, 3])
    """

    def call(self, x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Reshapes; see the class."""
        return tf.reshape(x, tf.shape(like)[:2])

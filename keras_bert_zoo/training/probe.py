"""Linear probing: fitting a fresh head to the encoder's frozen outputs before fine-tuning."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# A linear map of a bounded pooled output is a convex problem: a large rate and a large batch are
# safe, and a few seconds are enough.
_LEARNING_RATE = 0.02
_BATCH_SIZE = 512


def probe_head(
    head: keras.layers.Layer,
    features: np.ndarray,
    targets: np.ndarray,
    loss: Any,
    *,
    epochs: int,
    sample_weight: np.ndarray | None = None,
) -> list[float]:
    """Trains a head alone, on features that were computed once.

    A head that starts from random weights sends large random gradients into the encoder and
    distorts what it knows; one that starts from the best linear map does not, and fine-tuning
    needs fewer epochs.

    Args:
        head: layer from features to logits; changed in place.
        features: float32 (examples, H).
        targets: as `loss` takes them, one row per example.
        loss: Keras loss on logits.
        epochs: int. Passes over the features.
        sample_weight: float32 (examples,) or None.

    Returns:
        list of float, the loss of each epoch.

    Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution" (arXiv 2202.10054), "LP-FT".
    """
    inputs = keras.Input((features.shape[-1],))
    model = keras.Model(inputs, head(inputs))
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), loss)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        weights = np.ones(len(features), np.float32) if sample_weight is None else sample_weight
        history = model.fit(
            _even_batches(features, targets, weights, replicas), epochs=epochs, verbose=0
        )
    else:
        history = model.fit(
            features,
            targets,
            sample_weight=sample_weight,
            batch_size=_BATCH_SIZE,
            epochs=epochs,
            verbose=0,
        )
    return [float(value) for value in history.history["loss"]]


def _even_batches(
    features: np.ndarray, targets: np.ndarray, weights: np.ndarray, replicas: int
) -> tf.data.Dataset:
    """Shuffled batches that divide by the replicas: the last is filled up with rows of weight 0.

    Keras divides by all rows of a batch; the weights of the others make up for it.
    """

    def fill(*parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows = tf.shape(parts[0])[0]
        places = tf.range(rows + (-rows) % replicas)
        real = places < rows
        x, y, weight = (tf.gather(part, tf.where(real, places, 0)) for part in parts)
        more = tf.cast(tf.size(places) / rows, weight.dtype)
        return x, y, tf.where(real, weight * more, 0)

    dataset = tf.data.Dataset.from_tensor_slices((features, targets, weights))
    return dataset.shuffle(len(features), seed=0).batch(_BATCH_SIZE).map(fill)

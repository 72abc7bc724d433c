"""Linear probing: fitting a fresh head to the encoder's frozen outputs before fine-tuning."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.training.replicas import ReplicaLoss

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
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        loss = ReplicaLoss(loss, replicas)
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), loss)
    if replicas > 1:
        batches = _repeated_batches(features, targets, sample_weight, replicas)
        history = model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
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


def _repeated_batches(
    features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, replicas: int
) -> tf.data.Dataset:
    """Shuffled batches, of which each replica gets all rows: a head is small.

    Each replica's share of the loss is then the same part of it, whatever its reduction.
    """
    parts = (features, targets) if weights is None else (features, targets, weights)

    def repeat(*parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(tf.concat([part] * replicas, axis=0) for part in parts)

    dataset = tf.data.Dataset.from_tensor_slices(parts)
    return dataset.shuffle(len(features), seed=0).batch(_BATCH_SIZE).map(repeat)

"""Linear probing: trains a new head on the encoder's frozen outputs before fine-tuning."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import length_order, restore_order
from keras_bert_zoo.encoders.encoder import encoder_inputs
from keras_bert_zoo.training.replica_loss import ReplicaLoss
from keras_bert_zoo.training.replicas import even_batches, split_rows
from keras_bert_zoo.training.rows import RowBatches

# The problem is convex and the pooled output is bounded, so a large rate and a large batch are
# safe. Training takes a few seconds.
_LEARNING_RATE = 0.02
_BATCH_SIZE = 512
_FEATURE_BATCH = 256


def probe_task(task: Any, rows: RowBatches, targets: np.ndarray, loss: Any, **options: Any) -> None:
    """Trains only the head of a task, on pooled outputs that are computed once.

    Args:
        task: Task, whose head reads only the pooled output; the head is changed in place.
        rows: the examples.
        targets: see `probe_head`.
        loss: see `probe_head`.
        **options: see `probe_head`.
    """
    strategy = task.distribute_strategy
    with strategy.scope():
        features = _pooled_outputs(task, rows, int(strategy.num_replicas_in_sync))
        probe_head(task.head, features, targets, loss, **options)


def probe_head(
    head: keras.layers.Layer,
    features: np.ndarray,
    targets: np.ndarray,
    loss: Any,
    *,
    epochs: int,
    sample_weight: np.ndarray | None = None,
) -> list[float]:
    """Trains a head on fixed features, under the current strategy.

    A head with random weights sends large random gradients into the encoder and distorts its
    features. A head that starts from the best linear map does not, and fine-tuning needs fewer
    epochs.

    Args:
        head: Keras layer of float32 (examples, H).
        features: float32 (examples, H).
        targets: one row per example, in the form that `loss` accepts.
        loss: Keras loss on logits.
        epochs: int. Passes over the features.
        sample_weight: float32 (examples,) or None.

    Returns:
        list of float, the loss of each epoch.

    Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution" (arXiv 2202.10054), "LP-FT".
    """
    replicas = int(tf.distribute.get_strategy().num_replicas_in_sync)
    inputs = keras.Input((features.shape[-1],))
    model = keras.Model(inputs, head(inputs))
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


def _pooled_outputs(task: Any, rows: RowBatches, replicas: int) -> np.ndarray:
    """Computes float32 (examples, H), in the order of the examples."""
    # The size is a multiple of the replicas, so only the last batch has copies; they are cut off.
    size = _FEATURE_BATCH - _FEATURE_BATCH % replicas
    inputs = encoder_inputs()
    pooled = task.encoder.pooled_outputs(inputs, token_layout=task.token_layout)
    batches = even_batches(rows.batches(batch_size=size, shuffle=False), replicas)
    batches = batches.map(lambda *batch: (split_rows(batch[0])[0],))
    features = keras.Model(inputs, pooled).predict(batches, verbose=0)[: len(rows)]
    ordered: np.ndarray = restore_order(features, length_order(rows.lengths)).astype(np.float32)
    return ordered


def _repeated_batches(
    features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, replicas: int
) -> tf.data.Dataset:
    """Makes shuffled batches, with a copy of all rows for each replica: a head is small.

    Then all replicas have equal shares of the loss, for any reduction.
    """
    parts = (features, targets) if weights is None else (features, targets, weights)

    def repeat(*parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(tf.concat([part] * replicas, axis=0) for part in parts)

    dataset = tf.data.Dataset.from_tensor_slices(parts)
    return dataset.shuffle(len(features), seed=0).batch(_BATCH_SIZE).map(repeat)

"""Linear probing: fitting a fresh head to the encoder's frozen outputs before fine-tuning."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

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
    history = model.fit(
        features,
        targets,
        sample_weight=sample_weight,
        batch_size=_BATCH_SIZE,
        epochs=epochs,
        verbose=0,
    )
    return [float(value) for value in history.history["loss"]]

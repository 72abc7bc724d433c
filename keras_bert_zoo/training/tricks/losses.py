"""Losses of labels with label smoothing, and focal losses."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.outputs import OneHotLoss, Outputs
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss

__all__ = ["label_loss"]


def label_loss(
    outputs: Outputs, *, label_smoothing: float = 0.0, focal_loss: float = 0.0
) -> keras.losses.Loss:
    """Makes a cross-entropy with label smoothing, a focal loss, or both.

    For several labels per text, a label that applies has the target 1 - label_smoothing / 2, any
    other label_smoothing / 2. For token labels, padding has no target. The focal loss has no
    weights of classes: pass `class_weight` to `fit`.

    Args:
        outputs: Outputs of labels: of the kind "label", "labels" or "tokens".
        label_smoothing: float in [0, 1).
        focal_loss: float of at least 0. The exponent; 0: no focal loss.

    Returns:
        keras.losses.Loss on logits.

    Raises:
        ConfigError: outputs of another kind.

    Source: arXiv 1512.00567, section 7; arXiv 1708.02002, equation 4.

    Example:
        >>> import numpy as np
        >>> loss = label_loss(Outputs("label", "TextClassifier", 2), focal_loss=2.0)
        >>> round(float(loss(np.array([0]), np.zeros([1, 2]))), 4)  # a quarter of log(2)
        0.1733
    """
    options: dict[str, Any] = {"label_smoothing": label_smoothing}
    if outputs.kind == "tokens":
        return SmoothedTokenLoss(focal_gamma=focal_loss, **options)
    if outputs.kind not in ("label", "labels"):
        raise ConfigError(
            f"Expected outputs of labels for `label_smoothing` and `focal_loss`, received those of "
            f"a {outputs.task}."
        )
    options["from_logits"] = True
    several = outputs.kind == "labels"
    if several:
        kinds = keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy
    else:
        kinds = keras.losses.CategoricalCrossentropy, keras.losses.CategoricalFocalCrossentropy
        if focal_loss:
            options["alpha"] = 1.0
    if focal_loss:
        options["gamma"] = focal_loss
    loss = kinds[bool(focal_loss)](**options)
    return loss if several else OneHotLoss(loss, outputs.count)

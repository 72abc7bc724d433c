"""The units of losses: how the share of a batch, or a batch with copies of rows, is computed."""

from __future__ import annotations

from typing import Any, Literal

import keras

from keras_bert_zoo.data.pipeline import NO_LABEL

__all__ = ["SharedUnit", "loss_unit"]

SharedUnit = Literal["rows", "tokens", "objectives", "batch", ""]
"""The unit of a loss.

"rows", "tokens": it is a mean over rows or labelled tokens, and shares can be computed apart.
"objectives": a sum of means, each over the labelled rows or tokens of an objective; see
`objectives_loss.ObjectivesLoss`. "batch": it compares the rows of a batch, and ignores rows whose
label is `NO_LABEL` or NaN. "": any other loss.
"""

# Keras' losses that are a mean over the rows of a batch.
_OF_ROWS = (
    keras.losses.BinaryCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.CategoricalHinge,
    keras.losses.CosineSimilarity,
    keras.losses.Hinge,
    keras.losses.Huber,
    keras.losses.KLDivergence,
    keras.losses.LogCosh,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanAbsolutePercentageError,
    keras.losses.MeanSquaredError,
    keras.losses.MeanSquaredLogarithmicError,
    keras.losses.Poisson,
    keras.losses.SquaredHinge,
)


def loss_unit(loss: Any) -> SharedUnit:
    """Returns the unit of a loss: its `unit`, or that of a Keras loss.

    Args:
        loss: keras.losses.Loss.

    Returns:
        a `SharedUnit`; "" if its reduction is not a mean.
    """
    if getattr(loss, "reduction", None) not in ("sum_over_batch_size", "mean"):
        return ""
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        # With a mask, Keras divides by the number of unmasked tokens and ignores the weights.
        ignored = getattr(loss, "ignore_class", None)
        return "rows" if ignored is None else "tokens" if ignored == NO_LABEL else ""
    if type(loss) in _OF_ROWS:
        return "rows"
    unit: SharedUnit = getattr(loss, "unit", "")
    return unit

"""Training and evaluation steps with equal results on any number of replicas.

Keras averages the mean losses of the replicas, so a row of a small share has a larger weight. It
clips the gradients of each replica separately. It fails if the batch size is not a multiple of the
number of replicas. Here `even_batches` pads a batch with copies of a row. The copies are dropped
after the model, before any loss or metric. The loss is that of the whole batch. A mean over rows or
tokens is scaled by the replica's share of them. All other losses are computed on the gathered
outputs of all replicas.

Sample weights of 0 for the copies would not be enough: losses over the whole batch, such as those
with in-batch negatives, and means over tokens would still include the copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError

__all__ = [
    "REAL_ROW",
    "ReplicaLoss",
    "SharedUnit",
    "even_batches",
    "loss_unit",
    "predict_step",
    "split_rows",
    "test_step",
    "train_step",
]

REAL_ROW = "real_row"
"""Name of the input that marks copies, int32 (B,): 1 is a real row, 0 is a copy to drop."""

SharedUnit = Literal["rows", "tokens", ""]
"""The unit of a loss that is a mean: rows, labelled tokens, or "" for any other loss."""


def even_batches(dataset: tf.data.Dataset, replicas: int) -> tf.data.Dataset:
    """Pads batches with copies of their first row, so that all replicas get the same number.

    Args:
        dataset: batches `(inputs,)`, `(inputs, labels)` or `(inputs, labels, sample_weight)`, where
            inputs are a dict of tensors (B, ...).
        replicas: int.

    Returns:
        the padded dataset, with `REAL_ROW` among the inputs; the dataset itself without replicas.
    """
    if replicas < 2:
        return dataset

    def fill(*parts: Any) -> tuple[Any, ...]:
        rows = tf.shape(tf.nest.flatten(parts[0])[0])[0]
        places = tf.range(rows + (-rows) % replicas)
        real = places < rows
        places = tf.where(real, places, 0)
        inputs, *rest = tf.nest.map_structure(lambda part: tf.gather(part, places), parts)
        return ({**inputs, REAL_ROW: tf.cast(real, tf.int32)}, *rest)

    return dataset.map(fill)


def split_rows(inputs: Any) -> tuple[Any, tf.Tensor | None]:
    """Splits `REAL_ROW`, bool (B,) or None, from a model's inputs: (inputs, real)."""
    if not isinstance(inputs, Mapping) or REAL_ROW not in inputs:
        return inputs, None
    rest = {name: value for name, value in inputs.items() if name != REAL_ROW}
    return rest, tf.cast(inputs[REAL_ROW], tf.bool)


def loss_unit(loss: Any) -> SharedUnit:
    """Returns the unit that a loss is a mean over: its `unit`, or that of a Keras loss.

    Args:
        loss: keras.losses.Loss.

    Returns:
        "rows", "tokens", or "" for any other loss, also if its reduction is not a mean.
    """
    if getattr(loss, "reduction", None) not in ("sum_over_batch_size", "mean"):
        return ""
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        # With a mask, Keras divides by the number of unmasked tokens and ignores the weights.
        return "tokens" if getattr(loss, "ignore_class", None) == NO_LABEL else ""
    unit: SharedUnit = getattr(loss, "unit", "")
    return unit


def train_step(model: keras.Model, data: Any, unit: SharedUnit) -> dict[str, Any]:
    """Trains on one replica's share of a batch; see the module.

    Args:
        model: compiled with a `ReplicaLoss`.
        data: a batch of `even_batches`.
        unit: the unit that the loss is a mean over.

    Returns:
        dict: name -> metric so far.
    """
    (x, real), y, weight = _unpacked(data)
    with tf.GradientTape() as tape:
        y_pred = model(x, training=True)
        loss, targets, rows = _shared_loss(model, (x, y, y_pred, weight), real, unit, training=True)
        scaled = model.optimizer.scale_loss(loss)
    variables = model.trainable_variables
    _apply(model.optimizer, tape.gradient(scaled, variables), variables)
    return _measured(model, x, targets, loss, rows)


def test_step(model: keras.Model, data: Any, unit: SharedUnit) -> dict[str, Any]:
    """Evaluates one replica's share of a batch; see `train_step`."""
    (x, real), y, weight = _unpacked(data)
    y_pred = model(x, training=False)
    loss, targets, rows = _shared_loss(model, (x, y, y_pred, weight), real, unit, training=False)
    return _measured(model, x, targets, loss, rows)


def predict_step(model: keras.Model, data: Any) -> Any:
    """Computes the outputs of one replica's share of a batch, without the copies."""
    (x, real), _, _ = _unpacked(data)
    outputs = model(x, training=False)
    if real is None:
        return outputs
    return tf.nest.map_structure(lambda part: tf.boolean_mask(part, real), outputs)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ReplicaLoss(keras.losses.Loss):
    """Computes one replica's share of a loss, for any reduction.

    Keras divides only means by the number of replicas, not sums or scalar losses.

    Args:
        loss: keras.losses.Loss.
        replicas: int.

    Raises:
        ConfigError: the loss has no reduction.
    """

    def __init__(self, loss: keras.losses.Loss, replicas: int) -> None:
        if loss.reduction in (None, "none"):
            raise ConfigError(
                "Expected a loss with a reduction on several replicas, "
                "received `reduction=None`: pass "
                '"sum_over_batch_size" or "sum".'
            )
        super().__init__(name=loss.name, reduction=loss.reduction)
        self.loss = loss
        self.replicas = replicas
        self._is_mean: bool | None = False if loss.reduction == "sum" else None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Computes the share.

        Args:
            y_true: labels, in the form that the loss accepts.
            y_pred: outputs.
            sample_weight: float (B,) or None.

        Returns:
            scalar.
        """
        value = self.loss(y_true, y_pred, sample_weight)
        if sample_weight is not None and self.loss.reduction != "sum":
            return value  # weights turn a scalar into rows, too, and Keras takes their mean
        if self._is_mean is None:
            dtype = self.loss.dtype
            # Only the rank is used. It is computed once, outside of the step.
            of_rows = self.loss.call(tf.cast(y_true, dtype), tf.cast(y_pred, dtype))
            self._is_mean = len(of_rows.shape) > 0
        return value if self._is_mean else value / tf.cast(self.replicas, value.dtype)


def _unpacked(data: Any) -> tuple[tuple[Any, tf.Tensor | None], Any, Any]:
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    return split_rows(x), y, weight


def _shared_loss(
    model: keras.Model,
    batch: tuple[Any, Any, Any, Any],
    real: tf.Tensor | None,
    unit: SharedUnit,
    *,
    training: bool,
) -> tuple[tf.Tensor, tuple[Any, Any, Any], tf.Tensor]:
    """Computes the share of the loss; the own labels, outputs and weights; and the batch's rows.

    The sum of the shares of all replicas is the loss of the batch.
    """
    x, y, y_pred, weight = batch
    replica = tf.distribute.get_replica_context()
    if real is None:
        raise ConfigError(
            "Expected a batch that is divided among the replicas, "
            "received an undivided batch: call "
            "`fit` or `evaluate`, which divide batches."
        )
    own = _select((y, y_pred, weight), real)
    rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(tf.cast(real, tf.float32)))
    if unit:
        # If Keras knows that there are no rows, its loss is not a scalar.
        loss = tf.reduce_sum(model.compute_loss(x, *own, training))
        count = tf.cast(tf.shape(own[0])[0], tf.float32)
        if unit == "tokens":
            count = tf.reduce_sum(tf.cast(own[0] != NO_LABEL, tf.float32))
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
        share = tf.math.divide_no_nan(count, total) * replica.num_replicas_in_sync
        loss *= tf.cast(share, loss.dtype)
    else:
        all_real = replica.all_gather(tf.cast(real, tf.int32), axis=0) > 0
        gathered = [
            None if part is None else replica.all_gather(part, axis=0)
            for part in (y, y_pred, weight)
        ]
        loss = model.compute_loss(x, *_select(gathered, all_real), training)
    return loss, own, rows


def _select(parts: Sequence[Any], rows: tf.Tensor) -> tuple[Any, Any, Any]:
    y, y_pred, weight = (None if part is None else tf.boolean_mask(part, rows) for part in parts)
    return y, y_pred, weight


def _measured(
    model: keras.Model, x: Any, targets: tuple[Any, Any, Any], loss: tf.Tensor, rows: tf.Tensor
) -> dict[str, Any]:
    replica = tf.distribute.get_replica_context()
    whole = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(loss))
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(whole, sample_weight=rows)
    y, y_pred, weight = targets
    return dict(model.compute_metrics(x, y, y_pred, sample_weight=weight))


def _apply(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
    """Applies gradients. Rejects optimizers that clip the gradients of each replica."""
    names = ("clipnorm", "global_clipnorm", "clipvalue")
    clips = any(getattr(optimizer, name, None) for name in names)
    if not clips or getattr(optimizer, "clips_sums", False):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return
    raise ConfigError(
        f"{type(optimizer).__name__} clips the gradients of each replica, not their sum, so the "
        "result depends on the number of replicas. Use `keras_bert_zoo`'s AdamW, which `fit` uses "
        "by default, or do not clip."
    )

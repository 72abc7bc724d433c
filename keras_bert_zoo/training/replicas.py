"""Steps of training and measuring in which every row counts once, on any number of replicas.

Keras takes the mean of the replicas' mean losses, so that a row of a small share weighs more than
one of a large share; it clips each replica's gradients by themselves; and it fails where a batch
does not divide by the replicas. Here a batch is filled up with copies of a row until it divides
(`even_batches`), and the copies are dropped after the model, before any loss or metric. The loss
is that of the whole batch: losses that are sums over rows or over tokens are scaled by the
replica's share of them, and all others are computed on the outputs of all replicas, gathered.

A loss that looks at the whole batch, as that of in-batch negatives does, and one whose mean is
over tokens, are exact only so: weights of 0 for the copies would leave them in both.
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
"""The input that says of each row whether it is one, int32 (B,): 0 is a copy to be dropped."""

SharedUnit = Literal["rows", "tokens", ""]
"""What a loss is a mean over: rows, labelled tokens, or "" where it may be anything."""


def even_batches(dataset: tf.data.Dataset, replicas: int) -> tf.data.Dataset:
    """Fills batches up until each replica gets as many rows.

    Args:
        dataset: of `(inputs,)`, `(inputs, labels)` or `(inputs, labels, sample_weight)`, inputs a
            dict of tensors (B, ...).
        replicas: int.

    Returns:
        a dataset of the same, with `REAL_ROW` among the inputs. The dataset itself where there is
        one replica.
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
    """Takes `REAL_ROW` out of a model's inputs: the rest, and bool (B,), or None without it."""
    if not isinstance(inputs, Mapping) or REAL_ROW not in inputs:
        return inputs, None
    rest = {name: value for name, value in inputs.items() if name != REAL_ROW}
    return rest, tf.cast(inputs[REAL_ROW], tf.bool)


def loss_unit(loss: Any) -> SharedUnit:
    """Says what a loss is a mean over: as it says in `unit`, or else as Keras computes it.

    Args:
        loss: keras.losses.Loss.

    Returns:
        "rows", "tokens", or "" for any other: also for a reduction that is no mean of rows.
    """
    if getattr(loss, "reduction", None) not in ("sum_over_batch_size", "mean"):
        return ""
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        # With masks Keras takes the mean over what is not masked, whatever the weights are.
        return "tokens" if getattr(loss, "ignore_class", None) == NO_LABEL else ""
    unit: SharedUnit = getattr(loss, "unit", "")
    return unit


def train_step(model: keras.Model, data: Any, unit: SharedUnit) -> dict[str, Any]:
    """One step of training on one replica's share of a batch; see the module.

    Args:
        model: compiled, with a `ReplicaLoss`.
        data: what `even_batches` gave.
        unit: what the loss is a mean over.

    Returns:
        dict, the metrics so far.
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
    """One step of measuring; as `train_step`."""
    (x, real), y, weight = _unpacked(data)
    y_pred = model(x, training=False)
    loss, targets, rows = _shared_loss(model, (x, y, y_pred, weight), real, unit, training=False)
    return _measured(model, x, targets, loss, rows)


def predict_step(model: keras.Model, data: Any) -> Any:
    """Computes the outputs of one replica's share of a batch, without those of copies."""
    (x, real), _, _ = _unpacked(data)
    outputs = model(x, training=False)
    if real is None:
        return outputs
    return tf.nest.map_structure(lambda part: tf.boolean_mask(part, real), outputs)


class ReplicaLoss(keras.losses.Loss):
    """A loss of which each replica returns its share, whatever its reduction.

    Keras divides a mean by the number of replicas, but neither a sum nor a loss that is a scalar.

    Args:
        loss: keras.losses.Loss.
        replicas: int.

    Raises:
        ConfigError: a loss without a reduction.
    """

    def __init__(self, loss: keras.losses.Loss, replicas: int) -> None:
        if loss.reduction in (None, "none"):
            raise ConfigError(
                "A loss with `reduction=None` does not say how rows add up on several replicas: "
                'expected "sum_over_batch_size" or "sum".'
            )
        super().__init__(name=loss.name, reduction=loss.reduction)
        self.loss = loss
        self.replicas = replicas
        self._is_mean: bool | None = False if loss.reduction == "sum" else None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Computes the share.

        Args:
            y_true: labels, as the loss takes them.
            y_pred: outputs.
            sample_weight: float (B,) or None.

        Returns:
            scalar.
        """
        value = self.loss(y_true, y_pred, sample_weight)
        if sample_weight is not None and self.loss.reduction != "sum":
            return value  # weights make rows of a scalar, too, which Keras takes the mean of
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
    """This replica's share of the loss; its labels, outputs and weights; and all rows.

    The shares of all replicas add up to the loss of the batch.
    """
    x, y, y_pred, weight = batch
    replica = tf.distribute.get_replica_context()
    if real is None:
        raise ConfigError(
            "Under a strategy of several replicas batches come from `fit` and `evaluate`, which "
            "share them out; got one that is not shared out."
        )
    own = _kept((y, y_pred, weight), real)
    rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(tf.cast(real, tf.float32)))
    if unit:
        # Of no rows Keras gives no scalar, where it knows that there are none.
        loss = tf.reduce_sum(model.compute_loss(x, *own, training))
        count = tf.cast(tf.shape(own[0])[0], tf.float32)
        if unit == "tokens":
            count = tf.reduce_sum(tf.cast(own[0] != NO_LABEL, tf.float32))
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
        share = tf.math.divide_no_nan(count, total) * replica.num_replicas_in_sync
        loss *= tf.cast(share, loss.dtype)
    else:
        kept = replica.all_gather(tf.cast(real, tf.int32), axis=0) > 0
        gathered = [
            None if part is None else replica.all_gather(part, axis=0)
            for part in (y, y_pred, weight)
        ]
        loss = model.compute_loss(x, *_kept(gathered, kept), training)
    return loss, own, rows


def _kept(parts: Sequence[Any], rows: tf.Tensor) -> tuple[Any, Any, Any]:
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
    """Applies gradients; those that are clipped are added up before."""
    names = ("clipnorm", "global_clipnorm", "clipvalue")
    clips = any(getattr(optimizer, name, None) for name in names)
    if not clips or getattr(optimizer, "clips_sums", False):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return
    raise ConfigError(
        f"{type(optimizer).__name__} clips the gradients of each replica by themselves, which is "
        "another clipping on several replicas than on one. Use `keras_bert_zoo`'s AdamW, which "
        "`fit` takes by default, or leave the clipping out."
    )

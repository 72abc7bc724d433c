"""Training and evaluation steps with equal results on any number of replicas and parts of a batch.

Keras averages the mean losses of the replicas, so a row of a small share has a larger weight. It
fails if the batch size is not a multiple of the number of replicas. Here `even_batches` pads a
batch with copies of a row, and adds the number of rows and tokens of the whole batch. The copies
are dropped after the model, before any loss or metric. The loss is that of the whole batch. A mean
over rows or tokens is scaled by the share of them that a replica has. All other losses are computed
on the gathered outputs of all replicas.

Sample weights of 0 for the copies would not be enough: losses over the whole batch, such as those
with in-batch negatives, and means over tokens would still include the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.loss_units import SharedUnit
from keras_bert_zoo.training.updates import Updates

__all__ = [
    "Gradients",
    "Part",
    "Regularizer",
    "ReplicaLoss",
    "Targets",
    "even_batches",
    "predict_step",
    "split_rows",
    "test_step",
    "train_step",
]

Targets = tuple[Any, Any, Any]
"""The labels, outputs and weights of the real rows of a share."""
Gradients = tuple[tf.Tensor, Targets, list[Any]]
"""The share of a loss, its `Targets`, and the gradients of the scaled loss, one per variable."""
Regularizer = Callable[["Part"], Gradients]

REAL_ROW = "real_row"
"""Name of the input that marks copies, int32 (B,): 1 is a real row, 0 is a copy to drop."""
BATCH_ROWS = "rows_of_the_batch"
"""Name of the input with the number of real rows of the whole batch, float32 (B,)."""
BATCH_TOKENS = "tokens_of_the_batch"
"""Name of the input with the number of labelled tokens of the whole batch, float32 (B,)."""


def even_batches(dataset: tf.data.Dataset, replicas: int, parts: int = 1) -> tf.data.Dataset:
    """Pads batches with copies of their first row, so that all shares have the same size.

    Args:
        dataset: batches `(inputs,)`, `(inputs, labels)` or `(inputs, labels, sample_weight)`, where
            inputs are a dict of tensors (B, ...).
        replicas: int.
        parts: int. Parts of a batch that follow each other, for the accumulation of gradients.

    Returns:
        the padded dataset, with `REAL_ROW`, `BATCH_ROWS` and `BATCH_TOKENS` among the inputs, and
        with one element per part of a batch; the dataset itself with one replica and one part.
    """
    shares = replicas * parts
    if shares < 2:
        return dataset

    def fill(*elements: Any) -> tuple[Any, ...]:
        rows = tf.shape(tf.nest.flatten(elements[0])[0])[0]
        places = tf.range(rows + (-rows) % shares)
        real = places < rows
        places = tf.where(real, places, 0)
        totals = {BATCH_ROWS: tf.cast(rows, tf.float32)}
        totals[BATCH_TOKENS] = _labelled_tokens(elements[1]) if len(elements) > 1 else 0.0
        inputs, *rest = tf.nest.map_structure(lambda part: tf.gather(part, places), elements)
        totals = {name: tf.repeat(total, tf.size(places)) for name, total in totals.items()}
        return ({**inputs, REAL_ROW: tf.cast(real, tf.int32), **totals}, *rest)

    dataset = dataset.map(fill)
    if parts == 1:
        return dataset

    def split(*elements: Any) -> tf.data.Dataset:
        def of_parts(tensor: tf.Tensor) -> tf.Tensor:
            shape = tf.shape(tensor)
            return tf.reshape(tensor, tf.concat([[parts, shape[0] // parts], shape[1:]], 0))

        return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(of_parts, elements))

    cardinality = dataset.cardinality()
    dataset = dataset.flat_map(split)
    if cardinality >= 0:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality * parts))
    return dataset


def _labelled_tokens(labels: Any) -> tf.Tensor:
    """float32 (). The number of labels that are not `NO_LABEL`; 0 without labels of tokens."""
    if not tf.is_tensor(labels) or not labels.dtype.is_integer or not labels.shape.rank:
        return tf.constant(0.0)
    return tf.reduce_sum(tf.cast(labels != tf.cast(NO_LABEL, labels.dtype), tf.float32))


def split_rows(inputs: Any) -> tuple[Any, Share | None]:
    """Splits what `even_batches` added from a model's inputs: (inputs, share or None)."""
    if not isinstance(inputs, Mapping) or REAL_ROW not in inputs:
        return inputs, None
    names = (REAL_ROW, BATCH_ROWS, BATCH_TOKENS)
    rest = {name: value for name, value in inputs.items() if name not in names}
    real, rows, tokens = (inputs[name] for name in names)
    return rest, Share(tf.cast(real, tf.bool), rows[0], tokens[0])


@dataclass(frozen=True)
class Share:
    """A replica's share of a batch, or a part of it.

    Args:
        real: bool (B,). Which rows are no copies.
        rows: float32 (). The number of real rows of the whole batch.
        tokens: float32 (). The number of labelled tokens of the whole batch.
    """

    real: tf.Tensor
    rows: tf.Tensor
    tokens: tf.Tensor


@dataclass(frozen=True)
class Part:
    """One replica's share of a batch, or of a part of it, in a training step.

    Args:
        model: compiled.
        x: the model's inputs.
        y: labels.
        weight: sample weights (B,), or None.
        share: Share, or None on a single replica.
        unit: the unit that the loss is a mean over.
        updates: scales the loss, and counts the updates.
    """

    model: keras.Model
    x: Any
    y: Any
    weight: Any
    share: Share | None
    unit: SharedUnit
    updates: Updates

    def outputs(self) -> Any:
        """Computes the model's outputs, with dropout."""
        return self.model(self.x, training=True)

    def loss(self, y_pred: Any) -> tuple[tf.Tensor, Targets]:
        """Computes the share of the loss; see `_shared_loss`."""
        batch = (self.x, self.y, y_pred, self.weight)
        return _shared_loss(self.model, batch, self.share, self.unit, training=True)

    @property
    def real(self) -> tf.Tensor:
        """Bool (B,). Which rows are no copies."""
        if self.share is not None:
            return self.share.real
        return tf.ones([tf.shape(tf.nest.flatten(self.x)[0])[0]], tf.bool)

    @property
    def places(self) -> tf.Tensor:
        """int32 (B,). The places of the rows among those of all replicas."""
        rows = tf.shape(self.real)[0]
        replica = tf.distribute.get_replica_context()
        return tf.cast(replica.replica_id_in_sync_group, tf.int32) * rows + tf.range(rows)

    def gathered(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the rows of all replicas, in their order; it has a gradient."""
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync == 1:
            return tensor
        if tensor.dtype == tf.bool:  # has no sum
            return replica.all_gather(tf.cast(tensor, tf.int32), axis=0) > 0
        rows = replica.all_gather(tensor, axis=0)
        # The gradient of this operation is dense, as that of `all_gather` needs it.
        return tf.reshape(rows, tf.shape(rows))

    def with_labels_of(self, places: tf.Tensor) -> Part:
        """Returns this part with the labels and weights of other rows of all replicas.

        Args:
            places: int32 (B,).
        """
        y, weight = (
            None if part is None else tf.gather(self.gathered(part), places)
            for part in (self.y, self.weight)
        )
        return replace(self, y=y, weight=weight)


def train_step(
    model: keras.Model,
    data: Any,
    unit: SharedUnit,
    updates: Updates,
    regularizer: Regularizer | None = None,
) -> dict[str, Any]:
    """Trains on one replica's share of a batch; see the module.

    Args:
        model: compiled; on several replicas, with a `ReplicaLoss`.
        data: a batch, or with several replicas or parts one of `even_batches`.
        unit: the unit that the loss is a mean over.
        updates: accumulates and applies the gradients.
        regularizer: computes another loss and its gradients; see `training.tricks`. None: those of
            the loss.

    Returns:
        dict: name -> metric so far.
    """
    (x, share), y, weight = _unpacked(data)
    part = Part(model, x, y, weight, share, unit, updates)
    loss, targets, gradients = (regularizer or _gradients)(part)
    if updates.accumulation > 1:
        updates.accumulate(gradients)
    else:
        updates.apply(gradients)
    return _measured(model, x, targets, loss, share, updates.accumulation)


def _gradients(part: Part) -> Gradients:
    with tf.GradientTape() as tape:
        loss, targets = part.loss(part.outputs())
        scaled = part.updates.scaled(loss)
    return loss, targets, tape.gradient(scaled, part.model.trainable_variables)


def test_step(model: keras.Model, data: Any, unit: SharedUnit) -> dict[str, Any]:
    """Evaluates one replica's share of a batch; see `train_step`."""
    (x, share), y, weight = _unpacked(data)
    y_pred = model(x, training=False)
    loss, targets = _shared_loss(model, (x, y, y_pred, weight), share, unit, training=False)
    return _measured(model, x, targets, loss, share)


def predict_step(model: keras.Model, data: Any) -> Any:
    """Computes the outputs of one replica's share of a batch, without the copies."""
    (x, share), _, _ = _unpacked(data)
    outputs = model(x, training=False)
    if share is None:
        return outputs
    return tf.nest.map_structure(lambda part: tf.boolean_mask(part, share.real), outputs)


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


def _unpacked(data: Any) -> tuple[tuple[Any, Share | None], Any, Any]:
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    return split_rows(x), y, weight


def _shared_loss(
    model: keras.Model,
    batch: tuple[Any, Any, Any, Any],
    share: Share | None,
    unit: SharedUnit,
    *,
    training: bool,
) -> tuple[tf.Tensor, Targets]:
    """Computes the share of the loss; and the own labels, outputs and weights.

    The sum of all shares is the loss of the batch.
    """
    x, y, y_pred, weight = batch
    replica = tf.distribute.get_replica_context()
    if share is None:
        if replica.num_replicas_in_sync > 1:
            raise ConfigError(
                "Expected a batch that is divided among the replicas, received an undivided "
                "batch: call `fit` or `evaluate`, which divide batches."
            )
        return model.compute_loss(x, y, y_pred, weight, training), (y, y_pred, weight)
    own = _select((y, y_pred, weight), share.real)
    if unit:
        # If Keras knows that there are no rows, its loss is not a scalar.
        loss = tf.reduce_sum(model.compute_loss(x, *own, training))
        count, total = tf.cast(tf.shape(own[0])[0], tf.float32), share.rows
        if unit == "tokens":
            count, total = _labelled_tokens(own[0]), share.tokens
        part = tf.math.divide_no_nan(count, total) * replica.num_replicas_in_sync
        return loss * tf.cast(part, loss.dtype), own
    real = replica.all_gather(tf.cast(share.real, tf.int32), axis=0) > 0
    gathered = [
        None if part is None else replica.all_gather(part, axis=0) for part in (y, y_pred, weight)
    ]
    return model.compute_loss(x, *_select(gathered, real), training), own


def _select(parts: Sequence[Any], rows: tf.Tensor) -> Targets:
    y, y_pred, weight = (None if part is None else tf.boolean_mask(part, rows) for part in parts)
    return y, y_pred, weight


def _measured(
    model: keras.Model,
    x: Any,
    targets: Targets,
    loss: tf.Tensor,
    share: Share | None,
    parts: int = 1,
) -> dict[str, Any]:
    """Updates the metrics; returns their values on this replica."""
    shares = parts * tf.distribute.get_replica_context().num_replicas_in_sync
    rows = tf.shape(tf.nest.flatten(x)[0])[0] if share is None else share.rows
    for metric in model.metrics:
        if metric.name == "loss":
            # A mean whose values and weights are summed over the shares.
            metric.update_state(
                tf.stop_gradient(loss) * shares, sample_weight=tf.cast(rows, tf.float32) / shares
            )
    y, y_pred, weight = targets
    return dict(model.compute_metrics(x, y, y_pred, sample_weight=weight))

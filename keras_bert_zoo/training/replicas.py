"""Training and evaluation steps with equal results on any number of replicas and parts of a batch.

Keras averages the mean losses of the replicas, so a row of a small share has a larger weight. It
fails if the batch size is not a multiple of the number of replicas. Here `even_batches` pads a
batch with copies of a row, and adds the number of rows and tokens of the whole batch. The loss is
that of the whole batch without the copies. A mean over rows or tokens is scaled by the share of
them that a replica has, and copies have the weight 0 or no labels. All other losses are computed on
the gathered outputs of all replicas. The losses of the package that compare rows ignore the copies.
For others, copies are dropped before the loss.

Copies are dropped before metrics, too, because these may be any function of a batch. With static
shapes, which XLA needs, nothing can be dropped: metrics then receive copies with the weight 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.example_layout import is_packed
from keras_bert_zoo.training.loss_units import SharedUnit
from keras_bert_zoo.training.packed_rows import count_examples, examples_as_rows
from keras_bert_zoo.training.updates import Updates

__all__ = [
    "Gradients",
    "Part",
    "Regularizer",
    "even_batches",
    "in_shares",
    "predict_step",
    "split_rows",
    "test_step",
    "train_step",
]

Gradients = tuple[tf.Tensor, Any, list[Any]]
"""The share of a loss, the outputs, and the gradients of the scaled loss, one per variable."""
Regularizer = Callable[["Part"], Gradients]

REAL_ROW = "real_row"
"""Name of the input that marks copies, int32 (B,): 1 is a real row, 0 is a copy to drop."""
BATCH_ROWS = "rows_of_the_batch"
"""Name of the input with the number of real rows of the whole batch, float32 (B,)."""
BATCH_TOKENS = "tokens_of_the_batch"
"""Name of the input with the number of labelled tokens of the whole batch, float32 (B,)."""


def even_batches(
    dataset: tf.data.Dataset, replicas: int, parts: int = 1, *, rows: int | None = None
) -> tf.data.Dataset:
    """Pads batches with copies of their first row, so that all shares have the same size.

    Args:
        dataset: batches `(inputs,)`, `(inputs, labels)` or `(inputs, labels, sample_weight)`, where
            inputs are a dict of tensors (B, ...).
        replicas: int.
        parts: int. Parts of a batch that follow each other, for the accumulation of gradients.
        rows: int or None. Batches are padded to this number of rows, for static shapes.

    Returns:
        the padded dataset, with `REAL_ROW`, `BATCH_ROWS` and `BATCH_TOKENS` among the inputs, and
        with one element per part of a batch; the dataset itself with one replica, one part, no
        `rows`, and no bins. With `rows`, the first dimension of all elements is known. Of bins,
        `BATCH_ROWS` counts the examples.

    Raises:
        tf.errors.InvalidArgumentError: while it is read, if a batch has more than `rows`.

    Example:
        >>> batches = tf.data.Dataset.from_tensors(({"token_ids": [[5], [6], [7]]},))
        >>> (inputs,) = next(iter(even_batches(batches, replicas=2)))
        >>> inputs["token_ids"].numpy().tolist(), inputs[REAL_ROW].numpy().tolist()
        ([[5], [6], [7], [5]], [1, 1, 1, 0])
    """
    shares = replicas * parts
    spec = dataset.element_spec
    packed = is_packed(spec[0] if isinstance(spec, tuple) else spec)
    if shares < 2 and rows is None and not packed:
        return dataset

    def fill(*elements: Any) -> tuple[Any, ...]:
        count = tf.shape(tf.nest.flatten(elements[0])[0])[0]
        padded = count + (-count) % shares
        if rows is not None:
            padded = rows + (-rows) % shares
            tf.debugging.assert_less_equal(
                count,
                rows,
                f"Expected batches of at most {rows} texts: set `batch_size` of `fit` "
                "or `evaluate`, or `validation_batch_size`.",
            )
        places = tf.range(padded)
        real = places < count
        places = tf.where(real, places, 0)
        examples = count_examples(elements[0]) if packed else count
        totals = {BATCH_ROWS: tf.cast(examples, tf.float32)}
        totals[BATCH_TOKENS] = _labelled_tokens(elements[1]) if len(elements) > 1 else 0.0
        inputs, *rest = tf.nest.map_structure(lambda part: tf.gather(part, places), elements)
        totals = {name: _repeated(total, tf.size(places)) for name, total in totals.items()}
        filled = ({**inputs, REAL_ROW: tf.cast(real, tf.int32), **totals}, *rest)
        if rows is None:
            return filled
        return tf.nest.map_structure(
            lambda part: tf.ensure_shape(part, [padded, *part.shape[1:]]), filled
        )

    dataset = dataset.map(fill)
    if parts == 1:
        return dataset
    cardinality = dataset.cardinality()
    dataset = dataset.flat_map(
        lambda *elements: tf.data.Dataset.from_tensor_slices(in_shares(elements, parts))
    )
    if cardinality >= 0:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality * parts))
    return dataset


def in_shares(elements: Any, shares: int) -> Any:
    """Divides the first dimension of tensors: (B, ...) -> (shares, B / shares, ...)."""

    def divided(tensor: tf.Tensor) -> tf.Tensor:
        known = tensor.shape.as_list()
        rows = None if known[0] is None else known[0] // shares
        shape = tf.shape(tensor)
        tensor = tf.reshape(tensor, tf.concat([[shares, shape[0] // shares], shape[1:]], 0))
        return tf.ensure_shape(tensor, [shares, rows, *known[1:]])

    return tf.nest.map_structure(divided, elements)


def _repeated(value: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Repeats a tensor: (...) -> (rows, ...)."""
    value = tf.convert_to_tensor(value)
    return tf.broadcast_to(value, tf.concat([[rows], tf.shape(value)], axis=0))


def _labelled_tokens(labels: Any) -> tf.Tensor:
    """float32 (). The number of labels that are not `NO_LABEL`; 0 without labels of tokens.

    For the labels of several objectives, a dict: float32 (K,), in the order of the names.
    """
    if isinstance(labels, Mapping):
        return tf.stack([_labelled_tokens(labels[name]) for name in sorted(labels)])
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
        tokens: float32 (). The number of labelled tokens of the whole batch; (K,) for the labels of
            K objectives.
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

    def loss(self, y_pred: Any) -> tf.Tensor:
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
        if tensor.dtype == tf.bool:  # has no sum
            return _gathered(tf.cast(tensor, tf.int32)) > 0
        rows = _gathered(tensor)
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
    *,
    static: bool,
    regularizer: Regularizer | None = None,
) -> dict[str, Any]:
    """Trains on one replica's share of a batch; see the module.

    Args:
        model: compiled; on several replicas, with a `ReplicaLoss`.
        data: a batch, or with several replicas or parts one of `even_batches`.
        unit: the unit of the loss.
        updates: accumulates and applies the gradients.
        static: bool. Whether all shapes must be static, for XLA.
        regularizer: computes another loss and its gradients; see `training.tricks`. None: those of
            the loss.

    Returns:
        dict: name -> metric so far.
    """
    (x, share), y, weight = _unpacked(data, unit)
    part = Part(model, x, y, weight, share, unit, updates)
    loss, y_pred, gradients = (regularizer or _gradients)(part)
    if updates.accumulation > 1:
        updates.accumulate(gradients)
    else:
        updates.apply(gradients)
    _record_loss(model, x, loss, share, updates.accumulation)
    return _measured(model, (x, y, y_pred, weight), share, static=static)


def _gradients(part: Part) -> Gradients:
    with tf.GradientTape() as tape:
        y_pred = part.outputs()
        loss = part.loss(y_pred)
        scaled = part.updates.scaled(loss)
    return loss, y_pred, tape.gradient(scaled, part.model.trainable_variables)


def test_step(model: keras.Model, data: Any, unit: SharedUnit, *, static: bool) -> dict[str, Any]:
    """Evaluates one replica's share of a batch; see `train_step`."""
    (x, share), y, weight = _unpacked(data, unit)
    y_pred = model(x, training=False)
    loss = _shared_loss(model, (x, y, y_pred, weight), share, unit, training=False)
    _record_loss(model, x, loss, share)
    return _measured(model, (x, y, y_pred, weight), share, static=static)


def predict_step(model: keras.Model, data: Any) -> Any:
    """Computes the outputs of one replica's share of a batch, without the copies."""
    (x, share), _, _ = _unpacked(data, "")
    outputs = model(x, training=False)
    if share is None:
        return outputs
    return tf.nest.map_structure(lambda part: tf.boolean_mask(part, share.real), outputs)


def _unpacked(data: Any, unit: SharedUnit) -> tuple[tuple[Any, Share | None], Any, Any]:
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    x, share = split_rows(x)
    if share is not None and unit == "rows" and is_packed(x):
        real, y, weight = examples_as_rows(x, share.real, y, weight)
        share = replace(share, real=real)
    return (x, share), y, weight


def _shared_loss(
    model: keras.Model,
    batch: tuple[Any, Any, Any, Any],
    share: Share | None,
    unit: SharedUnit,
    *,
    training: bool,
) -> tf.Tensor:
    """Computes the share of the loss of a batch; the sum of all shares is the loss."""
    x, y, y_pred, weight = batch
    replica = tf.distribute.get_replica_context()
    if share is None:
        if replica.num_replicas_in_sync > 1:
            raise ConfigError(
                "Expected a batch that is divided among the replicas, received an undivided "
                "batch: call `fit` or `evaluate`, which divide batches."
            )
        return model.compute_loss(x, y, y_pred, weight, training)
    if unit == "objectives":
        labels = {name: _without_copies(part, share.real) for name, part in y.items()}
        part = tf.math.divide_no_nan(_labelled_tokens(labels), share.tokens)
        # Unlike Keras' losses, these means are not divided by the number of replicas.
        return tf.reduce_sum(model.loss.means(labels, y_pred) * part)
    if unit in ("rows", "tokens"):
        if unit == "tokens":
            y = _without_copies(y, share.real)
            count, total = _labelled_tokens(y), share.tokens
        else:
            real = tf.cast(share.real, tf.float32)
            weight = real if weight is None else tf.cast(weight, tf.float32) * real
            count, total = tf.cast(tf.size(real), tf.float32), share.rows
        loss = model.compute_loss(x, y, y_pred, weight, training)
        part = tf.math.divide_no_nan(count, total) * replica.num_replicas_in_sync
        return loss * tf.cast(part, loss.dtype)
    if unit == "batch":
        y = _without_copies(y, share.real)
    gathered = [_gathered(part) for part in (y, y_pred, weight)]
    if not unit:
        gathered = _select(gathered, _gathered(tf.cast(share.real, tf.int32)) > 0)
    return model.compute_loss(x, *gathered, training)


def _without_copies(labels: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Replaces the labels of copies by `NO_LABEL`, or by NaN if labels are not integers."""
    none = tf.cast(NO_LABEL if labels.dtype.is_integer else float("nan"), labels.dtype)
    return tf.where(tf.reshape(real, [-1] + [1] * (labels.shape.rank - 1)), labels, none)


def _gathered(part: Any) -> Any:
    """Gathers a tensor of all replicas, or None."""
    replica = tf.distribute.get_replica_context()
    if part is None or replica.num_replicas_in_sync == 1:
        return part
    return replica.all_gather(part, axis=0)


def _select(parts: Sequence[Any], rows: tf.Tensor) -> list[Any]:
    def selected(part: Any) -> Any:
        return None if part is None else tf.boolean_mask(part, rows)

    return [tf.nest.map_structure(selected, part) for part in parts]


def _record_loss(
    model: keras.Model, x: Any, loss: tf.Tensor, share: Share | None, parts: int = 1
) -> None:
    """Adds the loss of a batch to the mean loss of the epoch."""
    shares = parts * tf.distribute.get_replica_context().num_replicas_in_sync
    rows = tf.shape(tf.nest.flatten(x)[0])[0] if share is None else share.rows
    for metric in model.metrics:
        if metric.name == "loss":
            # A mean whose values and weights are summed over the shares.
            metric.update_state(
                tf.stop_gradient(loss) * shares, sample_weight=tf.cast(rows, tf.float32) / shares
            )


def _measured(
    model: keras.Model,
    batch: tuple[Any, Any, Any, Any],
    share: Share | None,
    *,
    static: bool,
) -> dict[str, Any]:
    """Updates the metrics; returns their values on this replica."""
    x, y, y_pred, weight = batch
    if share is not None and static:
        _update_weighted(model, y, y_pred, weight, tf.cast(share.real, tf.float32))
        return dict(model.get_metrics_result())
    if share is not None:
        y, y_pred, weight = _select((y, y_pred, weight), share.real)
    return dict(model.compute_metrics(x, y, y_pred, sample_weight=weight))


def _update_weighted(
    model: keras.Model, y: tf.Tensor, y_pred: tf.Tensor, weight: Any, real: tf.Tensor
) -> None:
    """Updates all metrics with weights, where Keras passes none to those of `metrics`."""
    compiled = model._compile_metrics
    if compiled is None:
        return
    if not compiled.built:
        compiled.build(y, y_pred)
    labels, outputs = compiled._flatten_y(y), compiled._flatten_y(y_pred)
    for metrics, weights in (
        (compiled._flat_metrics, real),
        (compiled._flat_weighted_metrics, real if weight is None else weight * real),
    ):
        for metric, label, output in zip(metrics, labels, outputs, strict=False):
            if metric is not None:
                metric.update_state(label, output, sample_weight=weights)

"""Labels and numbers as targets: class weights and objectives. B batch, L labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed, shown_names
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.arguments import class_weights
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.label_tensors import label_targets
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import OneHotLoss, Outputs, resolve_loss

__all__ = [
    "checked_labels",
    "dataset_labels",
    "dataset_numbers",
    "label_objective",
    "label_weights",
    "labels_of",
    "number_objective",
]


def labels_of(examples: Any, y: Any, name: str = "labels", *, flatten: bool = True) -> list[Any]:
    """Returns one label per example.

    Args:
        examples: Examples or ChoiceExamples.
        y: labels in any form that `data.columns.listed` takes; None: those of the examples.
        name: str. A name for labels in messages.
        flatten: bool. Whether an array (B, 1) is taken as (B,).

    Returns:
        list.

    Raises:
        DataError: there are no labels, or their number is not the number of examples.
    """
    values = examples.labels if y is None else y
    if values is None:
        kind = type(examples).__name__
        raise DataError(f"There are no {name}: pass `y`, or {kind} with {name}.")
    values = listed(values, name, flatten=flatten)
    if len(values) != len(examples):
        raise DataError(f"There are {len(examples)} texts but {len(values)} {name}.")
    return values


# === Labels ===


def checked_labels(labels: Sequence[str], *, multi_label: bool) -> LabelMap:
    """Checks the names of a classifier's labels.

    Args:
        labels: names.
        multi_label: bool.

    Returns:
        LabelMap.

    Raises:
        ConfigError: `labels` is not a list of names, repeats a name, or is too short.

    Example:
        >>> checked_labels(["no", "yes"], multi_label=False).names
        ('no', 'yes')
    """
    label_map = LabelMap.of(labels)
    if len(label_map) < (1 if multi_label else 2):
        raise ConfigError(
            f"A classifier needs at least {'one label' if multi_label else 'two labels'}, received "
            f"{list(label_map.names)!r}."
        )
    return label_map


def label_objective(
    task: str,
    labels: LabelMap,
    *,
    multi_label: bool,
    dataset_targets: Callable[[Any], Any],
) -> Objective:
    """Returns the objective of a classifier: the cross-entropy of its labels.

    The best epoch has the highest accuracy; with several labels per text, the lowest loss. If most
    labels do not apply to most texts, accuracy over labels is always high.

    Args:
        task: str. The task's name, for messages.
        labels: LabelMap.
        multi_label: bool. Whether a text may have any number of labels.
        dataset_targets: see `Objective`.

    Returns:
        Objective.
    """
    outputs = Outputs("labels" if multi_label else "label", task, len(labels))
    loss = "binary_crossentropy" if multi_label else "sparse_categorical_crossentropy"
    return Objective(
        outputs=outputs,
        loss=lambda: resolve_loss(loss, outputs),
        metrics=lambda: resolve_metrics(["accuracy"], outputs),
        monitor=("val_loss", "min") if multi_label else ("val_accuracy", "max"),
        dataset_targets=dataset_targets,
        class_weights=lambda weights, targets: label_weights(weights, targets, labels),
        probes=True,
    )


def dataset_labels(y: Any, labels: LabelMap, *, multi_label: bool, loss: Any = None) -> Any:
    """Converts a batch of labels of a dataset to targets; see `label_targets`.

    Args:
        y: tensor or RaggedTensor.
        labels: LabelMap.
        multi_label: bool.
        loss: the loss that the caller compiled, or None. `OneHotLoss` takes rows of shares, such as
            0.25 and 0.75, one per label. The caller's own losses take any rows.

    Returns:
        see `label_targets`; float32 (B, L) for a `OneHotLoss`; `y` for the caller's own loss.
    """
    is_tensor = isinstance(y, tf.Tensor) and y.dtype != tf.string
    is_rows = is_tensor and y.shape.rank == 2 and y.shape[-1] != 1
    if is_rows and loss is not None and not multi_label:
        count = len(labels)
        if isinstance(loss, OneHotLoss) and y.shape[-1] in (None, count):
            return tf.ensure_shape(tf.cast(y, tf.float32), [None, count])
        if not isinstance(loss, OneHotLoss | keras.losses.SparseCategoricalCrossentropy):
            return y
    return label_targets(y, labels, multi_label=multi_label)


def label_weights(class_weight: Any, targets: np.ndarray, labels: LabelMap) -> np.ndarray:
    """Returns the weights of examples from the weights of their labels.

    Args:
        class_weight: see `TrainableTask.fit`. In a dict, labels without a weight have weight 1.
        targets: int32 (B,), ids.
        labels: LabelMap.

    Returns:
        float32 (B,).

    Raises:
        ConfigError: unknown or repeated labels, invalid weights, or several labels per text.

    Example:
        >>> label_weights({"no": 2.0}, np.array([0, 1, 0]), LabelMap(("no", "yes"))).tolist()
        [2.0, 1.0, 2.0]
    """
    if targets.ndim != 1:
        raise ConfigError("`class_weight` needs one label per text; use `sample_weight`.")
    count = len(labels)
    if callable(getattr(class_weight, "to_dict", None)):
        class_weight = class_weight.to_dict()  # a pandas Series, whose index names the labels
    if isinstance(class_weight, str) and class_weight == "balanced":
        # scikit-learn's formula: every class weighs the same in total.
        present = np.bincount(targets, minlength=count)
        class_weight = len(targets) / (count * np.maximum(present, 1))
    elif isinstance(class_weight, Mapping):
        by_id = _by_id(class_weight, labels)
        class_weight = [by_id.get(index, 1.0) for index in range(count)]
    return class_weights(class_weight, count)[targets].astype(np.float32)


def _by_id(weights: Mapping[Any, Any], labels: LabelMap) -> dict[int, Any]:
    by_id: dict[int, Any] = {}
    for label, value in weights.items():
        index = labels.id_of(label)
        if index is None:
            raise ConfigError(
                f"`class_weight` names an unknown label: {label!r}. The labels are "
                f"{shown_names(labels.names)}."
            )
        if index in by_id:
            raise ConfigError(f"`class_weight` names {labels.names[index]!r} twice.")
        by_id[index] = value
    return by_id


# === Numbers ===


def number_objective(task: str, scores: Callable[[Any], Any] | None) -> Objective:
    """Returns the objective of a regressor: the mean squared error of its scores.

    Args:
        task: str. The task's name, for messages.
        scores: computes scores from the model's outputs; None: they are the outputs.

    Returns:
        Objective.
    """
    outputs = Outputs("number", task, scores=scores)
    return Objective(
        outputs=outputs,
        loss=lambda: resolve_loss("mean_squared_error", outputs),
        metrics=lambda: resolve_metrics(["mean_absolute_error"], outputs),
        dataset_targets=dataset_numbers,
        probes=True,
    )


def dataset_numbers(y: Any) -> tf.Tensor:
    """Converts a batch of numbers of a dataset to targets.

    Args:
        y: integers or floats (B,) or (B, 1).

    Returns:
        float32 (B, 1).

    Raises:
        DataError: the shape or dtype is wrong. A number that is not finite raises
            tf.errors.InvalidArgumentError when the graph runs.

    Example:
        >>> dataset_numbers(tf.constant([1, 2])).numpy().tolist()
        [[1.0], [2.0]]
    """
    if not isinstance(y, tf.Tensor) or not (y.dtype.is_integer or y.dtype.is_floating):
        raise DataError(f"Targets in a dataset must be numbers, received {y}.")
    rank = y.shape.rank
    if rank not in (None, 1, 2) or (rank == 2 and y.shape[1] not in (None, 1)):
        raise DataError(
            "Expected targets of shape (B,) or (B, 1) in a dataset, one number per text, received "
            f"shape {y.shape}: map the dataset to the column to predict."
        )
    if rank != 2:
        y = tf.reshape(y, [tf.shape(y)[0], -1])
    y = tf.ensure_shape(tf.cast(y, tf.float32), [None, 1])
    return tf.debugging.assert_all_finite(y, "Targets must be finite numbers.")

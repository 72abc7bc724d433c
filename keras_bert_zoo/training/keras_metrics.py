"""Keras metrics on a task's outputs: logits, and labels as ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.outputs import CROSSENTROPY, Outputs, is_one_hot, keras_name

__all__ = ["OnLogits", "resolve_metrics"]

Convert = Callable[[Any, Any], tuple[Any, Any]]

_BINARY = (
    "AUC", "Precision", "Recall", "PrecisionAtRecall", "RecallAtPrecision",
    "SensitivityAtSpecificity", "SpecificityAtSensitivity", "TruePositives", "TrueNegatives",
    "FalsePositives", "FalseNegatives", "BinaryAccuracy", "BinaryCrossentropy", "F1Score",
    "FBetaScore",
)  # fmt: skip
_ONE_HOT = (
    "CategoricalAccuracy", "TopKCategoricalAccuracy", "CategoricalCrossentropy",
    "CategoricalHinge", "AUC", "Precision", "Recall", "F1Score", "FBetaScore",
)  # fmt: skip
_IDS = (
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
)
_NUMBERS = (
    "MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError", "LogCoshError", "R2Score", "PearsonCorrelation",
    "ConcordanceCorrelation",
)  # fmt: skip
_RAW = ("CategoricalHinge", "Hinge", "SquaredHinge")  # margins, not probabilities
_SOFT = ("BinaryCrossentropy", "CategoricalCrossentropy", "CategoricalHinge")  # take soft labels


@keras.saving.register_keras_serializable("keras_bert_zoo")
class OnLogits(keras.metrics.Metric):
    """A Keras metric on a task's labels and logits.

    Args:
        metric: keras.metrics.Metric.
        convert: converts labels and logits to the inputs of the metric.
        name: str.
    """

    def __init__(self, metric: keras.metrics.Metric, convert: Convert, name: str) -> None:
        super().__init__(name=name)
        self.metric = metric
        self.convert = convert

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        y_true, y_pred = self.convert(y_true, tf.cast(y_pred, tf.float32))
        self.metric.update_state(y_true, y_pred, sample_weight=sample_weight)

    def result(self) -> Any:
        """Returns the metric's result; that of a single column as a scalar."""
        value = tf.convert_to_tensor(self.metric.result())
        return value[0] if value.shape == (1,) else value

    def reset_state(self) -> None:
        """Resets the metric."""
        self.metric.reset_state()


def resolve_metrics(metrics: Any, outputs: Outputs) -> list[Any]:
    """Adapts the metrics given to `compile` to a model's outputs.

    With two labels, binary metrics use the probability of the second label. If a text may have
    several labels, they use each label's probability. "accuracy" is the task's metric. Metrics
    from outside Keras get labels and logits unchanged. So do Keras metrics with `from_logits=True`
    or with a threshold of 0, which is a logit. Labels may be ids or one-hot rows. Cross-entropies
    and hinges use the shares of soft rows; other metrics use the largest share. If a regressor has
    an activation, Keras metrics use its scores.

    >>> [metric.name for metric in resolve_metrics(["acc", "AUC"], Outputs("label", "A", 2))]
    ['acc', 'AUC']

    Args:
        metrics: list or dict of str, functions, classes or objects.
        outputs: Outputs.

    Returns:
        list of functions and Keras metrics.

    Raises:
        ConfigError: a metric does not fit.
    """
    return [_resolved(metric, outputs) for metric in keras.tree.flatten(metrics)]


def _resolved(metric: Any, outputs: Outputs) -> Any:
    if isinstance(metric, str) and metric.lower() in ("accuracy", "acc"):
        return _accuracy(metric, outputs)
    name = keras_name(metric, keras.metrics)
    if isinstance(metric, str) and metric.lower() in ("crossentropy", "ce"):
        name = CROSSENTROPY.get(outputs.kind)
    if name is None:
        if isinstance(metric, str):
            raise ConfigError(f"Metric {metric!r} is unknown: expected a name of Keras' metrics.")
        return metric
    if name in ("Mean", "Sum", "Metric", "MeanMetricWrapper"):
        return metric
    made = isinstance(metric, keras.metrics.Metric)
    title = metric if isinstance(metric, str) else metric.name if made else None
    if outputs.kind == "number":
        if name not in _NUMBERS:
            raise _refused(name, outputs, f"it gives a number; take one of {', '.join(_NUMBERS)}")
        convert = _as_they_are if outputs.scores is None else _scored(outputs.scores)
        return _adapted(name, metric if made else None, {}, convert, title)
    if outputs.kind == "tokens" and name == "SparseCategoricalAccuracy":
        return _accuracy(title or "accuracy", outputs)
    if outputs.kind in ("tokens", "other"):
        raise _refused(name, outputs, "take a metric of your own, or `report`")
    choose = _for_label if outputs.kind == "label" else _for_labels
    return choose(name, metric if made else None, title, outputs)


def _accuracy(title: str, outputs: Outputs) -> Any:
    if outputs.kind == "label":
        metric = keras.metrics.SparseCategoricalAccuracy(name=title)
        return OnLogits(metric, _ids(outputs.count, raw=True), title)
    if outputs.kind == "labels":  # on logits: probability 0.5 is logit 0
        return keras.metrics.BinaryAccuracy(name=title, threshold=0.0)
    if outputs.accuracy is None:
        other = "mean_absolute_error" if outputs.kind == "number" else "`report`"
        raise _refused("accuracy", outputs, f"it has no accuracy; take {other}")
    return outputs.accuracy(title)


def _for_label(name: str, metric: Any, title: str | None, outputs: Outputs) -> Any:
    """Adapts a metric to single-label outputs."""
    two = outputs.count == 2
    options: dict[str, Any] = {}
    config = {} if metric is None else metric.get_config()
    _check_scalar(name, config)
    columns = any(
        config.get(option) not in (None, False)
        for option in ("average", "class_id", "top_k", "multi_label", "num_labels")
    )
    convert: Convert
    if name in _IDS:
        logits = config.get("from_logits", name != "SparseCategoricalCrossentropy")
        convert = _ids(outputs.count, raw=logits)
    elif name in _BINARY and two and not columns:
        convert = _second(raw=_on_logits(config), soft=name in _SOFT)
        if name in ("F1Score", "FBetaScore"):
            options = {"threshold": 0.5}
    elif name in _ONE_HOT:
        if metric is None:
            if name in ("F1Score", "FBetaScore"):
                options = {"average": "macro"}
            elif name == "AUC":
                options = {"multi_label": True, "num_labels": outputs.count}
        if name in ("Precision", "Recall") and not columns:
            raise _refused(
                name,
                outputs,
                f"it needs one of {outputs.count} labels; pass `class_id=...`, or take "
                "`F1Score(average='macro')` or `report`",
            )
        raw = name in _RAW or _on_logits(config)
        convert = _one_hot(outputs.count, raw=raw, soft=name in _SOFT)
    else:
        fix = f"of {outputs.count} labels; `report` gives more" if name in _BINARY else (
            f"take one of {', '.join((*_IDS, *_ONE_HOT))}"
        )  # fmt: skip
        raise _refused(name, outputs, fix)
    return _adapted(name, metric, options, convert, title)


def _for_labels(name: str, metric: Any, title: str | None, outputs: Outputs) -> Any:
    """Adapts a metric to multi-label outputs."""
    if name not in (*_BINARY, *_RAW) or name == "CategoricalHinge":
        raise _refused(name, outputs, f"take one of {', '.join(_BINARY)}")
    options: dict[str, Any] = {}
    config = {} if metric is None else metric.get_config()
    _check_scalar(name, config, of_all=True)
    if metric is None and name in ("F1Score", "FBetaScore"):
        options = {"average": "macro", "threshold": 0.5}
    elif metric is None and name == "AUC":
        options = {"multi_label": True, "num_labels": outputs.count}
    convert = _as_they_are if name in _RAW or _on_logits(config) else _sigmoid
    return _adapted(name, metric, options, convert, title)


def _adapted(
    name: str, metric: Any, options: dict[str, Any], convert: Convert, title: str | None
) -> Any:
    if metric is None:
        metric = getattr(keras.metrics, name)(**options)
    title = title or metric.name
    return _named(metric, title) if convert is _as_they_are else OnLogits(metric, convert, title)


def _named(metric: Any, title: str) -> Any:
    metric.name = title
    return metric


def _on_logits(config: dict[str, Any]) -> bool:
    """Whether a metric takes logits: it has `from_logits`, or its threshold is 0."""
    if config.get("from_logits"):
        return True
    thresholds = config.get("thresholds", config.get("threshold"))
    if isinstance(thresholds, list | tuple) and len(thresholds) == 1:
        thresholds = thresholds[0]
    return isinstance(thresholds, int | float) and thresholds == 0


def _check_scalar(name: str, config: dict[str, Any], *, of_all: bool = False) -> None:
    """Raises ConfigError for a metric with a value per label, or with another decision rule."""
    if name not in ("F1Score", "FBetaScore") or not config:
        return
    if config.get("average") is None:
        raise ConfigError(
            f"{name}(average=None) has a value per label: pass `average='macro'`, or see `report`."
        )
    if of_all and config.get("threshold") is None:
        raise ConfigError(f"{name}(threshold=None) takes one label per text: pass `threshold=0.5`.")


def _refused(name: str, outputs: Outputs, fix: str) -> ConfigError:
    return ConfigError(f"{name} is no metric for a {outputs.task}: {fix}.")


def _as_they_are(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    return y_true, y_pred


def _scored(scores: Callable[[Any], Any]) -> Convert:
    return lambda y_true, y_pred: (y_true, scores(y_pred))


def _ids(count: int, *, raw: bool) -> Convert:
    def convert(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        return _label_ids(y_true, count), y_pred if raw else tf.nn.softmax(y_pred)

    return convert


def _label_ids(y_true: Any, count: int) -> Any:
    """Returns the ids, (B,), of labels that are ids or rows."""
    if is_one_hot(y_true, count):
        return tf.argmax(y_true, axis=-1)
    if len(y_true.shape) == 2 and y_true.shape[-1] != 1:
        raise DataError(
            f"Metrics expected labels of shape (B,) or (B, {count}), "
            f"received {tuple(y_true.shape)}: "
            "pass metrics of your own, or `metrics=[]`, to `compile`."
        )
    return tf.reshape(y_true, [-1])


def _sigmoid(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    return y_true, tf.sigmoid(y_pred)


def _second(*, raw: bool, soft: bool) -> Convert:
    rows = _one_hot(2, raw=raw, soft=soft)

    def convert(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        y_true, y_pred = rows(y_true, y_pred)
        return y_true[:, 1:], y_pred[:, 1:] - y_pred[:, :1] if raw else y_pred[:, 1:]

    return convert


def _one_hot(count: int, *, raw: bool, soft: bool) -> Convert:
    def convert(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        if not (soft and is_one_hot(y_true, count)):
            y_true = tf.one_hot(tf.cast(_label_ids(y_true, count), tf.int32), count)
        return y_true, y_pred if raw else tf.nn.softmax(y_pred)

    return convert

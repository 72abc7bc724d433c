"""The outputs of a task's model, and the losses that fit them.

Keras assumes that a loss or metric given by name takes probabilities. The models return logits, and
labels are ids. Unchanged, "sparse_categorical_crossentropy" would silently take logits for
probabilities. See `training.keras_metrics` for metrics.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.loss_units import loss_unit
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss

__all__ = [
    "FunctionLoss",
    "OneHotLoss",
    "OutputKind",
    "Outputs",
    "ScoredLoss",
    "is_one_hot",
    "keras_name",
    "resolve_loss",
]

OutputKind = Literal["label", "labels", "number", "tokens", "other"]


@dataclass(frozen=True)
class Outputs:
    """The kind of a model's outputs and of its labels.

    Args:
        kind: "label": logits (B, C) and ids (B,); "labels": logits (B, C) and rows of 0 and 1;
            "number": (B, 1); "tokens": logits (B, S, C) and ids (B, S), `NO_LABEL` for tokens
            without a label; "other": outputs that only the task's losses accept.
        task: str. The task's name, for messages.
        count: int. C, the number of labels.
        accuracy: makes the metric for "accuracy", with the given name; None: there is none.
        losses: name -> function that makes a loss of the task.
        scores: converts logits of kind "number" to the scores that targets are compared with;
            None: the logits are the scores.
    """

    kind: OutputKind
    task: str
    count: int = 0
    accuracy: Callable[[str], keras.metrics.Metric] | None = None
    losses: Mapping[str, Callable[[], keras.losses.Loss]] = field(default_factory=dict)
    scores: Callable[[Any], Any] | None = None


# Kind of outputs -> the Keras losses that it accepts; "*": `from_logits=True` is needed.
_LOSSES: dict[str, tuple[str, ...]] = {
    "label": (
        "SparseCategoricalCrossentropy*",
        "CategoricalCrossentropy*",
        "CategoricalFocalCrossentropy*",
        "CategoricalHinge",
    ),
    "labels": ("BinaryCrossentropy*", "BinaryFocalCrossentropy*", "Hinge", "SquaredHinge"),
    "number": (
        "MeanSquaredError",
        "MeanAbsoluteError",
        "MeanAbsolutePercentageError",
        "MeanSquaredLogarithmicError",
        "Huber",
        "LogCosh",
    ),
    "tokens": ("SparseCategoricalCrossentropy*",),
    "other": (),
}
CROSSENTROPY = {
    "label": "SparseCategoricalCrossentropy",
    "labels": "BinaryCrossentropy",
    "tokens": "SparseCategoricalCrossentropy",
}
_ALIASES = {
    "bce": "BinaryCrossentropy",
    "kld": "KLDivergence",
    "mae": "MeanAbsoluteError",
    "mse": "MeanSquaredError",
    "mape": "MeanAbsolutePercentageError",
    "msle": "MeanSquaredLogarithmicError",
    "logcosh": "LogCosh",
}
_HINTS = {
    "label": "its labels exclude each other",
    "labels": "any number of its labels apply to a text",
    "number": "it gives a number",
    "tokens": "it gives logits of tokens",
    "other": "its outputs are not what Keras' losses take",
}


def is_one_hot(y_true: Any, count: int) -> bool:
    """Whether labels are rows of one number per label, (B, count), and not ids.

    Args:
        y_true: tensor or array.
        count: int, the number of labels.

    Returns:
        bool.
    """
    shape = y_true.shape
    return len(shape) == 2 and shape[-1] == count and count > 1


@keras.saving.register_keras_serializable("keras_bert_zoo")
class OneHotLoss(keras.losses.Loss):
    """A loss on rows of one number per label; converts ids to one-hot rows.

    Args:
        loss: keras.losses.Loss on (B, C) and (B, C).
        count: int, C.
    """

    def __init__(self, loss: keras.losses.Loss, count: int) -> None:
        super().__init__(name=loss.name, reduction=loss.reduction)
        self.loss = loss
        self.count = count
        self.unit = loss_unit(loss)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Computes the loss of each row.

        Args:
            y_true: ids (B,) or (B, 1); or rows (B, C), which may be soft: 0.25, 0.75.
            y_pred: float (B, C), logits.

        Returns:
            float (B,).
        """
        if is_one_hot(y_true, self.count):
            return self.loss.call(y_true, y_pred)
        ids = tf.reshape(tf.cast(y_true, tf.int32), [-1])
        return self.loss.call(tf.one_hot(ids, self.count, dtype=y_pred.dtype), y_pred)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ScoredLoss(keras.losses.Loss):
    """A loss on the scores of a regressor, which an activation computes from logits.

    Args:
        loss: keras.losses.Loss on (B, 1) and (B, 1).
        scores: computes scores from logits.
    """

    def __init__(self, loss: keras.losses.Loss, scores: Callable[[Any], Any]) -> None:
        super().__init__(name=loss.name, reduction=loss.reduction)
        self.loss = loss
        self.scores = scores
        self.unit = loss_unit(loss)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Computes the loss of each row, (B,), from targets and logits (B, 1)."""
        return self.loss.call(y_true, self.scores(y_pred))


@keras.saving.register_keras_serializable("keras_bert_zoo")
class FunctionLoss(keras.losses.Loss):
    """A caller's function as a Keras loss.

    Args:
        function: takes `y_true` and `y_pred`.
    """

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__.lower()))
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Calls the function."""
        return self.function(y_true, y_pred)


def resolve_loss(loss: Any, outputs: Outputs) -> keras.losses.Loss:
    """Adapts the loss given to `compile` to a model's outputs.

    Names, Keras functions and Keras classes mean the loss on logits. If the loss takes one-hot
    rows, ids are converted to them. If a regressor has an activation, the loss uses its scores. A
    Keras loss object on probabilities is an error: it may be meant for another model. Losses from
    outside Keras are unchanged. They get the model's outputs, and labels as ids unless a dataset
    has rows.

    >>> resolve_loss("categorical_crossentropy", Outputs("label", "TextClassifier", 3)).count
    3

    Args:
        loss: str, function, class or object; or a list or dict of one of these.
        outputs: Outputs.

    Returns:
        keras.losses.Loss.

    Raises:
        ConfigError: the loss does not fit; the message lists the losses that do.
    """
    if isinstance(loss, Mapping):
        loss = list(loss.values())
    if isinstance(loss, list | tuple):
        if len(loss) != 1:
            raise ConfigError(
                f"A {outputs.task} has one output: expected one `loss`, received {len(loss)}."
            )
        loss = loss[0]
    if isinstance(loss, str):
        if loss in outputs.losses:
            return outputs.losses[loss]()
        if loss.lower() in ("crossentropy", "ce") and outputs.kind in CROSSENTROPY:
            loss = CROSSENTROPY[outputs.kind]
    name = keras_name(loss, keras.losses)
    if name is None:
        if isinstance(loss, keras.losses.Loss):
            return loss
        if callable(loss):
            return FunctionLoss(loss)
        raise ConfigError(f"Loss {loss!r} is unknown. {_choices(outputs)}")
    allowed = {entry.rstrip("*"): entry.endswith("*") for entry in _LOSSES[outputs.kind]}
    if name not in allowed:
        raise ConfigError(
            f"{name} is no loss for a {outputs.task}: {_HINTS[outputs.kind]}. {_choices(outputs)}"
        )
    options: dict[str, Any] = {"from_logits": True} if allowed[name] else {}
    if outputs.kind == "tokens":
        options["ignore_class"] = NO_LABEL
    made = isinstance(loss, keras.losses.Loss)
    if made:
        config = loss.get_config()
        for option, expected in options.items():
            if config.get(option) != expected:
                raise ConfigError(
                    f"{name}({option}={config.get(option)!r}) does not fit a {outputs.task}, "
                    f"which gives logits{' of tokens' if outputs.kind == 'tokens' else ''}: pass "
                    f"`{option}={expected!r}`, or the loss by its name."
                )
    resolved: keras.losses.Loss
    if made:
        resolved = loss
    elif outputs.kind == "tokens":  # Keras' loss takes no weights with `ignore_class`
        resolved = SmoothedTokenLoss(0.0, name=_snake(name))
    else:
        resolved = getattr(keras.losses, name)(**options)
    if isinstance(loss, str):
        resolved.name = loss
    if outputs.kind == "label" and name != "SparseCategoricalCrossentropy":
        return OneHotLoss(resolved, outputs.count)
    if outputs.scores is not None:
        return ScoredLoss(resolved, outputs.scores)
    return resolved


def keras_name(value: Any, module: Any) -> str | None:
    """Returns the name of the Keras class that a name, function, class or object refers to.

    Args:
        value: str, function, class or object.
        module: keras.losses or keras.metrics.

    Returns:
        str, the name of the class; None if it is not a Keras class.
    """
    known = {name: name for name, member in vars(module).items() if inspect.isclass(member)}
    if isinstance(value, str):
        names = known | {_snake(name): name for name in known}
        return names.get(value) or _ALIASES.get(value.lower())
    kind = value if inspect.isclass(value) else type(value)
    if kind.__module__.startswith("keras.") and getattr(module, kind.__name__, None) is kind:
        return str(kind.__name__)
    if inspect.isfunction(value) and value.__module__.startswith("keras."):
        return keras_name(value.__name__, module)
    return None


def _snake(name: str) -> str:
    """Converts a class name as Keras does: "AUC" -> "auc", "F1Score" -> "f1_score"."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def _choices(outputs: Outputs) -> str:
    names = [*outputs.losses, *(_snake(name.rstrip("*")) for name in _LOSSES[outputs.kind])]
    own = "a loss of your own on its outputs, or none for the task's"
    return f"Expected {', '.join(map(repr, names))}, {own}." if names else f"Expected {own}."

"""Checks of the arguments of training and evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.checkpoints import Checkpoints
from keras_bert_zoo.training.tricks.options import ADVERSARIAL

__all__ = ["as_callbacks", "check_arguments", "check_optimizer", "check_pairs", "class_weights"]


def check_arguments(**values: Any) -> None:
    """Checks the ranges of arguments of training and evaluation.

    >>> check_arguments(epochs=3, learning_rate=2e-5)

    Args:
        **values: name -> value; the names are those of `_RULES`.

    Raises:
        ConfigError: values are out of range; one message lists all of them.
    """
    wrong = []
    for name, value in values.items():
        expected, fits = _RULES[name]
        if not fits(value):
            wrong.append(f"`{name}` must be {expected}, received {value!r}")
    first, last = values.get("initial_epoch"), values.get("epochs")
    if not wrong and first is not None and last is not None and first >= last:
        wrong.append(f"`initial_epoch` must be below `epochs`, {last}, received {first!r}")
    if values.get("resume") and values.get("checkpoints") is None and not wrong:
        wrong.append("`resume` needs `checkpoints`, received None")
    if wrong:
        raise ConfigError("; ".join(wrong) + ".")


def check_pairs(task: Any, count: int) -> None:
    """Checks that a task takes single texts or pairs of texts; see `Task.pair`.

    Args:
        task: Task.
        count: int. Texts per example, 1 or 2.

    Raises:
        DataError: pairs for a task of single texts, or single texts for a task of pairs.
    """
    if task.pair is None or count == 1 + task.pair:
        return
    name, hint = f"a {type(task).__name__}", ""
    if task.spec.pairs is None:
        name = "a model that was trained on them"
        hint = " To accept both, set `task.pair = None`."
    expected, received = "single texts", "pairs of texts"
    if task.pair:
        expected, received = "pairs of texts, a tuple of two lists,", "single texts"
    raise DataError(f"Expected {expected} for {name}, received {received}.{hint}")


def check_optimizer(optimizer: Any) -> Any:
    """Returns a Keras optimizer, given as an object or by its name.

    Raises:
        ConfigError: not a Keras optimizer, or its learning rate is negative or not finite.
    """
    try:
        resolved = keras.optimizers.get(optimizer)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Expected a Keras optimizer or the name of one, received {optimizer!r}."
        ) from error
    rate = resolved.learning_rate if resolved is not None else 0.0
    rate = float(keras.ops.convert_to_numpy(rate))
    if not (math.isfinite(rate) and rate >= 0):
        raise ConfigError(
            f"The optimizer's `learning_rate` must be a number of at least 0, received {rate}."
        )
    return resolved


def as_callbacks(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Returns a list of callbacks from None, one callback, a list, or a CallbackList.

    Raises:
        ConfigError: an element is not a Keras callback.
    """
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, keras.callbacks.Callback):
        return [callbacks]
    flat = list(keras.tree.flatten(callbacks))
    for callback in flat:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(
                f"`callbacks` must be Keras callbacks, received {callback!r} among them."
            )
    return flat


def class_weights(weights: Any, count: int) -> np.ndarray:
    """Returns the weights of labels as float64 (count,), in the order of the labels.

    Raises:
        ConfigError: the weights are not one finite number of at least 0 per label.
    """
    try:
        array = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != (count,) or not np.isfinite(array).all() or (array < 0).any():
        raise ConfigError(
            f"`class_weight` must give each of the {count} labels a number of at least 0: a dict "
            f'from labels, a list in their order, or "balanced"; received {weights!r}.'
        )
    return array


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _integer(least: int, *, optional: bool = False) -> tuple[str, Callable[[Any], bool]]:
    return (
        f"an integer of at least {least}{' or None' if optional else ''}",
        lambda value: (optional and value is None) or (_is_integer(value) and value >= least),
    )


def _number(
    expected: str, fits: Callable[[float], bool], *, optional: bool = False
) -> tuple[str, Callable[[Any], bool]]:
    def check(value: Any) -> bool:
        if value is None:
            return optional
        number = isinstance(value, int | float | np.integer | np.floating)
        return (
            number and not isinstance(value, bool) and math.isfinite(value) and fits(float(value))
        )

    return f"{expected}{' or None' if optional else ''}", check


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_frequency(value: Any) -> bool:
    if isinstance(value, Sequence | set) and not isinstance(value, str):
        return bool(value) and all(_is_integer(item) and item >= 1 for item in value)
    return _is_integer(value) and value >= 1


# Name -> the expected value, for messages; and a check.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "batch_size": _integer(1),
    "epochs": _integer(1),
    "initial_epoch": _integer(0),
    "probe_epochs": _integer(0),
    "patience": _integer(0, optional=True),
    "steps": _integer(1, optional=True),
    "steps_per_epoch": _integer(1, optional=True),
    "steps_per_execution": _integer(1),
    "accumulation_steps": _integer(1),
    "validation_steps": _integer(1, optional=True),
    "validation_batch_size": _integer(1, optional=True),
    "validation_freq": ("an integer of at least 1, or a list of epochs from 1 on", _is_frequency),
    "validation_split": _number("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "learning_rate": _number("a number of at least 0", lambda value: value >= 0),
    "warmup_fraction": _number("a number from 0 to 1", lambda value: 0 <= value <= 1),
    "weight_decay": _number("a number of at least 0", lambda value: value >= 0),
    "global_clipnorm": _number("a number above 0", lambda value: value > 0, optional=True),
    "seed": ("an integer", _is_integer),
    "shuffle": ("True or False", _is_bool),
    "pack_examples": ("True or False", _is_bool),
    "gradient_checkpointing": ("True or False", _is_bool),
    "resume": ("True or False", _is_bool),
    "jit_compile": ("True or False", _is_bool),
    "check_memory": ("True or False", _is_bool),
    "optimizer": ("a string", lambda value: isinstance(value, str)),
    "schedule": ("a string", lambda value: isinstance(value, str)),
    "layer_decay": _number("a number above 0 to 1", lambda value: 0 < value <= 1),
    "average_weights": ("True or False", _is_bool),
    "r_drop": _number("a number of at least 0", lambda value: value >= 0),
    "adversarial": (
        f"one of {', '.join(map(repr, ADVERSARIAL))}, or None",
        lambda value: value is None or value in ADVERSARIAL,
    ),
    "adversarial_epsilon": _number("a number above 0", lambda value: value > 0, optional=True),
    "label_smoothing": _number("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "focal_loss": _number("a number of at least 0", lambda value: value >= 0),
    "mixup": _number("a number of at least 0", lambda value: value >= 0),
    "checkpoints": (
        "keras_bert_zoo.Checkpoints or None",
        lambda value: value is None or isinstance(value, Checkpoints),
    ),
}

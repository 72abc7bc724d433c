"""Batches of one shape, which XLA compiles once and TPUs need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL, without_autograph
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.rows import RowBatches
from keras_bert_zoo.training.strategies import on_tpu

__all__ = ["BatchShape", "batch_shape", "check_static", "fitting_batches", "widen_batches"]

TOO_LARGE = "Expected batches of at most "
"""The beginning of messages about a batch that does not fit the shape."""

_TOKEN_MULTIPLE = 64  # lets validation data of about the same length share the shape

# The axis of the last dimension of each input.
_AXES = {
    "token_ids": "tokens",
    "segment_ids": "tokens",
    "padding_mask": "tokens",
    "mask_positions": "predictions",
    "example_ids": "tokens",
    "example_starts": "examples",
    "target_ids": "targets",
    "target_mask": "targets",
}


@dataclass(frozen=True)
class BatchShape:
    """The shape of all batches of a run, without the number of their rows.

    Args:
        widths: the size of each axis: "tokens"; "predictions", the masked positions of a row;
            "examples", those of a bin; and "targets", the tokens of a translation.
        pads: input -> the value of its padding; 0 if it is not named.
        label_axis: the axis of the last dimension of labels; None: labels are not padded. For the
            labels of several objectives, a mapping: name -> axis; others are not padded.
    """

    widths: Mapping[str, int]
    pads: Mapping[str, int] = field(default_factory=dict)
    label_axis: str | Mapping[str, str] | None = None


def batch_shape(task: Any, rows: RowBatches | None) -> BatchShape:
    """Returns a shape that all batches of a run fit into.

    The longest row determines the number of tokens, rounded up to a multiple of 64, but at most
    the task's `max_length`.

    Args:
        task: Task.
        rows: RowBatches; None for data that is read in batches, which may reach `max_length`.

    Returns:
        BatchShape.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> preset, options = "tests/assets/bert_gelu", {"labels": ["a", "b"], "max_length": 16}
        >>> batch_shape(kbz.TextClassifier.from_preset(preset, **options), None).widths
        {'tokens': 16}
    """
    if rows is None:
        pads = {"token_ids": task.tokenizer.pad_token_id}
        return BatchShape({"tokens": task.max_length}, pads)
    widths = dict(rows.widths())
    longest = widths["tokens"]
    rounded = longest + (-longest) % _TOKEN_MULTIPLE
    widths["tokens"] = max(longest, min(rounded, task.max_length))
    return BatchShape(widths, rows.pads(), rows.label_axis)


def widen_batches(dataset: tf.data.Dataset, shape: BatchShape) -> tf.data.Dataset:
    """Pads the columns of batches to one width; `replicas.even_batches` pads the rows.

    Masked positions beyond the width are not predicted.

    Args:
        dataset: batches of a task.
        shape: BatchShape.

    Returns:
        the dataset of the same batches. All dimensions but the first are known.

    Raises:
        DataError: the dataset has inputs of a larger, fixed width.
        tf.errors.InvalidArgumentError: while it is read, if a batch has more tokens.

    Example:
        >>> batches = tf.data.Dataset.from_tensors(({"token_ids": [[5, 6]]},))
        >>> shape = BatchShape({"tokens": 4}, pads={"token_ids": 1})
        >>> (inputs,) = next(iter(widen_batches(batches, shape)))
        >>> inputs["token_ids"].numpy().tolist()
        [[5, 6, 1, 1]]
    """
    axis = shape.label_axis

    @without_autograph  # it would replace the class of errors
    def widen(inputs: Mapping[str, tf.Tensor], *rest: tf.Tensor) -> tuple[Any, ...]:
        wide = {
            name: _widened(value, shape, _AXES[name], shape.pads.get(name, 0), name)
            for name, value in inputs.items()
        }
        if not rest:
            return (wide,)
        y, *weights = rest
        if isinstance(axis, Mapping):
            wide_labels = {n: _widened(y[n], shape, axis[n], NO_LABEL, "labels") for n in axis}
            y = {**y, **wide_labels}
        elif axis is not None:
            y = _widened(y, shape, axis, NO_LABEL, "labels")
        return (wide, y, *weights)

    return dataset.map(widen)


def check_static(task: Any) -> None:
    """Checks that a compiled task can be trained with static shapes, if it is to be.

    Raises:
        ConfigError: the encoder drops padding, the loss needs the batch without copies, a metric
            takes no weights, or XLA is requested on several replicas.
    """
    if not task.static_shapes:
        return
    if task.token_layout != "padded":
        raise ConfigError(
            'Expected a task with token_layout="padded" for static shapes, received '
            f'"{task.token_layout}": pass `token_layout="padded"` to `from_preset` or `load`.'
        )
    if not task.loss_unit:
        raise ConfigError(
            "Expected a loss that is a mean over rows or tokens for static shapes, received "
            f"{type(task.loss).__name__}."
        )
    for metric in _own_metrics(task):
        if not _takes_weights(metric.update_state):
            raise ConfigError(
                "Expected metrics with the argument `sample_weight` of `update_state` for static "
                f"shapes, received {type(metric).__name__}: add the argument, which is 0 for rows "
                "that fill up a batch, or leave the metric out."
            )
    strategy = task.distribute_strategy
    if task.jit_compiles and strategy.num_replicas_in_sync > 1 and not on_tpu(strategy):
        raise ConfigError(
            "Expected one device for `jit_compile`, received "
            f"{strategy.num_replicas_in_sync} replicas: leave it out."
        )


@contextmanager
def fitting_batches() -> Iterator[None]:
    """Raises DataError if a batch of data that is read in batches does not fit the shape."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        begin = error.message.find(TOO_LARGE)
        if begin < 0:
            raise
        raise DataError(error.message[begin:].partition("]")[0]) from None


def _own_metrics(task: Any) -> list[keras.metrics.Metric]:
    """The metrics of a compiled task that the user wrote as classes."""
    compiled = task._compile_metrics
    given = [] if compiled is None else keras.tree.flatten(compiled._user_metrics)
    return [metric for metric in given if isinstance(metric, keras.metrics.Metric)]


def _takes_weights(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters)


def _widened(values: tf.Tensor, shape: BatchShape, axis: str, pad: int, name: str) -> tf.Tensor:
    width = shape.widths[axis]
    if values.shape[-1] is not None and values.shape[-1] > width:
        raise DataError(
            f"Expected `{name}` of at most {width} columns, received {values.shape[-1]}: set the "
            "task's `max_length`."
        )
    if axis == "predictions":
        values = values[..., :width]
    else:
        tf.debugging.assert_less_equal(
            tf.shape(values)[-1], width, f"{TOO_LARGE}{width} tokens: set the task's `max_length`."
        )
    added = width - tf.shape(values)[-1]
    paddings = [[0, 0]] * (values.shape.rank - 1) + [[0, added]]
    wide = tf.pad(values, paddings, constant_values=tf.cast(pad, values.dtype))
    return tf.ensure_shape(wide, [*values.shape[:-1], width])

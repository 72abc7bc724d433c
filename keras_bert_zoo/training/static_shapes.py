"""Batches of one shape, which XLA compiles once and TPUs need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.rows import RowBatches
from keras_bert_zoo.training.strategies import on_tpu

__all__ = ["BatchShape", "batch_shape", "check_static", "widen_batches"]

_TOKEN_MULTIPLE = 64  # lets validation data of about the same length share the shape

# The axis of the last dimension of each input.
_AXES = {
    "token_ids": "tokens",
    "segment_ids": "tokens",
    "padding_mask": "tokens",
    "mask_positions": "predictions",
    "target_ids": "targets",
    "target_mask": "targets",
}


@dataclass(frozen=True)
class BatchShape:
    """The shape of all batches of a run.

    Args:
        rows: int. Rows of a batch, over all replicas and parts.
        widths: the size of each axis: "tokens"; "predictions", the masked positions of a row; and
            "targets", the tokens of a translation.
        pads: input -> the value of its padding; 0 if it is not named.
    """

    rows: int
    widths: Mapping[str, int]
    pads: Mapping[str, int] = field(default_factory=dict)


def batch_shape(task: Any, rows: RowBatches | None, batch_size: int) -> BatchShape:
    """Returns a shape that all batches of a run fit into.

    The longest row determines the number of tokens, rounded up to a multiple of 64, but at most
    the task's `max_length`.

    Args:
        task: Task.
        rows: RowBatches; None for data that is read in batches, which may reach `max_length`.
        batch_size: int.

    Returns:
        BatchShape.
    """
    if rows is None:
        pads = {"token_ids": task.tokenizer.pad_token_id}
        return BatchShape(batch_size, {"tokens": task.max_length}, pads)
    widths = dict(rows.widths())
    longest = widths["tokens"]
    rounded = longest + (-longest) % _TOKEN_MULTIPLE
    widths["tokens"] = max(longest, min(rounded, task.max_length))
    return BatchShape(batch_size, widths, rows.pads())


def widen_batches(dataset: tf.data.Dataset, shape: BatchShape) -> tf.data.Dataset:
    """Pads the columns of batches to one width; `replicas.even_batches` pads the rows.

    Masked positions beyond the width are not predicted.

    Args:
        dataset: batches of a task.
        shape: BatchShape.

    Returns:
        the dataset of the same batches. All dimensions but the first are known.

    Raises:
        DataError: the dataset has inputs of tokens of another, fixed width.
    """
    spec = dataset.element_spec
    labels = "predictions" if "mask_positions" in spec[0] else "targets"
    if "mask_positions" not in spec[0] and "target_ids" not in spec[0]:
        labels = "tokens"

    def widen(inputs: Mapping[str, tf.Tensor], *rest: tf.Tensor) -> tuple[Any, ...]:
        wide = {
            name: _widened(value, shape.widths[_AXES[name]], shape.pads.get(name, 0), name)
            for name, value in inputs.items()
        }
        if not rest:
            return (wide,)
        y, *weights = rest
        if y.shape.rank > 1 and y.shape[-1] is None:
            y = _widened(y, shape.widths[labels], NO_LABEL, "labels")
        return (wide, y, *weights)

    return dataset.map(widen)


def check_static(task: Any) -> None:
    """Checks that a compiled task can be trained with static shapes, if it is to be.

    Raises:
        ConfigError: the encoder drops padding, the loss needs the batch without copies, or XLA is
            requested on several replicas.
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
    strategy = task.distribute_strategy
    if task.jit_compiles and strategy.num_replicas_in_sync > 1 and not on_tpu(strategy):
        raise ConfigError(
            "Expected one device for `jit_compile`, received "
            f"{strategy.num_replicas_in_sync} replicas: leave it out."
        )


def _widened(values: tf.Tensor, width: int, pad: int, name: str) -> tf.Tensor:
    if values.shape[-1] is not None and values.shape[-1] > width:
        raise DataError(
            f"Expected `{name}` of at most {width} columns, received {values.shape[-1]}: set the "
            "task's `max_length`."
        )
    values = values[..., :width]
    added = width - tf.shape(values)[-1]
    paddings = [[0, 0]] * (values.shape.rank - 1) + [[0, added]]
    wide = tf.pad(values, paddings, constant_values=tf.cast(pad, values.dtype))
    return tf.ensure_shape(wide, [*values.shape[:-1], width])

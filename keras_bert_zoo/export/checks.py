"""Checks of requests, as ops in the serving graph.

When a graph runs, TensorFlow does not compare its inputs with the signature. Some kernels trust the
static shapes and then read foreign memory: a scalar string ended the process. So these checks run
first. They fail with INVALID_ARGUMENT.

The checks are on tensors of unknown static shape. Otherwise TensorFlow would remove checks that can
never fail by the signature. Later ops take their inputs from the checks, so they run after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras_bert_zoo.tasks.task import Task


@dataclass(frozen=True)
class IdRange:
    """The valid values of an input of a model: at least 0 and less than `limit`.

    Attributes:
        limit: int. None: the number of columns.
        meaning: str. The meaning of the range, for the error.
    """

    limit: int | None
    meaning: str


def id_ranges(task: Task) -> dict[str, IdRange | None]:
    """Returns the valid values of a model's inputs. None: the model does not read the input."""
    config = task.encoder.config
    segments = IdRange(config.num_segments, "the model's segments") if config.num_segments else None
    ranges = {
        "token_ids": IdRange(config.vocabulary_size, "the vocabulary"),
        "segment_ids": segments,
        "padding_mask": IdRange(2, "0 (padding) and 1 (a token)"),
    }
    # Other inputs are columns, such as the positions of masks.
    columns = IdRange(None, "the columns of token_ids")
    return {name: ranges.get(name, columns) for name in task.spec.serving_inputs()}


def check_shapes(
    inputs: Mapping[str, tf.Tensor], specs: Mapping[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    """Checks the shape of each input, and that all have one batch size.

    Args:
        inputs: name -> tensor.
        specs: name -> tf.TensorSpec. The first dimension is the batch.

    Returns:
        name -> the tensor, with the static shape of its spec.
    """
    checked = {name: _check_shape(name, inputs[name], spec) for name, spec in specs.items()}
    if len(checked) == 1:
        return checked
    sizes = tf.stack([tf.shape(x)[0] for x in checked.values()])
    check = _assert(
        tf.reduce_all(sizes == sizes[0]),
        f"Expected {' and '.join(checked)} of one batch size, received the sizes {{}}",
        sizes,
    )
    return _after([check], checked, specs)


def check_tokens(
    inputs: Mapping[str, tf.Tensor],
    specs: Mapping[str, tf.TensorSpec],
    *,
    same_shape: Sequence[str],
    max_tokens: int,
    ranges: Mapping[str, IdRange | None],
) -> dict[str, tf.Tensor]:
    """Checks the shapes, the lengths and the values of a model's inputs.

    Args:
        inputs: name -> int32 tensor.
        specs: see `check_shapes`.
        same_shape: the names of inputs that must have one shape, (B, S) or (B, n, S).
        max_tokens: int. The largest S.
        ranges: name -> IdRange. None: all values are valid.

    Returns:
        name -> the tensor, with the static shape of its spec.
    """
    checked = check_shapes(inputs, specs)
    shapes = tf.stack([tf.shape(checked[name]) for name in same_shape])
    checks = [
        _assert(
            tf.reduce_all(shapes == shapes[0]),
            f"Expected {', '.join(same_shape)} of one shape, received the shapes {{}}",
            shapes,
        )
    ]
    inner = shapes[0, 1:]
    checks.append(
        _assert(
            tf.logical_and(tf.reduce_all(inner >= 1), inner[-1] <= max_tokens),
            f"Expected rows of 1 to {max_tokens} tokens, received {same_shape[0]} of shape {{}}",
            shapes[0],
        )
    )
    for name, allowed in ranges.items():
        if allowed is None:
            continue
        limit = inner[-1] if allowed.limit is None else tf.constant(allowed.limit)
        # Without values, `least` is the largest integer and `most` the smallest: both are valid.
        least, most = tf.reduce_min(checked[name]), tf.reduce_max(checked[name])
        checks.append(
            _assert(
                tf.logical_and(least >= 0, most < limit),
                f"Expected {name} within {allowed.meaning}, received {{}}: not in [0, {{}})",
                tf.where(least < 0, least, most),
                limit,
            )
        )
    return _after(checks, checked, specs)


def _check_shape(name: str, x: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    unknown = tf.raw_ops.PlaceholderWithDefault(input=x, shape=tf.TensorShape(None))
    shape = tf.shape(unknown)
    expected = [-1 if size is None else size for size in spec.shape]
    # A shape of another rank is padded or cut, so that it can be compared.
    padded = tf.concat([shape, tf.fill([len(expected)], -1)], axis=0)[: len(expected)]
    fits = tf.logical_and(
        tf.equal(tf.size(shape), len(expected)),
        tf.reduce_all(tf.logical_or(tf.equal(expected, -1), tf.equal(expected, padded))),
    )
    sizes = ["batch", *("any" if size is None else str(size) for size in spec.shape[1:])]
    check = _assert(fits, f"Expected {name} of shape [{' '.join(sizes)}], received {{}}", shape)
    return _after([check], {name: unknown}, {name: spec})[name]


def _assert(condition: tf.Tensor, message: str, *values: Any) -> tf.Operation:
    """Returns an op that fails if a condition is false. The values replace `{}` in the message."""
    return tf.debugging.Assert(condition, [tf.strings.format(message, values, summarize=10)])


def _after(
    checks: list[Any], tensors: Mapping[str, tf.Tensor], specs: Mapping[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    """Returns the tensors, computed after the checks."""
    with tf.control_dependencies(checks):
        return {
            name: tf.ensure_shape(tf.identity(x), specs[name].shape) for name, x in tensors.items()
        }

"""Copies of tasks whose encoders compute in int8, calibrated on the user's texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.encoders.freezing import dense_layers
from keras_bert_zoo.errors import ConfigError, DataError, ExportError
from keras_bert_zoo.export.calibration import Calibration
from keras_bert_zoo.export.verify import strings_as_bytes
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.int8 import Int8Product
from keras_bert_zoo.layers.token_layout import to_batch
from keras_bert_zoo.tasks.predicting import joined_widths, text_columns
from keras_bert_zoo.tasks.task import Task

_logger = logging.getLogger(__name__)

_FEW = 100  # texts
_BATCH = 16  # texts
_COMPARED = 128  # texts whose states are compared, for each choice of layers
# The least cosine, of any calibration text, between the encoder's last states in int8 and float32.
_LEAST_COSINE = 0.995


@dataclass(frozen=True)
class Int8Report:
    """The layers of an export that became int8, and the loss of accuracy.

    Attributes:
        layers: tuple of str. Paths of the dense layers in int8.
        bfloat16_layers: tuple of str. Paths of those that stay bfloat16, as their errors are too
            large.
        texts: int. The number of calibration texts.
        least_cosine: float. Between the encoder's states in int8 and float32, of any text.
        mean_cosine: float. Likewise, the mean.
        equal_answers: float or None. The share of the texts whose answers have the same strings;
            None if answers have no strings.
        figure: str or None. The name of the task's main figure; None without labelled examples.
        before: float or None. This figure of the model before.
        after: float or None. This figure in int8.
    """

    layers: tuple[str, ...]
    bfloat16_layers: tuple[str, ...]
    texts: int
    least_cosine: float
    mean_cosine: float
    equal_answers: float | None
    figure: str | None = None
    before: float | None = None
    after: float | None = None


def quantize(
    task: Task,
    texts: Any,
    *,
    examples: Any = None,
    max_drop: float | None = None,
) -> tuple[Task, Int8Report]:
    """Returns a copy of a task whose encoder computes in int8 and bfloat16.

    The dense layers of the blocks become int8. The ranges of their inputs are constants, from the
    given texts. Then the layers with the largest errors become bfloat16 again, as few as possible,
    until the encoder's states are near enough to those of the task.

    Args:
        task: Task.
        texts: what `task.predict` takes: about 100 to 1,000 texts like those that will be served.
        examples: labelled examples, what `task.report` takes, or (x, y), or None. Both models are
            measured on them.
        max_drop: float or None. The largest accepted drop of the report's main figure.

    Returns:
        (Task, Int8Report).

    Raises:
        ConfigError: the task has several models.
        DataError: there are no texts.
        ExportError: no dense layer can be int8, or the figure drops by more than `max_drop`.
    """
    columns = text_columns(task, texts)
    count = len(columns[0])
    if 0 < count < _FEW:
        _logger.warning(
            "int8 is calibrated with %d texts. Ranges of other texts may be larger: pass about "
            "%d to 1,000 texts like those that will be served.",
            count,
            _FEW,
        )
    if not count:
        raise DataError("Expected texts for the calibration, received none.")
    copy = _copy(task)
    layers = dense_layers(copy.encoder)
    batches = [
        [tf.constant(strings_as_bytes(list(column[begin : begin + _BATCH]))) for column in columns]
        for begin in range(0, count, _BATCH)
    ]
    calibration = _observe(copy, layers, batches)
    report = _choose(task, copy, layers, calibration, batches[: -(-_COMPARED // _BATCH)])
    if not report.layers:
        raise ExportError(
            f"Expected at least one dense layer in int8 with a cosine of {_LEAST_COSINE} to the "
            "states of the model, received none. Calibrate with more texts like those that are "
            'served, or export with dtype="bfloat16".'
        )
    report = replace(report, texts=count, equal_answers=_equal_answers(task, copy, columns))
    if examples is None:
        return copy, report
    arguments = examples if isinstance(examples, tuple) else (examples,)
    reports = [model.report(*arguments) for model in (task, copy)]
    figure: str = reports[0].main_figure
    before, after = (float(values.to_dict()[figure]) for values in reports)
    if max_drop is not None and before - after > max_drop:
        raise ExportError(
            f"Expected the {figure} in int8 to be at most {max_drop:g} below {before:.4f}, "
            f"received {after:.4f}. Calibrate with more texts like those that are served, or "
            'export with dtype="bfloat16".'
        )
    return copy, replace(report, figure=figure, before=before, after=after)


def _observe(
    copy: Task, layers: Sequence[Dense], batches: Sequence[Sequence[tf.Tensor]]
) -> Calibration:
    calibration = Calibration(layers)
    for layer in layers:
        layer.observer = calibration.observe
    for batch in batches:
        copy.answer_texts(*batch)
        calibration.end_batch(1 / len(batches))
    for layer in layers:
        layer.observer = None
    return calibration


def _choose(
    task: Task,
    copy: Task,
    layers: Sequence[Dense],
    calibration: Calibration,
    batches: Sequence[Sequence[tf.Tensor]],
) -> Int8Report:
    """Makes layers int8, except for the fewest that the cosine requires in bfloat16."""
    products, chains, groups = calibration.products(), calibration.chains(), calibration.groups()
    names = task.spec.serving_inputs()
    encoded = [task.encode_texts(*batch)[0] for batch in batches]
    tokens = [{name: inputs[name] for name in names} for inputs in encoded]
    expected = _states(task, tokens)

    def cosines(worst: int) -> np.ndarray:
        """Leaves out the groups of layers with the largest errors."""
        left_out = {path for group in groups[:worst] for path in group}
        _assign(layers, products, chains, left_out)
        return _cosines(expected, _states(copy, tokens))

    worst = _smallest(lambda count: cosines(count).min() >= _LEAST_COSINE, len(groups))
    chosen = cosines(worst)
    return Int8Report(
        layers=tuple(layer.path for layer in layers if layer.int8 is not None),
        bfloat16_layers=tuple(layer.path for layer in layers if layer.int8 is None),
        texts=0,
        least_cosine=float(chosen.min()),
        mean_cosine=float(chosen.mean()),
        equal_answers=None,
    )


def _smallest(is_enough: Callable[[int], bool], most: int) -> int:
    """Returns the smallest number up to `most` that is enough; `most` always is."""
    low, step = 0, 1
    while low + step - 1 < most and not is_enough(low + step - 1):  # 0, 2, 6, 14, ...
        low, step = low + step, 2 * step
    high = min(low + step - 1, most)
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _equal_answers(task: Task, copy: Task, columns: Sequence[Sequence[Any]]) -> float | None:
    """Returns the share of texts whose answers have the same strings; None without strings."""
    ours, theirs = task.answer_rows(*columns), copy.answer_rows(*columns)
    names = [name for name, values in ours.items() if values.dtype == object]
    if not names:
        return None
    equal = np.ones(len(columns[0]), bool)
    for name in names:
        left, right = joined_widths(ours[name], theirs[name])
        equal &= (left == right).reshape(len(equal), -1).all(axis=1)
    return float(equal.mean())


def _copy(task: Task) -> Task:
    """Returns a copy of a task, in bfloat16 and with new variables."""
    if task.spec.stages:
        raise ConfigError(
            f"Expected a task of one model for int8, received a {type(task).__name__}, which has "
            'several. Export it with dtype="bfloat16".'
        )
    config = task.get_config()
    config["encoder"]["options"]["dtype"] = "mixed_bfloat16"
    copy = type(task).from_config(config)
    copy.set_weights(task.get_weights())
    return copy


def _assign(
    layers: Sequence[Dense],
    products: dict[str, Int8Product],
    chains: dict[str, str],
    left_out: set[str],
) -> None:
    """Gives layers their int8 products. A layer's output stays int8 for the end of its chain."""
    ranges = {
        producer: products[path].input_range
        for path, producer in chains.items()
        if path not in left_out
    }
    for layer in layers:
        layer.int8 = None
        if layer.path in products and layer.path not in left_out:
            layer.int8 = replace(products[layer.path], output_range=ranges.get(layer.path))


class _Observed:
    """A head that records its input and its layout.

    Args:
        head: the head.

    Attributes:
        inputs: list of (tensor or list of tensors, layout or None), one per call.
    """

    def __init__(self, head: Any) -> None:
        self.inputs: list[tuple[Any, Any]] = []
        self._head = head

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the head."""
        return getattr(self._head, name)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the head."""
        layouts = [value for value in (*args, *kwargs.values()) if isinstance(value, dict)]
        self.inputs.append((x, layouts[0] if layouts else None))
        return self._head(x, *args, **kwargs)


def _states(task: Task, batches: Sequence[dict[str, tf.Tensor]]) -> list[np.ndarray]:
    """Computes what the head reads: the encoder's states, float32 (B, ...) per batch."""
    specs = {
        name: tf.TensorSpec(tensor.shape, tf.int32)
        for name, tensor in task.spec.serving_inputs().items()
    }

    @tf.function(input_signature=[specs], autograph=False)
    def run(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        head = _Observed(task.head)
        task.serve(task.encoder, head, inputs, options=task.options, token_layout=task.token_layout)
        if not head.inputs:  # a decoder reads the states otherwise
            x = task.encoder({name: inputs[name] for name in INPUT_NAMES})["sequence_output"]
            return tf.cast(x, tf.float32)
        x, layout = head.inputs[0]
        x = tf.cast(x[-1] if isinstance(x, list) else x, tf.float32)
        return x if layout is None else to_batch(x, layout)

    return [run(batch).numpy() for batch in batches]


def _cosines(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the cosine between the states of each row."""
    cosines = []
    for left, right in zip(expected, got, strict=True):
        ours, theirs = (states.reshape(len(states), -1) for states in (left, right))
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines.append((ours * theirs).sum(axis=1) / norms)
    return np.concatenate(cosines)

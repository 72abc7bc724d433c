"""The task's metric of a LiteRT model: its report, computed by LiteRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, ExportError
from keras_bert_zoo.export.litert.conversion import convert
from keras_bert_zoo.export.litert.graph import build_graph
from keras_bert_zoo.export.litert.interpreter import make_interpreter
from keras_bert_zoo.export.litert.quantization import quantized
from keras_bert_zoo.tasks.embedding.index import DocumentSearch
from keras_bert_zoo.tasks.masked_lm import MaskedLM
from keras_bert_zoo.tasks.task import Task


@dataclass(frozen=True)
class Figures:
    """The main figure of a task's report.

    Attributes:
        name: str.
        before: float. Of the task.
        after: float. Of the LiteRT model.
    """

    name: str
    before: float
    after: float


def check_measurable(task: Task) -> None:
    """Raises ConfigError if `measure` cannot measure a task."""
    if task.spec.stages or isinstance(task, MaskedLM | DocumentSearch):
        raise ConfigError(
            f"Labelled `examples` of a {type(task).__name__} cannot be measured in LiteRT. Omit "
            "them."
        )


def measure(task: Task, dtype: str, examples: Any, *, max_drop: float | None) -> Figures:
    """Computes the task's report with its model in LiteRT.

    The model has token ids as inputs and any batch size. Its weights and products are those of
    every LiteRT model of the task in this dtype.

    Args:
        task: Task.
        dtype: str. See `quantized`.
        examples: what `task.report` takes, or (x, y).
        max_drop: float or None. The largest accepted drop of the main figure.

    Returns:
        Figures.

    Raises:
        ExportError: the figure drops by more than `max_drop`.
    """
    graph = build_graph(task, inputs="ids", batch_size=None, raw=True)
    model = convert(graph, text=False)
    if dtype != "float32":
        model = quantized(model, dtype)
    arguments = examples if isinstance(examples, tuple) else (examples,)
    reports = [each.report(*arguments) for each in (task, _in_litert(task, model))]
    name: str = reports[0].main_figure
    before, after = (float(report.to_dict()[name]) for report in reports)
    if max_drop is not None and before - after > max_drop:
        raise ExportError(
            f"Expected the {name} in {dtype} to be at most {max_drop:g} below {before:.4f}, "
            f"received {after:.4f}. Use another `dtype`."
        )
    return Figures(name, before, after)


def _in_litert(task: Task, model: bytes) -> Any:
    """Returns a copy of a task whose outputs LiteRT computes."""
    runner = make_interpreter(model, text=False).get_signature_runner()
    shape = runner.get_output_details()["outputs"]["shape_signature"]

    def outputs(inputs: Mapping[str, tf.Tensor]) -> Any:
        used = sorted(task.spec.serving_inputs())

        def run(*arrays: np.ndarray) -> np.ndarray:
            result: np.ndarray = runner(**dict(zip(used, arrays, strict=True)))["outputs"]
            return result

        value = tf.numpy_function(run, [inputs[name] for name in used], tf.float32)
        value.set_shape([None if size < 0 else int(size) for size in shape])
        return value

    copy: Any = type(task).from_config(task.get_config())
    copy.set_weights(task.get_weights())
    copy.respond = lambda inputs, *, options=None: outputs(inputs)
    copy.call = _ignoring(outputs)  # which `predict` of Keras calls
    return copy


def _ignoring(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda inputs, *_, **__: function(inputs)

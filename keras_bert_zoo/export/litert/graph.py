"""The functions of a LiteRT model: from strings or token ids to a task's answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras_bert_zoo.export.serving_graph import (
    ServingWeights,
    concrete,
    encoder_in,
    token_specs,
)
from keras_bert_zoo.layers.scopes import serving_scope
from keras_bert_zoo.litert_scope import litert_scope
from keras_bert_zoo.tasks.task import Task

Run = Callable[[dict[str, tf.Tensor]], Any]

INPUTS = ("text", "ids")
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class LiteRTGraph:
    """The functions of a LiteRT model.

    Attributes:
        module: tf.Module, which the converter needs.
        functions: name of the signature -> concrete function.
    """

    module: tf.Module
    functions: dict[str, Any]


def build_graph(
    task: Task,
    *,
    inputs: str,
    pair: bool | None = None,
    batch_size: int | None = 1,
    length: int | None = None,
    raw: bool = False,
    outputs: Sequence[str] | None = None,
) -> LiteRTGraph:
    """Builds the function of a LiteRT model.

    Args:
        task: Task.
        inputs: "text" or "ids".
        pair: bool. See `Task.text_specs`.
        batch_size: int. None: any.
        length: int. Tokens per row, for `inputs="ids"`. None: any.
        raw: bool. Whether token ids give the model's outputs instead of answers.
        outputs: names of the answers; None: all.

    Returns:
        LiteRTGraph.
    """
    # A long text may become several windows, each a row.
    has_windows = hasattr(task.options, "stride")
    rows = None if inputs == "text" and has_windows else batch_size
    runs = [_stage(stage, rows) for stage in task.stages()]

    def from_texts(*texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return task.answer_with(runs, *texts, options=task.options)

    def from_tokens(*arrays: tf.Tensor) -> Any:
        computed = runs[0](dict(zip(specs, arrays, strict=True)))
        if raw:
            return {"outputs": computed}
        answers = task.answers(computed)
        return answers if outputs is None else {name: answers[name] for name in outputs}

    if inputs == "text":
        specs = {
            name: tf.TensorSpec([batch_size, *spec.shape[1:]], tf.string, name=name)
            for name, spec in task.text_specs(pair=pair).items()
        }
        body: Callable[..., Any] = from_texts
    else:
        specs = {
            name: _with_sizes(name, spec, batch_size, length)
            for name, spec in token_specs(task).items()
        }
        body = from_tokens
    with _scopes():
        function = concrete(_named(body, SIGNATURE), list(specs.values()))
    # The weights are constants. The converter would also save the variables of the module.
    return LiteRTGraph(tf.Module(), {SIGNATURE: function})


def _stage(model: Task, rows: int | None) -> Callable[[dict[str, tf.Tensor]], Any]:
    """Returns one model of a task as a function of token ids.

    XNNPACK reshapes to constant sizes alone, of which one may be unknown. So the number of rows is
    set where it is known.
    """
    encoder, head = encoder_in(model, "float32"), model.head
    if hasattr(head, "in_dtype"):
        head = head.in_dtype("float32")
    own = {id(variable) for variable in model.encoder.weights}
    others = [variable for variable in model.weights if id(variable) not in own]
    weights = ServingWeights([*encoder.weights, *others], freeze=True, table_dtype=None)

    def run(batch: dict[str, tf.Tensor]) -> Any:
        for tensor in batch.values():
            tensor.set_shape([rows, *tensor.shape[1:]])
        with weights:
            return model.serve(encoder, head, batch, options=model.options, token_layout="padded")

    return run


@contextlib.contextmanager
def _scopes() -> Iterator[None]:
    with serving_scope(), litert_scope():
        yield


def _with_sizes(
    name: str, spec: tf.TensorSpec, batch_size: int | None, length: int | None
) -> tf.TensorSpec:
    """Returns a spec (B, ..., S) with the given sizes."""
    shape = spec.shape.as_list()
    shape[0] = batch_size
    if name in ("token_ids", "segment_ids", "padding_mask"):
        shape[-1] = length
    return tf.TensorSpec(shape, spec.dtype, name=name)


def _named(body: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Names a function: the converter names signatures by their functions."""

    def function(*arguments: tf.Tensor) -> Any:
        return body(*arguments)

    function.__name__ = name
    return function

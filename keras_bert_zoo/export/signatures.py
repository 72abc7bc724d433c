"""The serving graph: from strings, token ids or serialized examples to a task's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.encoders.freezing import dense_layers
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.export.checks import check_shapes, check_tokens, id_ranges
from keras_bert_zoo.export.serving_graph import (
    ServingWeights,
    concrete,
    dtype_of,
    encoder_in,
    token_specs,
)
from keras_bert_zoo.layers.scopes import serving_scope
from keras_bert_zoo.tasks.chunks import run_in_chunks
from keras_bert_zoo.tasks.task import Task

DTYPES = ("float32", "bfloat16")

Answers = dict[str, tf.Tensor]


@dataclass(frozen=True)
class ServingGraph:
    """The functions and weights of an export.

    Attributes:
        module: tf.Module with the functions and the variables.
        signatures: name -> concrete function.
        weight_bytes: int. Size of the weights in the dtypes of the graph.
    """

    module: tf.Module
    signatures: dict[str, Any]
    weight_bytes: int


def compute_dtype(task: Task) -> str:
    """Returns the compute dtype of a task's last encoder: "float32" or "bfloat16"."""
    return dtype_of(task.stages()[-1].encoder)


def build_serving_graph(
    task: Task,
    *,
    dtype: str,
    freeze: bool,
    attention_groups: int,
    pair: bool | None = None,
) -> ServingGraph:
    """Builds the functions of an export's signatures.

    All three call one function on token ids, so the file contains its constants once.

    Args:
        task: Task.
        dtype: "float32" or "bfloat16". The compute dtype of the encoder.
        freeze: bool. Whether weights become constants of the graph or variables. oneDNN reorders
            constants once, and variables in every call. Tables of tokens are always variables.
        attention_groups: int. See `TokenLayout`.
        pair: bool. See `Task.text_specs`.

    Returns:
        ServingGraph.

    Raises:
        ConfigError: `dtype` is unknown.
    """
    if dtype not in DTYPES:
        raise ConfigError(
            f"Expected `dtype` to be one of {', '.join(DTYPES)} or None, received {dtype!r}."
        )
    stages = [
        _Stage(stage, dtype=dtype, freeze=freeze, attention_groups=attention_groups)
        for stage in task.stages()
    ]
    runs = [stage.run for stage in stages]

    specs = task.text_specs(pair=pair)
    options = task.options

    def from_texts(*texts: tf.Tensor) -> Answers:
        checked = check_shapes(dict(zip(specs, texts, strict=True)), specs)
        return task.answer_with(runs, *checked.values(), options=options)

    features = {
        name: tf.io.FixedLenFeature(spec.shape[1:], tf.string) for name, spec in specs.items()
    }
    example_specs = {"examples": tf.TensorSpec([None], tf.string, name="examples")}
    model_specs = token_specs(task)
    serve_texts = concrete(from_texts, list(specs.values()))

    def from_examples(serialized: tf.Tensor) -> Answers:
        checked = check_shapes({"examples": serialized}, example_specs)
        parsed = tf.io.parse_example(checked["examples"], features)
        answers: Answers = serve_texts(*(parsed[name] for name in specs))
        return answers

    def from_tokens(*arrays: tf.Tensor) -> Answers:
        inputs = dict(zip(model_specs, arrays, strict=True))
        checked = check_tokens(
            inputs,
            model_specs,
            same_shape=INPUT_NAMES,
            max_tokens=task.encoder.config.max_tokens,
            ranges=id_ranges(task),
        )
        return task.answers(runs[0](checked))

    module = tf.Module()
    # tf.saved_model saves the variables of the module.
    module.weights = [stage.weights.variables for stage in stages]
    signatures = {
        "serving_default": serve_texts,
        "tokens": concrete(from_tokens, list(model_specs.values())),
        "examples": concrete(from_examples, list(example_specs.values())),
    }
    return ServingGraph(module, signatures, sum(stage.bytes for stage in stages))


class _Stage:
    """One model of a task, as a function of token ids, with its weights.

    Args:
        model: Task.
        dtype: see `build_serving_graph`.
        freeze: see `build_serving_graph`.
        attention_groups: see `build_serving_graph`.

    Attributes:
        weights: ServingWeights.
        bytes: int. Size of the weights in the graph.
    """

    def __init__(self, model: Task, *, dtype: str, freeze: bool, attention_groups: int) -> None:
        dtype = dtype_of(model.encoder) if model.spec.keeps_dtype else dtype
        encoder, head = encoder_in(model, dtype), model.head
        if hasattr(head, "in_dtype"):  # a head with most of the model's computation
            head = head.in_dtype(dtype)
        # Keeps the variables of copies alive while functions that call `run` are traced.
        self._layers = encoder, head
        own = {id(variable) for variable in model.encoder.weights}
        others = [variable for variable in model.weights if id(variable) not in own]
        products = [layer.int8 for layer in dense_layers(encoder) if layer.int8 is not None]
        self.weights = ServingWeights(
            [*encoder.weights, *others],
            freeze=freeze,
            table_dtype="bfloat16" if products else "float32",
        )

        def run(batch: dict[str, tf.Tensor]) -> Any:
            with self.weights, serving_scope():
                return model.serve(
                    encoder,
                    head,
                    batch,
                    options=model.options,
                    token_layout="packed",
                    attention_groups=attention_groups,
                )

        specs = token_specs(model)
        if not freeze:
            concrete(run, [specs])  # records the weights that are read, and their dtypes
            self.weights.create_variables()
        self._model = model
        self._concrete = concrete(run, [specs])
        self.bytes = self.weights.bytes + sum(product.nbytes for product in products)

    def run(self, inputs: Mapping[str, tf.Tensor]) -> Any:
        """Computes the model's outputs; splits a large batch into chunks of rows."""
        return run_in_chunks(self._concrete, inputs, self._model.row_cost(inputs))


def weight_bytes(task: Task, dtype: str) -> int:
    """Returns an upper bound of the size of the constants of a frozen graph, in bytes."""
    total = 0
    for stage in task.stages():
        size = 2 if dtype == "bfloat16" and not stage.spec.keeps_dtype else 4
        for weight in stage.weights:
            # Embedding tables stay float32 (see layers/embeddings.py); so do some vectors.
            stays = len(weight.shape) < 2 or "table" in weight.path
            total += int(np.prod(weight.shape)) * (4 if stays else size)
    return total

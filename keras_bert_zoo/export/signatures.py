"""The serving graph: from strings, token ids or serialized examples to a task's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder
from keras_bert_zoo.encoders.freezing import dense_layers
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.export.checks import check_shapes, check_tokens, id_ranges
from keras_bert_zoo.layers.scopes import only_rows_are_read, serving_scope
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
    return _dtype_of(task.stages()[-1].encoder)


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
    model_specs = _token_specs(task)
    serve_texts = _concrete(from_texts, list(specs.values()))

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
        "tokens": _concrete(from_tokens, list(model_specs.values())),
        "examples": _concrete(from_examples, list(example_specs.values())),
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
        weights: _Weights.
        bytes: int. Size of the weights in the graph.
    """

    def __init__(self, model: Task, *, dtype: str, freeze: bool, attention_groups: int) -> None:
        dtype = _dtype_of(model.encoder) if model.spec.keeps_dtype else dtype
        encoder, head = _encoder_in(model, dtype), model.head
        if hasattr(head, "in_dtype"):  # a head with most of the model's computation
            head = head.in_dtype(dtype)
        # Keeps the variables of copies alive while functions that call `run` are traced.
        self._layers = encoder, head
        own = {id(variable) for variable in model.encoder.weights}
        others = [variable for variable in model.weights if id(variable) not in own]
        products = [layer.int8 for layer in dense_layers(encoder) if layer.int8 is not None]
        self.weights = _Weights(
            [*encoder.weights, *others], freeze=freeze, narrow_tables=bool(products)
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

        specs = _token_specs(model)
        if not freeze:
            _concrete(run, [specs])  # records the weights that are read, and their dtypes
            self.weights.create_variables()
        self._model = model
        self._concrete = _concrete(run, [specs])
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


def _concrete(body: Callable[..., Any], specs: list[tf.TensorSpec]) -> Any:
    # Autograph is off: there is no Python control flow to convert.
    return tf.function(body, input_signature=specs, autograph=False).get_concrete_function()


def _token_specs(task: Task) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tensor.shape, tf.int32, name=name)
        for name, tensor in task.spec.serving_inputs().items()
    }


def _dtype_of(encoder: Encoder) -> str:
    return str(keras.tree.flatten(encoder.outputs)[0].dtype)


def _encoder_in(task: Task, dtype: str) -> Encoder:
    """Returns the task's encoder, or a copy of it with another compute dtype."""
    if _dtype_of(task.encoder) == dtype:
        return task.encoder
    policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
    options = task.encoder.build_options | {"dtype": policy}
    encoder = build_encoder(task.encoder.config, **options)
    weights = {variable.path: variable for variable in task.encoder.weights}
    for variable in encoder.weights:
        variable.assign(weights[variable.path])
    return encoder


class _Weights(keras.StatelessScope):
    """Replaces a model's weights by constants or by new variables.

    Each is stored in the dtype in which the graph reads it. For example, a kernel of a bfloat16
    product is stored in bfloat16. A cast before the product would prevent oneDNN's optimization.

    Args:
        weights: list of Keras variables.
        freeze: bool. Whether to use constants, except for tables; see `only_rows_are_read`.
        narrow_tables: bool. Whether these tables are stored in bfloat16.
    """

    def __init__(self, weights: list[Any], *, freeze: bool, narrow_tables: bool = False) -> None:
        super().__init__()
        self.freeze = freeze
        self.table_dtype = "bfloat16" if narrow_tables else "float32"
        self.bytes = 0
        self.variables: dict[str, tf.Variable] = {}
        self._values = {variable.path: variable.value for variable in weights}
        self._constants: dict[str, tf.Tensor] = {}
        self._read: dict[str, tuple[str, Any]] = {}
        if freeze:
            # Before a function is traced: one that creates variables is traced twice.
            self._read = {
                _name(path, self.table_dtype): (path, self.table_dtype)
                for path in self._values
                if path.endswith("/token_table")
            }
            self.create_variables()

    def create_variables(self) -> None:
        """Creates the variables that a graph traced in this scope has read."""
        for name, (path, dtype) in self._read.items():
            value = self._stored(path, dtype)
            self.variables[name] = tf.Variable(value, trainable=False, name=name)

    def get_current_value(self, variable: Any) -> tf.Tensor:
        """Returns the tensor that Keras reads instead of a variable's value."""
        is_table = only_rows_are_read()
        # Inside a layer, `variable.dtype` is the layer's compute dtype.
        dtype = self.table_dtype if is_table else variable.dtype
        name = _name(variable.path, dtype)
        if self.freeze and not is_table:
            if name not in self._constants:
                with tf.init_scope():  # outside the graph under construction
                    array = self._stored(variable.path, dtype).numpy()
                self._constants[name] = tf.constant(array)
            return self._constants[name]
        if name in self.variables:
            return self.variables[name].read_value()
        self._read[name] = (variable.path, dtype)
        return tf.zeros(variable.shape, dtype)

    def _stored(self, path: str, dtype: Any) -> tf.Tensor:
        value = tf.cast(self._values[path], dtype)
        self.bytes += value.dtype.size * int(np.prod(value.shape))
        return value


def _name(path: str, dtype: Any) -> str:
    return f"{path.replace('/', '.')}.{dtype}"

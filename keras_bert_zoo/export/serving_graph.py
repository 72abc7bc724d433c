"""The parts that the graphs of all exports share: weights, the encoder's dtype, functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.layers.scopes import only_rows_are_read
from keras_bert_zoo.tasks.task import Task


def concrete(body: Callable[..., Any], specs: list[Any]) -> Any:
    """Returns the concrete function of a body, traced for the given inputs.

    Args:
        body: function of tensors.
        specs: its arguments, as for `tf.function`.
    """
    # Autograph is off: there is no Python control flow to convert.
    return tf.function(body, input_signature=specs, autograph=False).get_concrete_function()


def token_specs(task: Task) -> dict[str, tf.TensorSpec]:
    """Returns the specs of the inputs of a task's model: int32, such as (B, S)."""
    return {
        name: tf.TensorSpec(tensor.shape, tf.int32, name=name)
        for name, tensor in task.spec.serving_inputs().items()
    }


def dtype_of(encoder: Encoder) -> str:
    """Returns the compute dtype of an encoder: "float32" or "bfloat16"."""
    return str(keras.tree.flatten(encoder.outputs)[0].dtype)


def encoder_in(task: Task, dtype: str) -> Encoder:
    """Returns the task's encoder, or a copy of it with another compute dtype."""
    if dtype_of(task.encoder) == dtype:
        return task.encoder
    policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
    options = task.encoder.build_options | {"dtype": policy}
    encoder = build_encoder(task.encoder.config, **options)
    weights = {variable.path: variable for variable in task.encoder.weights}
    for variable in encoder.weights:
        variable.assign(weights[variable.path])
    return encoder


class ServingWeights(keras.StatelessScope):
    """Replaces a model's weights by constants or by new variables.

    Each is stored in the dtype in which the graph reads it. For example, a kernel of a bfloat16
    product is stored in bfloat16. A cast before the product would prevent oneDNN's optimization.

    Args:
        weights: list of Keras variables.
        freeze: bool. Whether to use constants, except for tables; see `only_rows_are_read`.
        table_dtype: str or None. The dtype of these tables. None: they are constants, like the
            others.

    Example: `with ServingWeights(model.weights, freeze=True): outputs = model(inputs)`
    """

    def __init__(
        self, weights: list[Any], *, freeze: bool, table_dtype: str | None = "float32"
    ) -> None:
        super().__init__()
        self.freeze = freeze
        self.table_dtype = table_dtype
        self.bytes = 0
        self.variables: dict[str, tf.Variable] = {}
        self._values = {variable.path: variable.value for variable in weights}
        self._constants: dict[str, tf.Tensor] = {}
        self._read: dict[str, tuple[str, Any]] = {}
        if freeze and table_dtype is not None:
            # Before a function is traced: one that creates variables is traced twice.
            self._read = {
                _name(path, table_dtype): (path, table_dtype)
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
        is_table = self.table_dtype is not None and only_rows_are_read()
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

"""Weights that no transformers class has, in a file beside model.safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import save_file

from keras_bert_zoo.checkpoints.messages import list_some
from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES
from keras_bert_zoo.errors import CheckpointError

OWN_WEIGHTS_FILE = "keras_bert_zoo.safetensors"


def save_own_weights(
    directory: str | os.PathLike[str], layers: Mapping[str, keras.layers.Layer]
) -> None:
    """Writes the weights of layers, in float32, as `OWN_WEIGHTS_FILE`.

    Args:
        directory: path of an existing directory.
        layers: name -> built layer. A tensor is called by the layer's name, a dot, and the
            weight's own.
    """
    tensors = {
        name: np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value), np.float32)
        for name, variable in _variables(layers).items()
    }
    save_file(tensors, Path(directory) / OWN_WEIGHTS_FILE)


def load_own_weights(
    directory: str | os.PathLike[str], layers: Mapping[str, keras.layers.Layer]
) -> None:
    """Loads what `save_own_weights` wrote, all of it or nothing.

    Args:
        directory: path.
        layers: name -> built layer.

    Raises:
        CheckpointError: the file is not there, or does not hold just these weights.
    """
    path = Path(directory) / OWN_WEIGHTS_FILE
    variables = _variables(layers)
    with open_safetensors(path) as tensors:
        found = {name: tuple(tensors.shape(name)) for name in tensors.names()}
        wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
        if found != wanted:
            missing = sorted(wanted.keys() - found.keys())
            strange = sorted(found.keys() - wanted.keys())
            other = [
                f"{name} {found[name]} instead of {shape}"
                for name, shape in wanted.items()
                if name in found and found[name] != shape
            ]
            raise CheckpointError(
                f"{path} does not hold this model's weights: missing {missing or 'none'}, "
                f"unexpected {strange or 'none'}, of another shape {other or 'none'}."
            )
        other = [f"{name} ({tensors.dtype(name)})" for name in wanted
                 if tensors.dtype(name) not in FLOAT_DTYPES]  # fmt: skip
        if other:
            raise CheckpointError(
                f"{path} must hold floating-point weights, got {list_some(other)}."
            )
        values = {name: tensors.read(name) for name in wanted}
    for name, variable in variables.items():
        variable.assign(values[name])


def _variables(layers: Mapping[str, keras.layers.Layer]) -> dict[str, keras.Variable]:
    return {
        f"{name}.{variable.name}": variable
        for name, layer in layers.items()
        for variable in layer.weights
    }

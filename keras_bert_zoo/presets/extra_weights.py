"""Weights of layers that transformers does not have, in a separate safetensors file."""

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

EXTRA_WEIGHTS_FILE = "keras_bert_zoo.safetensors"


def save_extra_weights(
    directory: str | os.PathLike[str], layers: Mapping[str, keras.layers.Layer]
) -> None:
    """Writes the weights of layers, in float32, as `EXTRA_WEIGHTS_FILE`.

    Args:
        directory: path of an existing directory.
        layers: name -> built layer. A tensor's name is the layer's name, a dot, and the name of the
            weight.
    """
    tensors = {
        name: np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value), np.float32)
        for name, variable in _variables(layers).items()
    }
    save_file(tensors, Path(directory) / EXTRA_WEIGHTS_FILE)


def load_extra_weights(
    directory: str | os.PathLike[str], layers: Mapping[str, keras.layers.Layer]
) -> None:
    """Loads the file of `save_extra_weights`, completely or not at all.

    Args:
        directory: path.
        layers: name -> built layer.

    Raises:
        CheckpointError: the file is missing, or it does not hold exactly these weights.
    """
    path = Path(directory) / EXTRA_WEIGHTS_FILE
    variables = _variables(layers)
    with open_safetensors(path) as tensors:
        stored = {name: tuple(tensors.shape(name)) for name in tensors.names()}
        expected = {name: tuple(variable.shape) for name, variable in variables.items()}
        if stored != expected:
            missing = sorted(expected.keys() - stored.keys())
            unexpected = sorted(stored.keys() - expected.keys())
            misshapen = [
                f"{name} {stored[name]} instead of {shape}"
                for name, shape in expected.items()
                if name in stored and stored[name] != shape
            ]
            raise CheckpointError(
                f"{path} does not hold this model's weights: missing {missing or 'none'}, "
                f"unexpected {unexpected or 'none'}, of another shape {misshapen or 'none'}."
            )
        dtypes = {name: tensors.dtype(name) for name in expected}
        wrong = [f"{name} ({dtype})" for name, dtype in dtypes.items() if dtype not in FLOAT_DTYPES]
        if wrong:
            raise CheckpointError(
                f"{path} must hold floating-point weights, received {list_some(wrong)}."
            )
        values = {name: tensors.read(name) for name in expected}
    for name, variable in variables.items():
        variable.assign(values[name])


def _variables(layers: Mapping[str, keras.layers.Layer]) -> dict[str, keras.Variable]:
    return {
        f"{name}.{variable.name}": variable
        for name, layer in layers.items()
        for variable in layer.weights
    }

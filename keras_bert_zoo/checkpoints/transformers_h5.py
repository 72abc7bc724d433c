"""tf_model.h5: the weights of transformers 4's TensorFlow models, under PyTorch's names.

A weight is stored as GROUP/MODEL/PATH, where GROUP is a layer of the model, for example
`bert/tf_bert_for_pre_training/bert/encoder/layer_._0/attention/self/query/kernel:0`. `weight_name`
and `weight_orientation` translate PATH to PyTorch's name and orientation. They follow transformers
4.44.2, modeling_tf_pytorch_utils.py. The names of a bare model also have a prefix (`bert.`), which
PyTorch's files of bare models lack.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from keras_bert_zoo.checkpoints.hdf5 import (
    DAMAGE,
    Space,
    damaged,
    open_hdf5,
    read_array,
    walk_arrays,
)
from keras_bert_zoo.checkpoints.messages import one_line
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorInfo, TensorSource
from keras_bert_zoo.errors import CheckpointError


def open_keras_h5(path: str | os.PathLike[str]) -> TensorSource:
    """Opens a tf_model.h5.

    Args:
        path: path of the file.

    Returns:
        TensorSource.

    Raises:
        CheckpointError: the file is damaged, or has links, references, virtual or external data,
            unusual filters, or objects that are not weights. No data has been read.
    """
    path = os.fspath(path)
    file = open_hdf5(path)
    try:
        return _KerasSource(path, file)
    except CheckpointError:
        file.close()
        raise
    except DAMAGE as error:
        file.close()
        raise damaged(path, error) from None


class _KerasSource(TensorSource):
    def __init__(self, path: str, file: Any) -> None:
        self._file = file
        self._datasets: dict[str, list[Any]] = {}
        self._axes: dict[str, tuple[int, ...]] = {}
        infos: dict[str, TensorInfo] = {}
        for stored_path, dataset in _walk(path, file).items():
            name = weight_name(stored_path)
            axes = weight_orientation(stored_path, dataset.ndim)
            info = TensorInfo(tuple(dataset.shape[axis] for axis in axes), dataset.dtype)
            if infos.setdefault(name, info) != info:
                raise CheckpointError(
                    f"{path} has {name} twice: as {infos[name].dtype} {infos[name].shape} and as "
                    f"{info.dtype} {info.shape}."
                )
            self._datasets.setdefault(name, []).append(dataset)
            self._axes[name] = axes
        super().__init__(path, infos)

    def close(self) -> None:
        """Closes the file. Arrays that were read stay usable."""
        self._file.close()

    def _read(self, stored_name: str) -> np.ndarray:
        # Layers that share weights (an MLM head and the embeddings) both store them.
        first, *others = self._datasets[stored_name]
        try:
            value = read_array(first)
            same = all(np.array_equal(value, read_array(o), equal_nan=True) for o in others)
        except DAMAGE as error:
            raise CheckpointError(
                f"{self.path}: {stored_name} cannot be read: {one_line(error)}."
            ) from None
        if not same:
            raise CheckpointError(f"{self.path} has {stored_name} twice, with different values.")
        return value.transpose(self._axes[stored_name])


def weight_name(stored_path: str) -> str:
    """Returns the PyTorch name of a stored weight.

    Args:
        stored_path: str. GROUP/MODEL/PATH:0.

    Returns:
        str.

    >>> weight_name("bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0")
    'bert.encoder.layer.0.output.dense.weight'
    >>> weight_name("mlm___cls/tf_bert_for_masked_lm/mlm___cls/predictions/bias:0")
    'cls.predictions.bias'
    """
    _, _, path = stored_path.partition("/")
    path = path.removesuffix(":0")
    # `mlm___cls` is `cls`: TensorFlow needs distinct names.
    path = re.sub(r"/[^/]*___([^/]*)/", r"/\1/", path)
    path = re.sub(r"//+", "/", path.replace("_._", "/"))
    _, _, inner = path.partition("/")
    levels = (inner or path).split("/")
    levels[-1] = _LAST_NAMES.get(levels[-1], levels[-1])
    return ".".join(levels)


_LAST_NAMES = {
    "kernel": "weight",
    "embeddings": "weight",
    "gamma": "weight",
    "beta": "bias",
}


def weight_orientation(stored_path: str, rank: int) -> tuple[int, ...]:
    """Returns the axes of a stored weight in PyTorch's order.

    Args:
        stored_path: str.
        rank: int. Rank of the stored weight.

    Returns:
        tuple of int, for `np.transpose`. In Keras, dense kernels are (input, output) and kernels
        of convolutions are (width, input, output).
    """
    last = stored_path.removesuffix(":0").rpartition("/")[2]
    axes = tuple(range(rank))
    return axes[::-1] if last == "kernel" else axes


def _walk(path: str, file: Any) -> dict[str, Any]:
    """Checks all arrays, and returns them by path."""
    datasets: dict[str, Any] = {}
    space = Space(path)
    for stored, dataset in walk_arrays(path, file):
        name = f"{path}: {stored!a}"
        if not stored.rpartition("/")[2].endswith(":0"):
            raise CheckpointError(f"{name} is not a weight of a Keras model.")
        if dataset.dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"Expected {name} of dtype float16, float32 or float64, received "
                f"{str(dataset.dtype)[:100]}."
            )
        space.check(stored, dataset, chunks=True)
        if len(dataset.shape) > 3:
            raise CheckpointError(f"Expected {name} with at most 3 dimensions.")
        if stored.endswith("wise_kernel:0"):
            raise CheckpointError(
                f"{name} belongs to a separable convolution, which is not supported."
            )
        datasets[stored] = dataset
    if not datasets:
        raise CheckpointError(
            f"Expected weights of transformers 4 (LAYER/MODEL/.../kernel:0) in {path}, received "
            "none."
        )
    return dict(sorted(datasets.items()))

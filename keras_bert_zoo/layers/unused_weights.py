"""Weights that no computation reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras


class UnusedWeights(keras.layers.Layer):
    """Keeps weights that a checkpoint has and its model does not read.

    Some of transformers' classes build layers that they do not call in every configuration. Their
    tensors are read and written as they are, so that what is saved here is whole there.

    Args:
        shapes: dict, name -> shape of a weight.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shapes = dict(shapes)

    def build(self, *_: Any) -> None:
        """Creates the weights, float32 zeros, which are not trained."""
        for name, shape in self.shapes.items():
            self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)

"""Weights that no computation uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_bert_zoo")
class UnusedWeights(keras.layers.Layer):
    """Holds weights that a checkpoint contains but its model does not use.

    Some classes of transformers build layers that some configurations do not call. Their tensors
    are loaded and saved unchanged, so that saved checkpoints are complete for transformers.

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

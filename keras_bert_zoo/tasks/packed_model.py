"""A task's model on packed batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_bert_zoo.layers.example_layout import PACKED_GROUPS, is_packed

__all__ = ["PackedModel", "is_packed"]


class PackedModel(keras.layers.Layer):
    """Computes a task's outputs for bins of examples, with the task's layers.

    Its call has a graph other than the task's. The layer has no weights and is not saved.

    Args:
        task: Task, one of `training.packing_options.PACKED_TASKS`.

    Call arguments:
        inputs: of a packed batch; see `data.packing.arrange`.
        training: bool.

    Returns:
        the outputs of the task: of pooled outputs float32 (B * E, units), one row for each place of
        an example; of tokens, those of the columns of the bins.
    """

    def __init__(self, task: Any) -> None:
        super().__init__(autocast=False, dtype=task.dtype_policy)
        # A function, because Keras would track the task.
        self._connect = lambda inputs: task.connect(
            task.encoder,
            task.head,
            inputs,
            token_layout=task.token_layout,
            attention_groups=PACKED_GROUPS,
        )
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """Computes the outputs; see the class."""
        return self._connect(inputs)

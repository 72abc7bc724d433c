"""The objective of a task: its loss, metrics and further measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_bert_zoo.training.loop import was_validated
from keras_bert_zoo.training.outputs import Outputs

__all__ = ["EpochMeasures", "Objective"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How a task is trained and measured.

    Args:
        outputs: Outputs. The meaning of the model's outputs, for losses and metrics by name.
        loss: makes the task's default loss.
        metrics: makes the task's default metrics.
        monitor: the metric that compares epochs, and "max" or "min".
        measure: computes further metrics of held-out data: `(examples, targets, batch_size)` ->
            name -> float. None: there are none.
        dataset_targets: turns the labels of a batch of a tf.data.Dataset into targets, in
            TensorFlow ops. None: the task does not accept batches.
        class_weights: turns `class_weight` and targets into weights, float32 (examples,). None:
            the task does not accept `class_weight`.
        adopt: sets attributes of the task that depend on the training examples.
        is_labelled: whether a tuple of validation data is (x, y) or (x, y, weights), for tasks
            whose `x` may also be a tuple of two or three lists. None: it always is.
        takes_weights: bool. Whether the task accepts `sample_weight`.
        probes: bool. Whether `fit` can train the head alone first. The head must read the pooled
            output.
    """

    outputs: Outputs
    loss: Callable[[], keras.losses.Loss]
    metrics: Callable[[], list[Any]]
    monitor: tuple[str, str] = ("val_loss", "min")
    measure: Callable[[Any, Any, int], Mapping[str, float]] | None = None
    dataset_targets: Callable[[Any], Any] | None = None
    class_weights: Callable[[Any, np.ndarray], np.ndarray] | None = None
    adopt: Callable[[Any], None] | None = None
    is_labelled: Callable[[tuple[Any, ...]], bool] | None = None
    takes_weights: bool = True
    probes: bool = False


class EpochMeasures(keras.callbacks.Callback):
    """Adds a task's measures of held-out data to the logs of every epoch that validates.

    Args:
        measure: see `Objective`.
        examples: the held-out examples.
        targets: their targets.
        batch_size: int.
    """

    def __init__(
        self,
        measure: Callable[[Any, Any, int], Mapping[str, float]],
        examples: Any,
        targets: Any,
        batch_size: int,
    ) -> None:
        super().__init__()
        self._measure = measure
        self._held_out = (examples, targets, batch_size)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the measures to the logs."""
        if was_validated(logs):
            measures = self._measure(*self._held_out)
            if logs is not None:
                logs |= {f"val_{name}": value for name, value in measures.items()}

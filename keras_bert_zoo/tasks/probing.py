"""Training a task's head alone, on features of its encoder."""

from __future__ import annotations

from typing import cast

import keras
import numpy as np

from keras_bert_zoo.data.pipeline import LabelledRows, length_order, restore_order
from keras_bert_zoo.encoders.encoder import encoder_inputs
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.tasks.keras_model import TrainableModel
from keras_bert_zoo.training.probe import probe_head
from keras_bert_zoo.training.replicas import split_rows

__all__ = ["probe_task"]

_FEATURE_BATCH = 256


def probe_task(task: TrainableModel, data: LabelledRows, epochs: int) -> None:
    """Trains a task's head on its encoder's pooled outputs; see `training.probe`.

    Args:
        task: TrainableModel, whose head is changed.
        data: LabelledRows.
        epochs: int. Passes over the outputs.

    Raises:
        ConfigError: the task's head reads more than the pooled output.
    """
    if not task.can_probe:
        raise ConfigError(f"`probe_epochs` is not possible for a {type(task).__name__}.")
    # So that only the last batch is filled up: what follows the last row is cut off.
    size = _FEATURE_BATCH - _FEATURE_BATCH % task._replicas()
    with task._scope():
        inputs = encoder_inputs()
        pooled = task.encoder.pooled_outputs(inputs, token_layout=task.token_layout)
        batches = task._batches(LabelledRows(data.rows), batch_size=size, shuffle=False)
        batches = task._shared_out(batches).map(lambda batch: (split_rows(batch)[0],))
        features = keras.Model(inputs, pooled).predict(batches, verbose=0)[: len(data)]
        features = restore_order(features, length_order(data.lengths)).astype(np.float32)
        probe_head(
            task.head,
            features,
            cast(np.ndarray, data.labels),
            task.loss if task._compiled_by_caller else task._default_loss(),
            epochs=epochs,
            sample_weight=data.weights,
        )

"""Compilation of tasks: losses and metrics that fit their outputs, and what updates the weights."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.example_layout import is_packed
from keras_bert_zoo.training.data import replicas_of
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.loss_units import loss_unit
from keras_bert_zoo.training.outputs import resolve_loss
from keras_bert_zoo.training.packed_rows import spec_of_rows
from keras_bert_zoo.training.replica_loss import ReplicaLoss
from keras_bert_zoo.training.updates import Updates

__all__ = ["DEFAULT_LEARNING_RATE", "build_shared", "compile_task", "prepare_updates"]

DEFAULT_LEARNING_RATE = 2e-5
"""The learning rate of `compile` without an optimizer."""


def compile_task(
    task: Any, optimizer: Any, loss: Any = None, metrics: Any = None, **kwargs: Any
) -> None:
    """Compiles a task through Keras, with losses and metrics that fit its outputs.

    `jit_compile` applies to the steps of `fit`. Elsewhere the shapes of batches are not static.

    Args:
        task: Task.
        optimizer: Keras optimizer.
        loss: as for `Task.compile`; None: the task's default.
        metrics: as for `Task.compile`; None: the task's default.
        **kwargs: further arguments of `keras.Model.compile`.

    Raises:
        ConfigError: a loss or metric does not fit the task's outputs.
    """
    objective = task.objective()
    if loss is not None:
        loss = resolve_loss(loss, objective.outputs)
    else:
        loss = task.fit_loss or objective.loss()
    metrics = (
        objective.metrics() if metrics is None else resolve_metrics(metrics, objective.outputs)
    )
    weighted = kwargs.pop("weighted_metrics", None)
    if weighted is not None:
        weighted = resolve_metrics(weighted, objective.outputs)
    task.jit_compiles = kwargs.pop("jit_compile", False) is True
    count = replicas_of(task)
    shared = ReplicaLoss(loss, count) if count > 1 else loss
    keras.Model.compile(
        task,
        optimizer=optimizer,
        loss=shared,
        metrics=metrics,
        weighted_metrics=weighted,
        jit_compile=False,
        **{"auto_scale_loss": False} | kwargs,  # see `training.updates`
    )
    task.updates = None
    task.step_functions.clear()
    task.loss = loss
    task.loss_unit = loss_unit(loss)


def prepare_updates(task: Any, accumulation: int = 1) -> Updates:
    """Creates and returns what updates the weights of a compiled task, under its strategy.

    It is created again if the optimizer, the trainable variables or the accumulation changed. A
    training step that creates variables would be traced twice.
    """
    variables = task.trainable_variables
    updates: Updates | None = task.updates
    if (
        updates is not None
        and updates.optimizer is task.optimizer
        and updates.accumulation == accumulation
        and [id(v) for v in updates.variables] == [id(v) for v in variables]
    ):
        updates.reset()
        return updates
    with task.distribute_strategy.scope():
        if not task.optimizer.built:
            task.optimizer.build(variables)
        updates = Updates(
            task.optimizer,
            variables,
            accumulation=accumulation,
            scales_loss=task.encoder.blocks[0].compute_dtype == "float16",
        )
    task.updates, task.train_function = updates, None
    task.step_functions.clear()
    return updates


def build_shared(task: Any, batches: tf.data.Dataset, *, restored: bool = False) -> None:
    """Creates the variables of metrics, if they are shared or restored; Keras waits for a batch."""
    if replicas_of(task) > 1 or restored:
        spec = batches.element_spec
        if is_packed(spec[0]) and task.loss_unit == "rows":
            spec = spec_of_rows(spec)
        with task.distribute_strategy.scope():
            task._symbolic_build(data_batch=spec)

"""Updates of the weights: one sum over all replicas, then clipping, then one step of the optimizer.

Keras clips the gradients of each replica, so one and several replicas differ. Its accumulation of
gradients fails under tf.distribute (keras #20582). Its loss scaling looks at the first replica
only. Here an update is skipped on all replicas if the summed gradients are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.gradients import (
    Gradient,
    clip_gradients,
    multiply,
    sum_gradients,
)
from keras_bert_zoo.training.strategies import on_tpu
from keras_bert_zoo.training.summed_gradients import SummedGradients

__all__ = ["LossScale", "Updates"]


class LossScale:
    """A dynamic scale of the loss for float16, whose gradients would underflow.

    The scale doubles after `growth_steps` updates in a row, and halves after an update that was
    skipped.

    Args:
        initial_scale: float.
        growth_steps: int.

    Source: arXiv 1710.03740, section 3.2.
    """

    def __init__(self, initial_scale: float = 2.0**15, growth_steps: int = 2000) -> None:
        self.growth_steps = growth_steps
        self.scale = _counter(float(initial_scale), tf.float32, "loss_scale")
        self.good_steps = _counter(0, tf.int64, "good_steps")

    @property
    def variables(self) -> list[tf.Variable]:
        """The state, for checkpoints."""
        return [self.scale, self.good_steps]

    def record(self, finite: tf.Tensor) -> None:
        """Adapts the scale after an update, outside of the replicas.

        Args:
            finite: bool (). Whether the gradients were finite.
        """
        good = tf.where(finite, self.good_steps + 1, 0)
        grows = good >= self.growth_steps
        factor = tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5)
        self.scale.assign(tf.maximum(self.scale * factor, 1.0))
        self.good_steps.assign(tf.where(grows, tf.zeros_like(good), good))


class Updates:
    """Applies the gradients of a training step, on one or several replicas.

    The sum of the replicas' losses is the loss of the batch. Each replica calls `scaled` and
    `apply`; with `accumulation` above 1, it first calls `accumulate` for each part of a batch, and
    `apply` without gradients after the last one.

    Args:
        optimizer: Keras optimizer, built.
        variables: the trainable variables.
        accumulation: int. Parts of a batch whose gradients are summed before an update.
        scales_loss: bool. Whether the loss is scaled, for float16.

    Attributes:
        count: int64 variable. The number of updates, with the skipped ones.
        skipped: int64 variable. The number of updates that were skipped.
        first_skipped: int64 variable. The number of the first update that was skipped, or -1.
        loss_scale: LossScale or None.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        *,
        accumulation: int = 1,
        scales_loss: bool = False,
    ) -> None:
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ConfigError(
                "Expected an optimizer without loss scaling, received LossScaleOptimizer: pass the "
                "inner optimizer. With the policy mixed_float16, the loss is scaled by itself."
            )
        self.optimizer = optimizer
        self.variables = list(variables)
        self.accumulation = accumulation
        self.loss_scale = LossScale() if scales_loss else None
        self.count = _counter(0, tf.int64, "updates")
        self.skipped = _counter(0, tf.int64, "skipped_updates")
        self.first_skipped = _counter(-1, tf.int64, "first_skipped_update")
        self._sums: list[tf.Variable] = []
        if accumulation > 1:
            self._sums = [_local_sum(variable) for variable in self.variables]

    @property
    def state(self) -> list[tf.Variable]:
        """The variables that a checkpoint needs, without those of the optimizer."""
        counters = [self.count, self.skipped, self.first_skipped]
        return [*counters, *(self.loss_scale.variables if self.loss_scale else [])]

    def reset(self) -> None:
        """Forgets the gradients of a step that was interrupted."""
        for total in self._sums:
            total.assign(tf.zeros_like(total))

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales a loss before its gradients are computed."""
        if self.loss_scale is None:
            return loss
        return loss * tf.cast(self.loss_scale.scale, loss.dtype)

    def accumulate(self, gradients: Sequence[Gradient | None]) -> None:
        """Adds the gradients of a part of this replica's share."""
        for total, gradient in zip(self._sums, gradients, strict=True):
            if gradient is not None:
                total.assign_add(tf.cast(tf.convert_to_tensor(gradient), total.dtype))

    def apply(self, gradients: Sequence[Gradient | None] = ()) -> None:
        """Sums the gradients over the replicas, clips them and updates the variables.

        Args:
            gradients: of this replica, one per variable; None: the loss does not depend on it.
        """
        if self._sums:
            gradients = [tf.identity(total) for total in self._sums]
            for total in self._sums:
                total.assign(tf.zeros_like(total))
        pairs = [
            (gradient, variable)
            for gradient, variable in zip(gradients, self.variables, strict=True)
            if gradient is not None
        ]
        if not pairs:
            raise ConfigError(
                "Expected a loss that depends on trainable variables, received one without "
                "gradients: check `trainable` of the layers and the loss."
            )
        variables = [variable for _, variable in pairs]
        summed = sum_gradients([gradient for gradient, _ in pairs])
        if self.loss_scale is not None:
            summed = [multiply(gradient, 1.0 / self.loss_scale.scale) for gradient in summed]
        clipped, finite = clip_gradients(self.optimizer, summed)
        if not self.optimizer.gradient_accumulation_steps:  # else Keras clips the sum of steps
            summed = clipped
        replica = tf.distribute.get_replica_context()

        def step(gradients: Sequence[Gradient]) -> None:
            _step(self.optimizer, gradients, variables, replica.num_replicas_in_sync)

        if replica.num_replicas_in_sync == 1 or on_tpu(replica.strategy):
            # The replicas of a TPU run one program.
            _if(finite, lambda: step(summed))
            self._record(finite)
            return

        def step_of_all(strategy: tf.distribute.Strategy, gradients: Any, finite: Any) -> None:
            # All replicas have the same sums. Inside of a branch, they could not meet again.
            finite = strategy.experimental_local_results(finite)[0]
            _if(finite, lambda: strategy.extended.call_for_each_replica(step, args=(gradients,)))
            self._record(finite)

        replica.merge_call(step_of_all, args=(summed, finite))

    def _record(self, finite: tf.Tensor) -> None:
        is_first = tf.logical_and(~finite, self.first_skipped < 0)
        self.first_skipped.assign(tf.where(is_first, self.count, self.first_skipped))
        self.skipped.assign_add(tf.cast(~finite, tf.int64))
        self.count.assign_add(1)
        if self.loss_scale is not None:
            self.loss_scale.record(finite)


def _if(condition: tf.Tensor, function: Callable[[], Any]) -> None:
    """Calls a function, in a graph too, if a condition holds."""

    def done() -> tf.Tensor:
        function()
        return tf.constant(True)

    tf.cond(condition, done, lambda: tf.constant(False))


def _step(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Gradient],
    variables: Sequence[keras.Variable],
    replicas: int,
) -> None:
    """Applies summed and clipped gradients."""
    if optimizer.loss_scale_factor:  # Keras divides by it
        gradients = [multiply(gradient, optimizer.loss_scale_factor) for gradient in gradients]
    if isinstance(optimizer, SummedGradients):
        optimizer.apply_summed(gradients, variables)
        return
    # Other optimizers clip again, which changes nothing, and sum over the replicas again.
    if replicas > 1:
        gradients = [multiply(gradient, 1.0 / replicas) for gradient in gradients]
    optimizer.apply(gradients, variables)


def _counter(value: float, dtype: tf.DType, name: str) -> tf.Variable:
    return tf.Variable(
        tf.constant(value, dtype), trainable=False, name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )  # fmt: skip


def _local_sum(variable: keras.Variable) -> tf.Variable:
    """Zeros in the shape of a variable: each replica has its own sum."""
    return tf.Variable(
        tf.zeros(variable.shape, tf.float32), trainable=False, name="gradient_sum",
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )  # fmt: skip

"""`Throughput`: shows how fast a run trains."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.cost import measured_peak, training_flops
from keras_bert_zoo.training.model_shapes import task_shapes
from keras_bert_zoo.training.run_meter import RunMeter
from keras_bert_zoo.training.step_counts import Counts
from keras_bert_zoo.training.strategies import has_workers, on_tpu
from keras_bert_zoo.training.tricks.options import TrickOptions, tricks_of

__all__ = ["FIGURES", "Throughput"]

FIGURES = ("learning_rate", "tokens_per_second", "padding_share", "waiting_share", "mfu")
"""The names of what `Throughput` adds to the logs."""

_ROUNDED = 16  # the mean length of rows, so that few lengths are computed


class Throughput(keras.callbacks.Callback):
    """Adds the throughput of a run to its logs: to the progress bar, the history, TensorBoard.

    The names in the logs are:

    - `learning_rate`: of the last update.
    - `tokens_per_second`: tokens that the encoder reads, over all replicas. Padding is not counted.
    - `padding_share`: the share of padding in the batches. The packed token layout does not compute
      it.
    - `waiting_share`: the share of the time in which this process waits for the next batch. A GPU
      computes queued steps at the same time, so its idle time is at most this.
    - `mfu`: the model's FLOP/s over the measured peak of the devices. FLOPs are those of the
      encoder's matrix products, without padding and without recomputation.

    In the progress bar the values are those of the last steps; at the end of an epoch, those of the
    epoch without its validation. The step that compiles the graph is left out, unless an epoch has
    no other step. The counters are part of the compiled step. They are read once in 16
    steps; in short runs, more often.

    Args:
        mfu: bool. Whether to measure the peak of the devices, which takes about a second for each
            dtype and process.

    Example: `task.fit(texts, labels, callbacks=[Throughput()]).history["tokens_per_second"]`

    Source: arXiv 2204.02311, appendix B (MFU).
    """

    def __init__(self, *, mfu: bool = True) -> None:
        super().__init__()
        self._measures = mfu
        self._meter: RunMeter | None = None

    def attach(self, meter: RunMeter) -> None:
        """Connects the callback with the meter of a run; `fit` calls it."""
        self._meter = meter

    def on_train_begin(self, logs: Any = None) -> None:
        """Measures the peak."""
        meter = self._get_meter()
        if self._measures and hasattr(self.model, "encoder"):
            flops = flops_of(self.model, int(meter.options.get("batch_size") or 32))
            names = TrickOptions.__annotations__
            tricks = tricks_of({k: v for k, v in meter.options.items() if k in names})
            meter.flops = lambda counts: tricks.passes * flops(counts)
            strategy = self.model.distribute_strategy
            if not on_tpu(strategy):  # whose peak is not that of this machine
                dtype = str(self.model.encoder.blocks[0].dtype_policy.name)
                meter.peak = measured_peak(dtype) * devices_of(strategy)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds the throughput of the last steps."""
        if logs is not None:
            logs.update(self._get_meter().latest)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the throughput of the epoch."""
        if logs is not None:
            logs.update(self._get_meter().last_epoch)

    def _get_meter(self) -> RunMeter:
        if self._meter is None:
            raise ConfigError(
                "Expected `Throughput` in the callbacks of a task's `fit`, received a run of "
                "another loop: it does not count tokens."
            )
        return self._meter


def flops_of(task: Any, batch_size: int) -> Callable[[Counts], float]:
    """Returns a function that computes the operations of training steps from their counts.

    The operations are linear in the counts, except those of DeBERTa's relative distances. For
    these, the batches are taken to have rows of equal length.

    Args:
        task: Task.
        batch_size: int. Rows of a step.
    """
    shapes = task_shapes(task)

    def of_batch(length: int, predicted: int = 0) -> float:
        return training_flops(shapes, [length] * batch_size, predicted=predicted)

    @functools.cache
    def factors(middle: int) -> tuple[float, ...]:
        lengths = [middle // 2, middle, 2 * middle]
        powers = [[1, length, length**2] for length in lengths]
        values = [of_batch(length) / batch_size for length in lengths]
        of_label = of_batch(middle, 1) - of_batch(middle)
        return *np.linalg.solve(powers, values), of_label

    def flops(counts: Counts) -> float:
        middle = _ROUNDED * math.ceil(max(counts.tokens, 1) / max(counts.sequences, 1) / _ROUNDED)
        amounts = (counts.sequences, counts.tokens, counts.squares, counts.labelled)
        return sum(float(f) * n for f, n in zip(factors(middle), amounts, strict=True))

    return flops


def devices_of(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of devices that compute: GPUs, or the CPUs of the workers."""
    if tf.config.list_logical_devices("GPU"):
        return int(strategy.num_replicas_in_sync)
    if not has_workers(strategy):
        return 1  # logical CPUs share the cores
    return int(strategy.cluster_resolver.cluster_spec().num_tasks("worker"))

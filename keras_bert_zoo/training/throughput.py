"""`Throughput`: shows how fast a run trains."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.run_meter import RunMeter

__all__ = ["FIGURES", "Throughput"]

FIGURES = ("learning_rate", "tokens_per_second", "padding_share", "waiting_share", "mfu")
"""The names of what `Throughput` adds to the logs."""


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
    no other step. The counters are part of the compiled step. They are read once in 16 steps.

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
        self._get_meter()

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

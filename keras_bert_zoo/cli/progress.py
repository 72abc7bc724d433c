"""The progress bar of `train`, which fits the width of the terminal."""

from __future__ import annotations

import shutil
from typing import Any

import keras

from keras_bert_zoo.training.throughput import FIGURES

__all__ = ["FittingBar", "fitting"]

_BAR = 55  # columns of the steps, the bar, the remaining time and the time of a step
_VALUE = 10  # columns of a number
# The first ones of these that fit are shown.
_ORDER = ("tokens_per_second", "learning_rate", "mfu", "waiting_share", "padding_share")


class FittingBar(keras.callbacks.ProgbarLogger):
    """The progress bar of Keras, without the throughput that does not fit the terminal.

    Keras rewrites its line. A line that is wider than the terminal would be printed again and
    again.

    Args:
        open_end: bool. Whether the number of epochs is unknown, and is not shown.
    """

    def __init__(self, *, open_end: bool = False) -> None:
        super().__init__()
        self.open_end = open_end

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes the number of epochs and of steps; Keras shows no number if it is 1."""
        super().set_params(params | {"epochs": 1} if self.open_end else params)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins a bar."""
        if self.open_end and self.verbose:
            print(f"Epoch {epoch + 1}", flush=True)
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Shows what fits."""
        width = shutil.get_terminal_size().columns
        super().on_train_batch_end(batch, fitting(logs or {}, width))


def fitting(logs: dict[str, Any], width: int) -> dict[str, Any]:
    """Leaves out what `Throughput` added to the logs, as far as it exceeds a width.

    >>> logs = {"loss": 0.5, "tokens_per_second": 3e3, "learning_rate": 1e-3}
    >>> list(fitting(logs, 110)), list(fitting(logs, 200))
    (['loss', 'tokens_per_second'], ['loss', 'tokens_per_second', 'learning_rate'])
    """
    shown = {name: value for name, value in logs.items() if name not in FIGURES}
    used = _BAR + sum(len(f" - {name}: ") + _VALUE for name in shown)
    for name in _ORDER:
        used += len(f" - {name}: ") + _VALUE
        if name not in logs or used > width:
            break
        shown[name] = logs[name]
    return shown

"""Stops a run whose loss or gradients are not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_bert_zoo.errors import TrainingError

_CHECKED_EVERY = 16  # steps; a check waits for the device
_SHOWN = 20  # rows in a message


class StopOnNonFinite(keras.callbacks.Callback):
    """Raises TrainingError soon after a step with gradients that are not finite.

    Such a step does not change the weights; see `training.updates`. With a dynamic loss scale, for
    float16, steps are skipped until the scale fits. A run is stopped only if the scale is 1 and no
    step succeeds.

    Args:
        steps_per_epoch: int. 0: unknown.
        first_step: int. Steps before the run.
        done: int. Steps of the run before it went on.
        rows_of: returns the numbers or names of the rows of a step of the run; None: they are
            unknown.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        first_step: int,
        done: int,
        rows_of: Callable[[int], Sequence[int] | Sequence[str] | None],
    ) -> None:
        super().__init__()
        self._steps_per_epoch = steps_per_epoch
        self._first_step = first_step
        self._done = done
        self._rows_of = rows_of
        self._first_update = 0
        self._seen = (0, 0)  # updates, skipped ones
        self._next_check = 0
        self._started = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers the number of updates before the first epoch, as a checkpoint restored it."""
        self._next_check = 0
        if self._started:
            return
        self._started = True
        updates = self.model.updates
        self._first_update = int(updates.count.numpy())
        self._seen = (self._first_update, int(updates.skipped.numpy()))
        updates.first_skipped.assign(-1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Checks some of the steps."""
        if batch >= self._next_check:
            self._next_check = batch + _CHECKED_EVERY
            self.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Checks the last steps."""
        self.check()

    def check(self) -> None:
        """Raises TrainingError if a step was not finite; see the class."""
        if not self._started:
            return
        updates = self.model.updates
        skipped = int(updates.skipped.numpy())
        if skipped == self._seen[1]:
            self._seen = (int(updates.count.numpy()), skipped)
            return
        count = int(updates.count.numpy())
        none_succeeded = count - self._seen[0] == skipped - self._seen[1]
        self._seen = (count, skipped)
        scale = updates.loss_scale
        if scale is not None and not (none_succeeded and float(scale.scale.numpy()) <= 1.0):
            return
        step = int(updates.first_skipped.numpy()) - self._first_update + self._done
        raise TrainingError(
            f"Expected finite gradients, received NaN or infinity in {self._place(step)}. This "
            "step did not change the weights. Check these rows and their weights, or lower the "
            "learning rate."
        )

    def _place(self, step: int) -> str:
        number = self._first_step + step
        place = f"step {number + 1}"
        if self._steps_per_epoch:
            epoch, batch = divmod(number, self._steps_per_epoch)
            place += f", batch {batch + 1} of epoch {epoch + 1}"
        rows = self._rows_of(step)
        if rows is None:
            return place
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        return f"{place}, with the rows {', '.join(map(str, rows[:_SHOWN]))}{more} (from 0)"

"""The exit status of an error: bad input, or a failure of a training that had begun."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from keras_bert_zoo.errors import TrainingError

__all__ = ["BAD_INPUT", "FAILURE", "status_of_error", "training_failures"]

FAILURE = 1
"""The status of a training that failed after it had begun: it may go on after a restart."""
BAD_INPUT = 2
"""The status of a command line that fails again."""


@contextlib.contextmanager
def training_failures(has_begun: Callable[[], bool]) -> Iterator[None]:
    """Marks the errors of a training, for `status_of_error`.

    Args:
        has_begun: whether the training has begun. Before it, an error is bad input.
    """
    try:
        yield
    except Exception as error:
        if has_begun():
            error.exit_status = FAILURE  # type: ignore[attr-defined]
        raise


def status_of_error(error: Exception) -> int:
    """Returns the exit status of a command that an error ended."""
    if isinstance(error, TrainingError):
        return FAILURE
    return int(getattr(error, "exit_status", BAD_INPUT))

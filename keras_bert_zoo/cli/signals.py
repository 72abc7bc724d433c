"""Ends a command on a signal as on Ctrl-C: what is unfinished is cleaned up or saved first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# Signal -> what the message says. What a shell reports for such an end is 128 more than its number.
_ENDINGS = {"SIGTERM": "terminated", "SIGHUP": "hung up"}


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end.

    It goes the way of Ctrl-C through Keras and this package.

    Args:
        number: int. The signal's.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = number


def status_of(interrupt: KeyboardInterrupt) -> int:
    """The exit status: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + getattr(interrupt, "number", signal.SIGINT)


def name_of(interrupt: KeyboardInterrupt) -> str:
    """What happened, in a word or two, for a message."""
    number = getattr(interrupt, "number", None)
    return "interrupted" if number is None else _ENDINGS[signal.Signals(number).name]


@contextlib.contextmanager
def raised_signals() -> Iterator[None]:
    """Raises `Terminated` where SIGTERM or SIGHUP would end the process at once.

    Once only: another one does not undo what the first has begun. A signal that is ignored, as
    under nohup, or that somebody else handles, stays as it is.
    """
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        for caught in before:
            signal.signal(caught, signal.SIG_IGN)
        raise Terminated(number)

    if threading.current_thread() is threading.main_thread():
        for name in _ENDINGS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back_signals() -> Iterator[None]:
    """Lets no signal undo what the block saves; the last one is raised when the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {}
    for name in ("SIGINT", *_ENDINGS):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        if came[-1] == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(came[-1])

"""Signals end a command as Ctrl-C does, after cleanup or saving."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# Signal -> message. The exit status is 128 plus the number of the signal, as in shells.
_ENDINGS = {"SIGTERM": "terminated", "SIGHUP": "hung up"}


class Terminated(KeyboardInterrupt):
    """A signal that ends the process.

    Keras and this package handle it as Ctrl-C.

    Args:
        number: int. The number of the signal.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = number


def status_of(interrupt: KeyboardInterrupt) -> int:
    """The exit status: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + getattr(interrupt, "number", signal.SIGINT)


def name_of(interrupt: KeyboardInterrupt) -> str:
    """The message: "interrupted", "terminated" or "hung up"."""
    number = getattr(interrupt, "number", None)
    return "interrupted" if number is None else _ENDINGS[signal.Signals(number).name]


@contextlib.contextmanager
def raised_signals() -> Iterator[None]:
    """Raises `Terminated` on SIGTERM or SIGHUP, which would end the process without cleanup.

    Only the first signal counts: a second one must not interrupt the cleanup. Signals that are
    ignored, as under nohup, or that have another handler do not change.
    """
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        for handled in before:
            signal.signal(handled, signal.SIG_IGN)
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
    """Delays signals during the block; the last one is raised after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {}
    for name in ("SIGINT", *_ENDINGS):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        if received[-1] == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(received[-1])

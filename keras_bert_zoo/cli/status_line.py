"""A line that shows progress: it changes on a terminal, and is repeated in a pipe."""

from __future__ import annotations

import time
from typing import TextIO

from keras_bert_zoo.cli.messages import PROGRAM

__all__ = ["StatusLine"]

_INTERVAL = 10.0  # seconds between lines in a pipe; on a terminal, a tenth of it


class StatusLine:
    """Shows the progress of one stage after the other.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._stage = ""
        self._begin = self._shown = time.monotonic()
        self._open = False  # whether the cursor is after a text

    def is_due(self, stage: str) -> bool:
        """Whether it is time to call `show`: at a new stage on a terminal, or after a while."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begin = stage, now
            if self._terminal:
                return True
        return now - self._shown >= _INTERVAL / (10 if self._terminal else 1)

    @property
    def seconds(self) -> float:
        """The time of the stage so far."""
        return max(time.monotonic() - self._begin, 1e-3)

    def show(self, text: str) -> None:
        """Writes a text."""
        self._shown = time.monotonic()
        if self._terminal:
            self._stream.write(f"\r{PROGRAM}: {text}\x1b[K")
            self._open = True
        else:
            self._stream.write(f"{PROGRAM}: {text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Removes the text from a terminal."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open = False

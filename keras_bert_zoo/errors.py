"""The package's own exceptions, and how text from files is made fit for a message.

Every error that a caller can cause derives from `BertZooError`, so that a command or a service
catches one class and prints one line. The kinds also derive from the built-in that Python users
expect.
"""

import re
from typing import Any

__all__ = [
    "BertZooError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "MissingColumnError",
    "one_line",
    "printable",
]

MESSAGE_LIMIT = 20_000
"""Characters of an error's message."""

LINE_LIMIT = 2_000
"""Characters of a message on the command line."""

# What moves a terminal's cursor, recolours or reorders its text: control characters (the escape
# of ANSI sequences among them), marks of writing direction, line separators; and surrogates, which
# cannot be encoded. Line feeds are for the caller to decide on.
_UNSAFE = re.compile(
    "[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class BertZooError(Exception):
    r"""Base of every error that keras_bert_zoo raises on purpose.

    The message may quote files that nobody has looked at. So control characters in it are shown
    escaped (`\x1b`), and one of more than `MESSAGE_LIMIT` characters is cut.

    Args:
        message: str. It may have several lines, one a problem.
    """

    def __init__(self, message: object = "", *more: Any) -> None:
        super().__init__(_bounded(str(message), MESSAGE_LIMIT), *more)


class ConfigError(BertZooError, ValueError):
    """An option or a field of a configuration is unknown, malformed or contradicts another."""


class DataError(BertZooError, ValueError):
    """A data file or value cannot be used; the message names file and line where there are any."""


class MissingColumnError(DataError):
    """A file has no column of the name given.

    Args:
        message: str.
        column: str. The column that is missing.
    """

    def __init__(self, message: object = "", column: str = "") -> None:
        super().__init__(message)
        self.column = column


class CheckpointError(BertZooError, ValueError):
    """A checkpoint or preset directory is missing, damaged, or does not fit the model."""


class ExportError(BertZooError, RuntimeError):
    """An export could not be written, or did not answer as the model does."""


def printable(text: str) -> str:
    r"""Shows the characters of a text that would act on a terminal as escapes.

    Line feeds stay, as do all letters and signs of any script.

    Args:
        text: str.

    Returns:
        str.

    >>> print(printable("a\x1b[31mred\u202e"))
    a\x1b[31mred\u202e
    """
    # The test is many times faster than the search.
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Makes one printable line of a message.

    Args:
        text: str. Line ends become spaces.
        limit: int. Characters of the line; of a longer one the middle is left out, or, where it
            lists one problem a line, the last of them.

    Returns:
        str.
    """
    return " ".join(_bounded(text.strip(" \n"), limit).split("\n"))


def _bounded(text: str, limit: int) -> str:
    # Cut twice: what is escaped grows, and what is never shown need not be escaped.
    return _shortened(printable(_shortened(text, limit)), limit)


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _shortened(text: str, limit: int) -> str:
    """Cuts a message of more than `limit` characters."""
    if len(text) <= limit:
        return text
    lines = text.split("\n")
    if len(lines) > 3 and max(map(len, lines)) < limit // 4:  # one problem a line
        kept: list[str] = []
        room = limit - len("... and 1,000,000,000 more lines")
        for line in lines:
            room -= len(line) + 1
            if room < 0:
                break
            kept.append(line)
        return "\n".join([*kept, f"... and {len(lines) - len(kept):,} more lines"])
    # What was expected stands at the beginning, what to do at the end.
    note = f" [... {len(text) - limit:,} more characters ...] "
    end = (limit - len(note)) // 4
    return f"{text[: limit - len(note) - end]}{note}{text[-end:]}"

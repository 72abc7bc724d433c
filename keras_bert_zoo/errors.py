"""The exceptions of the package, and helpers that make text from files safe for messages.

Every error that a caller can cause derives from `BertZooError`. A command or a service catches this
class and prints one line. The subclasses also derive from the built-in errors that Python users
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
    "TrainingError",
    "one_line",
    "printable",
]

MESSAGE_LIMIT = 20_000
"""The largest number of characters in an error message."""

LINE_LIMIT = 2_000
"""The largest number of characters in a message on the command line."""

# Characters that move a terminal's cursor, change its colors or reorder its text: control
# characters, marks of writing direction and line separators. Surrogates, which cannot be encoded.
# Line feeds are allowed; the caller may replace them.
_UNSAFE = re.compile(
    "[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class BertZooError(Exception):
    r"""Base class of the errors of keras_bert_zoo.

    The message may contain text from untrusted files. So control characters are escaped (`\x1b`),
    and a message of more than `MESSAGE_LIMIT` characters is shortened.

    Args:
        message: str. One line, or one line for each problem.
    """

    def __init__(self, message: object = "", *more: Any) -> None:
        super().__init__(_bounded(str(message), MESSAGE_LIMIT), *more)


class ConfigError(BertZooError, ValueError):
    """An option or a field of a configuration is unknown, malformed or contradicts another."""


class DataError(BertZooError, ValueError):
    """A data file or value is invalid; the message names the file and line, if there are any."""


class MissingColumnError(DataError):
    """A file does not have a column of the given name.

    Args:
        message: str.
        column: str. The missing column.
    """

    def __init__(self, message: object = "", column: str = "") -> None:
        super().__init__(message)
        self.column = column


class CheckpointError(BertZooError, ValueError):
    """A checkpoint or preset directory is missing, damaged, or does not fit the model."""


class ExportError(BertZooError, RuntimeError):
    """An export cannot be written, or its results differ from the model's."""


class TrainingError(BertZooError, RuntimeError):
    """A training run cannot go on, such as with gradients that are not finite."""


def printable(text: str) -> str:
    r"""Escapes the characters that control a terminal.

    Line feeds and the letters and symbols of all scripts do not change.

    Args:
        text: str.

    Returns:
        str.

    >>> print(printable("a\x1b[31mred\u202e"))
    a\x1b[31mred\u202e
    """
    # isprintable is much faster than the regular expression.
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Converts a message to one printable line.

    Args:
        text: str. Line feeds become spaces.
        limit: int. Characters of the line. A longer message is shortened in the middle, or at the
            end if it lists one problem on each line.

    Returns:
        str.
    """
    return " ".join(_bounded(text.strip(" \n"), limit).split("\n"))


def _bounded(text: str, limit: int) -> str:
    # Before escaping, to escape only the text in the message; and after it, because escapes are
    # longer than the characters.
    return _shortened(printable(_shortened(text, limit)), limit)


def _escape(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


def _shortened(text: str, limit: int) -> str:
    """Shortens a message of more than `limit` characters."""
    if len(text) <= limit:
        return text
    lines = text.split("\n")
    if len(lines) > 3 and max(map(len, lines)) < limit // 4:  # one problem on each line
        shown: list[str] = []
        room = limit - len("... and 1,000,000,000 more lines")
        for line in lines:
            room -= len(line) + 1
            if room < 0:
                break
            shown.append(line)
        return "\n".join([*shown, f"... and {len(lines) - len(shown):,} more lines"])
    # The expected value is at the beginning of a message, the advice at the end.
    note = f" [... {len(text) - limit:,} more characters ...] "
    end = (limit - len(note)) // 4
    return f"{text[: limit - len(note) - end]}{note}{text[-end:]}"

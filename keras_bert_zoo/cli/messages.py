"""What the commands say on standard error and standard output, fit for a terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import one_line, printable

if TYPE_CHECKING:
    import argparse

PROGRAM = "keras-bert-zoo"

# An option of Python in a message, with a value or without; no key with its value behind.
_OPTION = re.compile(r"`(?P<name>[a-z]\w*)(?:=(?P<value>[^`]+))?`(?! = )")
_QUOTES = "\"'"
# Options of Python whose flags have another name.
_FLAGS = {
    "word": "--word-column",
    "tag": "--tag-column",
    "fraction": "--dev-fraction",
    "global_clipnorm": "--clip-norm",
    "validation_data": "--dev",
}
_FLAGS_OF_VALUES = {
    "scheme=IO": "--tag-scheme IO",  # of a file; --scheme is the model's
    "scheme=IOB2": "--tag-scheme IOB2",
    "new_head=True": "--no-keep-head",
    "new_head=False": "--keep-head",
    "multi_label=True": "--task multi-label",
}
# What a command has no flag for, but another one has.
_OTHER_COMMANDS = {
    "pass `allow_pickle=True`": f"run `{PROGRAM} convert --allow-pickle` first",
}


def say(message: str) -> None:
    """Writes one line to standard error, with the program's name.

    Args:
        message: str. It may quote files: it is escaped and cut.
    """
    # Standard error may be closed, too; there is nobody left to tell then.
    with contextlib.suppress(OSError, ValueError):
        print(f"{PROGRAM}: {one_line(message)}", file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Prints lines for people to read, with what would act on the terminal escaped."""
    print(printable(text))


def json_text(value: Any, **options: Any) -> str:
    """Writes JSON with letters of any script as they are, and what acts on a terminal escaped."""
    # JSON escapes half of the control characters itself. The others stand in strings alone.
    text = json.dumps(value, ensure_ascii=False, **options)
    if text.isprintable():
        return text
    return _NOT_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_NOT_ESCAPED = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@contextlib.contextmanager
def log_to_stderr(
    flags: Callable[[], Mapping[str, argparse.Action]] = dict,
) -> Iterator[None]:
    """Shows the package's warnings as lines of this program.

    Args:
        flags: makes the flags of the command, which warnings then name; see `with_flags`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(f"{PROGRAM}: %(levelname)s: %(message)s", flags))
    logger = logging.getLogger("keras_bert_zoo")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Line(logging.Formatter):
    def __init__(self, form: str, flags: Callable[[], Mapping[str, argparse.Action]]) -> None:
        super().__init__(form)
        self._make_flags = flags
        self._flags: Mapping[str, argparse.Action] | None = None

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        message = super().format(record)
        if "`" in message:
            if self._flags is None:
                self._flags = {}  # for a warning while they are made
                self._flags = self._make_flags()
            message = with_flags(message, self._flags)
        return one_line(message)


def with_flags(message: str, flags: Mapping[str, argparse.Action]) -> str:
    """Names a command's flags where a message names options of Python.

    `approximate_gelu=True` becomes `--approximate-gelu`, `max_length` becomes `--max-length`. What
    the command has no flag for, and keys of files (`dropout` = 0.1), stay as they are.

    Args:
        message: str. It has options in backticks.
        flags: of the command, with their actions.

    Returns:
        str.
    """
    if flags and "--allow-pickle" not in flags:
        for phrase, other in _OTHER_COMMANDS.items():
            message = message.replace(phrase, other)

    def translate(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        chosen = _FLAGS_OF_VALUES.get(found[0].strip("`"))
        if chosen is not None and chosen.split()[0] in flags:
            return f"`{chosen}`"
        flag = f"--{name.replace('_', '-')}"
        if flag not in flags:
            flag = _FLAGS.get(name, flag)
        if flag not in flags:
            return found[0]
        is_switch = flags[flag].nargs == 0
        if is_switch and value not in (None, "True"):
            return found[0]
        if value is None or is_switch:
            return f"`{flag}`"
        return f"`{flag} {value.strip(_QUOTES)}`"

    return _OPTION.sub(translate, message)

"""Messages on standard error and standard output, without terminal control characters."""

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

# A Python option in a message, with or without a value; not a key of a file, "`key` = value".
_OPTION = re.compile(r"`(?P<name>[a-z]\w*)(?:=(?P<value>[^`]+))?`(?! = )")
_QUOTES = "\"'"
# Python options whose flags have another name.
_FLAGS = {
    "word": "--word-column",
    "tag": "--tag-column",
    "fraction": "--dev-fraction",
    "global_clipnorm": "--clip-norm",
    "validation_data": "--dev",
}
_FLAGS_OF_VALUES = {
    "scheme=IO": "--tag-scheme IO",  # the scheme of the file; --scheme is that of the model
    "scheme=IOB2": "--tag-scheme IOB2",
    "new_head=True": "--no-keep-head",
    "new_head=False": "--keep-head",
    "multi_label=True": "--task multi-label",
}
# Python options that are flags of another command only.
_OTHER_COMMANDS = {
    "pass `allow_pickle=True`": f"run `{PROGRAM} convert --allow-pickle` first",
}


def say(message: str) -> None:
    """Writes one line to standard error, with the program's name.

    Args:
        message: str. It may quote files, so it is escaped and shortened.
    """
    # Standard error may be closed, too.
    with contextlib.suppress(OSError, ValueError):
        print(f"{PROGRAM}: {one_line(message)}", file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Prints text for people, with terminal control characters escaped."""
    print(printable(text))


def json_text(value: Any, **options: Any) -> str:
    """Formats JSON with unescaped letters of any script and escaped control characters."""
    # `json` escapes some control characters. The others occur only in strings.
    text = json.dumps(value, ensure_ascii=False, **options)
    if text.isprintable():
        return text
    return _NOT_ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


_NOT_ESCAPED = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@contextlib.contextmanager
def log_to_stderr(
    flags: Callable[[], Mapping[str, argparse.Action]] = dict,
) -> Iterator[None]:
    """Logs the package's warnings to standard error, with the program's name.

    Args:
        flags: function that returns the command's flags, for `with_flags`.
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
                self._flags = {}  # `_make_flags` may log a warning, too
                self._flags = self._make_flags()
            message = with_flags(message, self._flags)
        return one_line(message)


def with_flags(message: str, flags: Mapping[str, argparse.Action]) -> str:
    """Replaces Python options in a message by the command's flags.

    `approximate_gelu=True` becomes `--approximate-gelu`, `max_length` becomes `--max-length`.
    Options without a flag and keys of files (`dropout` = 0.1) do not change.

    Args:
        message: str, with options in backticks.
        flags: the command's flags and their actions.

    Returns:
        str.
    """
    if flags and "--allow-pickle" not in flags:
        for phrase, other in _OTHER_COMMANDS.items():
            message = message.replace(phrase, other)

    def translate(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        with_value = _FLAGS_OF_VALUES.get(match[0].strip("`"))
        if with_value is not None and with_value.split()[0] in flags:
            return f"`{with_value}`"
        flag = f"--{name.replace('_', '-')}"
        if flag not in flags:
            flag = _FLAGS.get(name, flag)
        if flag not in flags:
            return match[0]
        is_switch = flags[flag].nargs == 0
        if is_switch and value not in (None, "True"):
            return match[0]
        if value is None or is_switch:
            return f"`{flag}`"
        return f"`{flag} {value.strip(_QUOTES)}`"

    return _OPTION.sub(translate, message)

"""What the offsets of an annotation tool count: characters of Python, or JavaScript's units.

JavaScript counts 16-bit units: an emoji, or any character beyond U+FFFF, has two of them. Python
counts code points. Label Studio exported JavaScript's units until 2021 and code points since;
doccano code points from 2019 on, and JavaScript's units again at least in 2023.

Sources: heartexlabs/label-studio-frontend pull request 308 and its `charsToCodePoints`;
doccano/doccano pull request 108 and issue 2290.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.validation import is_integer

__all__ = [
    "FoundSpan",
    "FoundText",
    "OffsetUnit",
    "check_unit",
    "has_wide",
    "in_characters",
    "same_text",
]

OffsetUnit = Literal["auto", "characters", "utf16"]

_WIDE = re.compile("[\U00010000-\U0010ffff]")
# Label Studio writes line ends in an entity's text in ways of its own.
_LINE_ENDS = re.compile(r"\\[nr]|\s")


@dataclass
class FoundSpan:
    """An entity as a file has it.

    Attributes:
        start: anything; an int where the file is right.
        end: likewise.
        label: likewise.
        text: what the file says that the entity is, or None.
    """

    start: Any
    end: Any
    label: Any
    text: Any = None


@dataclass
class FoundText:
    """A text as a file has it.

    Attributes:
        row: int. Its line.
        text: str.
        spans: list of FoundSpan.
    """

    row: int
    text: str
    spans: list[FoundSpan]


def has_wide(text: str) -> bool:
    """Whether a text has a character of two UTF-16 units, so that offsets of both kinds differ."""
    return _WIDE.search(text) is not None


def check_unit(unit: str) -> None:
    """Raises ConfigError for what is no `OffsetUnit`."""
    if unit not in get_args(OffsetUnit):
        raise ConfigError(f"expected offsets of {', '.join(get_args(OffsetUnit))}, got {unit!r}")


def in_characters(
    name: str, texts: Sequence[FoundText], unit: OffsetUnit, *, documented: bool
) -> str:
    """Rewrites the offsets of entities as characters.

    "auto" takes the unit in which the entities' own texts are where the offsets say, and which is
    possible at all: no offset beyond the text, none in the middle of a character.

    Args:
        name: the file's, for messages.
        texts: list of FoundText; those whose offsets count other units are changed.
        unit: "auto", "characters" or "utf16".
        documented: bool. Whether the format's offsets are known to be characters.

    Returns:
        str, what the offsets count; "" where every unit gives the same.

    Raises:
        DataError: the unit cannot be detected, or none is possible, with the line.
    """
    affected = [text for text in texts if text.spans and has_wide(text.text)]
    if unit == "utf16":
        for text in affected:
            _rewrite(name, text)
        return "UTF-16 units"
    if unit == "characters" or documented:
        return "characters" if affected else ""
    known: list[tuple[FoundText, set[str]]] = []
    for text in affected:
        fitting = {kind for kind in ("characters", "utf16") if _fits(text, kind)}
        if not fitting:
            span = text.spans[0]
            raise DataError(
                f"{name}:{text.row}: expected the entities where their offsets say, got neither "
                f"in characters nor in UTF-16 units: the first is {clipped(repr(span.text))} at "
                f"{span.start!r} to {span.end!r}"
            )
        if _matters(text):
            known.append((text, fitting))
    if not known:
        return ""
    common = set.intersection(*(fitting for _, fitting in known))
    if len(common) == 2:
        raise DataError(
            f"{name}:{known[0][0].row}: expected to know what offsets count, but an entity follows "
            "a character that JavaScript counts twice, such as an emoji, and characters and UTF-16 "
            "units are both possible; say which with `offsets=utf16`, as newer "
            "doccano has them, or with `offsets=characters`"
        )
    for text, fitting in known:
        own = common or fitting
        if len(own) == 2:
            raise DataError(
                f"{name}:{text.row}: expected one unit of offsets in the file, got characters in "
                "some records and UTF-16 units in others, and this one may be either; say which "
                "with `offsets=characters` or `offsets=utf16`"
            )
        if own == {"utf16"}:
            _rewrite(name, text)
    if not common:
        return "characters in some records and UTF-16 units in others, by the entities' texts"
    return "characters" if common == {"characters"} else "UTF-16 units"


def _matters(text: FoundText) -> bool:
    """Whether a wide character comes before the end of an entity."""
    wide = _WIDE.search(text.text)
    ends = [span.end for span in text.spans if isinstance(span.end, int)]
    return wide is not None and any(end > wide.start() for end in ends)


def _places(text: str) -> np.ndarray:
    """int64 (UTF-16 units + 1,). The character of each unit; -1 in the middle of one."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    widths = 1 + (codes > 0xFFFF).astype(np.int64)
    begins = np.concatenate([[0], np.cumsum(widths)])
    places = np.full(begins[-1] + 1, -1, np.int64)
    places[begins] = np.arange(len(begins))
    return places


def _fits(text: FoundText, kind: str) -> bool:
    """Whether all entities can be where their offsets say."""
    places = np.arange(len(text.text) + 1) if kind == "characters" else _places(text.text)
    for span in text.spans:
        if not (is_integer(span.start) and is_integer(span.end)):
            continue  # said later, with the reason
        if not 0 <= span.start <= span.end < len(places):
            return False
        start, end = places[span.start], places[span.end]
        if min(start, end) < 0:
            return False
        if isinstance(span.text, str) and not same_text(span.text, text.text[start:end]):
            return False
    return True


def same_text(said: str, cut: str) -> bool:
    """Whether two texts are the same but for white space, which tools write in their own ways."""
    return _LINE_ENDS.sub("", said) == _LINE_ENDS.sub("", cut)


def _rewrite(name: str, text: FoundText) -> None:
    places = _places(text.text)
    for span in text.spans:
        values = []
        for value in (span.start, span.end):
            if not is_integer(value):
                values.append(value)  # said later, with the reason
                continue
            if not 0 <= value < len(places) or places[value] < 0:
                raise DataError(
                    f"{name}:{text.row}: expected an offset in UTF-16 units, from 0 to "
                    f"{len(places) - 1} and not within a character, got {value}"
                )
            values.append(int(places[value]))
        span.start, span.end = values

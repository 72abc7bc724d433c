"""The unit of an annotation tool's offsets: Python's characters or JavaScript's UTF-16 units.

JavaScript counts 16-bit units: a character above U+FFFF, such as an emoji, has two. Python counts
code points. Label Studio exported UTF-16 units until 2021 and has exported code points since then.
doccano exported code points from 2019, and UTF-16 units again at least in 2023.

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
# Label Studio writes line ends in an entity's text in several ways.
_LINE_ENDS = re.compile(r"\\[nr]|\s")


@dataclass
class FoundSpan:
    """An unchecked entity of a file.

    Attributes:
        start: anything; an int in a valid file.
        end: likewise.
        label: anything; a str in a valid file.
        text: the entity's text according to the file, or None.
    """

    start: Any
    end: Any
    label: Any
    text: Any = None


@dataclass
class FoundText:
    """A text of a file with its unchecked entities.

    Attributes:
        row: int. The line of the text.
        text: str.
        spans: list of FoundSpan.
    """

    row: int
    text: str
    spans: list[FoundSpan]


def has_wide(text: str) -> bool:
    """Whether a text has a character of two UTF-16 units, so that the units differ."""
    return _WIDE.search(text) is not None


def check_unit(unit: str) -> None:
    """Raises ConfigError if `unit` is not an `OffsetUnit`."""
    if unit not in get_args(OffsetUnit):
        raise ConfigError(
            f"expected offsets of {', '.join(get_args(OffsetUnit))}, received {unit!r}"
        )


def in_characters(
    name: str, texts: Sequence[FoundText], unit: OffsetUnit, *, documented: bool
) -> str:
    """Converts the offsets of entities to characters, in place.

    "auto" chooses the unit in which all offsets are valid: the entities' texts are at their
    offsets, no offset is beyond the text, and none is within a character.

    Args:
        name: str. The file's name, for messages.
        texts: list of FoundText. Offsets in UTF-16 units are changed.
        unit: "auto", "characters" or "utf16".
        documented: bool. Whether the format defines offsets as characters.

    Returns:
        str, the unit of the offsets; "" if both units agree.

    Raises:
        DataError: both units are possible, or none, with the line.
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
                f"{name}:{text.row}: expected the entities at their offsets in characters or in "
                "UTF-16 units, "
                f"received {clipped(repr(span.text))} at {span.start!r} to {span.end!r} "
                "as the first entity; correct the offsets"
            )
        if _matters(text):
            known.append((text, fitting))
    if not known:
        return ""
    common = set.intersection(*(fitting for _, fitting in known))
    if len(common) == 2:
        raise DataError(
            f"{name}:{known[0][0].row}: expected offsets of a clear unit, "
            "received offsets that may be "
            "characters or UTF-16 units: an entity follows an emoji or another character of two "
            "units; give `offsets=utf16`, as for newer doccano, or `offsets=characters`"
        )
    for text, fitting in known:
        own = common or fitting
        if len(own) == 2:
            raise DataError(
                f"{name}:{text.row}: expected one unit of offsets in the file, "
                "received characters in "
                "some records, UTF-16 units in others, and an ambiguous record here; give "
                "`offsets=characters` or `offsets=utf16`"
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
    """int64 (UTF-16 units + 1,). The character of each unit; -1 within a character."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    widths = 1 + (codes > 0xFFFF).astype(np.int64)
    begins = np.concatenate([[0], np.cumsum(widths)])
    places = np.full(begins[-1] + 1, -1, np.int64)
    places[begins] = np.arange(len(begins))
    return places


def _fits(text: FoundText, kind: str) -> bool:
    """Whether the offsets of all entities are valid in a unit."""
    places = np.arange(len(text.text) + 1) if kind == "characters" else _places(text.text)
    for span in text.spans:
        if not (is_integer(span.start) and is_integer(span.end)):
            continue  # `entity_problem` reports it
        if not 0 <= span.start <= span.end < len(places):
            return False
        start, end = places[span.start], places[span.end]
        if min(start, end) < 0:
            return False
        if isinstance(span.text, str) and not same_text(span.text, text.text[start:end]):
            return False
    return True


def same_text(left: str, right: str) -> bool:
    """Whether two texts are equal without white space, which tools write differently."""
    return _LINE_ENDS.sub("", left) == _LINE_ENDS.sub("", right)


def _rewrite(name: str, text: FoundText) -> None:
    places = _places(text.text)
    for span in text.spans:
        values = []
        for value in (span.start, span.end):
            if not is_integer(value):
                values.append(value)  # `entity_problem` reports it
                continue
            if not 0 <= value < len(places) or places[value] < 0:
                raise DataError(
                    f"{name}:{text.row}: expected an offset in UTF-16 units, from 0 to "
                    f"{len(places) - 1} and not within a character, received {value}"
                )
            values.append(int(places[value]))
        span.start, span.end = values

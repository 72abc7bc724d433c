"""Conversion of a row's fields to texts and labels, with an error for invalid fields."""

import ast
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from keras_bert_zoo.data.examples import LabelKind, clipped
from keras_bert_zoo.errors import DataError

__all__ = ["Field", "json_type", "list_in_text"]

# A list, tuple, set or dict of quoted values, as Python, NumPy and JSON write it.
_HALF_LIST = re.compile(r"""\s*[\[({]\s*(np\.str_\()?['"]""")
# A list of bare words, or an empty dict.
_BARE_LIST = re.compile(r"\s*(\[[^\[\]]*,[^\[\]]*\]|\{[^{}]*,[^{}]*\}|\{\s*\})\s*\Z")
# Lists in lists, NumPy's arrays, and missing values in a list.
_NO_NAME = re.compile(r"\s*(\[\s*[\[({]|array\(|\[\s*(nan|NaN|None|null)\s*\]\s*\Z)")
_EMPTY = ("set()", "frozenset()")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]{1,30},[0-9]{1,30}\s*")
_PAIRS = {"[": "]", "(": ")", "{": "}"}
_SPACE = re.compile(r"\s*")
_ITEM = re.compile(
    r"""(?:np\.\w+\()?(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<value>[+-]?[0-9]+|True|False|true|false|None|null))\)?""",
    re.DOTALL,
)
_VALUES = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}


def list_in_text(text: str) -> list[Any] | None:
    """Parses a list from a table cell, in the form of Python's `str` or of JSON.

    Args:
        text: str. Strings, integers and booleans in brackets, separated by commas, or by spaces
            as in NumPy. Tuples and sets may hold only strings.

    Returns:
        list; None if the text is not a list.

    >>> list_in_text("['a', 'b']"), list_in_text('["a"]'), list_in_text("[1 2]"), list_in_text("[]")
    (['a', 'b'], ['a'], [1, 2], [])
    >>> list_in_text("[sic] fine"), list_in_text("a, b")
    (None, None)
    """
    text = text.strip()
    if text in _EMPTY:
        return []
    if len(text) < 2 or _PAIRS.get(text[0]) != text[-1]:
        return None
    if text[0] == "[":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return value if isinstance(value, list) else None
    items: list[Any] = []
    at, end = _SPACE.match(text, 1).end(), len(text) - 1  # type: ignore[union-attr]
    while at < end:
        match = _ITEM.match(text, at, end)
        if match is None:
            return None
        if match["text"] is None and text[0] != "[":
            return None
        items.append(_item(match))
        at = _SPACE.match(text, match.end()).end()  # type: ignore[union-attr]
        if at < end and text[at] == ",":
            at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
        elif at < end and at == match.end():
            return None  # two items without a separator
    return items if items or text[0] == "[" else None


def _item(match: re.Match[str]) -> Any:
    if match["text"] is None:
        value = match["value"]
        if value in _VALUES:
            return _VALUES[value]
        return int(value) if len(value) < 20 and str(int(value)) == value else value
    try:
        return ast.literal_eval(match["text"])
    except (ValueError, SyntaxError):  # a line end, or an incomplete escape
        return match["text"][1:-1]


def json_type(value: Any) -> str:
    """Describes a JSON value for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


@dataclass(frozen=True)
class Field:
    """Converts the fields of one row to texts and labels.

    Args:
        name: str. The file's name, for messages.
        row: int. The first line of the row.
    """

    name: str
    row: int

    def error(self, message: str) -> DataError:
        """Returns an error with the file and line of the row."""
        return DataError(f"{self.name}:{self.row}: {message}")

    def text(self, column: str, value: Any) -> str:
        """Checks a string."""
        if not isinstance(value, str):
            raise self.error(f"expected {column!r} to be a string, received {json_type(value)}")
        return value

    def label(self, column: str, value: Any, kind: LabelKind, separator: str) -> Any:
        """Converts a label of the given kind; see `read_table`."""
        if kind == "float":
            return self.number(column, value)
        if kind == "single":
            return self.label_name(column, value)
        if isinstance(value, str):
            items = self.list_in(column, value)
            value = self._separated(column, value, separator) if items is None else items
        if not isinstance(value, list):
            raise self.error(f"expected {column!r} to be a list, received {json_type(value)}")
        names = [self.label_name(column, part) for part in value]
        return list(dict.fromkeys(names))

    def list_in(self, column: str, text: str) -> list[Any] | None:
        """Parses a list from a cell; None for other text. An incomplete list is a DataError."""
        items = list_in_text(text)
        if items is None and any(p.match(text) for p in (_HALF_LIST, _BARE_LIST, _NO_NAME)):
            raise self.error(
                f"expected {column!r} to be a list such as ['a', 'b'], received {clipped(text)!r}"
            )
        return items

    def _separated(self, column: str, text: str, separator: str) -> list[str]:
        parts = [part for part in text.split(separator) if part.strip()]
        first = parts[0].strip() if parts else ""
        if len(parts) > 1 and first[0] in _PAIRS and _PAIRS[first[0]] not in first:
            raise self.error(
                f"expected {column!r} to be names separated by {separator!r}, or a list such as "
                f"['a', 'b'], received {clipped(text)!r}"
            )
        return parts

    def label_name(self, column: str, value: Any) -> str:
        """Converts a label to a name; strips spaces. JSON integers and booleans become names."""
        if value is None or (isinstance(value, str) and not value.strip()):
            raise self.error(f"expected a label in {column!r}, but it is empty")
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float) and value.is_integer():
            return str(int(value))  # pandas writes integers as floats in a column with gaps
        hint = "; write it as a string, in quotes" if isinstance(value, float) else ""
        raise self.error(
            f"expected the label in {column!r} to be a string or an integer, received "
            f"{json_type(value)}{hint}"
        )

    def number(self, column: str, value: Any) -> float:
        """Converts a finite number, or a string of one."""
        if value is None or (isinstance(value, str) and not value.strip()):
            raise self.error(f"expected a number in {column!r}, but it is empty")
        try:
            if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
                raise TypeError  # Python parses 1_0 as 10
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            shown = repr(clipped(value)) if isinstance(value, str) else json_type(value)
            hint = ""
            if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
                hint = f"; write a decimal point: {value.strip().replace(',', '.')}"
            raise self.error(f"expected a number in {column!r}, received {shown}{hint}") from None
        if not math.isfinite(number):
            raise self.error(f"expected a finite number in {column!r}, received {number}")
        return number

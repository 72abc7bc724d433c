"""What the values of a JSON file may be: declared once, checked when it is read.

>>> check({"top_k": 0}, {"top_k": integer(1, 9)}, "a.json", ConfigError)
Traceback (most recent call last):
...
keras_bert_zoo.errors.ConfigError: a.json: 'top_k' must be an integer from 1 to 9, got 0.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keras_bert_zoo.errors import BertZooError, ConfigError
from keras_bert_zoo.files import read_json

_SHOWN = 80  # characters of a value in a message
_NAME_LIMIT = 255  # bytes of a file's name, in every file system
_MOST_NAMES = 100_000  # of an object with names of the user's own


@dataclass(frozen=True)
class Kind:
    """A kind of values.

    Attributes:
        expected: str. What it is, for a message.
        accepts: whether a value is of it.
    """

    expected: str
    accepts: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        """Values of either kind."""
        return Kind(
            f"{self.expected} or {other.expected}",
            lambda value: self.accepts(value) or other.accepts(value),
        )


Schema = Mapping[str, Kind]


def integer(least: int, most: int) -> Kind:
    """Integers of a range; true and false are none.

    >>> kind = integer(1, 9)
    >>> kind.accepts(9), kind.accepts(10), kind.accepts(True)
    (True, False, False)
    """
    return Kind(
        f"an integer from {least:,} to {most:,}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most,
    )


def number(least: float, most: float) -> Kind:
    """Finite numbers of a range.

    >>> kind = number(0, 1)
    >>> kind.accepts(0.5), kind.accepts(1), kind.accepts("0.5")
    (True, True, False)
    """
    return Kind(f"a number from {least:,g} to {most:,g}", lambda v: _is_number(v, least, most))


def one_of(*values: Any) -> Kind:
    """Some strings alone.

    >>> one_of("cls", "mean").expected
    "'cls' or 'mean'"
    """
    return Kind(" or ".join(map(repr, values)), lambda v: isinstance(v, str) and v in values)


def list_of(kind: Kind, most: int = _MOST_NAMES) -> Kind:
    """Lists of values of a kind.

    >>> list_of(TEXT).accepts(["a", "b"]), list_of(TEXT).accepts("ab")
    (True, False)
    """
    return Kind(
        f"a list of {kind.expected}",
        lambda v: isinstance(v, list) and len(v) <= most and all(map(kind.accepts, v)),
    )


def names_to(kind: Kind, most: int = _MOST_NAMES) -> Kind:
    """Objects whose values are of a kind, under any names.

    >>> names_to(TEXT | NULL).accepts({"query": "query: ", "none": None})
    True
    """
    return Kind(
        f"an object of names and {kind.expected}",
        lambda v: isinstance(v, dict) and len(v) <= most and all(map(kind.accepts, v.values())),
    )


def _is_number(value: Any, least: float, most: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) and least <= value <= most
    except OverflowError:  # an integer beyond every float
        return False


TEXT = Kind("a string", lambda v: isinstance(v, str))
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
NULL = Kind("null", lambda v: v is None)
OBJECT = Kind("an object", lambda v: isinstance(v, dict))


def read_object(
    path: str | os.PathLike[str], schema: Schema, error: type[BertZooError] = ConfigError
) -> dict[str, Any]:
    """Reads a small JSON object whose known keys have values of their kinds.

    Args:
        path: of the file.
        schema: key -> Kind. Other keys are passed over: a newer version may have written them.
        error: what to raise.

    Returns:
        dict, the file's whole contents.

    Raises:
        BertZooError: of the kind `error`, in one line: see `files.read_json` and `check`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.json")
    ...     _ = path.write_text('{"top_k": 3, "more": []}')
    ...     read_object(path, {"top_k": integer(1, 9)})
    {'top_k': 3, 'more': []}
    """
    try:
        values = read_json(path)
    except ConfigError as failure:
        raise error(str(failure)) from None
    check(values, schema, os.fspath(path), error)
    return values


def check(
    values: Mapping[str, Any], schema: Schema, where: str, error: type[BertZooError] = ConfigError
) -> None:
    """Compares values with their kinds.

    Args:
        values: dict.
        schema: key -> Kind, for the keys that may be there.
        where: str. The file, for the message.
        error: what to raise.

    Raises:
        BertZooError: of the kind `error`, naming every value that is not of its kind.

    >>> check({"a": 1, "b": 2, "c": 3}, {"a": FLAG, "b": TEXT | NULL}, "a.json")
    Traceback (most recent call last):
    ...
    keras_bert_zoo.errors.ConfigError: a.json: 'a' must be true or false, got 1; 'b' must be a \
string or null, got 2.
    """
    problems = [
        f"{key!r} must be {kind.expected}, got {show(values[key])}"
        for key, kind in schema.items()
        if key in values and not kind.accepts(values[key])
    ]
    if problems:
        raise error(f"{where}: {'; '.join(problems)}.")


def show(value: Any) -> str:
    """A value for a message, on one line and cut where it is long.

    >>> show([1, "a"]), len(show("x" * 9999))
    ("[1, 'a']", 83)
    """
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # Python writes no integer of more than some digits
        text = type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def leads_round(path: Path) -> bool:
    """Whether a path cannot be followed, because its links lead to each other.

    >>> leads_round(Path("."))
    False
    """
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def folder_inside(base: Path, name: str, where: str) -> Path:
    """A folder that a file names, which must lie in the file's own directory.

    Args:
        base: the directory.
        name: str, from the file; "" is the directory itself.
        where: str. What names it, for the message.

    Returns:
        Path.

    Raises:
        ConfigError: the name leads out of the directory, itself or by a link; its links lead in a
            ring; or it is no name.

    >>> folder_inside(Path("model"), "1_Pooling", "module 1").as_posix()
    'model/1_Pooling'
    >>> folder_inside(Path("model"), "../other", "module 1")
    Traceback (most recent call last):
    ...
    keras_bert_zoo.errors.ConfigError: module 1 must name a folder inside the directory, got \
'../other'.
    """
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts
    if not plain or not name.isprintable() or set("\\:") & set(name):
        raise ConfigError(f"{where} must name a folder inside the directory, got {show(name)}.")
    if any(len(part.encode("utf-8", "surrogatepass")) > _NAME_LIMIT for part in path.parts):
        raise ConfigError(
            f"{where} must name a folder by at most {_NAME_LIMIT} bytes, got {show(name)}."
        )
    folder = base / name
    if leads_round(folder):
        raise ConfigError(f"{where} names {show(name)}, a ring of links. Fetch the folder again.")
    # Path.resolve raises at a ring before Python 3.13, and not from there on.
    target, inside = Path(os.path.realpath(folder)), Path(os.path.realpath(base))
    if target != inside and inside not in target.parents:
        raise ConfigError(
            f"{where} names {show(name)}, a link that leaves the directory, to {show(str(target))}."
        )
    return folder

"""Types of the values in a JSON file, checked when the file is read.

>>> check({"top_k": 0}, {"top_k": integer(1, 9)}, "a.json", ConfigError)
Traceback (most recent call last):
...
keras_bert_zoo.errors.ConfigError: a.json: 'top_k' must be an integer from 1 to 9, received 0.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keras_bert_zoo.errors import BertZooError, ConfigError
from keras_bert_zoo.files import read_json
from keras_bert_zoo.validation import is_integer, is_number, show

_NAME_LIMIT = 255  # bytes of a file name, in every file system
_MOST_NAMES = 100_000  # keys of an object with user-defined keys


@dataclass(frozen=True)
class ValueType:
    """The values that a JSON key accepts.

    Attributes:
        expected: str. Description for messages, such as "a string".
        accepts: callable. Returns whether a value is valid.
    """

    expected: str
    accepts: Callable[[Any], bool]

    def __or__(self, other: ValueType) -> ValueType:
        """Returns the type that accepts the values of both."""
        return ValueType(
            f"{self.expected} or {other.expected}",
            lambda value: self.accepts(value) or other.accepts(value),
        )


Schema = Mapping[str, ValueType]


def integer(least: int, most: int) -> ValueType:
    """Accepts integers of a range, but no booleans.

    >>> value_type = integer(1, 9)
    >>> value_type.accepts(9), value_type.accepts(10), value_type.accepts(True)
    (True, False, False)
    """
    return ValueType(
        f"an integer from {least:,} to {most:,}",
        lambda v: is_integer(v) and least <= v <= most,
    )


def number(least: float, most: float) -> ValueType:
    """Accepts finite numbers of a range.

    >>> value_type = number(0, 1)
    >>> value_type.accepts(0.5), value_type.accepts(1), value_type.accepts("0.5")
    (True, True, False)
    """
    return ValueType(
        f"a number from {least:,g} to {most:,g}", lambda v: is_number(v) and least <= v <= most
    )


def one_of(*values: Any) -> ValueType:
    """Accepts the given strings.

    >>> one_of("cls", "mean").expected
    "'cls' or 'mean'"
    """
    return ValueType(" or ".join(map(repr, values)), lambda v: isinstance(v, str) and v in values)


def list_of(value_type: ValueType, most: int = _MOST_NAMES) -> ValueType:
    """Accepts lists of at most `most` values of one type.

    >>> list_of(TEXT).accepts(["a", "b"]), list_of(TEXT).accepts("ab")
    (True, False)
    """
    return ValueType(
        f"a list of {value_type.expected}",
        lambda v: isinstance(v, list) and len(v) <= most and all(map(value_type.accepts, v)),
    )


def names_to(value_type: ValueType, most: int = _MOST_NAMES) -> ValueType:
    """Accepts objects with any keys, at most `most`, whose values have one type.

    >>> names_to(TEXT | NULL).accepts({"query": "query: ", "none": None})
    True
    """
    return ValueType(
        f"an object of names and {value_type.expected}",
        lambda v: (
            isinstance(v, dict) and len(v) <= most and all(map(value_type.accepts, v.values()))
        ),
    )


TEXT = ValueType("a string", lambda v: isinstance(v, str))
FLAG = ValueType("true or false", lambda v: isinstance(v, bool))
NULL = ValueType("null", lambda v: v is None)
OBJECT = ValueType("an object", lambda v: isinstance(v, dict))


def read_object(
    path: str | os.PathLike[str], schema: Schema, error: type[BertZooError] = ConfigError
) -> dict[str, Any]:
    """Reads a small JSON object and checks the values of its known keys.

    Args:
        path: str or path-like. The file.
        schema: key -> ValueType. Other keys are not checked, because a newer
            version may have written them.
        error: type of BertZooError. The error to raise.

    Returns:
        dict. All keys of the file.

    Raises:
        BertZooError: of type `error`. The file cannot be read, or a value is invalid.

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
    """Checks values against a schema.

    Args:
        values: dict.
        schema: key -> ValueType, for optional keys.
        where: str. The file, for the message.
        error: type of BertZooError. The error to raise.

    Raises:
        BertZooError: of type `error`, with all invalid values in one message.

    >>> check({"a": 1, "b": 2, "c": 3}, {"a": FLAG, "b": TEXT | NULL}, "a.json")
    Traceback (most recent call last):
    ...
    keras_bert_zoo.errors.ConfigError: a.json: 'a' must be true or false, received 1; 'b' must \
be a string or null, received 2.
    """
    problems = [
        f"{key!r} must be {value_type.expected}, received {show(values[key])}"
        for key, value_type in schema.items()
        if key in values and not value_type.accepts(values[key])
    ]
    if problems:
        raise error(f"{where}: {'; '.join(problems)}.")


def leads_round(path: Path) -> bool:
    """Returns whether a path contains a cycle of symbolic links.

    >>> leads_round(Path("."))
    False
    """
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def folder_inside(base: Path, name: str, where: str) -> Path:
    """Resolves a folder name that a file contains. The folder must be inside `base`.

    Args:
        base: Path. The directory of the file.
        name: str. Relative path from the file; "" is the directory itself.
        where: str. The source of the name, for the message.

    Returns:
        Path.

    Raises:
        ConfigError: the path or a symbolic link in it leaves the directory, its links form a
            cycle, or the name is invalid.

    >>> folder_inside(Path("model"), "1_Pooling", "module 1").as_posix()
    'model/1_Pooling'
    >>> folder_inside(Path("model"), "../other", "module 1")
    Traceback (most recent call last):
    ...
    keras_bert_zoo.errors.ConfigError: module 1: expected a folder inside the directory, received \
'../other'.
    """
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts
    if not plain or not name.isprintable() or set("\\:") & set(name):
        raise ConfigError(
            f"{where}: expected a folder inside the directory, received {show(name)}."
        )
    if any(len(part.encode("utf-8", "surrogatepass")) > _NAME_LIMIT for part in path.parts):
        raise ConfigError(
            f"{where}: expected names of at most {_NAME_LIMIT} bytes, received {show(name)}."
        )
    folder = base / name
    if leads_round(folder):
        raise ConfigError(
            f"{where}: expected a folder, received {show(name)}, a cycle of links. Copy it again."
        )
    # Path.resolve raises an error for a cycle only before Python 3.13.
    target, inside = Path(os.path.realpath(folder)), Path(os.path.realpath(base))
    if target != inside and inside not in target.parents:
        raise ConfigError(
            f"{where}: expected a folder inside the directory, received {show(name)}, a link to "
            f"{show(str(target))}."
        )
    return folder

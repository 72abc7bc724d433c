"""Columns of values in the forms that callers pass: lists, arrays, series, tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.errors import DataError

__all__ = [
    "form_of",
    "is_missing",
    "listed",
    "numbers",
    "shown_names",
    "shown_places",
]

_LISTED = 20  # the number of names that a message lists


def listed(values: Any, what: str = "texts", *, flatten: bool = False) -> list[Any]:
    """Returns the unconverted values of a column as a list; ignores a pandas index.

    >>> listed(np.array(["a", "b"]))
    ['a', 'b']

    Args:
        values: list, tuple, NumPy array, pandas Series or the like, tensor, or another collection
            with a length and an order.
        what: str. The name of the values in messages.
        flatten: bool. Whether to flatten an array of one column, (n, 1), to (n,).

    Returns:
        list. The rows of a two-dimensional array are arrays.

    Raises:
        DataError: `values` is something else, such as a DataFrame, a dict, a set or an iterator.
            The message names it and says what to pass instead.
    """
    if isinstance(values, list):
        return values
    if isinstance(values, str | bytes):
        raise DataError(f"Expected a list of {what}, received one string. Put it in a list.")
    fix = _fix(values, "x" if what == "texts" else "y")
    if fix is not None:
        raise DataError(f"Expected a list of {what}, received {form_of(values)}: {fix}.")
    if callable(getattr(values, "to_list", None)) and hasattr(values, "row_splits"):
        rows: list[Any] = values.to_list()  # a RaggedTensor
        return rows
    if callable(getattr(values, "numpy", None)):
        values = values.numpy()  # a tensor
        if isinstance(values, str | bytes):
            raise DataError(f"Expected a list of {what}, received one string. Put it in a list.")
    if isinstance(values, np.generic) or (isinstance(values, np.ndarray) and not values.ndim):
        raise DataError(f"Expected a list of {what}, received a single value. Put it in a list.")
    if isinstance(values, np.ndarray):
        if flatten and values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        # As a Python float, a float32 0.1 would print as 0.10000000149.
        return list(values) if values.ndim > 1 or values.dtype.kind == "f" else values.tolist()
    try:
        len(values)
        return list(values)
    except TypeError:
        raise DataError(f"Expected a list of {what}, received {form_of(values)}.") from None


def rows_of_columns(values: Any, names: Sequence[str]) -> Any:
    """Converts a table with one column per label, as made by pandas' `get_dummies`.

    Args:
        values: anything.
        names: the labels, in the order of their ids.

    Returns:
        array (rows, labels) in the order of `names` if `values` is a table with exactly these
        columns; otherwise `values`.
    """
    columns = _column_names(values)
    if columns is None or not callable(getattr(values, "to_numpy", None)):
        return values
    positions = {str(column): index for index, column in enumerate(columns)}
    if set(positions) != set(names) or len(columns) != len(names):
        return values
    try:
        rows = np.asarray(values.to_numpy()).astype(np.float32)
    except (TypeError, ValueError):
        return values
    return rows[:, [positions[name] for name in names]]


def form_of(values: Any) -> str:
    """Describes the type of an argument, for messages."""
    name = type(values).__name__
    if isinstance(values, Mapping):
        return f"{_article(name)} with the keys {shown_names(list(values))}"
    columns = _column_names(values)
    if columns is not None:
        return f"{_article(name)} with the columns {shown_names(columns)}"
    if values is None:
        return "None"
    if hasattr(values, "element_spec"):
        return "a tf.data.Dataset"
    if _is_py_dataset(values):
        return f"the PyDataset {name}"
    return _article(name)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN or pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(value != value)


def numbers(values: Sequence[Any], what: str, examples: Any) -> np.ndarray:
    """Converts a column of finite numbers to an array.

    Args:
        values: one per example.
        what: str. The name of the values in messages.
        examples: Examples or the like. Its `where` method locates each value in messages.

    Returns:
        float32 (values,).

    Raises:
        DataError: a value is missing, not a number, or not finite; the message says which.
    """
    missing = [examples.where(index) for index, value in enumerate(values) if is_missing(value)]
    if missing:
        raise DataError(
            f"{what} must be finite numbers; {len(missing)} of {len(values)} are missing (None or "
            f"NaN): {shown_places(missing)}; leave these rows out"
        )
    result = np.zeros(len(values), np.float32)
    for index, value in enumerate(values):
        try:
            if isinstance(value, str) and "_" in value:
                raise ValueError  # Python parses 1_0 as 10
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{what} must be numbers, one per example; received {clipped(repr(value))} at "
                f"{examples.where(index)}."
            ) from None
        with np.errstate(over="ignore"):
            result[index] = number
        if not np.isfinite(result[index]):
            raise DataError(
                f"{what} must be finite numbers, received {value!r} at {examples.where(index)}."
            )
    return result


def shown_names(names: Sequence[Any]) -> str:
    """Lists names in quotes for a message, at most `_LISTED`."""
    return shown_places([repr(clipped(str(name))) for name in names])


def shown_places(places: Sequence[str]) -> str:
    """Lists places of rows for a message, at most `_LISTED`."""
    shown = ", ".join(places[:_LISTED]) or "none"
    return shown if len(places) <= _LISTED else f"{shown} and {len(places) - _LISTED} more"


def _fix(values: Any, name: str) -> str | None:
    """Suggests what to pass instead of a type that is not a column; None if it may be one."""
    if isinstance(values, Mapping):
        return f"pass one of its values, such as {name}[{next(iter(values), 'text')!r}]"
    columns = _column_names(values)
    if columns is not None:
        return f"pass one of its columns, such as {name}[{(columns or ['text'])[0]!r}]"
    if isinstance(values, Set):
        return "it has no order; pass a list"
    if hasattr(values, "element_spec") or _is_py_dataset(values):
        return "collect the contents of its batches in a list"
    if isinstance(values, Iterator):
        return "it can be read only once; pass a list, `list(x)`"
    if hasattr(values, "toarray"):
        return "pass an array, `x.toarray()`"
    return None


def _column_names(values: Any) -> list[Any] | None:
    """The columns of a table (pandas, polars, Arrow, Hugging Face datasets); None for others."""
    for name in ("column_names", "columns"):
        columns = getattr(values, name, None)
        if isinstance(columns, Iterable) and not isinstance(columns, str):
            names = list(columns)
            if not any(isinstance(column, list) for column in names):  # TextGroups has lists
                return names
    return None


def _is_py_dataset(values: Any) -> bool:
    # Compared by name: readers of files do not import Keras.
    return any(kind.__name__ == "PyDataset" for kind in type(values).__mro__)


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"

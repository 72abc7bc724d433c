"""Label names and their ids, learned from data or given by a caller.

`LabelMap.id_of` maps a value to a label; `y`, class weights and all other labels use it.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_bert_zoo.data.columns import is_missing, shown_names, shown_places
from keras_bert_zoo.data.examples import Examples, clipped, closest
from keras_bert_zoo.data.fields import list_in_text
from keras_bert_zoo.data.label_names import as_name, as_number, is_whole, without_duplicates
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.notices import warn_once

__all__ = ["LabelMap"]

_logger = logging.getLogger(__name__)

_ID = re.compile(r"[+-]?[0-9]{1,18}")
_BOOLEANS = {"true": True, "false": False}
_LISTED = 20  # the number of labels that a message lists


@dataclass(frozen=True)
class LabelMap:
    """The labels of a task in the order of their ids.

    Args:
        names: tuple of str, without repeats.

    Raises:
        ConfigError: a name is repeated, or `names` is a string.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks that all names are distinct."""
        if isinstance(self.names, str):
            raise ConfigError(_string_message(self.names))
        if len(set(self.names)) != len(self.names):
            twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
            raise ConfigError(f"expected each label once, but these repeat: {shown_names(twice)}")

    def __len__(self) -> int:
        """Counts the labels."""
        return len(self.names)

    @classmethod
    def of(cls, labels: object) -> "LabelMap":
        """Makes a map from the label names that a caller gives.

        >>> LabelMap.of(["no", "yes"]).names
        ('no', 'yes')

        Args:
            labels: list or another ordered collection of names; other values become strings.

        Raises:
            ConfigError: `labels` is a string or not an ordered collection, a value is missing, or
                a name is repeated.
        """
        if isinstance(labels, str | bytes):
            raise ConfigError(_string_message(labels))
        if isinstance(labels, Mapping | Set) or not isinstance(labels, Iterable):
            raise ConfigError(
                "expected `labels` to be a list of names in the order of their ids, received "
                f"{clipped(repr(labels))}"
            )
        values = list(labels)
        missing = [index for index, value in enumerate(values) if is_missing(value)]
        if missing:
            raise ConfigError(
                "expected `labels` to be names, "
                f"received {values[missing[0]]!r} at index {missing[0]}; "
                "remove missing values"
            )
        return cls(tuple(map(as_name, values)))

    @classmethod
    def learn(cls, examples: Examples) -> "LabelMap":
        """Collects the sorted labels of `examples`, independent of the order of rows.

        If all labels are integers, they are sorted by value: 2 before 10.

        Raises:
            DataError: there are no labels, they are numbers for regression, or there is only one.
        """
        kind = examples.label_kind
        if kind not in ("single", "multi"):
            what = "none" if kind is None else "numbers"
            raise DataError(f"{_prefix(examples)}expected label names to learn, received {what}")
        names = without_duplicates({name for name, _ in _occurrences(examples)})
        if not names:
            raise DataError(f"{_prefix(examples)}expected labels, received none in any example")
        if kind == "single" and len(names) < 2:
            raise DataError(
                f"{_prefix(examples)}expected at least two labels, "
                f"received only {next(iter(names))!r}"
            )
        if all(isinstance(as_number(name), int) for name in names):
            return cls(tuple(sorted(names, key=lambda name: (int(name), name))))
        return cls(tuple(sorted(names)))

    @classmethod
    def from_id2label(
        cls, id2label: Mapping[int, str] | Mapping[str, str], count: int | None = None
    ) -> "LabelMap":
        """Reads the `id2label` of a config.json; its keys are integers or their strings.

        Ids without a name get transformers' default name, such as LABEL_3, with a warning.

        Args:
            id2label: id -> name.
            count: int or None. The number of the model's outputs, for an `id2label` with gaps:
                its length, or its highest id plus 1. None: the latter.

        Raises:
            ConfigError: the ids are not integers of at least 0, or a name is repeated.
        """
        if not all(_ID.fullmatch(str(key)) for key in id2label if not isinstance(key, int)):
            raise ConfigError(
                "expected the keys of id2label to be integers, received "
                f"{clipped(str([*id2label][:_LISTED]))}"
            )
        by_id = {int(key): str(name) for key, name in id2label.items()}
        if len(by_id) != len(id2label) or any(index < 0 for index in by_id):
            raise ConfigError(
                "expected distinct ids of at least 0 in id2label, "
                f"received {clipped(str([*id2label]))}"
            )
        last = max(by_id, default=-1) + 1
        size = count if count in (len(by_id), last) and count is not None else last
        missing = [index for index in range(size) if index not in by_id]
        if missing:
            beyond = [by_id[index] for index in sorted(by_id) if index >= size]
            unused = f"; no output has the names {shown_names(beyond)}" if beyond else ""
            warn_once(
                _logger,
                f"id2label has no names for the ids {clipped(str(missing))}; they get "
                f"transformers' default names, LABEL_{missing[0]} and so on{unused}",
            )
        return cls(tuple(by_id.get(index, f"LABEL_{index}") for index in range(size)))

    def id2label(self) -> dict[int, str]:
        """Maps ids to names, as in config.json."""
        return dict(enumerate(self.names))

    def label2id(self) -> dict[str, int]:
        """Maps names to ids, as in config.json."""
        return {name: index for index, name in enumerate(self.names)}

    # === Mapping values to labels ===

    def id_of(self, value: object) -> int | None:
        """Returns the id of the label that a value means.

        1. A value that matches a label's name is that label. Strings match exactly. Booleans, and
           strings such as "TRUE" in any case, match a label named "True", "true" or "TRUE" (and
           likewise for false). Numbers match names that are numbers of equal value: 1, 1.0, "1"
           and "1.0" are one label, unless both "1" and "1.0" are names.
        2. If no label's name is a number, integers are ids: 0, 1, ... in the order of the names.
           Floats without a fraction are ids, too, and for two labels booleans: False = 0 and
           True = 1. Labels named true and false have ids only if false is 0 and true is 1.

        >>> LabelMap(("1", "2", "3")).id_of(1), LabelMap(("no", "yes")).id_of(1)
        (0, 1)
        >>> LabelMap(("True", "False")).id_of(True), LabelMap(("no", "yes")).id_of(True)
        (0, 1)

        Args:
            value: str, bytes, a boolean or a number, of Python or NumPy. Any other value is
                converted by `str`.

        Returns:
            int, the id; None for an unknown label.
        """
        if isinstance(value, np.ndarray) and not value.ndim:
            value = value.item()
        label_id = self.name_id(value)
        if label_id is not None or not isinstance(value, _NUMBERS) or not self.takes_ids:
            return label_id
        if isinstance(value, bool | np.bool_) and (self.booleans or len(self) != 2):
            return None
        number = float(value) if isinstance(value, float | np.floating) else int(value)
        return int(number) if 0 <= number < len(self) and number == int(number) else None

    def name_id(self, value: object) -> int | None:
        """Returns the id of the label whose name matches a value: rule 1 of `id_of`."""
        if isinstance(value, bool | np.bool_):
            if self.booleans:
                return self.booleans.get(bool(value))
            value = int(value)
        if isinstance(value, int | np.integer):
            return self.numbers.get(int(value))
        if isinstance(value, float | np.floating):
            # `str` keeps a float32 0.1 as 0.1; as a Python float it is 0.10000000149.
            return self.numbers.get(float(str(value)))
        name = as_name(value)
        boolean = _BOOLEANS.get(name.lower())
        label_id = self._ids.get(name)
        if label_id is None and boolean is not None:
            return self.booleans.get(boolean)
        if label_id is None and is_whole(name):
            return self.numbers.get(int(name.partition(".")[0]))
        return label_id

    @cached_property
    def booleans(self) -> dict[bool, int]:
        """The ids of the labels named true and false: "True", "true" or "TRUE"."""
        ids: dict[bool, int] = {}
        for name, value in _BOOLEANS.items():
            for spelling in (name.capitalize(), name, name.upper()):
                if spelling in self._ids:
                    ids.setdefault(value, self._ids[spelling])
        return ids

    @cached_property
    def numbers(self) -> dict[int | float, int]:
        """The ids of the labels whose names are numbers, by number."""
        ids: dict[int | float, int] = {}
        # "1" takes precedence over "01" and "1.0".
        for name, index in sorted(self._ids.items(), key=lambda item: (len(item[0]), item[1])):
            if (number := as_number(name)) is not None:
                ids.setdefault(number, index)
        return ids

    @cached_property
    def takes_ids(self) -> bool:
        """Whether integers are ids; see `id_of`."""
        in_order = self.booleans in ({}, {False: 0, True: 1}, {False: 0}, {True: 1})
        return not self.numbers and in_order

    @cached_property
    def _ids(self) -> dict[str, int]:
        return self.label2id()

    # === Labels of examples ===

    def to_ids(self, examples: Examples) -> np.ndarray:
        """Converts the labels of `examples` to targets for a loss.

        Returns:
            Single-label: int32 (examples,), the ids. Multi-label: float32 (examples, labels), 1
            if the label applies.

        Raises:
            DataError: there are no labels, or some are unknown; the message lists all unknown
                labels and where each occurs first.
        """
        if len(examples) and examples.label_kind not in ("single", "multi"):
            raise DataError(
                f"{_prefix(examples)}expected label names, received {examples.label_kind}"
            )
        multi_label = examples.label_kind == "multi"
        return self.targets(examples.labels or [], examples, multi_label=multi_label)

    def targets(
        self, values: Sequence[Any], examples: Examples, *, multi_label: bool
    ) -> np.ndarray:
        """Converts labels in any form to targets for a loss; see `id_of` for the rules.

        Args:
            values: one per example. Single-label: labels, or one-hot rows. Multi-label: multi-hot
                rows, lists of labels, or one label each. Rows are multi-hot if all rows have one
                number per label and all numbers are 0 or 1. Lists have any length; ids must not
                be repeated. A string in the form of a list ("['a', 'b']", "[]") is a list.
            examples: Examples, to locate labels in messages.
            multi_label: bool.

        Returns:
            see `to_ids`.

        Raises:
            DataError: labels are missing or unknown (the message lists all), or rows have another
                form.
        """
        self._refuse_missing(values, examples)
        if multi_label:
            return self._multi_hot(values, examples)
        if any(isinstance(value, _ROWS) for value in values):
            return self._of_one_hot(values, examples)
        return np.array(self._known([[value] for value in values], examples), np.int32).reshape(-1)

    def _multi_hot(self, values: Sequence[Any], examples: Examples) -> np.ndarray:
        matrix = _matrix(values, len(self))
        if matrix is not None:
            if ((matrix == 0) | (matrix == 1)).all():
                return matrix.astype(np.float32)
            fraction = matrix != np.floor(matrix)
            if fraction.any():
                row, column = np.argwhere(fraction)[0]
                raise DataError(
                    f"Multi-hot labels must be 0 or 1, received {matrix[row, column]} at "
                    f"{examples.where(int(row))}."
                )
        rows = [self._row(value, index, examples) for index, value in enumerate(values)]
        hot = np.zeros((len(values), len(self)), np.float32)
        for index, ids in enumerate(self._known(rows, examples)):
            hot[index, ids] = 1.0
        return hot

    def _row(self, value: Any, index: int, examples: Examples) -> list[Any]:
        """The labels of one multi-label example, as a list."""
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            cell = None if value in self._ids else list_in_text(value)
            return [value] if cell is None else cell
        if not isinstance(value, _ROWS):
            if self.takes_ids and isinstance(value, _NUMBERS):
                raise DataError(
                    f"Multi-hot labels must be of shape (texts, {len(self)}), "
                    "received a single number "
                    f"at {examples.where(index)}; or pass a list of labels for each text."
                )
            return [value]
        items = list(value)
        numbers = [item for item in items if isinstance(item, _NUMBERS)]
        if len(set(numbers)) < len(numbers):
            raise DataError(
                f"Multi-hot labels must be of shape (texts, {len(self)}) with values 0 and 1, and "
                f"lists of ids must not repeat one; received {clipped(str(items))} at "
                f"{examples.where(index)}"
            )
        return items

    def _of_one_hot(self, values: Sequence[Any], examples: Examples) -> np.ndarray:
        matrix = _matrix(values, len(self))
        if matrix is None:
            raise DataError(
                "Expected one label per text, "
                "received lists; for several labels per text build the "
                "classifier with `multi_label=True`."
            )
        single = ((matrix == 0) | (matrix == 1)).all(axis=1) & (matrix.sum(axis=1) == 1)
        if not single.all():
            index = int(np.flatnonzero(~single)[0])
            raise DataError(
                f"Expected one-hot rows with a single 1, received "
                f"{clipped(str(list(values[index])))} at {examples.where(index)}."
            )
        return matrix.argmax(axis=1).astype(np.int32)

    def _known(self, rows: Sequence[Sequence[Any]], examples: Examples) -> list[list[int]]:
        """The ids of labels; a DataError lists all unknown labels."""
        ids_of_rows: list[list[int]] = []
        unknown: dict[str, tuple[Any, int]] = {}
        seen: dict[Any, int | None] = {}
        for index, row in enumerate(rows):
            ids = []
            for value in row:
                key = (type(value), value) if isinstance(value, _HASHABLE) else None
                known = seen[key] if key in seen else self.id_of(value)
                if key is not None:
                    seen[key] = known
                if known is None:
                    unknown.setdefault(as_name(value), (value, index))
                else:
                    ids.append(known)
            ids_of_rows.append(ids)
        if unknown:
            raise DataError(self._unknown_message(examples, unknown))
        return ids_of_rows

    def _refuse_missing(self, values: Sequence[Any], examples: Examples) -> None:
        missing = [
            index
            for index, value in enumerate(values)
            if is_missing(value) or (isinstance(value, _ROWS) and any(map(is_missing, value)))
        ]
        if missing:
            raise DataError(
                f"{_prefix(examples)}{len(missing)} of {len(values)} labels are missing (None or "
                f"NaN): {shown_places([examples.where(index) for index in missing])}; leave these "
                "rows out, or label them"
            )

    def _unknown_message(self, examples: Examples, unknown: dict[str, tuple[Any, int]]) -> str:
        described, reasons = [], []
        for name, (value, index) in list(unknown.items())[:_LISTED]:
            similar = closest(name, self.names) if isinstance(value, str) else None
            hint = "" if similar is None else f", did you mean {similar!r}?"
            described.append(f"{clipped(name)!r} (first at {examples.where(index)}{hint})")
            reason = self._reason(value)
            if reason and reason not in reasons:
                reasons.append(reason)
        if len(unknown) > _LISTED:
            described.append(f"and {len(unknown) - _LISTED} more")
        return "; ".join((
            f"{_prefix(examples)}expected labels of {shown_names(self.names)}",
            f"received {', '.join(described)}",
            *reasons,
        ))  # fmt: skip

    def _reason(self, value: Any) -> str:
        """Explains why a number or a boolean is not a label; empty for other values."""
        if not isinstance(value, _NUMBERS):
            return ""
        if self.numbers:
            return "numbers are read as names, not as ids, because some names are numbers"
        if self.booleans and not self.takes_ids:
            return (
                "the labels are booleans in another order than false, true; pass booleans or names"
            )
        if isinstance(value, bool | np.bool_):
            return "booleans need two labels, or labels named true and false"
        return f"label ids must be integers in [0, {len(self)})"


_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
_ROWS = (list, tuple, set, frozenset, np.ndarray)
_HASHABLE = (str, bytes, *_NUMBERS)


def _matrix(values: Sequence[Any], width: int) -> np.ndarray | None:
    """Converts rows of numbers to an array (rows, width); None for other values."""
    if not len(values) or any(
        not isinstance(value, list | tuple | np.ndarray) or len(value) != width for value in values
    ):
        return None
    matrix = np.asarray(values)
    return matrix if matrix.ndim == 2 and matrix.dtype.kind in "iufb" else None


def _occurrences(examples: Examples) -> Iterator[tuple[str, int]]:
    """Yields every label with the index of its example."""
    for index, label in enumerate(examples.labels or ()):
        if isinstance(label, list):
            yield from ((name, index) for name in label)
        else:
            yield str(label), index


def _string_message(labels: str | bytes) -> str:
    name = as_name(labels)
    shown = [part.strip() for part in clipped(name).split(",")]
    return f"expected `labels` to be a list of names, such as {shown!r}, received {clipped(name)!r}"


def _prefix(examples: Examples) -> str:
    return f"{examples.path}: " if examples.path else ""

"""Label names and their ids: learned from data, checked against data.

One rule says which label a value is, in `y`, in class weights and wherever else labels are given:
`LabelMap.id_of`.
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
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.notices import warn_once

__all__ = ["LabelMap"]

_logger = logging.getLogger(__name__)

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_ID = re.compile(r"[+-]?[0-9]{1,18}")
_BOOLEANS = {"true": True, "false": False}
_DIGITS = 1000
WHOLE = r"^(-?(?:0|[1-9][0-9]{0,17}))(?:\.0+)?$"
"""A whole number in text, as pandas writes it, in a column with gaps with a fraction of 0."""
_LISTED = 20  # more names than this say nothing more to a reader


@dataclass(frozen=True)
class LabelMap:
    """The labels of a task, each at the place of its id.

    Args:
        names: tuple of str, without repeats.

    Raises:
        ConfigError: a name occurs twice, or `names` is a single string.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks that no name occurs twice."""
        if isinstance(self.names, str):
            raise ConfigError(_of_a_string(self.names))
        if len(set(self.names)) != len(self.names):
            twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
            raise ConfigError(f"expected each label once, but these repeat: {shown_names(twice)}")

    def __len__(self) -> int:
        """Counts the labels."""
        return len(self.names)

    @classmethod
    def of(cls, labels: object) -> "LabelMap":
        """Takes the names that a caller gives for a task's labels.

        >>> LabelMap.of(["no", "yes"]).names
        ('no', 'yes')

        Args:
            labels: list or another collection in an order, of names or what stands for them.

        Raises:
            ConfigError: it is a single string, which would be a label a letter; it is no
                collection; or a name occurs twice.
        """
        if isinstance(labels, str | bytes):
            raise ConfigError(_of_a_string(labels))
        if isinstance(labels, Mapping | Set) or not isinstance(labels, Iterable):
            raise ConfigError(
                "`labels` must be a list of names in the order of their ids, got "
                f"{clipped(repr(labels))}"
            )
        values = list(labels)
        missing = [index for index, value in enumerate(values) if is_missing(value)]
        if missing:
            raise ConfigError(
                f"`labels` must be names, got {values[missing[0]]!r} as number {missing[0]} "
                "(from 0): leave missing values out"
            )
        return cls(tuple(map(_as_name, values)))

    @classmethod
    def learn(cls, examples: Examples) -> "LabelMap":
        """Collects the labels of `examples`, sorted, whatever the order of the rows.

        Labels that are all integers are sorted by value: 2 before 10.

        Raises:
            DataError: there are no labels, they are numbers to regress on, or all examples have
                the same one.
        """
        kind = examples.label_kind
        if kind not in ("single", "multi"):
            found = "none" if kind is None else "numbers"
            raise DataError(f"{_named(examples)}expected label names to learn, got {found}")
        names = _without_twins({name for name, _ in _occurrences(examples)})
        if not names:
            raise DataError(f"{_named(examples)}expected labels, but no example has any")
        if kind == "single" and len(names) < 2:
            raise DataError(
                f"{_named(examples)}expected at least two labels to tell apart, "
                f"but all examples have {next(iter(names))!r}"
            )
        if all(_is_integer(name) for name in names):
            return cls(tuple(sorted(names, key=lambda name: (int(name), name))))
        return cls(tuple(sorted(names)))

    @classmethod
    def from_id2label(
        cls, id2label: Mapping[int, str] | Mapping[str, str], count: int | None = None
    ) -> "LabelMap":
        """Reads the `id2label` of a config.json, whose keys may be integers or their strings.

        Ids without a name get transformers' default one, LABEL_3, with a warning.

        Args:
            id2label: id -> name.
            count: int or None. How many outputs the model has, for an `id2label` with gaps: its
                length or one more than its highest id. None: the latter.

        Raises:
            ConfigError: the ids are no integers of at least 0, or a name occurs twice.
        """
        if not all(_ID.fullmatch(str(key)) for key in id2label if not isinstance(key, int)):
            raise ConfigError(
                "expected the keys of id2label to be integers, got "
                f"{clipped(str([*id2label][:_LISTED]))}"
            )
        by_id = {int(key): str(name) for key, name in id2label.items()}
        if len(by_id) != len(id2label) or any(index < 0 for index in by_id):
            raise ConfigError(
                f"expected different ids of at least 0 in id2label, got {clipped(str([*id2label]))}"
            )
        last = max(by_id, default=-1) + 1
        size = count if count in (len(by_id), last) and count is not None else last
        missing = [index for index in range(size) if index not in by_id]
        if missing:
            beyond = [by_id[index] for index in sorted(by_id) if index >= size]
            unused = f"; no output has the names {shown_names(beyond)}" if beyond else ""
            warn_once(
                _logger,
                f"id2label names no label of the ids {clipped(str(missing))}, so they are called "
                f"LABEL_{missing[0]} and so on, as transformers calls labels{unused}",
            )
        return cls(tuple(by_id.get(index, f"LABEL_{index}") for index in range(size)))

    def id2label(self) -> dict[int, str]:
        """Maps ids to names, as config.json has it."""
        return dict(enumerate(self.names))

    def label2id(self) -> dict[str, int]:
        """Maps names to ids, as config.json has it."""
        return {name: index for index, name in enumerate(self.names)}

    # === Which label a value is ===

    def id_of(self, value: object) -> int | None:
        """Says which label a value is, by the one rule of the package.

        1. A value that is a label's name is that label. Strings match as they are written.
           Booleans, and strings that are one in any case, match a label named "True", "true" or
           "TRUE" (and the same for false). Numbers match names that are numbers of equal value:
           1, 1.0, "1" and "1.0" are one label, unless both "1" and "1.0" are names.
        2. Where no label's name is a number, integers are ids: 0, 1, ... in the order of the
           names. So are booleans for two labels, False = 0 and True = 1, and floats without a
           fraction. Labels that are booleans have ids only where false is 0 and true is 1.

        >>> LabelMap(("1", "2", "3")).id_of(1), LabelMap(("no", "yes")).id_of(1)
        (0, 1)
        >>> LabelMap(("True", "False")).id_of(True), LabelMap(("no", "yes")).id_of(True)
        (0, 1)

        Args:
            value: str or bytes, a boolean or a number, of Python or NumPy; any other value stands
                for the name that `str` makes of it.

        Returns:
            int, the id; None where it is no label.
        """
        if isinstance(value, np.ndarray) and not value.ndim:
            value = value.item()
        named = self.name_id(value)
        if named is not None or not isinstance(value, _NUMBERS) or not self.takes_ids:
            return named
        if isinstance(value, bool | np.bool_) and (self.booleans or len(self) != 2):
            return None
        number = float(value) if isinstance(value, float | np.floating) else int(value)
        return int(number) if 0 <= number < len(self) and number == int(number) else None

    def name_id(self, value: object) -> int | None:
        """Says which label's name a value is: the first part of the rule of `id_of`."""
        if isinstance(value, bool | np.bool_):
            if self.booleans:
                return self.booleans.get(bool(value))
            value = int(value)
        if isinstance(value, int | np.integer):
            return self.numbers.get(int(value))
        if isinstance(value, float | np.floating):
            # NumPy's float32 is read as it is written: 0.1 and not 0.10000000149.
            return self.numbers.get(float(str(value)))
        name = _as_name(value)
        boolean = _BOOLEANS.get(name.lower())
        found = self._ids.get(name)
        if found is None and boolean is not None:
            return self.booleans.get(boolean)
        if found is None and is_whole(name):
            return self.numbers.get(int(name.partition(".")[0]))
        return found

    @cached_property
    def booleans(self) -> dict[bool, int]:
        """The ids of the labels that are named true and false, in any usual case."""
        found: dict[bool, int] = {}
        for name, value in _BOOLEANS.items():
            for spelling in (name.capitalize(), name, name.upper()):
                if spelling in self._ids:
                    found.setdefault(value, self._ids[spelling])
        return found

    @cached_property
    def numbers(self) -> dict[int | float, int]:
        """The ids of the labels whose names are numbers, by these numbers."""
        found: dict[int | float, int] = {}
        # "1" comes before "01" and "1.0".
        for name, index in sorted(self._ids.items(), key=lambda item: (len(item[0]), item[1])):
            if len(name) <= _DIGITS and _NUMBER.fullmatch(name):
                number = int(name) if _is_integer(name) else float(name)
                found.setdefault(number, index)
        return found

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
        """Turns the labels of `examples` into what a loss takes.

        Returns:
            Single labels: int32 (examples,), the ids. Multi-label: float32 (examples, labels),
            1 where the label applies.

        Raises:
            DataError: there are no labels, or some are not known; all unknown ones are listed with
                the place where each occurs first.
        """
        if len(examples) and examples.label_kind not in ("single", "multi"):
            raise DataError(f"{_named(examples)}expected label names, got {examples.label_kind}")
        multi_label = examples.label_kind == "multi"
        return self.targets(examples.labels or [], examples, multi_label=multi_label)

    def targets(
        self, values: Sequence[Any], examples: Examples, *, multi_label: bool
    ) -> np.ndarray:
        """Turns labels in any form into what a loss takes; see `id_of` for the rule.

        Args:
            values: one per example. Single-label: labels, or one-hot rows. Multi-label: rows of 0
                and 1, one a label (multi-hot); or lists of labels, of any length, without
                repeats where they are ids; or one label each. A string that is written as a list
                ("['a', 'b']", "[]") is that list. Rows of as many numbers as there are labels,
                all 0 or 1 in all rows, are multi-hot.
            examples: Examples, which say for messages where a label comes from.
            multi_label: bool.

        Returns:
            as `to_ids`.

        Raises:
            DataError: labels that are missing or unknown, all listed; or rows of another form.
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
                    f"Multi-hot labels must be 0 or 1, got {matrix[row, column]} at "
                    f"{examples.where(int(row))}."
                )
        rows = [self._row(value, index, examples) for index, value in enumerate(values)]
        hot = np.zeros((len(values), len(self)), np.float32)
        for index, ids in enumerate(self._known(rows, examples)):
            hot[index, ids] = 1.0
        return hot

    def _row(self, value: Any, index: int, examples: Examples) -> list[Any]:
        """The labels of one example of several."""
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            cell = None if value in self._ids else list_in_text(value)
            return [value] if cell is None else cell
        if not isinstance(value, _ROWS):
            if self.takes_ids and isinstance(value, _NUMBERS):
                raise DataError(
                    f"Multi-hot labels must be of shape (texts, {len(self)}), got a single number "
                    f"at {examples.where(index)}; or give a list of labels for each text."
                )
            return [value]
        items = list(value)
        numbers = [item for item in items if isinstance(item, _NUMBERS)]
        if len(set(numbers)) < len(numbers):
            raise DataError(
                f"Multi-hot labels must be of shape (texts, {len(self)}) with 0 and 1 alone, and a "
                f"list of ids names each once; got {clipped(str(items))} at {examples.where(index)}"
            )
        return items

    def _of_one_hot(self, values: Sequence[Any], examples: Examples) -> np.ndarray:
        matrix = _matrix(values, len(self))
        if matrix is None:
            raise DataError(
                "Expected one label per text, got lists. For several labels per text build the "
                "classifier with `multi_label=True`."
            )
        single = ((matrix == 0) | (matrix == 1)).all(axis=1) & (matrix.sum(axis=1) == 1)
        if not single.all():
            index = int(np.flatnonzero(~single)[0])
            raise DataError(
                f"Expected one label per text: one-hot rows have a single 1, got "
                f"{clipped(str(list(values[index])))} at {examples.where(index)}."
            )
        return matrix.argmax(axis=1).astype(np.int32)

    def _known(self, rows: Sequence[Sequence[Any]], examples: Examples) -> list[list[int]]:
        """The ids of labels; raises DataError with all that are unknown."""
        found: list[list[int]] = []
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
                    unknown.setdefault(_as_name(value), (value, index))
                else:
                    ids.append(known)
            found.append(ids)
        if unknown:
            raise DataError(self._unknown_message(examples, unknown))
        return found

    def _refuse_missing(self, values: Sequence[Any], examples: Examples) -> None:
        missing = [
            index
            for index, value in enumerate(values)
            if is_missing(value) or (isinstance(value, _ROWS) and any(map(is_missing, value)))
        ]
        if missing:
            raise DataError(
                f"{_named(examples)}{len(missing)} of {len(values)} labels are missing (None or "
                f"NaN): {shown_places([examples.where(index) for index in missing])}; leave these "
                "rows out, or label them"
            )

    def _unknown_message(self, examples: Examples, unknown: dict[str, tuple[Any, int]]) -> str:
        described, reasons = [], []
        for name, (value, index) in list(unknown.items())[:_LISTED]:
            near = closest(name, self.names) if isinstance(value, str) else None
            hint = "" if near is None else f", did you mean {near!r}?"
            described.append(f"{clipped(name)!r} (first at {examples.where(index)}{hint})")
            reason = self._reason(value)
            if reason and reason not in reasons:
                reasons.append(reason)
        if len(unknown) > _LISTED:
            described.append(f"and {len(unknown) - _LISTED} more")
        return "; ".join((
            f"{_named(examples)}labels that the model does not know: {', '.join(described)}",
            f"it knows {shown_names(self.names)}",
            *reasons,
        ))  # fmt: skip

    def _reason(self, value: Any) -> str:
        """Why a number or a boolean is no label; empty for other values."""
        if not isinstance(value, _NUMBERS):
            return ""
        if self.numbers:
            return "numbers are names here and no ids, for some names are numbers"
        if self.booleans and not self.takes_ids:
            return "numbers are no ids here, for the labels are booleans: give booleans or names"
        if isinstance(value, bool | np.bool_):
            return "booleans are ids of two labels, or names where labels are named true and false"
        return f"label ids must be integers in [0, {len(self)})"


_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
_ROWS = (list, tuple, set, frozenset, np.ndarray)
_HASHABLE = (str, bytes, *_NUMBERS)


def _is_integer(name: str) -> bool:
    # Python makes no number of more than 4,300 digits.
    return len(name) <= _DIGITS and _INTEGER.fullmatch(name) is not None


def _as_name(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return str(value)
    except ValueError:  # an integer of more than 4,300 digits
        return f"<{type(value).__name__} of too many digits>"


def _matrix(values: Sequence[Any], width: int) -> np.ndarray | None:
    """Rows of numbers as an array (rows, width); None where they are something else."""
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


def is_whole(name: str) -> bool:
    """Whether a name is a whole number: "1", "-2", "1.0".

    >>> is_whole("1.0"), is_whole("01"), is_whole("1.5")
    (True, False, False)
    """
    return re.match(WHOLE, name) is not None


def _without_twins(names: set[str]) -> set[str]:
    """Drops "1.0" where "1" is a name, too: pandas writes integers so in a column with gaps."""
    twins = {name for name in names if "." in name and is_whole(name)}
    twins = {name for name in twins if name.partition(".")[0] in names}
    if twins:
        _logger.warning(
            "The labels %s are taken for the same numbers without a fraction.",
            shown_names(sorted(twins)),
        )
    return names - twins


def _of_a_string(labels: str | bytes) -> str:
    name = labels.decode("utf-8", "replace") if isinstance(labels, bytes) else labels
    shown = [part.strip() for part in clipped(name).split(",")]
    return f"`labels` must be a list of names, such as {shown!r}, got the string {clipped(name)!r}"


def _named(examples: Examples) -> str:
    return f"{examples.path}: " if examples.path else ""

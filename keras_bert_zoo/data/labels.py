"""Label names and their ids: learned from data, checked against data."""

import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np

from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.notices import warn_once

__all__ = ["LabelMap"]

_logger = logging.getLogger(__name__)

_INTEGER = re.compile(r"[+-]?[0-9]+")
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
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ConfigError(f"expected each label once, but these repeat: {_shown(twice)}")

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
        return cls(tuple(str(label) for label in labels))

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
        names = {name for name, _ in _occurrences(examples)}
        if not names:
            raise DataError(f"{_named(examples)}expected labels, but no example has any")
        if kind == "single" and len(names) < 2:
            raise DataError(
                f"{_named(examples)}expected at least two labels to tell apart, "
                f"but all examples have {next(iter(names))!r}"
            )
        if all(_INTEGER.fullmatch(name) for name in names):
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
        try:
            by_id = {int(key): str(name) for key, name in id2label.items()}
        except ValueError:
            raise ConfigError(f"expected the keys of id2label to be integers: {id2label}") from None
        if len(by_id) != len(id2label) or any(index < 0 for index in by_id):
            raise ConfigError(
                f"expected different ids of at least 0 in id2label, got {clipped(str([*id2label]))}"
            )
        last = max(by_id, default=-1) + 1
        size = count if count in (len(by_id), last) and count is not None else last
        missing = [index for index in range(size) if index not in by_id]
        if missing:
            beyond = [by_id[index] for index in sorted(by_id) if index >= size]
            unused = f"; no output has the names {_shown(beyond)}" if beyond else ""
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
        ids = self.label2id()
        occurrences = list(_occurrences(examples))
        unknown: dict[str, int] = {}
        for name, index in occurrences:
            if name not in ids:
                unknown.setdefault(name, index)
        if unknown:
            raise DataError(self._unknown_message(examples, unknown))
        if examples.label_kind == "multi":
            hot = np.zeros((len(examples), len(self)), np.float32)
            for name, index in occurrences:
                hot[index, ids[name]] = 1.0
            return hot
        return np.array([ids[name] for name, _ in occurrences], np.int32)

    def _unknown_message(self, examples: Examples, unknown: dict[str, int]) -> str:
        described = []
        for name, index in list(unknown.items())[:_LISTED]:
            close = difflib.get_close_matches(name, self.names, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            described.append(f"{clipped(name)!r} (first at {examples.where(index)}{hint})")
        if len(unknown) > _LISTED:
            described.append(f"and {len(unknown) - _LISTED} more")
        return (
            f"{_named(examples)}labels that the model does not know: {', '.join(described)}; "
            f"it knows {_shown(self.names)}"
        )


def _occurrences(examples: Examples) -> Iterator[tuple[str, int]]:
    """Yields every label with the index of its example."""
    for index, label in enumerate(examples.labels or ()):
        if isinstance(label, list):
            yield from ((name, index) for name in label)
        else:
            yield str(label), index


def _of_a_string(labels: str | bytes) -> str:
    name = labels.decode("utf-8", "replace") if isinstance(labels, bytes) else labels
    shown = [part.strip() for part in clipped(name).split(",")]
    return f"`labels` must be a list of names, such as {shown!r}, got the string {clipped(name)!r}"


def _named(examples: Examples) -> str:
    return f"{examples.path}: " if examples.path else ""


def _shown(names: list[str] | tuple[str, ...]) -> str:
    listed = ", ".join(repr(clipped(name)) for name in names[:_LISTED])
    return listed if len(names) <= _LISTED else f"{listed} and {len(names) - _LISTED} more"

"""Texts with labelled entities, the examples of token classification."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.validation import is_integer

__all__ = ["Entity", "EntityExamples", "check_entities", "entity_problem"]

_logger = logging.getLogger(__name__)


class Entity(NamedTuple):
    """A labelled part of a text.

    Attributes:
        start: int. The offset of the first character.
        end: int. The offset after the last character: `text[start:end]` is the entity.
        label: str. The type of the entity.
    """

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class EntityExamples:
    """Texts with their entities and their origin in a file.

    White space at the ends of entities is trimmed, because annotation tools may include it.
    Repeated entities are dropped. Both are logged with their number.

    Args:
        texts: list of str.
        entities: for each text a list of Entity, sorted by start; None without labels.
        words: for each text a list of (start, end) in characters, the words of the file. They make
            the evaluation compare words. None without words.
        rows: list of int. The first line of each example in `path`, from 1. Empty means 1, 2, ...
        path: str. The file's name for messages; empty for examples without a file.
        note: str. The form of the file and the keys or columns that were read.

    Raises:
        DataError: the lists differ in length, or an entity is outside its text or white space.
    """

    texts: list[str]
    entities: list[list[Entity]] | None = None
    words: list[list[tuple[int, int]]] | None = None
    rows: list[int] = field(default_factory=list)
    path: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        """Checks the lengths and the entities; trims the entities and fills in `rows`."""
        if not self.rows:
            object.__setattr__(self, "rows", list(range(1, len(self.texts) + 1)))
        for name in ("entities", "words", "rows"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.texts):
                raise DataError(
                    f"expected {len(self.texts)} {name}, one per text, received {len(values)}"
                )
        if self.entities is None:
            return
        checked = []
        trimmed: list[int] = []  # the example of each trimmed entity
        repeated: list[int] = []
        for index, (text, entities) in enumerate(zip(self.texts, self.entities, strict=True)):
            length = _characters(text)
            is_space = _space_test(text)
            own = set()
            for entity in entities:
                problem = entity_problem(entity, length)
                if problem:
                    raise DataError(f"{self.where(index)}: {problem}")
                tight = _trimmed(Entity(*entity), is_space)
                if tight.start == tight.end:
                    raise DataError(
                        f"{self.where(index)}: expected text in the entity from {entity[0]} to "
                        f"{entity[1]}, received only white space; correct or remove it"
                    )
                if tight[:2] != tuple(entity[:2]):
                    trimmed.append(index)
                if tight in own:
                    repeated.append(index)
                own.add(tight)
            checked.append(sorted(own))
        total = sum(map(len, self.entities))
        object.__setattr__(self, "entities", checked)
        self._report("trimmed white space at the ends of %s of %s entities", trimmed, total)
        self._report("dropped %s of %s entities that are repeated", repeated, total)

    def _report(self, what: str, indices: list[int], total: int) -> None:
        if indices:
            _logger.warning(
                f"%s{what}; first in %s",
                f"{self.path}: " if self.path else "",
                f"{len(indices):,}",
                f"{total:,}",
                self.where(indices[0]),
            )

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.texts)

    @property
    def columns(self) -> tuple[Sequence[str], ...]:
        """The model's text inputs, one column each."""
        return (self.texts,)

    def __getitem__(self, rows: slice) -> EntityExamples:
        """Takes a slice, such as `examples[:100]`."""
        if not isinstance(rows, slice):
            raise TypeError(f"EntityExamples take a slice, received {type(rows).__name__}")
        return self.subset(range(len(self))[rows])

    @property
    def labels(self) -> list[str]:
        """The types of the entities, in alphabetical order."""
        return sorted({entity.label for entities in self.entities or () for entity in entities})

    def where(self, index: int) -> str:
        """Returns an example's origin: `file:line`, or its number without a file."""
        return f"{self.path}:{self.rows[index]}" if self.path else f"example {self.rows[index]}"

    def subset(self, indices: Sequence[int] | np.ndarray) -> EntityExamples:
        """Returns the examples at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return EntityExamples(
            [self.texts[index] for index in chosen],
            None if self.entities is None else [self.entities[index] for index in chosen],
            None if self.words is None else [self.words[index] for index in chosen],
            [self.rows[index] for index in chosen],
            self.path,
        )

    def split(self, fraction: float, seed: int) -> tuple[EntityExamples, EntityExamples]:
        """Splits the examples in two at random; see `Examples.split`."""
        numbered = Examples(self.texts, rows=list(range(len(self))))
        rest, held_out = numbered.split(fraction, seed, stratify=False)
        return self.subset(rest.rows), self.subset(held_out.rows)


def check_entities(
    examples: EntityExamples, labels: Sequence[str], *, nested: bool = False
) -> None:
    """Checks that a model can represent the entities.

    Args:
        examples: EntityExamples, with entities.
        labels: the types of the model.
        nested: bool. Whether entities may overlap; without overlap, every word has one tag.

    Raises:
        DataError: an unknown type, or entities overlap; the message names file and line.
    """
    known = set(labels)
    for index, entities in enumerate(examples.entities or []):
        furthest: Entity | None = None
        for entity in entities:
            if entity.label not in known:
                raise DataError(
                    f"{examples.where(index)}: expected a label of {', '.join(labels)}, received "
                    f"{entity.label!r}"
                )
            if nested:
                continue
            if furthest is not None and entity.start < furthest.end:
                raise DataError(
                    f"{examples.where(index)}: expected entities without overlap, received one at "
                    f"{furthest.start} to {furthest.end} and one at {entity.start} to "
                    f"{entity.end}; for nested entities use nested=True or --nested"
                )
            furthest = entity


def entity_problem(entity: Any, length: int) -> str | None:
    """Returns the error of an entity in a text of `length` characters; None if it is valid."""
    if not isinstance(entity, tuple | list) or len(entity) != 3:
        return f"expected an entity as (start, end, label), received {_shown(entity)}"
    start, end, label = entity
    for value in (start, end):
        if not is_integer(value):
            return f"expected start and end of an entity in characters, received {_shown(value)}"
    if not isinstance(label, str) or not label.strip() or label == "O":
        return f"expected the label of an entity, a string other than 'O', received {_shown(label)}"
    if any("\ud800" <= char <= "\udfff" for char in label):
        return "expected the label of an entity, received half of a surrogate pair in it"
    if not 0 <= start < end <= length:
        return (
            f"expected an entity with 0 <= start < end <= {length}, the characters of its text, "
            f"received {start} to {end}"
        )
    return None


def _characters(text: str | bytes) -> int:
    """The number of characters; UTF-8 continuation bytes do not count."""
    if isinstance(text, str):
        return len(text)
    return sum(byte & 0xC0 != 0x80 for byte in text)


def _space_test(text: str | bytes) -> Callable[[int], bool]:
    """Returns a function that checks whether the character at an index is white space."""
    if isinstance(text, str):
        return lambda index: text[index].isspace()
    raw = np.frombuffer(text, np.uint8)
    begins = np.append(np.flatnonzero((raw & 0xC0) != 0x80), len(raw))

    def is_space(index: int) -> bool:
        return text[begins[index] : begins[index + 1]].decode("utf-8", "replace").isspace()

    return is_space


def _trimmed(entity: Entity, is_space: Callable[[int], bool]) -> Entity:
    start, end, label = entity
    while start < end and is_space(start):
        start += 1
    while start < end and is_space(end - 1):
        end -= 1
    return Entity(start, end, label)


def _shown(value: Any) -> str:
    return clipped(json.dumps(value, ensure_ascii=False, default=str))

"""Texts with labelled spans: what a tagger learns from, and its reader of JSON Lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.errors import DataError

__all__ = ["Entity", "EntityExamples", "check_entities", "read_entities"]


class Entity(NamedTuple):
    """A labelled part of a text.

    Attributes:
        start: int, characters. Where it begins.
        end: int, characters. Behind its last character: `text[start:end]` is the entity.
        label: str. Its type.
    """

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class EntityExamples:
    """Texts with the entities in them, and where each came from.

    Args:
        texts: list of str.
        entities: for each text a list of Entity, in the order of their starts; None where they are
            not known.
        words: for each text a list of (start, end) in characters: its words, where a file has
            them. Answers are then compared word by word. None: the text alone is known.
        rows: the line on which each example starts in `path`, counted from 1. Empty means 1, 2, ...
        path: the file's name for messages; empty for examples that come from no file.

    Raises:
        DataError: the lists differ in length, or an entity is not in its text.
    """

    texts: list[str]
    entities: list[list[Entity]] | None = None
    words: list[list[tuple[int, int]]] | None = None
    rows: list[int] = field(default_factory=list)
    path: str = ""

    def __post_init__(self) -> None:
        """Checks the lengths and the entities; fills in `rows`."""
        if not self.rows:
            object.__setattr__(self, "rows", list(range(1, len(self.texts) + 1)))
        for name in ("entities", "words", "rows"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.texts):
                raise DataError(
                    f"expected as many {name} as texts, which are {len(self.texts)}, "
                    f"but got {len(values)}"
                )
        if self.entities is None:
            return
        checked = []
        for index, (text, entities) in enumerate(zip(self.texts, self.entities, strict=True)):
            length = _characters(text)
            for entity in entities:
                problem = _problem(entity, length)
                if problem:
                    raise DataError(f"{self.where(index)}: {problem}")
            checked.append(sorted(Entity(*entity) for entity in entities))
        object.__setattr__(self, "entities", checked)

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.texts)

    def __getitem__(self, rows: slice) -> EntityExamples:
        """Takes a slice, such as `examples[:100]`."""
        if not isinstance(rows, slice):
            raise TypeError(f"EntityExamples take a slice, got {type(rows).__name__}")
        return self.subset(range(len(self))[rows])

    @property
    def labels(self) -> list[str]:
        """The types of the entities, in alphabetical order."""
        return sorted({entity.label for entities in self.entities or () for entity in entities})

    def where(self, index: int) -> str:
        """Says where an example came from: `file:line`, or its number where there is no file."""
        return f"{self.path}:{self.rows[index]}" if self.path else f"example {self.rows[index]}"

    def subset(self, indices: Sequence[int] | np.ndarray) -> EntityExamples:
        """Takes the examples at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return EntityExamples(
            [self.texts[index] for index in chosen],
            None if self.entities is None else [self.entities[index] for index in chosen],
            None if self.words is None else [self.words[index] for index in chosen],
            [self.rows[index] for index in chosen],
            self.path,
        )

    def split(self, fraction: float, seed: int) -> tuple[EntityExamples, EntityExamples]:
        """Parts the examples in two at random; see `Examples.split`."""
        numbered = Examples(self.texts, rows=list(range(len(self))))
        rest, held_out = numbered.split(fraction, seed, stratify=False)
        return self.subset(rest.rows), self.subset(held_out.rows)


def check_entities(
    examples: EntityExamples, labels: Sequence[str], *, nested: bool = False
) -> None:
    """Sees to it that a model can hold the entities.

    Args:
        examples: EntityExamples, with entities.
        labels: the types that there are.
        nested: bool. Whether entities may overlap; else every word has one tag.

    Raises:
        DataError: an unknown type, or entities that overlap; with file and line.
    """
    known = set(labels)
    for index, entities in enumerate(examples.entities or []):
        furthest: Entity | None = None
        for entity in entities:
            if entity.label not in known:
                raise DataError(
                    f"{examples.where(index)}: the label {entity.label!r} is not one of "
                    f"{', '.join(labels)}"
                )
            if nested:
                continue
            if furthest is not None and entity.start < furthest.end:
                raise DataError(
                    f"{examples.where(index)}: the entities at {furthest.start} to {furthest.end} "
                    f"and at {entity.start} to {entity.end} overlap; expected one label a word "
                    "(for nested entities: nested=True, --nested)"
                )
            furthest = entity


def read_entities(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    text: str = "text",
    entities: str = "entities",
    encoding: str = "utf-8",
) -> EntityExamples:
    """Reads JSON Lines of texts with their entities.

    A line is `{"text": "Ada in Paris", "entities": [{"start": 0, "end": 3, "label": "PER"}]}`;
    an entity may also be a list, `[0, 3, "PER"]`. Offsets count characters (code points). Where an
    entity also says its `text`, that is compared. Entities may overlap; whether a model can hold
    that is for it to say, see `check_entities`.

    Args:
        path: the file's name, with or without `.gz`, or a binary file object.
        text: str. The key of the text.
        entities: str. The key of the list of entities.
        encoding: str.

    Returns:
        EntityExamples.

    Raises:
        DataError: a line that cannot be used, with its file and line.
    """
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else getattr(path, "name", "-")
    texts, spans, rows = [], [], []
    lines = Lines(path, str(name), encoding)
    for record in _records(lines):
        where = f"{lines.name}:{lines.last}"
        for key in (text, entities):
            if key not in record:
                found = ", ".join(map(repr, record)) or "none"
                raise DataError(f"{where}: expected a key {key!r}, found {found}")
        value = record[text]
        if not isinstance(value, str):
            raise DataError(f"{where}: expected {text!r} to be a string, got {_shown(value)}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: {text!r} holds half of a surrogate pair, which is not a character"
            ) from None
        texts.append(value)
        spans.append(_entities(where, value, entities, record[entities]))
        rows.append(lines.last)
    if not texts:
        raise DataError(f"{name}: expected at least one line, but the file is empty")
    return EntityExamples(texts, spans, None, rows, str(name))


def _records(lines: Lines) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.strip():
            continue
        where = f"{lines.name}:{lines.last}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not valid JSON: {error}") from None
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected a JSON object on each line, got {_shown(record)}")
        yield record


def _entities(where: str, text: str, key: str, values: Any) -> list[Entity]:
    if not isinstance(values, list):
        raise DataError(f"{where}: expected {key!r} to be a list, got {_shown(values)}")
    found = []
    for value in values:
        surface = None
        if isinstance(value, dict):
            missing = [name for name in ("start", "end", "label") if name not in value]
            if missing:
                raise DataError(
                    f"{where}: expected an entity with start, end and label, got {_shown(value)}"
                )
            entity = Entity(value["start"], value["end"], value["label"])
            surface = value.get("text")
        elif isinstance(value, list) and len(value) == 3:
            entity = Entity(*value)
        else:
            raise DataError(
                f"{where}: expected an entity as an object with start, end and label, or as "
                f"[start, end, label]; got {_shown(value)}"
            )
        problem = _problem(entity, len(text))
        if problem:
            raise DataError(f"{where}: {problem}")
        if surface is not None and surface != text[entity.start : entity.end]:
            raise DataError(
                f"{where}: the entity at {entity.start} to {entity.end} should be "
                f"{clipped(str(surface))!r}, but there stands "
                f"{clipped(text[entity.start : entity.end])!r}; offsets count characters"
            )
        found.append(entity)
    return found


def _problem(entity: Any, length: int) -> str | None:
    """What is wrong with an entity of a text of so many characters."""
    if not isinstance(entity, tuple | list) or len(entity) != 3:
        return f"expected an entity as (start, end, label), got {_shown(entity)}"
    start, end, label = entity
    for value in (start, end):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            return f"expected start and end of an entity in characters, got {_shown(value)}"
    if not isinstance(label, str) or not label.strip() or label == "O":
        return f"expected the label of an entity, a string other than 'O', got {_shown(label)}"
    if not 0 <= start < end <= length:
        return (
            f"the entity from {start} to {end} is not in its text of {length} characters; expected "
            "0 <= start < end <= length"
        )
    return None


def _characters(text: str | bytes) -> int:
    """Characters; of bytes, those that do not continue one."""
    if isinstance(text, str):
        return len(text)
    return sum(byte & 0xC0 != 0x80 for byte in text)


def _shown(value: Any) -> str:
    return clipped(json.dumps(value, ensure_ascii=False, default=str))

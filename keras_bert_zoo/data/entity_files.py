"""Reads texts with entities from the JSON of annotation tools and data sets.

- `{"text": ..., "entities": [{"start", "end", "label"}, or [start, end, label]]}`, the form of this
  package; prodigy's is the same with "spans";
- doccano: `{"text": ..., "label": [[start, end, label]]}` ("labels" in some versions), or
  `{"text": ..., "entities": [{"label", "start_offset", "end_offset"}]}`;
- Label Studio: the tasks of its JSON export, or `{"text": ..., NAME: [{"start", "end", "text",
  "labels": [...]}]}` of JSON_MIN;
- words with tags: `{"tokens": [...], "ner_tags": [...]}`.

Each form may be JSON Lines or one JSON list.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from keras_bert_zoo.data.conll import (
    Join,
    TaggedWords,
    check_join,
    counted_types,
    tagged_examples,
)
from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.json_records import json_records, shown
from keras_bert_zoo.data.label_studio import is_task, read_tasks
from keras_bert_zoo.data.offset_units import (
    FoundSpan,
    FoundText,
    OffsetUnit,
    check_unit,
    has_wide,
    in_characters,
    same_text,
)
from keras_bert_zoo.data.spans import Entity, EntityExamples, entity_problem
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.validation import is_integer

__all__ = ["read_entities"]

_Records = Sequence[tuple[int, dict[str, Any]]]

_ENTITY_KEYS = ("entities", "spans", "label", "labels")
_WORD_KEYS = ("tokens", "words")
_TAG_KEYS = ("ner_tags", "ner", "tags", "labels", "label")
_STARTS, _ENDS, _LABELS = ("start", "start_offset"), ("end", "end_offset"), ("label", "labels")
_UNACCEPTED = ("reject", "ignore")  # prodigy's answers for invalid examples

_logger = logging.getLogger(__name__)


def read_entities(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    text: str = "text",
    entities: str | None = None,
    offsets: OffsetUnit = "auto",
    tag_names: Sequence[str] | None = None,
    scheme: str | None = None,
    join: Join = "auto",
    lenient: bool = False,
    encoding: str = "utf-8",
) -> EntityExamples:
    """Reads texts with entities from JSON Lines or a JSON list; see the module for the forms.

    A line is `{"text": "Ada in Paris", "entities": [{"start": 0, "end": 3, "label": "PER"}]}`;
    an entity may also be a list, `[0, 3, "PER"]`. Offsets count characters (code points). If an
    entity has a `text`, it must equal the text at its offsets. Entities may overlap; see
    `check_entities` for the limits of models. The `note` of the examples names the form of the
    file; it is also logged.

    Args:
        path: the file's name, with or without `.gz`, or a binary file object.
        text: str. The key of the text.
        entities: str. The key of the list of entities, or of the words' tags. None: detected.
        offsets: the unit of offsets. "characters": code points, as in Python. "utf16": UTF-16
            units, as in JavaScript; an emoji has two. "auto": characters; for doccano and Label
            Studio detected from the entities, with an error if it is ambiguous.
        tag_names: list of str. The names of integer tags, by number.
        scheme: the scheme of the words' tags, see `read_conll`; None: detected from the tags.
        join: how to join words, see `read_conll`.
        lenient: bool. See `read_conll`.
        encoding: str.

    Returns:
        EntityExamples.

    Raises:
        ConfigError: an option has an unknown value.
        DataError: a line is invalid; the message names file and line.
    """
    check_join(join)
    check_unit(offsets)
    name = str(
        os.fspath(path) if isinstance(path, str | os.PathLike) else getattr(path, "name", "-")
    )
    records = list(json_records(path, encoding=encoding))
    if not records:
        raise DataError(f"{name}: expected at least one line, but the file is empty")
    first = records[0][1]
    if is_task(first):
        tasks = read_tasks(name, records, text)
        return _examples(name, tasks, "Label Studio's tasks", offsets, documented=False)
    key = _entity_key(name, records, text) if entities is None else entities
    words = next((word for word in _WORD_KEYS if _is_words(first.get(word))), None)
    if words is not None and (key is None or _holds_tags(records, key)):
        sentences = _tagged(name, records, words, key or _tag_key(name, first), text, tag_names)
        source = f"words from {words!r}, tags from {key or _tag_key(name, first)!r}"
        return tagged_examples(name, sentences, source, scheme=scheme, join=join, lenient=lenient)
    key = key or "entities"
    optional = key == "spans" or _is_min_export(records, key)
    texts, doccano, rejected = [], False, 0
    for row, record in records:
        where = f"{name}:{row}"
        if key == "spans" and record.get("answer") in _UNACCEPTED:
            rejected += 1
            continue
        for required in (text,) if optional else (text, key):
            if required not in record:
                present = ", ".join(repr(clipped(one)) for one in list(record)[:8]) or "none"
                raise DataError(f"{where}: expected a key {required!r}, received {present}")
        values = record.get(key)
        spans, dicts = _spans(where, key, [] if optional and values is None else values)
        doccano = doccano or dicts
        if not isinstance(record[text], str):
            raise DataError(
                f"{where}: expected {text!r} to be a string, received {shown(record[text])}"
            )
        texts.append(FoundText(row, record[text], spans))
    if rejected:
        _logger.warning("%s: skipped %s rejected or ignored records", name, f"{rejected:,}")
    if _is_min_export(records, key):
        form, documented = "Label Studio's JSON_MIN", False
    elif doccano or key in ("label", "labels"):
        form, documented = "doccano's form", False
    else:
        form, documented = "texts with entities", True
    return _examples(name, texts, f"{form}, entities from {key!r}", offsets, documented=documented)


# === Detection of the form ===


def _entity_key(name: str, records: _Records, text: str) -> str | None:
    """The key of the entities; None without one, or if the first record has words with tags."""
    shaped: dict[str, None] = {}
    for _, record in records:
        for key, value in record.items():
            if key != text and isinstance(value, list) and value and all(map(_is_span, value)):
                shaped[key] = None
    for key in _ENTITY_KEYS[:2]:
        if key in shaped:
            return key
    if len(shaped) == 1:
        return next(iter(shaped))
    if len(shaped) > 1:
        raise DataError(
            f"{name}: expected entities under one key, "
            f"received {', '.join(map(repr, shaped))}; choose "
            "one with `entities=KEY`"
        )
    if any(_is_words(records[0][1].get(key)) for key in _WORD_KEYS):
        return None
    return next((key for key in _ENTITY_KEYS if key in records[0][1]), None)


def _is_span(value: Any) -> bool:
    if isinstance(value, dict):
        return all(any(name in value for name in names) for names in (_STARTS, _ENDS, _LABELS))
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(part, int) for part in value[:2])
        and isinstance(value[2], str)
    )


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_min_export(records: _Records, key: str) -> bool:
    """Whether entities have lists of labels, as in Label Studio's JSON_MIN."""
    return any(
        isinstance(span, dict) and isinstance(span.get("labels"), list)
        for _, record in records
        if isinstance(record.get(key), list)
        for span in record[key]
    )


def _holds_tags(records: _Records, key: str) -> bool:
    """Whether a key's values are lists of strings or numbers, not of entities."""
    values = [value for _, record in records if isinstance(value := record.get(key), list)]
    return bool(values) and not any(
        isinstance(part, list | dict) for value in values for part in value
    )


def _tag_key(name: str, record: dict[str, Any]) -> str:
    keys = [key for key in _TAG_KEYS if isinstance(record.get(key), list)]
    if "ner_tags" in keys or len(keys) == 1:
        return keys[0]
    present = ", ".join(repr(clipped(one)) for one in list(record)[:8])
    raise DataError(
        f"{name}: expected the tags of the words under one key of {', '.join(_TAG_KEYS)}, received "
        f"{present}; choose one with `entities=KEY`"
    )


# === Records ===


def _checked_text(where: str, key: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: expected characters in {key!r}, received half of a surrogate pair"
        ) from None
    return value


def _spans(where: str, key: str, values: Any) -> tuple[list[FoundSpan], bool]:
    """The entities of a record, and whether they have doccano's keys."""
    if not isinstance(values, list):
        raise DataError(f"{where}: expected {key!r} to be a list, received {shown(values)}")
    spans, doccano = [], False
    for value in values:
        if isinstance(value, dict):
            start, end, label = (
                next((name for name in names if name in value), None)
                for names in (_STARTS, _ENDS, _LABELS)
            )
            if start is None or end is None or label is None:
                raise DataError(
                    f"{where}: expected an entity with start, end and label, "
                    f"received {shown(value)}"
                )
            doccano = doccano or start == "start_offset"
            labels = value[label] if isinstance(value[label], list) else [value[label]]
            spans += [FoundSpan(value[start], value[end], one, value.get("text")) for one in labels]
        elif isinstance(value, list) and len(value) == 3:
            spans.append(FoundSpan(*value))
        else:
            raise DataError(
                f"{where}: expected an entity as an object with start, end and label, or as "
                f"[start, end, label]; received {shown(value)}"
            )
    return spans, doccano


def _tagged(
    name: str,
    records: _Records,
    words_key: str,
    tags_key: str,
    text: str,
    tag_names: Sequence[str] | None,
) -> list[TaggedWords]:
    """The words and tags of records, without white-space tokens."""
    sentences, blank = [], 0
    for row, record in records:
        where = f"{name}:{row}"
        for key in (words_key, tags_key):
            if not isinstance(record.get(key), list):
                raise DataError(
                    f"{where}: expected {key!r} to be a list, received {shown(record.get(key))}"
                )
        words, tags = record[words_key], record[tags_key]
        if len(words) != len(tags):
            raise DataError(
                f"{where}: expected a tag for each word, "
                f"received {len(words)} in {words_key!r} and "
                f"{len(tags)} in {tags_key!r}"
            )
        sentence = TaggedWords()
        if isinstance(record.get(text), str):
            sentence.text = _checked_text(where, text, record[text])
        for word, tag in zip(words, tags, strict=True):
            if not isinstance(word, str):
                raise DataError(
                    f"{where}: expected {words_key!r} to be a list of strings, "
                    f"received {shown(word)} "
                    "in it"
                )
            word = _checked_text(where, words_key, word).strip()
            if not word:
                blank += 1
                continue
            sentence.words.append(word)
            sentence.tags.append(_tag_name(where, tag, tag_names))
            sentence.rows.append(row)
        if sentence.words:
            sentences.append(sentence)
    if blank:
        _logger.warning("%s: skipped %s white-space tokens", name, f"{blank:,}")
    if not sentences:
        raise DataError(f"{name}: expected at least one word, received none")
    return sentences


def _tag_name(where: str, tag: Any, names: Sequence[str] | None) -> str:
    if isinstance(tag, str) and tag.strip():
        return _checked_text(where, "tag", tag.strip())
    if not is_integer(tag):
        raise DataError(f"{where}: expected a tag as a string or a number, received {shown(tag)}")
    if names is None:
        raise DataError(
            f"{where}: expected tags as strings, received the number {tag}; give their names, by "
            "number, with `tag_names`, such as O,B-PER"
        )
    if not 0 <= tag < len(names):
        raise DataError(f"{where}: expected a tag from 0 to {len(names) - 1}, received {tag}")
    return names[tag]


def _examples(
    name: str, texts: Sequence[FoundText], source: str, offsets: OffsetUnit, *, documented: bool
) -> EntityExamples:
    """Converts texts and entities to examples; checks them and converts offsets to characters."""
    if not texts:
        raise DataError(f"{name}: expected at least one text with its entities, received none")
    for record in texts:
        _checked_text(f"{name}:{record.row}", "text", record.text)
    unit = in_characters(name, texts, offsets, documented=documented)
    entities = []
    for record in texts:
        where = f"{name}:{record.row}"
        own = []
        for span in record.spans:
            label = span.label.strip() if isinstance(span.label, str) else span.label
            entity = Entity(span.start, span.end, label)
            problem = entity_problem(entity, len(record.text))
            hint = ""
            if offsets != "utf16" and has_wide(record.text):
                hint = " (or UTF-16 units, with `offsets=utf16`)"
            if problem:
                raise DataError(
                    f"{where}: {problem}{'; offsets count characters' * bool(hint)}{hint}"
                )
            cut = record.text[entity.start : entity.end]
            if span.text is not None and not (
                span.text == cut if documented else same_text(str(span.text), cut)
            ):
                raise DataError(
                    f"{where}: expected the entity {clipped(str(span.text))!r} at {entity.start} "
                    f"to {entity.end}, received {clipped(cut)!r}; offsets count characters{hint}"
                )
            own.append(entity)
        entities.append(own)
    rows = [record.row for record in texts]
    examples = EntityExamples([record.text for record in texts], entities, None, rows, name)
    types = Counter(entity.label for row in examples.entities or () for entity in row)
    note = f"{source}{f' ({unit})' if unit else ''}: {counted_types(types)}"
    _logger.info("%s: %s", name, note)
    return replace(examples, note=note)

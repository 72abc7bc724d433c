"""The forms in which tasks accept text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import is_missing, listed, shown_places
from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.spans import EntityExamples
from keras_bert_zoo.errors import DataError


def as_examples(x: Any) -> Examples:
    """Converts texts from the forms that `fit` and `predict` accept.

    Args:
        x: list of str or bytes, or another column of them: a NumPy array, a pandas Series, a
            string tensor; a tuple of two columns for pairs; or Examples.

    Returns:
        Examples. They have labels only if `x` is Examples with labels.

    Raises:
        DataError: `x` is something else. The message names it and says what to pass instead.
    """
    if isinstance(x, Examples):
        return x
    pairs = None
    if isinstance(x, tuple):
        if len(x) != 2 or all(isinstance(part, str | bytes) for part in x):
            strings = x and isinstance(x[0], str | bytes)
            raise DataError(
                f"Expected a tuple of two lists for text pairs, received {len(x)} "
                f"{'strings; put texts in a list' if strings else 'elements'}."
            )
        x, pairs = x
    texts = as_texts(x)
    return Examples(texts, None if pairs is None else as_texts(pairs))


def as_texts(x: Any) -> list[Any]:
    """Converts one column of texts; see `as_examples`.

    Returns:
        list of str or bytes.

    Raises:
        DataError: `x` is not a column, or has elements that are not text.
    """
    texts = listed(x, flatten=True)
    missing = [f"text {index}" for index, text in enumerate(texts) if is_missing(text)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(texts)} texts are missing (None or NaN): "
            f"{shown_places(missing)}; leave these rows out, or make them empty strings."
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str | bytes):
            paired = isinstance(text, tuple | list) and len(text) == 2
            hint = "; pairs are a tuple of two lists, not a list of pairs" if paired else ""
            raise DataError(f"Text {index} is of type {type(text).__name__}; expected str{hint}.")
    return texts


def as_entity_examples(x: Any) -> EntityExamples:
    """Takes texts for a tagger.

    Args:
        x: EntityExamples, or what `as_examples` takes, without pairs.

    Returns:
        EntityExamples; without entities unless `x` has some.

    Raises:
        DataError: `x` does not contain single texts.
    """
    if isinstance(x, EntityExamples):
        return x
    examples = as_examples(x)
    if examples.text_pairs is not None:
        raise DataError("Expected texts, received pairs of texts. Pass a list of single texts.")
    return EntityExamples(examples.texts, rows=examples.rows, path=examples.path)


def with_entities(examples: EntityExamples, y: Any, labels: Sequence[str] = ()) -> EntityExamples:
    """Returns the same texts with other entities.

    Args:
        examples: EntityExamples.
        y: for each text a list of (start, end, label).
        labels: the model's types. A label that is not a string, such as 1 or True, is replaced by
            the type that `LabelMap.name_id` finds.

    Raises:
        DataError: the lengths differ, or an entity has another form.
    """
    rows = listed(y, "entities")
    if len(rows) != len(examples):
        raise DataError(f"There are {len(examples)} texts but entities of {len(rows)}.")
    names = LabelMap(tuple(labels))

    def named(entity: Any) -> Any:
        if not isinstance(entity, list | tuple) or len(entity) != 3 or isinstance(entity[2], str):
            return entity
        index = names.name_id(entity[2])
        return entity if index is None else (*entity[:2], names.names[index])

    for index, row in enumerate(rows):
        if not isinstance(row, list | tuple):
            raise DataError(
                f"{examples.where(index)}: expected a list of entities (start, end, label), "
                "received "
                f"{clipped(repr(row))}"
            )
    entities = [[named(entity) for entity in row] for row in rows]
    return dataclasses.replace(examples, entities=entities, note="")


def document_bytes(documents: Any) -> list[bytes]:
    """Returns the texts of a collection: of examples with `texts`, or of one column.

    Raises:
        DataError: there are no documents, or they are not texts.
    """
    if not (dataclasses.is_dataclass(documents) and hasattr(documents, "texts")):
        documents = as_examples(documents)
    if not len(documents.texts):
        raise DataError("There are no documents: expected at least one text.")
    return list(map(as_bytes, documents.texts))


def byte_span(text: str, start: int, part: str) -> tuple[int, int]:
    """Returns the byte offsets of a part of a text, which starts after `start` characters."""
    begin = len(as_bytes(text[:start]))
    return begin, begin + len(as_bytes(part))


def is_text(value: Any) -> bool:
    """Whether a value is a text, or a list, Series, array or tensor of texts, however nested."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    if not tf.is_tensor(value) and callable(getattr(value, "to_numpy", None)):
        value = value.to_numpy()  # a pandas column or table
    if isinstance(value, str | bytes):
        return True
    if tf.is_tensor(value):
        return bool(value.dtype == tf.string)
    return isinstance(value, np.ndarray) and value.dtype.kind in "OSU"


def as_bytes(text: str | bytes) -> bytes:
    """Encodes a text as UTF-8; lone surrogates pass through, as tokenizers handle them."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def as_str(text: str | bytes) -> str:
    """Decodes UTF-8; invalid bytes become U+FFFD."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def single_texts(x: Any) -> Examples:
    """Converts single texts; see `as_examples`.

    Raises:
        DataError: `x` has pairs of texts.
    """
    examples = as_examples(x)
    if examples.text_pairs is not None:
        raise DataError("Expected texts, received pairs of texts. Pass a list of single texts.")
    return examples

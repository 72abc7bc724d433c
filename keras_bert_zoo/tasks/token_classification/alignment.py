"""Entities as whole words: the alignment in which they are trained and compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.tasks.answering import as_bytes
from keras_bert_zoo.tasks.token_classification.entities import find_words
from keras_bert_zoo.text.tokenizer import Tokenizer

_TOKENIZED_AT_ONCE = 1024  # texts; bounds the memory that padding takes while tokenizing

_logger = logging.getLogger(__name__)


def words_of_entities(
    entities: Sequence[Entity],
    starts: np.ndarray,
    ends: np.ndarray,
    *,
    nested: bool = False,
) -> list[tuple[int, int] | None]:
    """Finds the words that entities overlap with.

    Args:
        entities: with starts and ends in the unit of the words, in the order of their starts.
        starts: int64 (N,). Where words begin.
        ends: int64 (N,). Where they end.
        nested: bool. Whether entities may share words; else the first has them.

    Returns:
        for each entity the number of its first word and that after its last; None: it has none.
    """
    found: list[tuple[int, int] | None] = []
    free = 0
    for start, end, _ in entities:
        first = int(np.searchsorted(ends, start, "right"))
        stop = int(np.searchsorted(starts, end, "left"))
        if not nested:
            first = max(free, first)
        if stop <= first:
            found.append(None)
            continue
        found.append((first, stop))
        free = stop
    return found


def aligned_entities(
    examples: EntityExamples,
    entities: Sequence[Sequence[Entity]],
    *,
    tokenizer: Tokenizer,
    word_flags: np.ndarray,
    max_length: int,
    stride: int,
    nested: bool,
    warn: bool = True,
) -> list[list[Entity]]:
    """Makes entities begin and end with words, as predicted ones do.

    Words are those of the examples, or else those of the tokenizer. What has no word stays as it
    is: no prediction can equal it.

    Args:
        examples: EntityExamples.
        entities: of each text, in characters.
        tokenizer: Tokenizer.
        word_flags: bool (vocabulary, 2), from `entities.word_flags`.
        max_length: int, tokens of a window.
        stride: int, tokens that windows share.
        nested: bool. Whether entities may share words.
        warn: bool. Whether to log how many had to move.

    Returns:
        the entities of each text, in characters.
    """
    aligned = [list(row) for row in entities]
    flags = tf.constant(word_flags)
    moved = lost = 0
    chosen = [index for index, row in enumerate(entities) if row]
    for begin in range(0, len(chosen), _TOKENIZED_AT_ONCE):
        part = chosen[begin : begin + _TOKENIZED_AT_ONCE]
        if examples.words is not None:
            bounds = [np.array(examples.words[index], np.int64).reshape(-1, 2).T for index in part]
        else:
            texts = [as_bytes(examples.texts[index]) for index in part]
            strings = tf.constant(texts, tf.string)
            cut = tokenizer.windows(strings, max_length=max_length, stride=stride)
            words = {n: v.numpy() for n, v in find_words(cut, stride, flags, strings).items()}
            of_bytes = np.stack([words["starts"], words["ends"]])
            splits = words["splits"]
            bounds = [
                np.searchsorted(_first_bytes(text), of_bytes[:, splits[i] : splits[i + 1]], "left")
                for i, text in enumerate(texts)
            ]
        for index, (starts, ends) in zip(part, bounds, strict=True):
            places = words_of_entities(entities[index], starts, ends, nested=nested)
            for number, place in enumerate(places):
                if place is None:
                    lost += 1
                    continue
                old = entities[index][number]
                first, stop = place
                end = ends[stop - 1] if nested else ends[first:stop].max()
                new = Entity(int(starts[first]), int(end), old.label)
                moved += new != old
                aligned[index][number] = new
    if warn and (moved or lost):
        _logger.warning(
            "%sof %s entities %s begin or end within a word and are compared as whole words; %s "
            "have no word of their own and cannot be found",
            f"{examples.path}: " if examples.path else "",
            f"{sum(map(len, entities)):,}",
            f"{moved:,}",
            f"{lost:,}",
        )
    return aligned


def _first_bytes(text: bytes) -> np.ndarray:
    """int64 (characters,). Where each character begins."""
    raw = np.frombuffer(text, np.uint8)
    return np.flatnonzero((raw & 0xC0) != 0x80)

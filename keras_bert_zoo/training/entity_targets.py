"""Entities as whole words, and the labels of a tagger's training windows.

Legend: B rows (windows), S longest window of a batch in tokens, L longest window of all, C types,
N words of a text.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.inputs import as_bytes
from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.data.tagging import Tagging
from keras_bert_zoo.heads.global_pointer import span_loss, span_scores
from keras_bert_zoo.text.offsets import byte_offsets
from keras_bert_zoo.text.words import WordWindows, candidate_spans
from keras_bert_zoo.training.loss_units import SharedUnit
from keras_bert_zoo.training.rows import in_parts, token_rows

__all__ = [
    "GlobalPointerLoss",
    "aligned_entities",
    "label_spans",
    "label_words",
    "overlapped_words",
]

_logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

# The label of a window is a table with these columns. It has one row per token or per entity, so
# that a batch of labels is one dense array.
_BEGINS, _ENDS = 0, 1  # of each token: 1 if an entity may begin or end there
_SPANS = slice(2, 5)  # of each entity: type, first and last column; -1 after the last entity
_LIMITS = 5  # in rows 0 and 1: the result of `decided_spans`
_COLUMNS = 6


def overlapped_words(
    entities: Sequence[Entity], starts: np.ndarray, ends: np.ndarray, *, nested: bool = False
) -> list[tuple[int, int] | None]:
    """Finds the words that entities overlap with.

    Args:
        entities: in the order of their starts; start and end in the unit of the words.
        starts: int64 (N,). Where words begin.
        ends: int64 (N,). Where they end.
        nested: bool. Whether entities may share words; otherwise the first one gets them.

    Returns:
        for each entity its first word, and the word after its last word; None without words.
    """
    ranges: list[tuple[int, int] | None] = []
    free = 0
    for start, end, _ in entities:
        first = int(np.searchsorted(ends, start, "right"))
        stop = int(np.searchsorted(starts, end, "left"))
        if not nested:
            first = max(free, first)
        ranges.append((first, stop) if first < stop else None)
        free = stop if first < stop else free
    return ranges


class _Aligned(NamedTuple):
    """An entity as whole words: its first word, the word after its last word, and its bytes."""

    first: int
    stop: int
    start: int
    end: int


def _align(
    text: bytes,
    entities: Sequence[Entity],
    starts: np.ndarray,
    ends: np.ndarray,
    *,
    nested: bool,
    counts: Counter[str],
) -> list[_Aligned | None]:
    """Aligns entities, in characters, with words, in bytes; None: an entity has no word.

    Counts the entities that begin or end within a word as "moved", those without words as "lost".
    """
    if not entities:
        return []
    offsets = byte_offsets(text)
    in_bytes = [Entity(int(offsets[e.start]), int(offsets[e.end]), e.label) for e in entities]
    aligned: list[_Aligned | None] = []
    ranges = overlapped_words(in_bytes, starts, ends, nested=nested)
    for entity, words in zip(in_bytes, ranges, strict=True):
        if words is None:
            counts["lost"] += 1
            aligned.append(None)
            continue
        end = ends[words[1] - 1] if nested else ends[slice(*words)].max()
        whole = _Aligned(*words, int(starts[words[0]]), int(end))
        aligned.append(whole)
        counts["moved"] += whole[2:] != entity[:2]
    return aligned


def _warn_of_misaligned(
    counts: Counter[str], total: int, *, use: str, consequence: str, path: str = ""
) -> None:
    if counts["moved"] or counts["lost"]:
        _logger.warning(
            "%sof %s entities %s begin or end within a word and are %s as whole words; %s have no "
            "word and %s",
            f"{path}: " if path else "",
            f"{total:,}",
            f"{counts['moved']:,}",
            use,
            f"{counts['lost']:,}",
            consequence,
        )


def _windows_in_parts(
    texts: Sequence[str | bytes],
    windows: WordWindows,
    find: Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]],
) -> Iterator[tuple[int, list[bytes], Arrays, Arrays]]:
    """Yields the number of the first text, some texts, their windows, and the result of `find`."""
    for part in in_parts(len(texts)):
        raw = [as_bytes(text) for text in texts[part]]
        strings = tf.constant(raw, tf.string)
        cut = windows.cut(strings)
        places = find(cut, strings)
        as_arrays = [{n: v.numpy() for n, v in values.items()} for values in (cut, places)]
        yield part.start, raw, as_arrays[0], as_arrays[1]


def aligned_entities(
    examples: EntityExamples,
    entities: Sequence[Sequence[Entity]],
    windows: WordWindows,
    *,
    nested: bool,
    warn: bool = True,
) -> list[list[Entity]]:
    """Makes entities begin and end with words, as predicted entities do.

    The words are those of the examples, or else those of the tokenizer. Entities without words are
    unchanged: no prediction can equal them.

    Args:
        examples: EntityExamples.
        entities: of each text, in characters.
        windows: WordWindows.
        nested: bool. Whether entities may share words.
        warn: bool. Whether to log how many entities are misaligned.

    Returns:
        the entities of each text, in characters.
    """
    aligned = [list(row) for row in entities]
    counts: Counter[str] = Counter()
    numbers = [number for number, row in enumerate(entities) if row]
    for number, text, starts, ends in _texts_with_words(examples, numbers, windows):
        row = _align(text, entities[number], starts, ends, nested=nested, counts=counts)
        offsets = byte_offsets(text)
        for place, entity in enumerate(row):
            if entity is not None:
                start, end = np.searchsorted(offsets, entity[2:], "left").tolist()
                aligned[number][place] = Entity(start, end, entities[number][place].label)
    if warn:
        total = sum(map(len, entities))
        _warn_of_misaligned(
            counts, total, use="compared", consequence="cannot be found", path=examples.path
        )
    return aligned


def _texts_with_words(
    examples: EntityExamples, numbers: Sequence[int], windows: WordWindows
) -> Iterator[tuple[int, bytes, np.ndarray, np.ndarray]]:
    """Yields the number, the bytes, and the starts and ends of words of the given texts."""
    if examples.words is not None:
        for number in numbers:
            text = as_bytes(examples.texts[number])
            places = np.array(examples.words[number], np.int64).reshape(-1, 2)
            starts, ends = byte_offsets(text)[places].T
            yield number, text, starts, ends
        return
    texts = [examples.texts[number] for number in numbers]
    for begin, raw, _, words in _windows_in_parts(texts, windows, windows.words):
        for index, text in enumerate(raw):
            own = slice(*words["splits"][index : index + 2])
            yield numbers[begin + index], text, words["starts"][own], words["ends"][own]


def label_words(
    examples: EntityExamples,
    targets: Sequence[list[Entity]],
    tagging: Tagging,
    windows: WordWindows,
    weights: np.ndarray | None = None,
) -> LabelledRows:
    """Cuts texts into windows and labels the words that each window decides.

    Args:
        examples: EntityExamples.
        targets: the entities of each text, checked.
        tagging: Tagging.
        windows: WordWindows.
        weights: float32, one per text, or None.

    Returns:
        LabelledRows, one row per window. Every word is labelled once.
    """
    outside = NO_LABEL if tagging.outside is None else tagging.outside
    counts: Counter[str] = Counter()
    labels, parts = [], []
    for begin, texts, cut, words in _windows_in_parts(examples.texts, windows, windows.words):
        tags = np.full(len(words["starts"]), outside, np.int32)
        for index, text in enumerate(texts):
            own = slice(*words["splits"][index : index + 2])
            entities = targets[begin + index]
            bounds = words["starts"][own], words["ends"][own]
            aligned = _align(text, entities, *bounds, nested=False, counts=counts)
            for entity, whole in zip(entities, aligned, strict=True):
                if whole is not None:
                    first, stop = whole[:2]
                    tags[own][first:stop] = tagging.tag_ids(entity.label, stop - first)
        table = np.full(cut["token_ids"].shape, NO_LABEL, np.int32)
        table[tuple(words["place"].T)] = tags
        labels.append(table[cut["padding_mask"] == 1])
        parts.append(_flat_windows(cut, begin))
    total = sum(map(len, targets))
    _warn_of_misaligned(counts, total, use="trained", consequence="are left out")
    return _labelled_rows(parts, weights, token_labels=np.concatenate(labels))


def _flat_windows(cut: Arrays, begin: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Token ids, segment ids and lengths of windows without padding; the number of their texts."""
    mask = cut["padding_mask"] == 1
    tokens = (cut["token_ids"][mask], cut["segment_ids"][mask], mask.sum(axis=1))
    return tokens, cut["document"] + begin


def _labelled_rows(
    parts: Sequence[tuple[Any, np.ndarray]],
    weights: np.ndarray | None,
    *,
    labels: np.ndarray | None = None,
    token_labels: np.ndarray | None = None,
) -> LabelledRows:
    """Joins results of `_flat_windows`."""
    tokens, texts = zip(*parts, strict=True)
    of_windows = None if weights is None else weights[np.concatenate(texts)]
    return LabelledRows(token_rows(tokens), labels, token_labels, of_windows)


def label_spans(
    examples: EntityExamples,
    targets: Sequence[list[Entity]],
    types: Sequence[str],
    windows: WordWindows,
    weights: np.ndarray | None = None,
) -> LabelledRows:
    """Cuts texts into windows and labels the entities that each window decides.

    Args:
        examples: EntityExamples.
        targets: the entities of each text, checked.
        types: the types of entities.
        windows: WordWindows.
        weights: float32, one per text, or None.

    Returns:
        LabelledRows, one row per window, with labels for `GlobalPointerLoss`.
    """
    type_ids = {kind: index for index, kind in enumerate(types)}
    counts: Counter[str] = Counter()
    spans: list[list[tuple[int, int, int]]] = []  # of each window
    parts, places = [], []
    in_windows = _windows_in_parts(examples.texts, windows, windows.span_candidates)
    for begin, texts, cut, tokens in in_windows:
        first_window = np.searchsorted(tokens["document"], np.arange(len(texts) + 1))
        lengths = cut["padding_mask"].sum(axis=1) - 2
        part_spans: list[list[tuple[int, int, int]]] = [[] for _ in lengths]
        for index, text in enumerate(texts):
            own = slice(*tokens["splits"][index : index + 2])
            here = np.arange(*first_window[index : index + 2])
            shifts = 1 - cut["window_start"][here]
            of_text = {name: tokens[name][own] for name in ("begins", "starts", "ends")}
            for label, first, last in _token_spans(text, targets[begin + index], of_text, counts):
                middles = first + last + 2 * shifts
                decides = (tokens["least"][here] <= middles) & (middles < tokens["limit"][here])
                window, shift = here[decides][0], int(shifts[decides][0])
                if first + shift < 1 or last + shift > lengths[window]:
                    counts["apart"] += 1
                    continue
                part_spans[window].append((type_ids[label], first + shift, last + shift))
        spans += part_spans
        parts.append(_flat_windows(cut, begin))
        places.append({n: tokens[n] for n in ("may_begin", "may_end", "least", "limit")})
    total = sum(map(len, targets))
    _warn_of_misaligned(counts, total, use="trained", consequence="are left out")
    if counts["apart"]:
        _logger.warning(
            "of %s entities %s are not contained in any window and are left out; a larger `stride` "
            "or `max_length` includes longer ones",
            f"{total:,}",
            f"{counts['apart']:,}",
        )
    return _labelled_rows(parts, weights, labels=_span_labels(places, spans, len(types)))


def _span_labels(
    places: Sequence[Arrays], spans: Sequence[list[tuple[int, int, int]]], types: int
) -> np.ndarray:
    """Makes the labels of windows, (windows, L, 6), from candidates and entities."""
    longest = max(2, *(part["may_begin"].shape[1] for part in places), *map(len, spans))
    largest = max(longest, types, *(part["limit"].max() for part in places))
    # int16 takes half the memory.
    labels = np.zeros((len(spans), longest, _COLUMNS), np.int16 if largest < 2**15 else np.int32)
    begin = 0
    for part in places:
        rows, columns = part["may_begin"].shape
        own = labels[begin : begin + rows]
        own[:, :columns, _BEGINS] = part["may_begin"]
        own[:, :columns, _ENDS] = part["may_end"]
        own[:, 0, _LIMITS], own[:, 1, _LIMITS] = part["least"], part["limit"]
        begin += rows
    labels[:, :, _SPANS] = -1
    for row, own_spans in enumerate(spans):
        if own_spans:
            labels[row, : len(own_spans), _SPANS] = own_spans
    return labels


def _token_spans(
    text: bytes, entities: Sequence[Entity], tokens: Arrays, counts: Counter[str]
) -> list[tuple[str, int, int]]:
    """Finds the label, the first and the last token of entities in a text, each once."""
    first_tokens = np.flatnonzero(tokens["begins"])
    last_tokens = np.append(first_tokens, len(tokens["begins"]))[1:] - 1
    starts = tokens["starts"][first_tokens]
    ends = np.maximum(starts, tokens["ends"][last_tokens])
    aligned = _align(text, entities, starts, ends, nested=True, counts=counts)
    spans = [
        (label, int(first_tokens[entity.first]), int(last_tokens[entity.stop - 1]))
        for entity, label in zip(aligned, (e.label for e in entities), strict=True)
        if entity is not None
    ]
    return list(dict.fromkeys(spans))


@keras.saving.register_keras_serializable("keras_bert_zoo")
class GlobalPointerLoss(keras.losses.Loss):
    """The loss of a GlobalPointer; see `heads.global_pointer.span_loss`.

    Args:
        types: int, C.
    """

    unit: ClassVar[SharedUnit] = "rows"

    def __init__(self, types: int) -> None:
        super().__init__(name="span_loss")
        self.types = types

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes float32 (B,) from labels of `label_spans`, (B, L, 6), and the head's output."""
        labels = tf.cast(y_true, tf.int32)
        columns = tf.shape(y_pred)[1]
        # With static shapes, the outputs may be wider than the labels. -1 marks nothing.
        missing = tf.maximum(columns - tf.shape(labels)[1], 0)
        labels = tf.pad(labels, [[0, 0], [0, missing], [0, 0]], constant_values=-1)
        candidates = candidate_spans(
            labels[:, :columns, _BEGINS] > 0,
            labels[:, :columns, _ENDS] > 0,
            labels[:, 0, _LIMITS],
            labels[:, 1, _LIMITS],
        )
        scores = span_scores(tf.cast(y_pred, tf.float32), self.types)
        spans = labels[:, :, _SPANS]
        is_span = spans[:, :, 0] >= 0
        rows = tf.broadcast_to(tf.range(tf.shape(spans)[0])[:, tf.newaxis], tf.shape(is_span))
        places = tf.concat([rows[:, :, tf.newaxis], spans], axis=2)
        places = tf.where(is_span[:, :, tf.newaxis], places, 0)
        # A place may be repeated, and scatter_nd adds repeated values.
        marked = tf.scatter_nd(places, tf.cast(is_span, tf.int32), tf.shape(scores))
        return span_loss(scores, candidates, marked > 0)

"""What a tagger of nested entities is trained towards.

Legend: B rows (windows), S tokens of a batch's longest, L of the longest of all, C types.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import LabelledRows, TokenRows
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.heads.global_pointer import span_loss, span_scores
from keras_bert_zoo.tasks.answering import as_bytes
from keras_bert_zoo.tasks.token_classification.alignment import words_of_entities
from keras_bert_zoo.tasks.token_classification.nested_entities import (
    candidate_spans,
    find_candidates,
)
from keras_bert_zoo.tasks.token_classification.training import TOKENIZED_AT_ONCE, byte_offsets
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.replicas import SharedUnit

_logger = logging.getLogger(__name__)

# A window's label is a table of so many columns and as many rows as the longest window has tokens,
# or entities. All a loss needs of a row, in what a batch of labels is: one dense array.
_BEGINS, _ENDS = 0, 1  # of each token: 1 where an entity may begin, or end
_SPANS = slice(2, 5)  # of each entity: type, first and last column; -1 behind the last
_LIMITS = 5  # in rows 0 and 1: what `decided_spans` returned
_COLUMNS = 6


def label_spans(
    examples: EntityExamples,
    targets: Sequence[list[Entity]],
    types: Sequence[str],
    *,
    tokenizer: Tokenizer,
    word_flags: np.ndarray,
    max_length: int,
    stride: int,
    weights: np.ndarray | None = None,
) -> LabelledRows:
    """Cuts texts into windows and gives each the entities that it decides on.

    Args:
        examples: EntityExamples.
        targets: the entities of each text, checked.
        types: the types that there are.
        tokenizer: Tokenizer.
        word_flags: bool (vocabulary, 2), from `entities.word_flags`.
        max_length: int, tokens of a window.
        stride: int, tokens that windows share.
        weights: float32, one a text, or None.

    Returns:
        LabelledRows, a row for each window, whose labels `SpanLoss` reads.
    """
    place_of = {kind: index for index, kind in enumerate(types)}
    flags = tf.constant(word_flags)
    parts: list[tuple[np.ndarray, ...]] = []
    spans: list[list[tuple[int, int, int]]] = []  # of each window
    bent = lost = apart = 0
    for begin in range(0, len(examples), TOKENIZED_AT_ONCE):
        texts = [as_bytes(text) for text in examples.texts[begin : begin + TOKENIZED_AT_ONCE]]
        strings = tf.constant(texts, tf.string)
        cut = tokenizer.windows(strings, max_length=max_length, stride=stride)
        found = {n: v.numpy() for n, v in find_candidates(cut, stride, flags, strings).items()}
        mask = cut["padding_mask"].numpy().astype(bool)
        document, window_start = found["document"], cut["window_start"].numpy()
        first_window = np.searchsorted(document, np.arange(len(texts) + 1))
        spans_here: list[list[tuple[int, int, int]]] = [[] for _ in document]
        for index, text in enumerate(texts):
            own = slice(*found["splits"][index : index + 2])
            chosen, bent_here, lost_here = align_spans(
                text,
                found["begins"][own],
                found["starts"][own],
                found["ends"][own],
                targets[begin + index],
            )
            bent, lost = bent + bent_here, lost + lost_here
            for kind, first, last in chosen:
                for window in range(*first_window[index : index + 2]):
                    shift = 1 - window_start[window]
                    middle = first + last + 2 * shift
                    if found["least"][window] <= middle < found["limit"][window]:
                        break
                length = mask[window].sum() - 2
                if first + shift < 1 or last + shift > length:
                    apart += 1
                    continue
                span = (place_of[kind], int(first + shift), int(last + shift))
                spans_here[window].append(span)
        spans += spans_here
        parts.append((
            cut["token_ids"].numpy()[mask],
            cut["segment_ids"].numpy()[mask],
            found["may_begin"][mask],
            found["may_end"][mask],
            mask.sum(axis=1),
            np.stack([found["least"], found["limit"]], axis=1),
            document + begin,
        ))  # fmt: skip
    count = sum(map(len, targets))
    if bent or lost:
        _logger.warning(
            "of %d entities %d begin or end within a word and are trained as whole words; %d "
            "have no word of their own and are left out",
            count,
            bent,
            lost,
        )
    if apart:
        _logger.warning(
            "of %d entities %d are in no window as a whole and are left out; a larger `stride` or "
            "`max_length` takes longer ones",
            count,
            apart,
        )
    ids, segments, may_begin, may_end, lengths, limits, documents = map(
        np.concatenate, zip(*parts, strict=True)
    )
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    longest = max(int(lengths.max()), 2, *(len(part) for part in spans))
    # Half of what 32 bits would take, wherever columns and their sums allow it.
    dtype = np.int16 if max(limits.max(), longest, len(types)) < 2**15 else np.int32
    labels = np.zeros((len(lengths), longest, _COLUMNS), dtype)
    labels[:, :, _SPANS] = -1
    labels[:, :2, _LIMITS] = limits
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.arange(len(rows)) - np.repeat(splits[:-1], lengths)
    labels[rows, columns, _BEGINS] = may_begin
    labels[rows, columns, _ENDS] = may_end
    for row, part in enumerate(spans):
        if part:
            labels[row, : len(part), _SPANS] = part
    return LabelledRows(
        TokenRows(ids, splits, segments),
        labels,
        weights=None if weights is None else weights[documents],
    )


def align_spans(
    text: bytes,
    begins: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    entities: Sequence[Entity],
) -> tuple[list[tuple[str, int, int]], int, int]:
    """Finds the tokens of entities: from the first of a word to the last of one.

    Args:
        text: bytes.
        begins: bool (tokens of the text,). Whether each begins a word.
        starts: int64 (tokens of the text,). Where they begin, in bytes.
        ends: int64 (tokens of the text,). Where they end.
        entities: in characters.

    Returns:
        list of (type, first token, last token), each once; how many entities begin or end within a
        word; and how many have no word, white space for one.
    """
    if not entities:
        return [], 0, 0
    words = np.flatnonzero(begins)
    last_tokens = np.append(words[1:], len(begins)) - 1
    word_starts = starts[words]
    word_ends = np.maximum(word_starts, ends[last_tokens])
    places = byte_offsets(text)
    found: dict[tuple[str, int, int], None] = {}
    bent = lost = 0
    in_bytes = [Entity(int(places[start]), int(places[end]), kind) for start, end, kind in entities]
    of_words = words_of_entities(in_bytes, word_starts, word_ends, nested=True)
    for entity, own in zip(in_bytes, of_words, strict=True):
        if own is None:
            lost += 1
            continue
        first, behind = own
        bent += int(word_starts[first] != entity.start or word_ends[behind - 1] != entity.end)
        found[entity.label, int(words[first]), int(last_tokens[behind - 1])] = None
    return list(found), bent, lost


class SpanLoss(keras.losses.Loss):
    """The loss of a GlobalPointer; see `heads.global_pointer.span_loss`.

    Args:
        types: int, C.
    """

    unit: ClassVar[SharedUnit] = "rows"

    def __init__(self, types: int) -> None:
        super().__init__(name="span_loss")
        self.types = types

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes float32 (B,) of what `label_spans` gives, (B, L, 6), and the head's output."""
        labels = tf.cast(y_true, tf.int32)
        columns = tf.shape(y_pred)[1]
        candidates = candidate_spans(
            labels[:, :columns, _BEGINS] > 0,
            labels[:, :columns, _ENDS] > 0,
            labels[:, 0, _LIMITS],
            labels[:, 1, _LIMITS],
        )
        scores = span_scores(tf.cast(y_pred, tf.float32), self.types)
        spans = labels[:, :, _SPANS]
        at = tf.where(spans[:, :, 0] >= 0)  # (V, 2)
        places = tf.concat([tf.cast(at[:, :1], tf.int32), tf.gather_nd(spans, at)], axis=1)
        # Integers, added up: a place may be named twice.
        marked = tf.scatter_nd(places, tf.ones_like(places[:, 0]), tf.shape(scores))
        return span_loss(scores, candidates, marked > 0)

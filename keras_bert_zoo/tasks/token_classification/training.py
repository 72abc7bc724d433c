"""What a tagger is trained towards and measured by.

Legend: B rows (windows), S tokens of the longest, N words of a text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows, TokenRows
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.layers.crf import ConditionalRandomField, sequence_loss
from keras_bert_zoo.tasks.answering import as_bytes, joined_widths
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.token_classification.alignment import words_of_entities
from keras_bert_zoo.tasks.token_classification.entities import Tagging, find_words
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.loop import was_validated
from keras_bert_zoo.training.replicas import SharedUnit

_logger = logging.getLogger(__name__)

TOKENIZED_AT_ONCE = 1024  # texts; bounds the memory that padding takes while tokenizing
_WINDOWS_AT_ONCE = 256  # in a batch of answers

_Place = tuple[int, int, bytes]


def label_windows(
    examples: EntityExamples,
    targets: Sequence[list[Entity]],
    tagging: Tagging,
    *,
    tokenizer: Tokenizer,
    word_flags: np.ndarray,
    max_length: int,
    stride: int,
    weights: np.ndarray | None = None,
) -> LabelledRows:
    """Cuts texts into windows and sets tags at the words that each window decides.

    Args:
        examples: EntityExamples.
        targets: the entities of each text, checked.
        tagging: Tagging.
        tokenizer: Tokenizer.
        word_flags: bool (vocabulary, 2), from `entities.word_flags`.
        max_length: int, tokens of a window.
        stride: int, tokens that windows share.
        weights: float32, one a text, or None.

    Returns:
        LabelledRows, a row for each window. Every word is labelled once.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    bent = lost = 0
    flags = tf.constant(word_flags)
    for begin in range(0, len(examples), TOKENIZED_AT_ONCE):
        texts = [as_bytes(text) for text in examples.texts[begin : begin + TOKENIZED_AT_ONCE]]
        strings = tf.constant(texts, tf.string)
        cut = tokenizer.windows(strings, max_length=max_length, stride=stride)
        words = {n: v.numpy() for n, v in find_words(cut, stride, flags, strings).items()}
        mask = cut["padding_mask"].numpy().astype(bool)
        tags = np.full(mask.shape, NO_LABEL, np.int32)
        for index, text in enumerate(texts):
            chosen = slice(*words["splits"][index : index + 2])
            found, bent_here, lost_here = align_tags(
                tagging,
                text,
                words["starts"][chosen],
                words["ends"][chosen],
                targets[begin + index],
            )
            bent, lost = bent + bent_here, lost + lost_here
            tags[tuple(words["place"][chosen].T)] = found
        parts.append((
            cut["token_ids"].numpy()[mask],
            cut["segment_ids"].numpy()[mask],
            tags[mask],
            mask.sum(axis=1),
            cut["document"].numpy() + begin,
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
    ids, segments, labels, lengths, documents = map(np.concatenate, zip(*parts, strict=True))
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return LabelledRows(
        TokenRows(ids, splits, segments),
        token_labels=labels,
        weights=None if weights is None else weights[documents],
    )


def batch_sizes(texts: Sequence[bytes], step: int, batch_size: int) -> np.ndarray:
    """How many texts like each of them go together, for the windows of all are in memory.

    Args:
        texts: list of bytes.
        step: int. New tokens of each further window.
        batch_size: int. The most.

    Returns:
        int64, one a text: powers of two, or `batch_size`.
    """
    # A token has some three bytes or more, in Chinese and in English.
    windows = np.array([1 + len(text) // (3 * step) for text in texts], np.int64)
    fitting = np.maximum(_WINDOWS_AT_ONCE // windows, 1)
    return np.minimum(2 ** np.floor(np.log2(fitting)).astype(np.int64), batch_size)


def answer_by_size(
    texts: Sequence[bytes], sizes: np.ndarray, answer: Callable[..., dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Answers texts, those of one size together.

    Args:
        texts: list of bytes.
        sizes: int, one a text: the batch size that it wants.
        answer: of texts and `batch_size`.

    Returns:
        dict of arrays with one row per text, in their order.
    """
    wanted = sorted(set(sizes.tolist())) or [1]
    if len(wanted) == 1:
        return answer(texts, batch_size=wanted[0])
    parts = []
    for size in wanted:
        chosen = [texts[index] for index in np.flatnonzero(sizes == size).tolist()]
        parts.append(answer(chosen, batch_size=size))
    back = np.argsort(np.argsort(sizes, kind="stable"))
    return {
        name: np.concatenate(joined_widths(*(part[name] for part in parts)))[back]
        for name in parts[0]
    }


def as_entity_examples(x: Any) -> EntityExamples:
    """Takes texts in the forms that a tagger takes.

    Args:
        x: EntityExamples, or what `as_examples` takes, without pairs.

    Returns:
        EntityExamples; without entities where `x` says nothing of them.

    Raises:
        DataError: `x` is not of texts.
    """
    if isinstance(x, EntityExamples):
        return x
    examples = as_examples(x)
    if examples.text_pairs is not None:
        raise DataError("Expected texts, got pairs of them: entities are found in one text.")
    return EntityExamples(examples.texts, None, None, examples.rows, examples.path)


def with_entities(examples: EntityExamples, y: Any, labels: Sequence[str] = ()) -> EntityExamples:
    """The same texts with other entities.

    Args:
        examples: EntityExamples.
        y: for each text a list of (start, end, label).
        labels: the types that there are. A label that is no string is the type that it stands for
            by the rule of `LabelMap.id_of`, but for ids: types have none.

    Returns:
        EntityExamples.

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

    entities = []
    for index, row in enumerate(rows):
        if not isinstance(row, list | tuple):
            raise DataError(
                f"{examples.where(index)}: expected a list of entities (start, end, label), got "
                f"{clipped(repr(row))}"
            )
        entities.append([named(entity) for entity in row])
    return EntityExamples(examples.texts, entities, examples.words, examples.rows, examples.path)


def align_tags(
    tagging: Tagging, text: bytes, starts: np.ndarray, ends: np.ndarray, entities: Sequence[Entity]
) -> tuple[np.ndarray, int, int]:
    """Gives each word of a text its tag.

    Args:
        tagging: Tagging.
        text: bytes.
        starts: int64 (N,). Where words begin, in bytes.
        ends: int64 (N,). Where they end.
        entities: in the order of their starts, without overlaps, in characters.

    Returns:
        int32 (N,) tags, `NO_LABEL` outside where there is no tag for that; how many entities begin
        or end within a word; and how many have no word, white space for one.
    """
    outside = tagging.outside
    tags = np.full(len(starts), NO_LABEL if outside is None else outside, np.int32)
    if not entities:
        return tags, 0, 0
    places = byte_offsets(text)
    in_bytes = [Entity(int(places[start]), int(places[end]), kind) for start, end, kind in entities]
    bent = lost = 0
    for entity, words in zip(in_bytes, words_of_entities(in_bytes, starts, ends), strict=True):
        if words is None:
            lost += 1
            continue
        first, behind = words
        bent += int(starts[first] != entity.start or ends[behind - 1] != entity.end)
        tags[first:behind] = tagging.tag_ids(entity.label, behind - first)
    return tags, bent, lost


def entity_difference(
    expected: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    tolerance: float,
    *,
    nested: bool = False,
) -> float | None:
    """Compares two answers to one text; entities that hang on a word of two like tags may differ.

    Where two readings of a text are as good as equally probable, one of them has an entity whose
    least sure word has a probability of a half or less, where the other has something else.

    Args:
        expected: name -> array, a row of a TokenClassifier's answers.
        got: another such row.
        tolerance: float. What rounding may do to a probability.
        nested: bool. Whether entities are decided on one by one, whatever overlaps with them.

    Returns:
        float, the largest difference of scores; None where the answers are different ones.
    """
    ours, theirs = _by_place(expected), _by_place(got)
    largest = 0.0
    for place in ours.keys() & theirs.keys():
        if ours[place][1:] != theirs[place][1:]:
            return None
        difference = abs(ours[place][0] - theirs[place][0])
        largest = max(largest, difference if difference >= 0 else np.inf)  # NaN is a difference
    unsure = 0.5 + 2 * tolerance
    for found, across in ((ours, theirs), (theirs, ours)):
        for place in found.keys() - across.keys():
            overlapping = [
                values[0]
                for other, values in across.items()
                if not nested and other[0] < place[1] and place[0] < other[1]
            ]
            if min([found[place][0], *overlapping]) > unsure:
                return None
    return largest


class CrfLoss(keras.losses.Loss):
    """The negative log-likelihood of the tags of rows, per word.

    Args:
        crf: ConditionalRandomField.
    """

    unit: ClassVar[SharedUnit] = "tokens"

    def __init__(self, crf: ConditionalRandomField) -> None:
        super().__init__(name="crf_loss")
        self.crf = crf

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes float32 (B,) of tags int32 (B, S), -1 where no word begins."""
        tags = tf.cast(y_true, tf.int32)
        labelled = tags >= 0
        lengths = tf.reduce_sum(tf.cast(labelled, tf.int32), axis=-1)
        # Words move up, in their order; at least one column, for the loops.
        order = tf.argsort(tf.cast(~labelled, tf.int32), axis=-1, stable=True)
        order = order[:, : tf.maximum(tf.reduce_max(lengths), 1)]
        losses = sequence_loss(
            tf.gather(tf.cast(y_pred, tf.float32), order, batch_dims=1),
            tf.gather(tags, order, batch_dims=1),
            lengths,
            *self.crf.parts(),
        )
        rows = tf.cast(tf.size(lengths), tf.float32)
        return losses * rows / tf.maximum(tf.cast(tf.reduce_sum(lengths), tf.float32), 1.0)


class TagAccuracy(keras.metrics.Mean):
    """The share of words whose likeliest tag is theirs."""

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> None:
        """Counts the words of a batch: tags int32 (B, S), -1 where no word begins."""
        tags = tf.cast(y_true, tf.int32)
        right = tf.equal(tags, tf.argmax(y_pred, axis=-1, output_type=tf.int32))
        super().update_state(tf.cast(right, tf.float32), tf.cast(tags >= 0, tf.float32))


class EntityF1(keras.callbacks.Callback):
    """Adds `val_precision`, `val_recall` and `val_f1` of entities to an epoch's metrics.

    Args:
        task: TokenClassifier.
        examples: EntityExamples, held out.
        entities: for each its entities, as `TokenClassifier.align_entities` gives them.
        batch_size: int.
    """

    def __init__(
        self,
        task: Any,
        examples: EntityExamples,
        entities: list[list[Entity]],
        batch_size: int,
    ) -> None:
        super().__init__()
        self.task, self.batch_size = task, batch_size
        self.examples, self.entities = examples, entities

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measures."""
        if not was_validated(logs):
            return
        report = self.task._report(self.examples, self.entities, self.batch_size)
        if logs is not None:
            logs["val_precision"], logs["val_recall"] = report.precision, report.recall
            logs["val_f1"] = report.f1


def entity_lists(
    answers: Mapping[str, np.ndarray],
) -> list[list[tuple[int, int, str, float]]]:
    """Lists the entities of each text, (start, end, label, score) in characters."""
    names = ("start_character", "end_character", "label", "score")
    return [
        [
            (int(start), int(end), str(label), float(score))
            for start, end, label, score in zip(*row, strict=True)
            if label
        ]
        for row in zip(*(answers[name] for name in names), strict=True)
    ]


def snap_to_words(
    spans: Sequence[tuple[int, int, str, float]], words: Sequence[tuple[int, int]]
) -> list[tuple[int, int, str, float]]:
    """Makes entities begin and end with words: those whose first character they hold.

    >>> snap_to_words([(0, 4, "PER", 0.5), (7, 9, "LOC", 0.5)], [(0, 3), (4, 9)])
    [(0, 3, 'PER', 0.5)]
    """
    begins = np.array([start for start, _ in words], np.int64)
    found = []
    for start, end, label, score in spans:
        first = int(np.searchsorted(begins, start, "left"))
        behind = int(np.searchsorted(begins, end, "left"))
        if first < behind:
            found.append((int(begins[first]), words[behind - 1][1], label, score))
    return found


def _by_place(answer: Mapping[str, np.ndarray]) -> dict[_Place, tuple[Any, ...]]:
    """Entities of one text: (start, end, label) -> score and the rest, as far as it is there."""
    rest = ("entity", "start_character", "end_character")
    return {
        (int(answer["start"][i]), int(answer["end"][i]), label): (
            float(answer["score"][i]),
            *(answer[name][i] for name in rest if name in answer),
        )
        for i, label in enumerate(answer["label"])
        if label
    }


def byte_offsets(text: bytes) -> np.ndarray:
    """int64 (characters + 1,). Where each character begins, and the text's end."""
    raw = np.frombuffer(text, np.uint8)
    return np.append(np.flatnonzero((raw & 0xC0) != 0x80), len(raw))

"""What a tagger is trained towards and measured by.

Legend: B rows (windows), S tokens of the longest, N words of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.data.spans import Entity
from keras_bert_zoo.layers.crf import ConditionalRandomField, sequence_loss
from keras_bert_zoo.tasks.entities import Tagging

_Place = tuple[int, int, bytes]


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
    places = _byte_offsets(text)
    bent = lost = free = 0
    for start, end, kind in entities:
        first = max(free, int(np.searchsorted(ends, places[start], "right")))
        behind = int(np.searchsorted(starts, places[end], "left"))
        if behind <= first:
            lost += 1
            continue
        bent += int(starts[first] != places[start] or ends[behind - 1] != places[end])
        tags[first:behind] = tagging.tag_ids(kind, behind - first)
        free = behind
    return tags, bent, lost


def entity_difference(
    expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], tolerance: float
) -> float | None:
    """Compares two answers to one text; entities that hang on a word of two like tags may differ.

    Where two readings of a text are as good as equally probable, one of them has an entity whose
    least sure word has a probability of a half or less, where the other has something else.

    Args:
        expected: name -> array, a row of a TokenClassifier's answers.
        got: another such row.
        tolerance: float. What rounding may do to a probability.

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
                if other[0] < place[1] and place[0] < other[1]
            ]
            if min([found[place][0], *overlapping]) > unsure:
                return None
    return largest


class CrfLoss(keras.losses.Loss):
    """The negative log-likelihood of the tags of rows, per word.

    Args:
        crf: ConditionalRandomField.
    """

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
    """Adds `val_precision`, `val_recall` and `val_f1` of entities to an epoch's metrics."""

    def __init__(self, task: Any, x: Any, y: Any, batch_size: int) -> None:
        super().__init__()
        self.task, self.x, self.y, self.batch_size = task, x, y, batch_size

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measures."""
        report = self.task.report(self.x, self.y, batch_size=self.batch_size)
        if logs is not None:
            logs["val_precision"], logs["val_recall"] = report.precision, report.recall
            logs["val_f1"] = report.f1


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


def _by_place(answer: Mapping[str, np.ndarray]) -> dict[_Place, tuple[float, bytes, int, int]]:
    """Entities of one text: (start, end, label) -> score and the rest."""
    return {
        (int(answer["start"][i]), int(answer["end"][i]), label): (
            float(answer["score"][i]),
            answer["entity"][i],
            int(answer["start_character"][i]),
            int(answer["end_character"][i]),
        )
        for i, label in enumerate(answer["label"])
        if label
    }


def _byte_offsets(text: bytes) -> np.ndarray:
    """int64 (characters + 1,). Where each character begins, and the text's end."""
    raw = np.frombuffer(text, np.uint8)
    return np.append(np.flatnonzero((raw & 0xC0) != 0x80), len(raw))

"""How a tagger reads entities: by a tag for each word, or by a score for each span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.layers.crf import ConditionalRandomField
from keras_bert_zoo.tasks.answering import largest_difference
from keras_bert_zoo.tasks.token_classification.entities import (
    Tagging,
    find_words,
    read_entities,
    read_tags,
)
from keras_bert_zoo.tasks.token_classification.nested_entities import (
    find_candidates,
    read_spans,
    read_token_spans,
)
from keras_bert_zoo.tasks.token_classification.nested_training import SpanLoss, label_spans
from keras_bert_zoo.tasks.token_classification.training import (
    CrfLoss,
    TagAccuracy,
    entity_difference,
    label_windows,
)
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss

Answers = dict[str, tf.Tensor]
Row = dict[str, np.ndarray]


class EntityDecoder(Protocol):
    """What a TokenClassifier asks of either way.

    Attributes:
        types: list of str. The types of entities, in the order of their ids.
        nested: bool. Whether entities may overlap.
    """

    nested: bool

    @property
    def types(self) -> list[str]:
        """See the class."""

    def find_places(
        self, windows: dict[str, tf.Tensor], stride: int, flags: tf.Tensor, texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """What `decode` needs to know of texts that were cut into windows."""

    def decode(self, outputs: tf.Tensor, places: dict[str, tf.Tensor], texts: tf.Tensor) -> Answers:
        """Makes entities of what the model returned; see `TokenClassifier`."""

    def answers(self, outputs: tf.Tensor) -> Answers:
        """What is said of token ids; see `TokenClassifier.answers`."""

    def constants(self) -> tuple[Any, ...]:
        """What a graph holds as constants."""

    def difference(self, expected: Row, got: Row, tolerance: float) -> float | None:
        """Compares two answers; see `AnsweringModel.answer_difference`."""

    def label(
        self, examples: EntityExamples, targets: Sequence[list[Entity]], **options: Any
    ) -> LabelledRows:
        """Cuts texts into windows and labels them; `options` as of `label_windows`."""

    def loss(self) -> keras.losses.Loss:
        """What is minimized."""

    def metrics(self) -> list[keras.metrics.Metric]:
        """What is measured of batches."""


class TagDecoder:
    """A tag for each word, told by its first token.

    Args:
        tagging: Tagging.
        legal_only: bool. Whether answers keep to the scheme.
        crf: ConditionalRandomField or None.
    """

    nested = False

    def __init__(
        self, tagging: Tagging, *, legal_only: bool, crf: ConditionalRandomField | None
    ) -> None:
        self.tagging = tagging
        self.legal_only = legal_only
        self.crf = crf

    @property
    def types(self) -> list[str]:
        """The types of entities."""
        return list(self.tagging.types)

    def find_places(
        self, windows: dict[str, tf.Tensor], stride: int, flags: tf.Tensor, texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Finds words."""
        return find_words(windows, stride, flags, texts)

    def decode(self, outputs: tf.Tensor, places: dict[str, tf.Tensor], texts: tf.Tensor) -> Answers:
        """Makes entities of the logits of windows."""
        logits = tf.gather_nd(outputs, places["place"])  # (N, C)
        tags, chances = read_tags(
            tf.ensure_shape(logits, [None, len(self.tagging.tags)]),
            places["splits"],
            self.path_scores(),
            probabilities_of_paths=self.crf is not None,
        )
        return read_entities(self.tagging, tags, chances, places, texts)

    def path_scores(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The scores of transitions, first and last tags; None where each word is for itself."""
        rules = self.tagging.rules()
        if not (self.legal_only and any(part.any() for part in rules)):
            return None if self.crf is None else self.crf.arrays()
        if self.crf is None:
            return rules
        transitions, starts, ends = (a + b for a, b in zip(rules, self.crf.arrays(), strict=True))
        return transitions, starts, ends

    def answers(self, outputs: tf.Tensor) -> Answers:
        """The likeliest tag of each token by itself."""
        return {
            "label": tf.gather(tf.constant(self.tagging.tags), tf.argmax(outputs, axis=-1)),
            "score": tf.reduce_max(tf.nn.softmax(outputs), axis=-1),
            "logits": outputs,
        }

    def constants(self) -> tuple[Any, ...]:
        """The tags and the scores of paths."""
        scores = self.path_scores()
        values = () if scores is None else tuple(part.tobytes() for part in scores)
        return (self.tagging.tags, self.tagging.scheme, values)

    def difference(self, expected: Row, got: Row, tolerance: float) -> float | None:
        """Compares two answers; entities that hang on a word of two like tags may differ."""
        if "logits" not in expected:
            return entity_difference(expected, got, tolerance)
        numbers = ("score", "logits")
        largest = max(largest_difference(expected[name], got[name]) for name in numbers)
        logits = expected["logits"]
        ids = {tag.encode(): index for index, tag in enumerate(self.tagging.tags)}
        for place in np.flatnonzero(expected["label"] != got["label"]):
            pair = (ids.get(expected["label"][place]), ids.get(got["label"][place]))
            if None in pair:  # padding of one of both
                return None
            first, second = (float(logits[place, index]) for index in pair)
            if abs(first - second) > 2 * tolerance * max(1.0, abs(first)):
                return None
        return largest

    def label(
        self, examples: EntityExamples, targets: Sequence[list[Entity]], **options: Any
    ) -> LabelledRows:
        """Sets tags at the words that each window decides."""
        return label_windows(examples, targets, self.tagging, **options)

    def loss(self) -> keras.losses.Loss:
        """Of each word, or of the sequence of tags."""
        if self.crf is not None:
            return CrfLoss(self.crf)
        # Keras' own does not take a weight a row beside labels that are left out.
        return SmoothedTokenLoss(0.0, name="sparse_categorical_crossentropy")

    def metrics(self) -> list[keras.metrics.Metric]:
        """The share of words with the right tag."""
        return [TagAccuracy()]


class SpanDecoder:
    """A score for each span and type: GlobalPointer.

    Args:
        types: list of str.
    """

    nested = True

    def __init__(self, types: Sequence[str]) -> None:
        self._types = list(types)

    @property
    def types(self) -> list[str]:
        """The types of entities."""
        return list(self._types)

    def find_places(
        self, windows: dict[str, tf.Tensor], stride: int, flags: tf.Tensor, texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Finds the tokens at which entities may begin or end."""
        return find_candidates(windows, stride, flags, texts)

    def decode(self, outputs: tf.Tensor, places: dict[str, tf.Tensor], texts: tf.Tensor) -> Answers:
        """Makes entities of the queries and keys of windows."""
        return read_spans(self._types, outputs, places, texts)

    def answers(self, outputs: tf.Tensor) -> Answers:
        """The spans of any tokens that score above 0."""
        return read_token_spans(self._types, outputs)

    def constants(self) -> tuple[Any, ...]:
        """The types."""
        return ("spans", *self._types)

    def difference(self, expected: Row, got: Row, tolerance: float) -> float | None:
        """Compares two answers; entities of a probability of about a half may be in one alone."""
        return entity_difference(expected, got, tolerance, nested=True)

    def label(
        self, examples: EntityExamples, targets: Sequence[list[Entity]], **options: Any
    ) -> LabelledRows:
        """Gives windows the entities that each decides on."""
        return label_spans(examples, targets, self._types, **options)

    def loss(self) -> keras.losses.Loss:
        """Of all spans together."""
        return SpanLoss(len(self._types))

    def metrics(self) -> list[keras.metrics.Metric]:
        """None: the entity F1 of held-out data says it."""
        return []

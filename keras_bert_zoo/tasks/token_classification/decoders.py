"""How a tagger makes entities of outputs: by a tag per word, or by a score per span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.data.tagging import Tagging
from keras_bert_zoo.layers.crf import ConditionalRandomField
from keras_bert_zoo.metrics.language_model import MaskedAccuracy
from keras_bert_zoo.tasks.predicting import largest_difference
from keras_bert_zoo.tasks.token_classification.entities import (
    Answers,
    entity_difference,
    read_entities,
    read_spans,
    read_tags,
    read_token_spans,
)
from keras_bert_zoo.text.words import WordWindows
from keras_bert_zoo.training.entity_targets import GlobalPointerLoss, label_spans, label_words
from keras_bert_zoo.training.token_loss import CrfLoss, SmoothedTokenLoss

Row = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class TagDecoder:
    """A tag per word, which the word's first token gets.

    Args:
        tagging: Tagging.
        legal_only: bool. Whether the tags of an answer follow the scheme.
        crf: ConditionalRandomField or None.
    """

    tagging: Tagging
    legal_only: bool
    crf: ConditionalRandomField | None

    @property
    def types(self) -> list[str]:
        """The types of entities, in the order of their ids."""
        return list(self.tagging.types)

    def find_places(
        self, finder: WordWindows, windows: dict[str, tf.Tensor], texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Finds the places of texts that `decode` needs: the words."""
        return finder.words(windows, texts)

    def decode(self, outputs: tf.Tensor, places: dict[str, tf.Tensor], texts: tf.Tensor) -> Answers:
        """Makes entities of the outputs of windows."""
        logits = tf.gather_nd(outputs, places["place"])  # (N, C)
        logits.set_shape([None, len(self.tagging.tags)])
        tags, probabilities = read_tags(
            logits,
            places["splits"],
            self.path_scores(),
            probabilities_of_paths=self.crf is not None,
        )
        return read_entities(self.tagging, tags, probabilities, places, texts)

    def path_scores(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The scores of transitions, first and last tags; None if words are independent."""
        rules = self.tagging.rules()
        if not (self.legal_only and any(part.any() for part in rules)):
            return None if self.crf is None else self.crf.arrays()
        if self.crf is None:
            return rules
        transitions, starts, ends = (a + b for a, b in zip(rules, self.crf.arrays(), strict=True))
        return transitions, starts, ends

    def answers(self, outputs: tf.Tensor) -> Answers:
        """Answers token ids without their texts; see `TokenClassifier.decode`."""
        return {
            "label": tf.gather(tf.constant(self.tagging.tags), tf.argmax(outputs, axis=-1)),
            "score": tf.reduce_max(tf.nn.softmax(outputs), axis=-1),
            "logits": outputs,
        }

    def constants(self) -> tuple[Any, ...]:
        """The constants of a graph."""
        scores = tuple(part.tobytes() for part in self.path_scores() or ())
        return (self.tagging.tags, self.tagging.scheme, scores)

    def difference(self, expected: Row, received: Row, tolerance: float) -> float | None:
        """Compares two answers; see `Task.answer_difference`."""
        if "logits" not in expected:
            return entity_difference(expected, received, tolerance)
        ids = {tag.encode(): index for index, tag in enumerate(self.tagging.tags)}
        for place in np.flatnonzero(expected["label"] != received["label"]):
            pair = [ids.get(row["label"][place], -1) for row in (expected, received)]
            if min(pair) < 0:  # padding of one answer
                return None
            first, second = expected["logits"][place][pair].astype(np.float64)
            if abs(first - second) > 2 * tolerance * max(1.0, abs(first)):
                return None
        return max(largest_difference(expected[n], received[n]) for n in ("score", "logits"))

    def label(
        self, examples: EntityExamples, targets: Sequence[list[Entity]], *options: Any
    ) -> LabelledRows:
        """Cuts texts into windows and labels them; `options` are those of `label_words`."""
        return label_words(examples, targets, self.tagging, *options)

    def loss(self) -> keras.losses.Loss:
        """The loss of training."""
        if self.crf is not None:
            return CrfLoss(self.crf)
        # Keras' loss cannot combine a weight per row with labels to ignore.
        return SmoothedTokenLoss(0.0, name="sparse_categorical_crossentropy")

    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics of batches: the share of words with the right tag."""
        return [MaskedAccuracy()]


@dataclass(frozen=True)
class SpanDecoder:
    """A score per span and type: GlobalPointer. Methods are those of `TagDecoder`.

    Args:
        types: list of str. The types of entities, in the order of their ids.
    """

    types: list[str]

    def find_places(
        self, finder: WordWindows, windows: dict[str, tf.Tensor], texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Finds the tokens at which entities may begin or end."""
        return finder.span_candidates(windows, texts)

    def decode(self, outputs: tf.Tensor, places: dict[str, tf.Tensor], texts: tf.Tensor) -> Answers:
        """Makes entities of the queries and keys of windows."""
        return read_spans(self.types, outputs, places, texts)

    def answers(self, outputs: tf.Tensor) -> Answers:
        """Returns the spans of any tokens that score above 0."""
        return read_token_spans(self.types, outputs)

    def constants(self) -> tuple[Any, ...]:
        """The types."""
        return ("spans", *self.types)

    def difference(self, expected: Row, received: Row, tolerance: float) -> float | None:
        """Compares two answers; entities of a probability of about a half may be in one alone."""
        return entity_difference(expected, received, tolerance, nested=True)

    def label(
        self, examples: EntityExamples, targets: Sequence[list[Entity]], *options: Any
    ) -> LabelledRows:
        """Cuts texts into windows and labels them; `options` are those of `label_spans`."""
        return label_spans(examples, targets, self.types, *options)

    def loss(self) -> keras.losses.Loss:
        """The loss of all spans of a window together."""
        return GlobalPointerLoss(len(self.types))

    def metrics(self) -> list[keras.metrics.Metric]:
        """None: the entity F1 of held-out data replaces them."""
        return []

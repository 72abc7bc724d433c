"""Rows of tokens in memory, and their masked batches with the labels of all objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.replaced_token import REPLACED_TOKENS
from keras_bert_zoo.pretraining.targets import TargetsOf
from keras_bert_zoo.training.rows import MaskedBatches

__all__ = ["PretrainingBatches", "as_documents"]

_PAIR_LABEL = "pair_label"


@dataclass(frozen=True)
class PretrainingBatches(MaskedBatches):
    """Batches of masked rows, with the labels of several objectives.

    Args:
        data: LabelledRows, whose token labels number the words.
        pad_id: int. The token id of padding.
        masking: Masking.
        mask_id: int. The mask token.
        vocabulary_size: int.
        objectives: the names of the objectives.
        pair_labels: int32 (rows,), the labels of pairs; None without an objective of pairs.
    """

    objectives: tuple[str, ...]
    pair_labels: np.ndarray | None = None

    @property
    def label_axis(self) -> Any:
        """See the base class."""
        axes = {"masked_lm": "predictions", REPLACED_TOKENS: "tokens"}
        return {name: axes[name] for name in self.objectives if name in axes}

    def maker(self) -> Callable[[tf.Tensor], tuple[Any, ...]]:
        """See the base class; the labels of pairs are among the inputs until words are masked."""
        make = super().maker()
        if self.pair_labels is None:
            return make
        with tf.device("CPU:0"):
            labels = tf.constant(self.pair_labels, tf.int32)

        def with_labels(numbers: tf.Tensor) -> tuple[Any, ...]:
            inputs, words = make(numbers)
            return {**inputs, _PAIR_LABEL: tf.gather(labels, numbers)}, words

        return with_labels

    def batches(self, **options: Any) -> tf.data.Dataset:
        """See the base class; targets are a dict, objective -> int32 labels."""
        return super().batches(**options).map(self._targets)

    def one_batch(self, *, seed: int) -> tuple[Any, ...]:
        """See the base class."""
        return self._targets(*super().one_batch(seed=seed))

    def _targets(self, inputs: dict[str, Any], labels: tf.Tensor) -> tuple[Any, ...]:
        inputs = dict(inputs)
        pair = inputs.pop(_PAIR_LABEL, None)
        targets = {name: labels if name == "masked_lm" else pair for name in self.objectives}
        return TargetsOf(self.objectives)(inputs, targets)


def as_documents(x: Any) -> list[list[str]] | None:
    """Returns lists of sentences, or None for another kind of data.

    Raises:
        DataError: a sentence is not a str.
    """
    if not isinstance(x, list) or not x or not all(isinstance(d, list) for d in x):
        return None
    if not all(isinstance(sentence, str) for document in x for sentence in document):
        raise DataError("Expected documents of sentences, lists of lists of str.")
    return x

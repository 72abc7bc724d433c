"""The targets of the objectives of pretraining, with their loss and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.metrics.language_model import LabelLoss, MaskedAccuracy
from keras_bert_zoo.metrics.replaced_token import (
    REPLACED_TOKENS,
    ReplacedTokenAccuracy,
    ReplacedTokenLoss,
)
from keras_bert_zoo.pretraining.replaced_tokens import original_tokens
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.objectives_loss import ObjectivesLoss
from keras_bert_zoo.training.outputs import Outputs

__all__ = ["TargetsOf", "sum_of_objectives"]


class TargetsOf:
    """Makes the targets of some objectives from those that the data have.

    Args:
        objectives: their names.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self.objectives = tuple(objectives)

    def __call__(
        self, inputs: dict[str, tf.Tensor], targets: Mapping[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the inputs and the targets of a batch.

        Args:
            inputs: the inputs of a Pretrainer.
            targets: int32 (B, P) or (B,), by objective; of others, too.
        """
        chosen = {name: targets[name] for name in self.objectives if name != REPLACED_TOKENS}
        if REPLACED_TOKENS in self.objectives:
            chosen[REPLACED_TOKENS] = original_tokens(inputs, targets["masked_lm"])
        return inputs, chosen


def sum_of_objectives(weights: Mapping[str, float], owner: str) -> Objective:
    """Returns the weighted sum of the losses of objectives, and their metrics.

    Args:
        weights: dict, objective -> weight of its loss.
        owner: str. The name of the task, for messages.
    """
    names = tuple(weights)

    def metrics_of(name: str) -> list[keras.metrics.Metric]:
        # Keras puts the name of an output before that of a metric if there are several outputs.
        before = f"{name}_" if len(names) == 1 else ""
        if name == REPLACED_TOKENS:
            return [ReplacedTokenLoss(f"{before}loss"), ReplacedTokenAccuracy(f"{before}accuracy")]
        return [LabelLoss(f"{before}loss"), MaskedAccuracy(f"{before}accuracy")]

    def metrics() -> Any:  # by the name of the output
        return {name: metrics_of(name) for name in names}

    return Objective(
        outputs=Outputs("other", owner),
        loss=lambda: ObjectivesLoss(weights),
        metrics=metrics,
        takes_weights=False,
    )

"""Measures of a pretrained encoder on held-out examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.metrics.language_model import label_nats
from keras_bert_zoo.metrics.replaced_token import (
    REPLACED_TOKENS,
    base_rate_entropy,
    labels_and_logits,
)

__all__ = ["KINDS", "pretraining_report"]

KINDS = ("mask", "random", "kept")
"""The inputs in the place of a token to predict: a mask, a random token, or the token."""

_REPLACED = "replaced"


def pretraining_report(task: Any, batches: Iterable[Any]) -> dict[str, float]:
    """Computes the losses and the accuracies of all objectives.

    Args:
        task: Pretrainer.
        batches: pairs of inputs and targets; see `Pretrainer`.

    Returns:
        dict: `loss`, the weighted sum; `masked_lm_loss` in nats, `masked_lm_accuracy`, the same for
        the other objectives; and the accuracy by `KINDS`, such as `masked_lm_accuracy_random`, of
        the kinds that occur. With replaced token detection also `replaced_share`, and
        `replaced_share_entropy`: the loss of a detector that only knows this share, in nats.
    """
    key = ("report", *(id(variable) for variable in task.weights))
    if key not in task.graphs:

        def counts(inputs: Any, targets: Any) -> Any:
            return _counts(task, inputs, targets)

        task.graphs[key] = tf.function(counts, reduce_retracing=True, autograph=False)
    totals: dict[str, np.ndarray] = {}
    for inputs, targets in batches:
        for name, values in task.graphs[key](inputs, targets).items():
            totals[name] = totals.get(name, 0) + values.numpy().astype(np.float64)
    report = {}
    for name, (nats, right, count) in totals.items():
        if name == _REPLACED:
            report["replaced_share"] = float(right / count)
            report["replaced_share_entropy"] = base_rate_entropy(float(right / count))
            continue
        objective, _, kind = name.partition(" ")
        if not count:
            continue
        if not kind:
            report[f"{objective}_loss"] = float(nats / count)
        report[f"{objective}_accuracy{'_' * bool(kind)}{kind}"] = float(right / count)
    weights = task.options.objective_weights
    total = sum(weights[name] * report.get(f"{name}_loss", 0.0) for name in weights)
    return {"loss": total, **report}


def _counts(task: Any, inputs: dict[str, tf.Tensor], targets: dict[str, tf.Tensor]) -> Any:
    """Name -> float32 (3,): the sum of nats, the right predictions, and the labels."""
    outputs = task(inputs, training=False)
    result = {}
    for name, logits in outputs.items():
        labels, logits = labels_and_logits(name, targets[name], logits)
        nats, labelled = label_nats(labels, logits)
        right = tf.cast(labels == tf.argmax(logits, axis=-1, output_type=tf.int32), nats.dtype)

        def of(which: tf.Tensor, nats: tf.Tensor = nats, right: tf.Tensor = right) -> tf.Tensor:
            return tf.stack([tf.reduce_sum(values * which) for values in (nats, right, which)])

        result[name] = of(labelled)
        if name == REPLACED_TOKENS:
            result[_REPLACED] = of(labelled, right=tf.cast(labels == 1, nats.dtype))
        if name == "masked_lm":
            seen = tf.gather(inputs["token_ids"], inputs["mask_positions"], batch_dims=1)
            is_mask = seen == task.tokenizer.mask_token_id
            same = (seen == labels) & ~is_mask
            for kind, chosen in zip(KINDS, (is_mask, ~(is_mask | same), same), strict=True):
                chosen &= labels != NO_LABEL
                result[f"{name} {kind}"] = of(tf.cast(chosen, nats.dtype))
    return result

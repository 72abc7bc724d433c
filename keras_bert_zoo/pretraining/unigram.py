"""The loss of a unigram model: the least that a masked language model should learn to beat."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.pretraining.dataset import PretrainingData
from keras_bert_zoo.pretraining.reading import RecordBatches
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.schedules import BudgetDecay

__all__ = ["UnigramWarning", "unigram_loss"]

_logger = logging.getLogger(__name__)

_RECORDS = 100_000
"""Training examples that are counted, at most; more do not change the loss by 0.01 nats."""


def unigram_loss(data: PretrainingData, tokenizer: Tokenizer, *, records: int = _RECORDS) -> float:
    """Computes the held-out cross-entropy of the frequencies of tokens, in nats per token.

    It is the loss of a model that ignores the context. Tokens that are never masked, the special
    tokens, are not counted. With static masks, masked tokens count as the original ones.

    Args:
        data: PretrainingData with held-out examples.
        tokenizer: Tokenizer of the data.
        records: int. The largest number of training examples, and of held-out ones, to read.

    Returns:
        float.

    Raises:
        ConfigError: no example is held out.
        DataError: the examples have no token that can be masked.
    """
    special = [tokenizer.token_to_id(token) for token in tokenizer.special_tokens]
    counts = []
    for heldout in (False, True):
        count = np.zeros(tokenizer.vocabulary_size, np.int64)
        batches = RecordBatches(data=data, heldout=heldout, batch_size=1024, by_length=False)
        read = 0
        for batch in batches.read(passes=1):
            count += np.bincount(batch["token_ids"].flat_values.numpy(), minlength=len(count))
            if data.static_masks:
                original = batch["masked_token_ids"].flat_values.numpy()
                count += np.bincount(original, minlength=len(count))
            read += len(batch["number"])
            if read >= records:
                break
        count[special] = 0
        counts.append(count)
    train, held_out = counts
    if not held_out.sum():
        raise DataError(f"{data.directory}: expected held-out tokens, received special ones only")
    known = np.ones(len(train))
    known[special] = 0
    smoothed = train + known  # a token that only the held-out examples have
    log_p = np.log(smoothed / smoothed.sum(), where=smoothed > 0, out=np.zeros(len(train)))
    return float(-(held_out * log_p).sum() / held_out.sum())


class UnigramWarning(keras.callbacks.Callback):
    """Warns once if the held-out loss after the warm-up is above that of a unigram model.

    Args:
        loss: float. See `unigram_loss`.
        warmup_steps: int. Evaluations before it are ignored. With a `BudgetDecay`, those in its
            warm-up are ignored.
        name: str. The metric to compare.
    """

    def __init__(self, loss: float, *, warmup_steps: int, name: str = "val_masked_lm_loss") -> None:
        super().__init__()
        self.loss = loss
        self.warmup_steps = warmup_steps
        self.name = name
        self.warned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the losses."""
        value = (logs or {}).get(self.name)
        steps = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        if value is None or self.warned or self._warms_up(steps) or value < self.loss:
            return
        self.warned = True
        _logger.warning(
            "after %d steps, the held-out loss %.3f is above the loss of a unigram model, %.3f: "
            "the model has learned no context yet; if it does not fall soon, check the data, or "
            "use another learning rate",
            steps, float(value), self.loss,
        )  # fmt: skip

    def _warms_up(self, steps: int) -> bool:
        schedule = getattr(self.model.optimizer, "_learning_rate", None)
        if isinstance(schedule, BudgetDecay):
            elapsed = float(keras.ops.convert_to_numpy(schedule.elapsed))
            return elapsed <= schedule.warmup_fraction * schedule.budget_seconds
        return steps <= self.warmup_steps

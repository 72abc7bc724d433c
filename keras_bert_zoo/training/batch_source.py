"""Batches that a run reads from files, from any step on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

__all__ = ["BatchSource", "check_alone"]


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """Batches of model inputs and targets that are too many for the memory.

    `Task.batch_source` makes it from the data that `fit` and `evaluate` receive.

    Args:
        steps: int. Batches of a pass over the data.
        total_steps: int or None. Batches of the whole run; None: passes go on without an end.
        batch_size: int. The largest number of examples of a batch.
        hash: str. Differs if the data or the batches do.
        batches: makes the batches of the run from a step on. It must not read what is before.
        one_pass: makes the batches of one pass, in a fixed order, for evaluation.
        examples_of: names the examples in the batch of a step.
        check: raises DataError if a file that is read around a step is damaged.
        lengths: int (E,). The lengths of examples as the batches have them: a sample, or all.
        tokens: int. Tokens of a pass.
        examples: int. Examples of a pass.
        predicted: float. The share of tokens that a masked language model predicts.
        columns: int. The number of columns of all batches, for static shapes; 0: it varies.
    """

    steps: int
    batch_size: int
    hash: str
    batches: Callable[[int], tf.data.Dataset]
    one_pass: Callable[[], tf.data.Dataset]
    examples_of: Callable[[int], list[str]]
    check: Callable[[int], None]
    lengths: Callable[[], np.ndarray]
    tokens: int
    examples: int
    predicted: float = 0.0
    total_steps: int | None = None
    columns: int = 0

    def mapped(self, function: Callable[..., tuple[Any, ...]]) -> BatchSource:
        """Returns a source whose batches are changed.

        Args:
            function: (inputs, targets) -> inputs, targets.
        """
        return replace(
            self,
            batches=lambda step: [
                (piece.map(function), rows) for piece, rows in self.batches(step)
            ],
            one_pass=lambda: self.one_pass().map(function),
        )


def check_alone(**options: object) -> None:
    """Raises ConfigError for options that need examples in memory: name -> value, or falsy."""
    given = [f"`{name}`" for name, value in options.items() if value is not None and value != 0]
    if given:
        it = "it" if len(given) == 1 else "them"
        raise ConfigError(
            f"Expected no {', '.join(given)} with data that is read from files, received {it}: "
            f"leave {it} out."
        )

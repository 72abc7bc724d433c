"""The plan of a pretraining run: shapes, memory, tokens and time of each phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_bert_zoo.data.pipeline import LabelledRows, TokenRows
from keras_bert_zoo.training.plan import TrainingPlan, make_plan
from keras_bert_zoo.training.rows import LabelledBatches

__all__ = ["PhasePlan", "plan_lines", "plan_phase"]

_ROWS = 2048  # of a sample, at most


@dataclass(frozen=True)
class PhasePlan:
    """The plan of a phase.

    Args:
        max_length: int. Tokens of an example, at most.
        rows: int. Rows of a batch.
        tokens: float. Tokens of a step, without padding.
        steps: int or None. None: unknown, as time ends the run.
        plan: TrainingPlan of a sample of the batches.
    """

    max_length: int
    rows: int
    tokens: float
    steps: int | None
    plan: TrainingPlan

    @property
    def seconds(self) -> float | None:
        """The predicted time of all steps, without evaluation; None: unknown."""
        return None if self.steps is None else self.steps * self.plan.step.seconds

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers, for JSON."""
        plan = self.plan.to_dict()
        names = ("memory", "memory_limit", "fits", "parameters", "flops_per_step", "padding",
                 "seconds_per_step", "dtype")  # fmt: skip
        return {
            "max_length": self.max_length,
            "rows_per_step": self.rows,
            "tokens_per_step": self.tokens,
            "steps": self.steps,
            "seconds": self.seconds,
            **{name: plan[name] for name in names},
        }


def plan_phase(
    task: Any,
    lengths: np.ndarray,
    *,
    max_length: int,
    rows: int,
    steps: int | None,
    **options: Any,
) -> PhasePlan:
    """Plans a phase from a sample of its examples.

    Args:
        task: Task.
        lengths: int (E,). Tokens of the examples of the sample.
        max_length: int. The largest possible length.
        rows: int. Rows of a batch, over all replicas.
        steps: int or None.
        **options: see `training.plan.make_plan`.

    Returns:
        PhasePlan.
    """
    count = max(rows, min(_ROWS // rows * rows, len(lengths) // rows * rows))
    lengths = np.resize(lengths, count)
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.zeros(splits[-1], np.int32)
    sample = LabelledRows(TokenRows(tokens, splits), token_labels=tokens)
    batches = LabelledBatches(sample, task.tokenizer.pad_token_id)
    plan = make_plan(task, batches, batch_size=rows, epochs=1, **options)
    return PhasePlan(max_length, rows, rows * float(lengths.mean()), steps, plan)


def plan_lines(phases: Sequence[PhasePlan]) -> list[str]:
    """Returns the plans of all phases as lines of text."""
    lines = []
    for number, phase in enumerate(phases, 1):
        steps = "steps until the end" if phase.steps is None else f"{phase.steps:,} steps"
        lines.append(
            f"phase {number}: {steps}, each with {phase.rows:,} rows of at most "
            f"{phase.max_length} tokens, {phase.tokens:,.0f} tokens in all"
        )
        shown = ("parameters", "memory", "operations")
        lines += [f"  {line}" for line in phase.plan.lines() if line.startswith(shown)]
        time = f"{phase.plan.step.seconds:.3g} s per step"
        if phase.seconds is not None:
            time += f", {phase.seconds / 60:.3g} minutes without evaluation"
        lines.append(f"  {'time':<11} {time}")
    return lines

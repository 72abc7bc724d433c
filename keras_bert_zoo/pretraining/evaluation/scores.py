"""Scores of several seeds: medians, the table and the average of a suite."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_zoo.metrics.classification import format_table

__all__ = ["average", "best_seed", "score_table", "summary"]

Runs = Mapping[int, Mapping[str, float]]
"""Seed -> measure -> score."""


def summary(runs: Runs) -> dict[str, dict[str, Any]]:
    """Returns measure -> `values` by seed, `median`, `lowest` and `highest`.

    >>> summary({0: {"accuracy": 0.5}, 1: {"accuracy": 0.75}, 2: {"accuracy": 0.25}})["accuracy"]
    {'values': [0.5, 0.75, 0.25], 'median': 0.5, 'lowest': 0.25, 'highest': 0.75}

    Args:
        runs: the scores of each seed.
    """
    names = list(next(iter(runs.values()), {}))
    values = {name: [runs[seed][name] for seed in sorted(runs)] for name in names}
    return {
        name: {
            "values": row,
            "median": statistics.median(row),
            "lowest": min(row),
            "highest": max(row),
        }
        for name, row in values.items()
    }


def best_seed(runs: Runs) -> int:
    """Returns the seed with the highest mean of its scores; the smallest of equal ones."""
    return max(sorted(runs), key=lambda seed: statistics.fmean(runs[seed].values()))


def average(results: Mapping[str, Runs]) -> float:
    """The mean over tasks of the mean of their medians, as GLUE's average is defined.

    >>> average({"RTE": {0: {"accuracy": 0.5}}, "MRPC": {0: {"accuracy": 0.75, "F1": 0.25}}})
    0.5

    Args:
        results: task -> scores of each seed; at least one task.
    """
    return statistics.fmean(
        statistics.fmean(row["median"] for row in summary(runs).values())
        for runs in results.values()
    )


def score_table(results: Mapping[str, Runs]) -> str:
    """Formats one line per measure of each task, and the average of several tasks.

    Args:
        results: task -> scores of each seed.
    """
    table: list[Sequence[str]] = [["task", "measure", "median", "lowest", "highest", "seeds"]]
    for name, runs in results.items():
        for measure, row in summary(runs).items():
            numbers = [f"{row[key]:.4f}" for key in ("median", "lowest", "highest")]
            table.append([name, measure, *numbers, str(len(runs))])
    if len(results) > 1:
        table.append(["average", "", f"{average(results):.4f}", "", "", ""])
    return format_table([list(row) for row in table])

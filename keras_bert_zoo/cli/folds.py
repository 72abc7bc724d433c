"""Cross-validation of train: a model for each fold, its metrics and its predictions."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli.messages import json_text, show
from keras_bert_zoo.cli.output import written_file

if TYPE_CHECKING:
    import numpy as np

    from keras_bert_zoo.cli.tasks.base import TaskCommand


@dataclass(frozen=True)
class FoldScores:
    """The metrics of all folds.

    Args:
        values: metric -> one float per fold.
    """

    values: dict[str, list[float]]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Returns metric -> `values`, `mean` and `std`: the deviation of a sample (n - 1)."""
        import numpy as np

        return {
            name: {
                "values": values,
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)),
            }
            for name, values in self.values.items()
        }

    def table(self) -> list[str]:
        """Formats a line per metric."""
        count = len(next(iter(self.values.values()), []))
        names = [f"fold {number}" for number in range(1, count + 1)]
        width = max((len(name) for name in self.values), default=0)
        lines = [f"{'':{width}}" + "".join(f"{name:>9}" for name in (*names, "mean", "std"))]
        for name, row in self.summary().items():
            numbers = (*row["values"], row["mean"], row["std"])
            lines.append(
                f"{name.replace('_', ' '):{width}}" + "".join(f"{n:9.4f}" for n in numbers)
            )
        return lines


def cross_validate(
    args: argparse.Namespace,
    command: TaskCommand,
    examples: Any,
    folds: Sequence[np.ndarray],
    *,
    build: Callable[[], Any],
    fit: Callable[[Any, Any], KeyboardInterrupt | None],
) -> FoldScores:
    """Trains a model without each fold and measures it on that fold.

    Args:
        args: the arguments of train.
        command: the task's command, which has checked all data.
        examples: all examples.
        folds: the examples of each fold.
        build: returns an untrained task, the same in each call.
        fit: trains a task on examples; returns the interrupt that ended it early, or None.

    Returns:
        FoldScores.

    Raises:
        KeyboardInterrupt: the training of a fold was interrupted.
    """
    import numpy as np

    reports: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = [{}] * len(examples)
    for number, fold in enumerate(folds, start=1):
        rest = examples.subset(np.setdiff1d(np.arange(len(examples)), fold))
        held_out = examples.subset(fold)
        place = f"fold {number} of {len(folds)}"
        show(f"{place}: training on {len(rest):,} {command.unit}, {len(held_out):,} held out")
        task = build()
        interrupt = fit(task, rest)
        if interrupt is not None:
            raise interrupt
        report = task.report(held_out).to_dict()
        reports.append({k: v for k, v in report.items() if isinstance(v, float)})
        show(
            f"{place}: "
            + ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in reports[-1].items())
        )
        if args.fold_predictions:
            options = argparse.Namespace(**vars(args) | {"all_scores": True})
            rows = command.answer_rows(task, held_out, options)
            for index, row in zip(fold, rows, strict=True):
                origin = {"row": examples.rows[index], "fold": number}
                predictions[index] = origin | row
        del task
        gc.collect()  # models have reference cycles
    if args.fold_predictions:
        with written_file(args.fold_predictions) as file:
            for row in predictions:
                file.write(json_text(row).encode("utf-8") + b"\n")
    names = [name for name in reports[0] if all(name in report for report in reports)]
    scores = FoldScores({name: [report[name] for report in reports] for name in names})
    show(f"cross-validation, {len(folds)} folds:")
    for line in scores.table():
        show(line)
    return scores

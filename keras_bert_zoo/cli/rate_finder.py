"""The range test of train --find-learning-rate: its table and its plot."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from keras_bert_zoo.cli.messages import say
from keras_bert_zoo.cli.output import written_file
from keras_bert_zoo.cli.search_options import plot_path
from keras_bert_zoo.cli.signals import name_of, status_of

if TYPE_CHECKING:
    from keras_bert_zoo.training.rate_finder import RateTest

_LINES = 20  # of the table


def run_rate_test(
    args: argparse.Namespace,
    task: Any,
    train: Callable[..., KeyboardInterrupt | None],
    out: TextIO,
) -> int:
    """Runs a range test, prints it and draws it.

    Args:
        args: the arguments of train.
        task: the task to train.
        train: calls its argument `fit` as `task.fit`, with the options of train; returns the
            interrupt that ended it, or None.
        out: for the table.

    Returns:
        the exit status.
    """
    from keras_bert_zoo.training.rate_finder import find_learning_rate, without_own_options
    from keras_bert_zoo.training.strategies import is_chief, wait_for_workers

    tests: list[RateTest] = []

    def fit(x: Any, **options: Any) -> None:
        options = without_own_options(options) | {"verbose": int(out.isatty())}
        tests.append(find_learning_rate(task, x, **options))

    with contextlib.redirect_stdout(out):
        interrupt = train(fit=fit)
    if interrupt is not None:
        say(f"{name_of(interrupt)}; no plot is saved")
        return status_of(interrupt)
    if is_chief(task.distribute_strategy):
        report_rates(args, tests[0], out)
    wait_for_workers(task.distribute_strategy)
    return 0


def report_rates(args: argparse.Namespace, test: RateTest, out: TextIO) -> None:
    """Prints a range test as a table with a suggestion, and draws it.

    Args:
        args: the arguments of train.
        test: RateTest.
        out: where the table goes; with --json, standard output has one JSON object.
    """
    path = plot_path(args.output)
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    with written_file(path) as file:
        file.write(plot(test))
    print(table(test), file=out)
    print(f"saved in {path}", file=out, flush=True)
    if args.json:
        print(
            json.dumps(
                {
                    "plot": path,
                    "suggestion": test.suggestion,
                    "diverged": test.diverged,
                    "rates": test.rates.tolist(),
                    "losses": _plain(test.losses),
                    "smoothed": _plain(test.smoothed),
                }
            )
        )


def table(test: RateTest) -> str:
    """Formats some of the steps, and the suggestion with its rule."""
    import numpy as np

    count = len(test.rates)
    steps = np.unique(np.linspace(0, count - 1, min(count, _LINES)).round().astype(int))
    steps = steps if test.lowest is None else np.union1d(steps, [test.lowest])
    lines = [f"{'step':>5} {'learning rate':>14} {'loss':>10} {'smoothed':>10}"]
    for step in steps:
        mark = "  lowest" if step == test.lowest else ""
        lines.append(
            f"{step + 1:5} {test.rates[step]:14.2e} {test.losses[step]:10.4f} "
            f"{test.smoothed[step]:10.4f}{mark}"
        )
    if test.diverged:
        lines.append(f"the loss diverged at {test.rates[-1]:.2e}")
    if test.suggestion is None or test.lowest is None:
        lines.append("no suggestion: the loss did not fall")
    else:
        lines.append(
            f"suggestion: --learning-rate {test.suggestion:.1e}, a tenth of the rate with the "
            f"lowest smoothed loss ({test.rates[test.lowest]:.1e})"
        )
    return "\n".join(lines)


def plot(test: RateTest) -> bytes:
    """Draws the losses over the rates, as PNG."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(test.rates, test.losses, color="#9aa5b1", linewidth=1, label="loss of the batch")
    axes.plot(test.rates, test.smoothed, color="#0072b2", linewidth=2, label="smoothed")
    if test.suggestion is not None:
        axes.axvline(
            test.suggestion,
            color="#d55e00",
            linestyle="--",
            label=f"suggestion: {test.suggestion:.1e}",
        )
    shown = test.losses if test.lowest is None else test.losses[: test.lowest + 1]
    shown = shown[np.isfinite(shown)]
    if len(shown):  # a diverged loss would hide the minimum
        low, first = float(shown.min()), float(test.smoothed[0])
        margin = 0.1 * max(first - low, 1e-3)
        axes.set_ylim(low - margin, first + 5 * margin)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.grid(color="#e4e7eb", linewidth=0.8)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _plain(values: Any) -> list[float | None]:
    """Converts numbers for JSON, which has no NaN."""
    return [float(value) if math.isfinite(value) else None for value in values]

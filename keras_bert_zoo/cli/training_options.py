"""Options and the final report that the commands with a training share."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import show_next
from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand


def add_validation_options(parser: Any) -> None:
    """Adds the options for validation data."""
    parser.add_argument(
        "--dev", metavar="FILE", help="validation data, which selects the best epoch"
    )
    parser.add_argument(
        "--dev-fraction",
        metavar="F",
        type=options.open_share,
        help="fraction of --train to hold out for validation instead, stratified by label",
    )


def add_schedule_options(group: Any, *, epochs: int, batch_size: int, learning_rate: float) -> None:
    """Adds the options for the length of a training; the arguments are their defaults."""
    group.add_argument(
        "--epochs", type=options.positive_int, default=epochs, help="number of passes over --train"
    )
    group.add_argument(
        "--batch-size", type=options.positive_int, default=batch_size, help="examples per step"
    )
    group.add_argument(
        "--learning-rate",
        type=options.positive_float,
        default=learning_rate,
        help="peak learning rate",
    )
    group.add_argument(
        "--patience",
        type=options.positive_int,
        help="epochs without improvement on the validation data before training stops; "
        "default: never",
    )


def check_validation_options(args: argparse.Namespace) -> None:
    """Raises ConfigError if the options of this module contradict each other."""
    if args.dev and args.dev_fraction:
        raise ConfigError("expected --dev or --dev-fraction, received both; leave one out")
    if args.patience and not (args.dev or args.dev_fraction):
        raise ConfigError("--patience needs validation data; pass --dev or --dev-fraction")


def report_training(args: argparse.Namespace, command: TaskCommand, task: Any, dev: Any) -> None:
    """Measures a saved task on the validation data, and prints the figures and the next commands.

    Args:
        args: `json` and `output`.
        command: the task's command.
        task: the trained task.
        dev: validation data, or None.
    """
    report = None if dev is None else task.report(dev)
    if args.json:
        values = None
        if report is not None:
            values = {k: v for k, v in report.to_dict().items() if isinstance(v, int | float)}
        print(json.dumps({"output": args.output, "dev": values, "training": task.training_record}))
        return
    if report is not None:
        numbers = ", ".join(
            f"{name.replace('_', ' ')} {value:.4f}"
            for name, value in report.to_dict().items()
            if isinstance(value, float)
        )
        print(f"held-out data ({len(dev):,} {command.unit}): {numbers}")
    show_next(args.output, predict=command.predict_hint(args))

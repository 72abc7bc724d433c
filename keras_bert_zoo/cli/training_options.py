"""Options that the commands with a training share."""

from __future__ import annotations

import argparse
from typing import Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.errors import ConfigError


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

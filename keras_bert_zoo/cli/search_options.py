"""Options of train for the search of a learning rate and for cross-validation."""

from __future__ import annotations

import argparse
from typing import Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.output import check_folder, check_outputs
from keras_bert_zoo.errors import ConfigError

_CHECKPOINT_OPTIONS = ("resume", "checkpoint_every", "checkpoint_minutes")


def add_search_options(parser: Any) -> None:
    """Adds the range test of the learning rate and cross-validation."""
    group = parser.add_group("search")
    group.add_argument(
        "--find-learning-rate",
        action="store_true",
        help="train for 100 steps with a rising learning rate, print the losses and a suggestion, "
        "and draw them in OUTPUT.learning_rate.png; no model is saved; needs the extra `html`",
    )
    group.add_argument(
        "--folds",
        type=lambda text: options.number_type(
            text, int, lambda value: value >= 2, "a whole number of at least 2"
        ),
        metavar="K",
        help="cross-validation: train K models, each without a K-th of --train, and measure it on "
        "that part; then train on all data and save that model",
    )
    group.add_argument(
        "--fold-predictions",
        metavar="FILE",
        help="write the predictions for each example, by the model that was trained without it, "
        "as JSON Lines; with --folds",
    )


def check_search_options(args: argparse.Namespace) -> None:
    """Raises an error if the options of this module contradict others."""
    if args.find_learning_rate:
        others = ("folds", "dry_run", "tensorboard", "track", "plot", *_CHECKPOINT_OPTIONS)
        _refuse(args, "--find-learning-rate", others)
        from keras_bert_zoo.cli.svg_plots import check_plotting

        check_plotting("--find-learning-rate")
        check_folder(plot_path(args.output), create=True)
    if args.fold_predictions and not args.folds:
        raise ConfigError("--fold-predictions needs --folds K")
    if args.folds:
        _refuse(args, "--folds", ("dev", "dev_fraction", "dry_run", *_CHECKPOINT_OPTIONS))
        if args.strategy == "multi-worker":
            raise ConfigError("expected one machine with --folds, received several workers")
        if args.fold_predictions == "-":
            raise ConfigError(
                "expected a file for --fold-predictions, received -: standard output has the "
                "progress; pass a name such as predictions.jsonl"
            )
        check_outputs(args, ("fold_predictions",))


def plot_path(output: str) -> str:
    """The file with the plot of a range test."""
    return f"{output.rstrip('/')}.learning_rate.png"


def _refuse(args: argparse.Namespace, flag: str, names: tuple[str, ...]) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name)]
    if given:
        raise ConfigError(f"expected {flag} without {', '.join(given)}; leave one out")

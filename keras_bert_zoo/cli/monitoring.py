"""How `train` shows a run: the progress, trackers, and the plot of its curves."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.output import written_file
from keras_bert_zoo.cli.svg_plots import check_plotting
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.extras import check_package

if TYPE_CHECKING:
    from keras_bert_zoo.training.trackers import Tracker

__all__ = [
    "CURVES",
    "add_monitoring_options",
    "check_monitoring_options",
    "file_hashes",
    "monitoring_callbacks",
    "saved_files",
    "tracked_run",
    "write_curves",
]

CURVES = ("training_curves.png", "training_curves.html")
"""The files of --plot in the output directory."""

_TRACKERS = ("mlflow", "wandb")  # the tools are named as their packages and extras


def add_monitoring_options(group: Any) -> None:
    """Adds the options of this module."""
    group.add_argument("--tensorboard", metavar="DIR", help="write logs for TensorBoard here")
    group.add_argument(
        "--track",
        type=options.comma_separated,
        metavar="TOOL:DIR,...",
        help="log the metrics with MLflow or with Weights & Biases, both offline: mlflow:DIR, "
        "wandb:DIR",
    )
    group.add_argument(
        "--plot",
        action="store_true",
        help=f"write the curves of the run to {CURVES[0]} and {CURVES[1]} in --output",
    )


def check_monitoring_options(args: argparse.Namespace) -> None:
    """Raises ConfigError for missing packages and unknown trackers, before TensorFlow starts."""
    if args.tensorboard:
        check_package("tensorboard", "--tensorboard")
    for text in args.track or ():
        tool, _, directory = text.partition(":")
        if tool not in _TRACKERS or not directory:
            raise ConfigError(
                f"expected mlflow:DIR or wandb:DIR for --track, received {text!r:.100}"
            )
        check_package(tool, f"--track {tool}")
        if Path(directory).exists() and not Path(directory).is_dir():
            raise ConfigError(f"{directory}: expected a directory for --track, received a file")
    if args.plot:
        check_plotting("--plot")


def monitoring_callbacks(
    args: argparse.Namespace,
    run_options: dict[str, Any],
    *,
    terminal: bool,
    open_end: bool = False,
) -> list[Any]:
    """Makes the callbacks of the options, with the progress bar.

    Args:
        args: the parsed arguments.
        run_options: more options for trackers.
        terminal: bool. Whether the progress is shown on a terminal.
        open_end: bool. Whether the number of epochs is unknown.

    Returns:
        list of keras.callbacks.Callback. The caller trains in `tracked_run`.
    """
    import keras

    from keras_bert_zoo.training.throughput import Throughput

    callbacks: list[Any] = [Throughput(), *_trackers(args, run_options)]
    if args.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(args.tensorboard, write_graph=False))
    if terminal or open_end:
        from keras_bert_zoo.cli.progress import FittingBar

        callbacks.append(FittingBar(open_end=open_end))
    return callbacks


def _trackers(args: argparse.Namespace, run_options: dict[str, Any]) -> list[Tracker]:
    from keras_bert_zoo.training.trackers import MLflowTracker, WandbTracker

    trackers: list[Tracker] = []
    for text in args.track or ():
        tool, _, directory = text.partition(":")
        name = Path(args.output).name
        made: Tracker
        if tool == "mlflow":
            made = MLflowTracker(directory, run_name=name)
        else:
            made = WandbTracker(directory, run_name=name)
        made.options = run_options
        made.ends_with_fit = False  # the files are written after `fit`
        trackers.append(made)
    return trackers


@contextlib.contextmanager
def tracked_run(callbacks: list[Any]) -> Iterator[list[Path]]:
    """Ends the trackers at the end of the block; an error in it shows the run as failed.

    Args:
        callbacks: those of `monitoring_callbacks`.

    Yields:
        an empty list, for the files that trackers keep with the run.
    """
    from keras_bert_zoo.training.trackers import Tracker

    files: list[Path] = []
    failed = True
    try:
        yield files
        failed = False
    except KeyboardInterrupt:
        failed = False
        raise
    finally:
        for callback in callbacks:
            if isinstance(callback, Tracker):
                callback.end(files, failed=failed)


def saved_files(output: str) -> list[Path]:
    """Returns the record and the plots of a model that was saved."""
    from keras_bert_zoo.files import SIDE_FILE

    paths = [Path(output, name) for name in (SIDE_FILE, *CURVES)]
    return [path for path in paths if path.exists()]


def write_curves(args: argparse.Namespace, record: dict[str, Any]) -> None:
    """Writes the files of --plot.

    Raises:
        DataError: they cannot be written. The model is saved.
    """
    if not args.plot or "curves" not in record:
        return
    from keras_bert_zoo.cli.curves import curves_page, curves_png

    title = f"Training of {args.output}"
    with written_file(os.path.join(args.output, CURVES[0])) as file:
        file.write(curves_png(title, record))
    with written_file(os.path.join(args.output, CURVES[1])) as file:
        file.write(curves_page(title, record, f"{args.preset}, {args.train}").encode())


def file_hashes(*paths: str | None) -> dict[str, str]:
    """Returns path -> SHA-256 of the files among the paths."""
    result = {}
    for path in paths:
        if path and os.path.isfile(path):
            with open(path, "rb") as file:
                result[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return result

"""keras-bert-zoo train: fine-tunes a preset on a file and saves the model."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import named_flags
from keras_bert_zoo.cli.failures import training_failures
from keras_bert_zoo.cli.folds import cross_validate
from keras_bert_zoo.cli.messages import say
from keras_bert_zoo.cli.monitoring import (
    add_monitoring_options,
    check_monitoring_options,
    file_hashes,
    monitoring_callbacks,
    saved_files,
    tracked_run,
)
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.output import check_output, check_space
from keras_bert_zoo.cli.rate_finder import run_rate_test
from keras_bert_zoo.cli.run_begin import begin_run
from keras_bert_zoo.cli.run_end import end_run, is_untrained, save_run
from keras_bert_zoo.cli.search_options import add_search_options, check_search_options
from keras_bert_zoo.cli.signals import name_of, status_of
from keras_bert_zoo.cli.tasks import TASKS, task_command
from keras_bert_zoo.cli.training_options import (
    add_checkpoint_options,
    add_distribution_options,
    add_memory_option,
    add_optimizer_options,
    add_plan_options,
    add_regularization_options,
    add_schedule_options,
    add_validation_options,
    check_batch_options,
    check_distribution_options,
    check_validation_options,
    layout_options,
    make_checkpoints,
    preset_config,
    regularization_of,
    report_plan,
)

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand
    from keras_bert_zoo.tasks.task import Task

DESCRIPTION = """\
Fine-tune a pretrained model on a CSV, TSV or JSON Lines file. Labels are learned from the file.
The output is a Hugging Face directory for evaluate, predict and export. With validation data
(--dev or --dev-fraction) the weights of the best epoch are saved, also after Ctrl-C, SIGTERM and
SIGHUP. The options that read the file are saved, too: evaluate and predict use them."""

EXAMPLES = """
  keras-bert-zoo train --preset minilm_l6_en_uncased --train train.csv --dev-fraction 0.1 \\
      --output runs/intents
  keras-bert-zoo train --preset minilm_l6_en_uncased --train pairs.tsv --text question \\
      --text-pair answer --task regression --label score --output runs/pairs
  keras-bert-zoo train --config train.toml --epochs 5

train.toml:
  preset = "minilm_l6_en_uncased"
  train = "train.csv"
  output = "runs/intents"
  learning-rate = 1e-4
"""

_DEFAULT = next(iter(TASKS))
_BATCH_SIZE = 32


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    add_training_arguments(parser)
    group = parser.add_group("one run")
    add_checkpoint_options(group)
    add_plan_options(group)
    add_monitoring_options(group)
    add_search_options(parser)


def add_training_arguments(parser: Parser) -> None:
    """Adds the options that each trial of `tune` has, too."""
    parser.add_argument(
        "--preset",
        required=True,
        metavar="NAME_OR_DIR",
        help="pretrained model: a name listed by `keras-bert-zoo presets`, or a Hugging Face "
        "directory",
    )
    parser.add_argument("--train", required=True, metavar="FILE", help="training data")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="directory to write; an earlier model "
        "in it is replaced when the new one is complete, and other files are kept"
    )  # fmt: skip
    add_validation_options(parser)
    parser.add_argument("--task", choices=tuple(TASKS), default=_DEFAULT, help="task to train")
    parser.add_argument(
        "--keep-head",
        action=argparse.BooleanOptionalAction,
        help="keep the labels and the head of the preset instead of adding a new head",
    )
    group = parser.add_group("training")
    add_schedule_options(group, epochs=3, batch_size=_BATCH_SIZE, learning_rate=5e-5)
    group.add_argument(
        "--probe-epochs",
        type=options.non_negative_int,
        default=0,
        help="epochs that first train only the new head; 30 take seconds and may save a full epoch",
    )
    add_optimizer_options(group)
    group.add_argument(
        "--max-length",
        type=options.positive_int,
        help="maximum number of tokens per text; default: 128, or the saved one with --keep-head",
    )
    options.add_dtype_option(group, default="auto")
    group.add_argument(
        "--seed",
        type=options.seed_int,
        default=0,
        help="random seed of the head, dropout, batch order and validation split",
    )
    add_regularization_options(group)
    add_distribution_options(group)
    group.add_argument(
        "--pack-examples",
        action="store_true",
        help="put several texts into each row of --max-length tokens; --batch-size counts rows",
    )
    group.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="save memory: compute the encoder's blocks again for the gradient; steps take longer",
    )
    add_memory_option(group)
    options.add_ignore_option(group)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end, and the progress to standard error",
    )


def add_task_options(parser: Parser, argv: Sequence[str]) -> None:
    """Adds the options of the chosen --task."""
    name = options.peek(argv, "task")
    command = task_command(name if name in TASKS else _DEFAULT)
    command.add_data_options(parser, labelled=True)
    command.add_train_options(parser.add_group(f"--task {command.name}"))


def check_options(args: argparse.Namespace, command: TaskCommand) -> None:
    """Raises an error for options that are not possible, without the data."""
    check_validation_options(args)
    check_distribution_options(args)
    check_batch_options(args)
    check_search_options(args)
    command.check_options(args)
    regularization_of(args)
    check_monitoring_options(args)
    _check_preset(args, command)


def run(
    args: argparse.Namespace,
    make_callbacks: Callable[[Task, Any], Sequence[Any]] | None = None,
) -> int:
    """Runs the command.

    Args:
        args: the parsed arguments.
        make_callbacks: makes Keras callbacks from the task and the validation data; None: none.

    Returns:
        the exit status.
    """
    # All inputs are checked before TensorFlow is imported.
    command = task_command(args.task)
    check_options(args, command)
    if not (args.find_learning_rate or args.dry_run):  # which write no model
        check_output(args.output)
    with named_flags(args):
        train, dev = read_data(args, command)
    command.check_data(train, dev)
    folds = command.folds(train, args.folds, args.seed) if args.folds else []
    begun = threading.Event()
    with training_failures(begun.is_set):
        return _train(args, command, train, dev, folds, make_callbacks, begun)


def _train(
    args: argparse.Namespace,
    command: TaskCommand,
    train: Any,
    dev: Any,
    folds: Sequence[Any],
    make_callbacks: Callable[[Task, Any], Sequence[Any]] | None,
    begun: threading.Event,
) -> int:
    """Trains on checked data and saves the model; returns the exit status."""
    strategy, dtype, out = begin_run(args, _BATCH_SIZE)
    import keras

    from keras_bert_zoo.training.strategies import is_chief

    def build() -> Task:
        keras.utils.set_random_seed(args.seed)
        with strategy.scope():
            task: Task = command.build(
                args,
                max_length=args.max_length,
                dtype=dtype,
                ignore_config_keys=args.ignore_config_keys,
                **layout_options(args),
            )
        if not (args.find_learning_rate or args.dry_run):
            check_space(args.output, task)
        return task

    if args.dry_run:
        report_plan(args, command, build(), train, dev)
        return 0
    terminal = out.isatty()
    # A progress bar, or a line per epoch.
    extra = command.fit_options(args) | {"callbacks": [], "verbose": 1 if terminal else 2}

    scores = None
    if folds:

        def fit(task: Any, rest: Any) -> KeyboardInterrupt | None:
            return _fit(args, task, rest, None, extra, begun)

        try:
            with contextlib.redirect_stdout(out):
                scores = cross_validate(args, command, train, folds, build=build, fit=fit)
        except KeyboardInterrupt as early:
            say(f"{name_of(early)} during the cross-validation; nothing is saved")
            return status_of(early)
    task = build()
    if args.find_learning_rate:
        run_test = functools.partial(_fit, args, task, train, None, extra, begun)
        return run_rate_test(args, task, run_test, out)
    held_out = f"{len(dev):,} held out, " if dev is not None else ""
    print(
        f"training on {len(train):,} {command.unit}, {held_out}"
        f"{task.count_params():,} parameters, {dtype}",
        file=out,
        flush=True,
    )
    options_of_run = _options(args, dtype)
    with contextlib.redirect_stdout(out):
        callbacks = monitoring_callbacks(args, options_of_run, terminal=terminal)
        if make_callbacks:
            callbacks += make_callbacks(task, dev)
    with tracked_run(callbacks) as run_files:
        with contextlib.redirect_stdout(out):
            interrupt = _fit(args, task, train, dev, extra | {"callbacks": callbacks}, begun)
        if is_chief(strategy):  # the first worker saves the model
            more = {} if scores is None else {"folds": scores.summary()}
            interrupt = save_run(args, command, task, dev, interrupt, options_of_run, more)
            if not is_untrained(task, interrupt):
                run_files += saved_files(args.output)
    if interrupt:
        return status_of(interrupt)
    end_run(args, strategy)
    return 0


def _check_preset(args: argparse.Namespace, command: TaskCommand) -> None:
    """Checks the preset's config and the options that depend on it."""
    command.check_preset(args, preset_config(args)[0])


def read_data(args: argparse.Namespace, command: TaskCommand) -> tuple[Any, Any]:
    """Reads the training data and the validation data, or None."""
    train = command.read(args.train, args)
    if args.dev_fraction:
        return command.split(train, args.dev_fraction, args.seed)
    return train, command.read(args.dev, args) if args.dev else None


def _fit(
    args: argparse.Namespace,
    task: Task,
    train: Any,
    dev: Any,
    extra: dict[str, Any],
    begun: threading.Event,
    *,
    fit: Callable[..., Any] | None = None,
) -> KeyboardInterrupt | None:
    """Trains with `fit`, by default the task's; returns the interrupt that ended it, or None.

    It sets `begun` before the first step.
    """
    import keras

    start = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda step, logs: begun.set())
    callbacks = [*extra["callbacks"], start]
    try:
        (fit or task.fit)(
            train,
            validation_data=dev,
            batch_size=args.batch_size,
            epochs=args.epochs,
            learning_rate=args.learning_rate,
            warmup_fraction=args.warmup_fraction,
            weight_decay=args.weight_decay,
            global_clipnorm=args.clip_norm or None,
            optimizer=args.optimizer,
            schedule=args.schedule,
            layer_decay=args.layer_decay,
            average_weights=args.average_weights,
            patience=args.patience,
            probe_epochs=args.probe_epochs,
            seed=args.seed,
            gradient_checkpointing=args.gradient_checkpointing,
            accumulation_steps=args.accumulation_steps,
            jit_compile=args.jit_compile,
            pack_examples=args.pack_examples,
            checkpoints=make_checkpoints(args),
            resume=args.resume,
            check_memory=args.memory_check,
            **dataclasses.asdict(regularization_of(args)),
            **extra | {"callbacks": callbacks},
        )
    except KeyboardInterrupt as interrupt:
        if sys.stdout.isatty():
            with contextlib.suppress(OSError):  # after SIGHUP the terminal may be closed
                print()  # ends the line of the progress bar
        return interrupt
    begun.set()  # also if the last checkpoint was at the end
    return None


def _options(args: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """The options in the training record of the saved directory."""
    names = ("preset", "train", "dev", "dev_fraction", "task", "learning_rate", "warmup_fraction",
             "weight_decay", "probe_epochs", "clip_norm", "class_weight", "tune_thresholds", "seed",
             "batch_size", "accumulation_steps", "strategy", "optimizer", "schedule", "layer_decay",
             "average_weights", "jit_compile", "pack_examples", "r_drop", "adversarial",
             "adversarial_epsilon", "label_smoothing", "focal_loss", "mixup")  # fmt: skip
    return {name: getattr(args, name) for name in names if hasattr(args, name)} | {
        "dtype": dtype,
        "sha256": file_hashes(args.train, args.dev),
    }

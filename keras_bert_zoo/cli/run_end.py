"""The end of a run of train: the model is saved and measured, and its checkpoints are deleted."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli.columns import given_options
from keras_bert_zoo.cli.messages import say
from keras_bert_zoo.cli.monitoring import write_curves
from keras_bert_zoo.cli.output import save_model
from keras_bert_zoo.cli.signals import held_back_signals, name_of
from keras_bert_zoo.cli.training_options import make_checkpoints, report_training

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand
    from keras_bert_zoo.tasks.task import Task

__all__ = ["end_run", "is_untrained", "save_run"]


def is_untrained(task: Task, interrupt: KeyboardInterrupt | None) -> bool:
    """Whether an interrupt came before the first step."""
    return interrupt is not None and not (task.compiled and task.optimizer.iterations.numpy())


def save_run(
    args: argparse.Namespace,
    command: TaskCommand,
    task: Task,
    dev: Any,
    interrupt: KeyboardInterrupt | None,
    options_of_run: dict[str, Any],
    more: dict[str, Any],
) -> KeyboardInterrupt | None:
    """Saves and measures a trained task.

    Args:
        args: the arguments of train.
        command: the task's command.
        task: the trained task.
        dev: validation data, or None.
        interrupt: the interrupt that ended the training, or None.
        options_of_run: entries of the training record, before those of `fit`.
        more: further entries.

    Returns:
        the interrupt that ended the run, or None.
    """
    if interrupt and is_untrained(task, interrupt):
        # An untrained model must not take the place of an earlier, trained one.
        say(f"{name_of(interrupt)} before the first step; nothing is saved")
        return interrupt
    saved = "the best weights so far" if dev is not None else "the weights so far"
    task.training_record = options_of_run | {
        "interrupted": interrupt is not None,
        **task.training_record,
        **more,
    }
    if interrupt is None:
        try:
            command.tune(task, dev, args)
        except KeyboardInterrupt as late:
            interrupt, saved = late, "the trained weights"
    task.column_options = given_options(args, command)
    try:
        with held_back_signals():
            save_model(task, args.output)
    except KeyboardInterrupt as late:  # raised after the block: the task is saved
        if interrupt is None:
            interrupt, saved = late, "the trained weights"
    write_curves(args, task.training_record)
    if interrupt:
        hint = "; --resume goes on with the run" if make_checkpoints(args) is not None else ""
        say(f"{name_of(interrupt)}; {saved} are saved in {args.output}{hint}")
        return interrupt
    report_training(args, command, task, dev)
    return None


def end_run(args: argparse.Namespace, strategy: Any) -> None:
    """Ends a run that is saved, on all workers together, and then deletes its checkpoints.

    If the first worker dies while it saves, all have to start again. So the others wait for it.

    Args:
        args: the arguments of train.
        strategy: tf.distribute.Strategy.

    Raises:
        tf.errors.OpError: another worker has ended.
    """
    from keras_bert_zoo.training.strategies import is_chief, wait_for_workers

    # A signal that came meanwhile changes nothing: the run is complete.
    with contextlib.suppress(KeyboardInterrupt), held_back_signals():
        wait_for_workers(strategy)
        checkpoints = make_checkpoints(args)
        if checkpoints is not None and is_chief(strategy):
            shutil.rmtree(checkpoints.directory, ignore_errors=True)

"""A trial of `tune`: one run of train that reports each epoch and may be stopped.

`tune` runs each trial as `python -m keras_bert_zoo.cli.trial`, in a process of the trial: memory is
free again afterwards, and a trial that the operating system kills does not end the search.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

from keras_bert_zoo.cli.main import command_parser, message_of
from keras_bert_zoo.cli.options import parse
from keras_bert_zoo.cli.signals import name_of, raised_signals, status_of
from keras_bert_zoo.errors import one_line

__all__ = ["Ended", "Report", "run_here", "run_process"]

_PATIENCE = 30.0  # seconds for a trial to end after a signal

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"


class Report(NamedTuple):
    """The value of the metric that compares trials, after an epoch.

    Args:
        epoch: int, from 1.
        value: float.
        monitor: str. The metric, such as "val_accuracy".
        mode: "max" or "min".
    """

    epoch: int
    value: float
    monitor: str
    mode: str


class Ended(NamedTuple):
    """The end of a trial.

    Args:
        status: `COMPLETE`, `PRUNED` or `FAILED`.
        message: str. Why it failed.
    """

    status: str
    message: str = ""


class _Stopped(Exception):
    """The search has stopped this trial."""


def run_here(
    argv: Sequence[str], report: Callable[[Report], bool], out: IO[str] | None = None
) -> Ended:
    """Runs a trial in this process.

    Args:
        argv: the options of train.
        report: receives a Report after each epoch, and returns whether the trial goes on.
        out: for the output of train; None: it is discarded.

    Returns:
        Ended.

    Raises:
        KeyboardInterrupt: as in train, after the best weights so far are saved.
    """
    from keras_bert_zoo.cli import train

    def callbacks(task: Any, dev: Any) -> list[Any]:
        return [_reporter(report, *task.objective(dev).monitor)]

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            args = parse(command_parser("train", argv), argv)
            with contextlib.redirect_stdout(nowhere if out is None else out):
                status = train.run(args, make_callbacks=callbacks)
        except _Stopped:
            return Ended(PRUNED)
        except Exception as error:
            message = message_of(error)
            if message is None:
                traceback.print_exc()
                message = f"{type(error).__name__}: {error}"
            return Ended(FAILED, one_line(message))
    if status:  # an interrupt; train has reported it
        raise KeyboardInterrupt
    return Ended(COMPLETE)


def _reporter(report: Callable[[Report], bool], monitor: str, mode: str) -> Any:
    """Makes a callback that reports each epoch, and ends the run if the answer is False."""
    import keras  # after `train` has started TensorFlow

    def report_epoch(epoch: int, logs: Any) -> None:
        value = float((logs or {}).get(monitor, math.nan))
        if not report(Report(epoch + 1, value, monitor, mode)):
            raise _Stopped

    return keras.callbacks.LambdaCallback(on_epoch_end=report_epoch)


def run_process(argv: Sequence[str], report: Callable[[Report], bool]) -> Ended:
    """Runs a trial in a new process; see `run_here`.

    The process shows its messages with --verbose only.
    """
    ended = None
    with _running([sys.executable, "-m", "keras_bert_zoo.cli.trial", *argv]) as process:
        for line in process.stdout:
            message = json.loads(line)
            if "status" in message:
                ended = Ended(**message)
                break
            answer = "go on" if report(Report(**message)) else "stop"
            with contextlib.suppress(BrokenPipeError):  # it has ended meanwhile
                process.stdin.write(f"{answer}\n")
                process.stdin.flush()
        status = process.wait()
    if ended is not None:
        return ended
    if status < 0:
        name = signal.Signals(-status).name
        hint = "; the memory may have been full" if name == "SIGKILL" else ""
        return Ended(FAILED, f"ended by the signal {name}{hint}")
    return Ended(FAILED, f"ended with status {status}")


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[Any]:
    """Starts a process, and ends it at the end of the block."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if "--verbose" in command else subprocess.DEVNULL,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


def main(argv: Sequence[str]) -> int:
    """Runs a trial, with reports on standard output and answers on standard input."""
    # TensorFlow may write to standard output, too.
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(values: Report) -> bool:
        print(json.dumps(values._asdict()), file=reports, flush=True)
        return sys.stdin.readline() == "go on\n"  # empty if the search has ended

    verbose = "--verbose" in argv
    try:
        with raised_signals():
            ended = run_here(argv, report, sys.stderr if verbose else None)
    except KeyboardInterrupt as interrupt:
        ended = Ended(FAILED, name_of(interrupt))
        print(json.dumps(ended._asdict()), file=reports, flush=True)
        return status_of(interrupt)
    print(json.dumps(ended._asdict()), file=reports, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

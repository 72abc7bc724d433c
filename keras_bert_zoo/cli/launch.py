"""keras-bert-zoo launch: runs a training command in several processes of this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.failures import BAD_INPUT
from keras_bert_zoo.cli.messages import say
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.errors import ConfigError

DESCRIPTION = """\
Run a training command in several processes of this machine, as workers of --strategy multi-worker.
They find each other through the environment variable TF_CONFIG. If a worker ends with an error or
is killed, the others are ended, and with --restarts all start again, except after bad input (status
2). With the options --resume and --checkpoint-every of the command, they go on from the newest
checkpoint."""

EXAMPLES = """
  keras-bert-zoo launch --workers 2 -- train --strategy multi-worker \\
      --preset minilm_l6_en_uncased --train train.csv --output runs/intents
  keras-bert-zoo launch --workers 2 --restarts 3 -- train --strategy multi-worker \\
      --preset minilm_l6_en_uncased --train train.csv --output runs/intents \\
      --checkpoint-every 500 --resume
"""

_PAUSE = 0.1  # seconds between two looks at the workers
_PATIENCE = 5.0  # seconds for a worker to end after a signal
_SAVING = 60.0  # seconds for a worker that writes files


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--workers", type=options.positive_int, required=True, metavar="N", help="processes"
    )
    parser.add_argument(
        "--restarts",
        type=options.non_negative_int,
        default=0,
        metavar="N",
        help="how often to start all workers again after one of them failed",
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND",
        help="the command of each worker, such as train with its options",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status of the first worker that failed, or 0."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise ConfigError("expected a command after --, such as -- train --strategy multi-worker")
    for attempt in range(args.restarts + 1):
        with _workers(args.workers, command) as workers:
            status = _wait(workers)
        if status in (0, BAD_INPUT) or attempt == args.restarts:
            return status
        say(f"a worker ended with status {status}; restart {attempt + 1} of {args.restarts}")
    return 0


@contextlib.contextmanager
def _workers(count: int, command: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts the workers, and ends those that run at the end of the block."""
    addresses = free_addresses(count)
    workers = []
    try:
        for index in range(count):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "keras_bert_zoo", *command],
                    env=os.environ | {"TF_CONFIG": config},
                    # The terminal sends Ctrl-C to the launcher only. A worker that received two
                    # signals would stop saving.
                    process_group=0,
                    stdin=subprocess.DEVNULL,
                    # The others print the same; their errors are shown.
                    stdout=None if index == 0 else subprocess.DEVNULL,
                )
            )
        yield workers
    except KeyboardInterrupt as interrupt:
        _end(workers, getattr(interrupt, "number", signal.SIGINT))
        raise
    finally:
        _end(workers, signal.SIGTERM)


def _wait(workers: Sequence[subprocess.Popen[bytes]]) -> int:
    """Waits until all workers are done, or one failed; returns its exit status.

    If several failed, bad input counts: it is the cause, and the next try would fail, too.
    """
    while True:
        states = [worker.poll() for worker in workers]
        failed = [status for status in states if status]
        if BAD_INPUT in failed:
            return BAD_INPUT
        if failed:
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if all(status == 0 for status in states):
            return 0
        time.sleep(_PAUSE)


def _end(workers: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    """Sends a signal to all workers, and kills those that neither end nor write files."""
    begin = time.monotonic()
    running = [worker for worker in workers if worker.poll() is None]
    ends = {worker.pid: begin + _PATIENCE for worker in running}
    written = {worker.pid: _written(worker.pid) for worker in running}
    for worker in running:
        worker.send_signal(number)
    while running := [worker for worker in running if worker.poll() is None]:
        now = time.monotonic()
        for worker in running:
            size = _written(worker.pid)
            if size > written[worker.pid]:  # the first worker saves the model
                written[worker.pid] = size
                ends[worker.pid] = min(now + _PATIENCE, begin + _SAVING)
            if now > ends[worker.pid]:
                worker.kill()  # it waits for another worker
                worker.wait()
        time.sleep(_PAUSE)


def _written(pid: int) -> int:
    """The bytes that a process has written so far; 0 where the system does not count them."""
    try:
        counts = Path(f"/proc/{pid}/io").read_text("ascii")
    except OSError:
        return 0
    return int(counts.partition("wchar:")[2].split()[0])


def free_addresses(count: int) -> list[str]:
    """Returns addresses of this machine at which workers can listen."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]

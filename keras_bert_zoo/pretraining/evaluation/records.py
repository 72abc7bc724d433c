"""The finished runs of a suite, in a file of JSON Lines."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keras_bert_zoo.directories.locking import cut_torn_line, locked_directory
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.validation import changed_options

__all__ = ["RunLog", "SuiteRun", "open_log"]

FILE = "runs.jsonl"


@dataclass(frozen=True)
class SuiteRun:
    """A finished run.

    Args:
        task: str. The name of the task.
        seed: int.
        scores: measure -> float.
        seconds: float.
        options: name -> value: the options and the hashes of the data.
        predictions: the files of predictions, relative to the directory.
    """

    task: str
    seed: int
    scores: dict[str, float]
    seconds: float
    options: dict[str, Any]
    predictions: list[str] = field(default_factory=list)


class RunLog:
    """The finished runs of a directory; see `open_log`.

    Args:
        directory: Path.
        runs: the finished runs.
    """

    def __init__(self, directory: Path, runs: list[SuiteRun]) -> None:
        self.directory = directory
        self._runs = {(run.task, run.seed): run for run in runs}

    def finished(
        self, task: str, seed: int, options: Mapping[str, Any], predictions: list[str]
    ) -> SuiteRun | None:
        """Returns the run of a task and a seed; None if it must be trained.

        Args:
            task: str.
            seed: int.
            options: those of the run to come.
            predictions: the files that the run must have written.

        Raises:
            ConfigError: the run has other options.
        """
        run = self._runs.get((task, seed))
        if run is None:
            return None
        if run.options != dict(options):
            raise ConfigError(
                f"{self.directory}: expected the same options and data to go on, received for "
                f"{task}, seed {seed}: {changed_options(run.options, options)}; repeat the earlier "
                "command, or give another directory"
            )
        written = all((self.directory / name).is_file() for name in predictions)
        return run if written else None

    def add(self, run: SuiteRun) -> None:
        """Appends a finished run to the file.

        Raises:
            DataError: the file cannot be written.
        """
        line = json.dumps(asdict(run)) + "\n"
        try:
            with open(self.directory / FILE, "a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.directory / FILE}: cannot write: {error.strerror}") from None
        self._runs[run.task, run.seed] = run

    def scores(self, task: str, seeds: int) -> dict[int, dict[str, float]]:
        """Returns seed -> scores of the finished runs of a task with the first seeds."""
        runs = [self._runs.get((task, seed)) for seed in range(seeds)]
        return {run.seed: run.scores for run in runs if run is not None}

    def seconds(self, task: str, seeds: int) -> float:
        """Returns the sum over the same runs."""
        runs = [self._runs.get((task, seed)) for seed in range(seeds)]
        return sum(run.seconds for run in runs if run is not None)


@contextlib.contextmanager
def open_log(directory: str | os.PathLike[str], *, resume: bool) -> Iterator[RunLog]:
    """Opens the finished runs of a directory, for this process alone.

    Args:
        directory: it is created if it is missing.
        resume: bool. Whether finished runs may be in it.

    Yields:
        RunLog.

    Raises:
        ConfigError: runs are in the directory, and `resume` is False; or another process uses it.
        DataError: the directory cannot be written, or its file is damaged.
    """
    with locked_directory(directory, "another evaluation") as path:
        file = path / FILE
        if file.exists() and not resume:
            raise ConfigError(
                f"{path}: expected no earlier runs, received {FILE}: pass --resume to go on, or "
                "give another directory"
            )
        cut_torn_line(file)
        yield RunLog(path, list(_read(file)))


def _read(file: Path) -> Iterator[SuiteRun]:
    if not file.exists():
        return
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot read: {error}") from None
    for number, line in enumerate(lines, start=1):
        try:
            yield SuiteRun(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{file}:{number}: expected a finished run: {error}; delete the line to train the "
                "run again"
            ) from None

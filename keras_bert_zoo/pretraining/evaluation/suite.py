"""The tasks of a suite, as rows of data, and the measures of their reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = [
    "Settings",
    "Suite",
    "SuiteData",
    "SuiteTask",
    "TestSet",
    "attribute",
    "matthews_correlation",
    "positive_f1",
    "require_files",
]

Measure = Callable[[Any], float]
"""Computes a figure from the report of a task."""


@dataclass(frozen=True)
class Settings:
    """The options of a training that differ between tasks.

    Args:
        epochs: int. Passes over the training data; 0: no training.
        learning_rate: float. The peak of the schedule.
        batch_size: int. Examples per step.
        max_length: int, tokens.
        probe_epochs: int. See `TrainableTask.fit`.
    """

    epochs: int = 3
    learning_rate: float = 2e-5
    batch_size: int = 32
    max_length: int = 128
    probe_epochs: int = 0


@dataclass(frozen=True)
class TestSet:
    """Examples without labels, whose predictions are submitted.

    Args:
        name: str. The name of the file of predictions, such as "MNLI-m.tsv".
        indices: list of str. The number of each example.
        examples: Examples.
    """

    name: str
    indices: list[str]
    examples: Examples


@dataclass(frozen=True)
class SuiteData:
    """The data of a task.

    Args:
        train: examples with labels.
        dev: name -> examples with labels to measure on. "" if there is only one such set.
        labels: the labels of the model; empty if it has none.
    """

    train: Any
    dev: Mapping[str, Any]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuiteTask:
    """A task of a suite.

    Args:
        name: str. The name on the command line and in the table.
        kind: str. A key of `runs.KINDS`: the class of the model.
        files: the files that `read` needs, relative to the directory of the suite; "a or b" is
            either of two.
        read: function of that directory that returns SuiteData.
        measures: name -> function of the report.
        settings: Settings, the default options of the training.
        read_tests: function of the directory that returns the TestSets whose files exist.
    """

    name: str
    kind: str
    files: tuple[str, ...]
    read: Callable[[Path], SuiteData]
    measures: Mapping[str, Measure]
    settings: Settings = field(default_factory=Settings)
    read_tests: Callable[[Path], list[TestSet]] | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the scores depend on the seed."""
        return self.settings.epochs > 0


@dataclass(frozen=True)
class Suite:
    """A collection of tasks.

    Args:
        name: str. The value of --suite.
        tasks: the tasks, in the order of the table.
    """

    name: str
    tasks: tuple[SuiteTask, ...]

    def select(self, names: list[str]) -> list[SuiteTask]:
        """Returns the tasks with the given names, in the order of the suite.

        Case and hyphens do not matter: "sst2" is SST-2.

        Raises:
            ConfigError: a name is unknown or repeated.
        """
        known = {_plain(task.name): task for task in self.tasks}
        unknown = [name for name in names if _plain(name) not in known]
        if unknown:
            choices = ", ".join(task.name for task in self.tasks)
            raise ConfigError(
                f"expected tasks of the suite {self.name!r}: {choices}; received "
                f"{', '.join(map(repr, unknown))}"
            )
        chosen = [_plain(name) for name in names]
        if len(set(chosen)) < len(chosen):
            raise ConfigError(f"expected different tasks, received {', '.join(names)}")
        return [task for key, task in known.items() if key in chosen]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def require_files(directory: Path, task: SuiteTask) -> list[Path]:
    """Checks the files of a task.

    Args:
        directory: Path. The directory of the suite.
        task: SuiteTask.

    Returns:
        list of Path, those that exist.

    Raises:
        DataError: files are missing; the message names them.
    """
    choices = {name: [directory / choice for choice in name.split(" or ")] for name in task.files}
    missing = [name for name, paths in choices.items() if not any(p.is_file() for p in paths)]
    if missing:
        raise DataError(
            f"{directory}: expected the files {', '.join(task.files)} of {task.name}, missing: "
            f"{', '.join(missing)}"
        )
    return [path for paths in choices.values() for path in paths if path.is_file()]


# === Measures ===


def attribute(name: str) -> Measure:
    """Returns a measure that reads an attribute of the report."""

    def read(report: Any) -> float:
        return float(getattr(report, name))

    return read


def positive_f1(report: Any) -> float:
    """The F1 of the label "1" in a ClassificationReport, as GLUE measures MRPC and QQP."""
    return float(report.labels.f1[report.labels.names.index("1")])


def matthews_correlation(report: Any) -> float:
    """Matthews' correlation of a ClassificationReport, as GLUE measures CoLA; 0 if undefined."""
    import numpy as np
    from sklearn import metrics

    true, predicted = np.indices(report.confusion.shape)
    return float(
        metrics.matthews_corrcoef(
            true.ravel(), predicted.ravel(), sample_weight=report.confusion.ravel()
        )
    )

"""The interface between the commands and a task."""

from __future__ import annotations

import abc
import argparse
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

    from keras_bert_zoo.cli.error_plots import Predictions
    from keras_bert_zoo.data.examples import Examples


class TaskCommand(abc.ABC):
    """A task for the commands: its options, its data, its predictions and its errors.

    Data is read and checked before TensorFlow is imported, so invalid input fails at once.
    Therefore modules of tasks import TensorFlow only in `build` and in later methods.

    Args:
        name: str. The value of --task.
    """

    unit: ClassVar[str] = "texts"
    """The noun for examples in messages."""
    predicts_pairs: ClassVar[bool] = True
    """Whether predict reads a second text if training did."""

    default_format: ClassVar[str | None] = None
    """The format of a labelled file whose name implies none."""

    def __init__(self, name: str) -> None:
        self.name = name

    # === Options ===

    @abc.abstractmethod
    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the options that determine how a file is read.

        Args:
            parser: the parser of the command.
            labelled: bool. Whether the file has labels; for predict it has none.
        """

    def add_train_options(self, group: Any) -> None:  # noqa: B027
        """Adds the training options that only this task has."""

    def check_options(self, args: argparse.Namespace) -> None:  # noqa: B027
        """Raises ConfigError for contradictory options of train."""

    # === Data ===

    def format_of(self, path: str, *, labelled: bool) -> str | None:
        """The format that a file's name implies, both for reading and for saved options.

        Args:
            path: str. The name of the file; "-" is standard input.
            labelled: bool. Whether the file has labels.

        Returns:
            a value of --format; None if the name implies none.
        """
        return file_format(path)

    @abc.abstractmethod
    def read(self, path: str, args: argparse.Namespace) -> Any:
        """Reads examples with their labels.

        Args:
            path: str. The file.
            args: with the options of `add_data_options`.

        Returns:
            examples with a length, `rows`, `path` and `split`.

        Raises:
            DataError: the data is invalid; the message names file and line.
        """

    def read_to_measure(self, path: str, args: argparse.Namespace) -> Any:
        """Reads examples with their labels for evaluation; by default as `read`."""
        return self.read(path, args)

    @abc.abstractmethod
    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Any]:
        """Reads examples without labels, in chunks.

        Args:
            source: path, or a binary file object.
            args: with the options of `add_data_options`.

        Yields:
            examples.

        Raises:
            DataError: the data is invalid; the message names file and line.
        """

    def read_table_in_parts(
        self, source: Any, args: argparse.Namespace, table: dict[str, Any]
    ) -> Iterator[Examples]:
        """Reads a table without labels, or lines of text, in chunks.

        Args:
            source: path, or a binary file object.
            args: the arguments of predict.
            table: the return value of `options.table_options`.

        Yields:
            Examples.
        """
        from keras_bert_zoo.data.tables import read_table_in_parts

        if table["format"] is None and self.format_of(args.input, labelled=False) == "text":
            table = table | {"format": "text"}
        yield from read_table_in_parts(
            source, label=None, replace_invalid=args.replace_invalid, **table
        )

    def split(self, examples: Any, fraction: float, seed: int) -> tuple[Any, Any]:
        """Splits examples into training and validation data."""
        parts: tuple[Any, Any] = examples.split(fraction, seed)
        return parts

    def folds(self, examples: Any, count: int, seed: int) -> list[np.ndarray]:
        """Divides examples into the folds of a cross-validation; see `data.folds`.

        As for `split`, single labels are stratified.
        """
        from keras_bert_zoo.data.folds import make_folds

        single = getattr(examples, "label_kind", None) == "single"
        labels = examples.labels if single else None
        return make_folds(len(examples), count, seed, labels=labels)

    def measures(self, examples: Any) -> bool:
        """Whether the task's `report` measures such labelled examples."""
        return True

    # === Training ===

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:  # noqa: B027
        """Compares options with the preset's config.json; raises ConfigError."""

    def check_data(self, train: Any, dev: Any | None) -> None:  # noqa: B027
        """Collects from the data what `build` needs, such as labels; raises DataError."""

    @abc.abstractmethod
    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds the task to train from `args.preset`.

        Args:
            args: the arguments of train.
            **common: `max_length`, `dtype` and `ignore_config_keys`, for `from_preset`.

        Returns:
            Task.
        """

    def metric_options(self, args: argparse.Namespace) -> tuple[str, ...]:
        """Names the options that change the metric of the validation data, for `tune`.

        Trials with different values of these options cannot be compared.
        """
        return ()

    def fit_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Returns the arguments of `fit` that only this task has."""
        return {}

    def tune(self, task: Any, dev: Any | None, args: argparse.Namespace) -> None:  # noqa: B027
        """Tunes thresholds on the validation data after training."""

    # === Exports ===

    def add_export_options(self, group: Any) -> None:  # noqa: B027
        """Adds the export options that only this task has."""

    def export_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Returns the arguments of `export` that only this task has; raises ConfigError."""
        return {}

    def predict_hint(self, args: argparse.Namespace) -> str:
        """Returns the unsaved options of predict, for the command that train prints."""
        return ""

    # === Predictions ===

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:  # noqa: B027
        """Compares a loaded task with the options of evaluate or predict; raises ConfigError."""

    @abc.abstractmethod
    def answer_rows(
        self, task: Any, examples: Any, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Predicts examples.

        Args:
            task: Task.
            examples: the return value of `read` or `read_in_parts`.
            args: the arguments of predict or evaluate.

        Returns:
            a dict per example, with values for JSON.
        """

    @abc.abstractmethod
    def errors(self, task: Any, examples: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
        """Lists the misclassified examples, the worst first.

        Args:
            task: Task.
            examples: the return value of `read_to_measure`.
            args: the arguments of evaluate.

        Returns:
            a dict per error, with values for JSON; `row` is the line in the file.
        """

    def predictions(self, task: Any, examples: Any, args: argparse.Namespace) -> Predictions | None:
        """Predicts all scores of labelled examples, for the plots of `evaluate --html`.

        Args:
            task: Task.
            examples: the return value of `read_to_measure`.
            args: the arguments of evaluate.

        Returns:
            Predictions; None if the task has no such plots.
        """
        return None


_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
}


def file_format(path: str, more: Mapping[str, str] | None = None) -> str | None:
    """The format that a file's name implies; text for standard input, "-".

    Args:
        path: str. The name of the file, which may end in `.gz`.
        more: suffix -> format, additional formats of a task.
    """
    if path == "-":
        return "text"
    suffix = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    return {**_FORMATS, **(more or {})}.get(suffix)


def number(value: Any) -> float:
    """Converts a float32 for JSON, with the fewest digits that represent it exactly."""
    return float(str(value))

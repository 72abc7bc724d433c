"""How the commands read the data of a task, build it and show its answers."""

from __future__ import annotations

import abc
import argparse
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from keras_bert_zoo.cli.error_plots import Predictions
    from keras_bert_zoo.data.examples import Examples


class TaskCommand(abc.ABC):
    """One task, as train, evaluate and predict see it.

    Reading and checking happen before TensorFlow is imported: what is wrong with the input is told
    at once. So modules of tasks import TensorFlow only inside `build` and what follows.

    Args:
        name: str. What --task says.
    """

    unit: ClassVar[str] = "texts"
    """What there is a number of, in messages."""
    predicts_pairs: ClassVar[bool] = True
    """Whether predict reads a second text where training did."""

    default_format: ClassVar[str | None] = None
    """The format of a file with labels whose name says none."""

    def __init__(self, name: str) -> None:
        self.name = name

    # === Options ===

    @abc.abstractmethod
    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds what says how a file is read.

        Args:
            parser: of the command.
            labelled: bool. Whether the file has labels; predict's has none.
        """

    def add_train_options(self, group: Any) -> None:  # noqa: B027
        """Adds what only this task's training takes."""

    def check_options(self, args: argparse.Namespace) -> None:  # noqa: B027
        """Raises ConfigError for options of train that contradict each other."""

    # === Data ===

    def format_of(self, path: str, *, labelled: bool) -> str | None:
        """The format that a file's name implies: by this rule files are read, and formats saved.

        Args:
            path: the file's name; "-" is standard input.
            labelled: bool. Whether the file has labels.

        Returns:
            as --format has it; None where the name says nothing.
        """
        return file_format(path)

    @abc.abstractmethod
    def read(self, path: str, args: argparse.Namespace) -> Any:
        """Reads examples with their labels.

        Args:
            path: of the file.
            args: what `add_data_options` has read.

        Returns:
            examples: with a length, `rows`, `path` and `split`.

        Raises:
            DataError: with file and line.
        """

    def read_to_measure(self, path: str, args: argparse.Namespace) -> Any:
        """Reads examples with their labels for scores alone; as `read`, unless overridden."""
        return self.read(path, args)

    @abc.abstractmethod
    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Any]:
        """Reads examples without labels, some at a time.

        Args:
            source: path, or a binary file object.
            args: what `add_data_options` has read.

        Yields:
            examples.

        Raises:
            DataError: with file and line.
        """

    def read_table_in_parts(
        self, source: Any, args: argparse.Namespace, table: dict[str, Any]
    ) -> Iterator[Examples]:
        """Reads a table without labels, or lines of text, some rows at a time.

        Args:
            source: path, or a binary file object.
            args: of predict.
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
        """Holds a share of the examples out."""
        parts: tuple[Any, Any] = examples.split(fraction, seed)
        return parts

    # === Training ===

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:  # noqa: B027
        """Compares options with the preset's config.json; raises ConfigError."""

    def check_data(self, train: Any, dev: Any | None) -> None:  # noqa: B027
        """Learns from the data what `build` needs, labels for one; raises DataError."""

    @abc.abstractmethod
    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds the task to be trained, on `args.preset`.

        Args:
            args: of train.
            **common: `max_length`, `dtype` and `ignore_config_keys`, for `from_preset`.

        Returns:
            Task.
        """

    def fit_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Arguments of `fit` that only this task has."""
        return {}

    def tune(self, task: Any, dev: Any | None, args: argparse.Namespace) -> None:  # noqa: B027
        """Sets what is tuned on the held-out data once the weights are trained: thresholds."""

    # === Exports ===

    def add_export_options(self, group: Any) -> None:  # noqa: B027
        """Adds what only this task's export takes."""

    def export_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Arguments of `export` that only this task has; raises what is wrong with them."""
        return {}

    def predict_hint(self, args: argparse.Namespace) -> str:
        """Options of predict beyond the saved ones, for the command that train prints."""
        return ""

    # === Answers ===

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:  # noqa: B027
        """Compares a loaded task with the options of evaluate or predict; raises ConfigError."""

    @abc.abstractmethod
    def answer_rows(
        self, task: Any, examples: Any, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Answers examples.

        Args:
            task: Task.
            examples: what `read` or `read_in_parts` returned.
            args: of predict or evaluate; `batch_size` and what the task added.

        Returns:
            a dict for each example, ready for JSON.
        """

    @abc.abstractmethod
    def errors(self, task: Any, examples: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
        """Lists what was answered wrong, the worst first.

        Args:
            task: Task.
            examples: what `read` returned.
            args: of evaluate.

        Returns:
            a dict for each, ready for JSON, with `row`, the line in the file.
        """

    def predictions(self, task: Any, examples: Any, args: argparse.Namespace) -> Predictions | None:
        """Predicts all scores of labelled examples, for the plots of `evaluate --html`.

        Args:
            task: Task.
            examples: the return value of `read_to_measure`.
            args: of evaluate.

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
        path: the file's name, which may end in `.gz`.
        more: suffix -> format, of a task's own.
    """
    if path == "-":
        return "text"
    suffix = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    return {**_FORMATS, **(more or {})}.get(suffix)


def number(value: Any) -> float:
    """A float32 for JSON, in the shortest digits that give it back."""
    return float(str(value))

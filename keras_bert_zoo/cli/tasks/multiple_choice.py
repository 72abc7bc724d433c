"""Multiple choice: a text and several endings or answers in each row."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, file_format, number
from keras_bert_zoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keras_bert_zoo.data.choices import ChoiceExamples


def make_command(name: str) -> ChoiceCommand:
    """Makes this module's command."""
    return ChoiceCommand(name)


class ChoiceCommand(TaskCommand):
    """A table with a text and its choices in each row."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._num_choices: int | None = None

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the columns and the format of the table."""
        group = parser.add_group("columns and format of the data")
        group.add_argument(
            "--text", metavar="COLUMN", default="text", help="column of the text or question"
        )
        group.add_argument(
            "--choices",
            metavar="COLUMNS",
            type=options.comma_separated,
            default=["choices"],
            help="columns of the choices, comma-separated; in JSON Lines also one key with a list "
            "(default: choices)",
        )
        if labelled:
            group.add_argument(
                "--label",
                metavar="COLUMN",
                default="label",
                help="column with the number of the correct choice",
            )
            group.add_argument(
                "--first-choice",
                type=int,
                choices=(0, 1),
                default=0,
                help="number of the first choice in that column",
            )
        options.add_columns_option(group)
        group.add_argument(
            "--format",
            choices=("csv", "tsv", "jsonl"),
            help="the files' format; default: detected from the name, which may end in .gz"
            + ("" if labelled else "; jsonl for standard input"),
        )
        options.add_delimiter_option(group)
        group.add_argument("--encoding", default="utf-8", help="the files' encoding")

    def format_of(self, path: str, *, labelled: bool) -> str | None:
        """The format by the name; JSON Lines for standard input, since text has no choices."""
        return "jsonl" if path == "-" else file_format(path)

    def read(self, path: str, args: argparse.Namespace) -> ChoiceExamples:
        """Reads a table with the correct choices."""
        from keras_bert_zoo.data.choices import read_choices

        return read_choices(
            path, label=args.label, first_choice=args.first_choice, **_table_options(args)
        )

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[ChoiceExamples]:
        """Reads a table without the correct choices."""
        from keras_bert_zoo.data.choices import read_choices_in_parts

        table = _table_options(args)
        if args.input == "-":
            table["format"] = table["format"] or self.format_of("-", labelled=False)
        return read_choices_in_parts(
            source, label=None, replace_invalid=args.replace_invalid, **table
        )

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """With --keep-head, the preset must have a multiple-choice head."""
        names = config.get("architectures") or ["nothing"]
        if args.keep_head and not str(names[0]).endswith("ForMultipleChoice"):
            raise ConfigError(
                f"--keep-head needs a preset for --task {self.name}, but {args.preset} is a "
                f"{names[0]}"
            )

    def check_data(self, train: ChoiceExamples, dev: ChoiceExamples | None) -> None:
        """Reads the number of choices from the data."""
        self._num_choices = train.num_choices
        if dev is not None and dev.num_choices != train.num_choices:
            raise DataError(
                f"{dev.path}: expected {train.num_choices} choices, as in {train.path}, "
                f"received {dev.num_choices}"
            )

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds the task."""
        from keras_bert_zoo.tasks.multiple_choice import MultipleChoice

        return MultipleChoice.from_preset(
            args.preset, num_choices=self._num_choices, new_head=not args.keep_head, **common
        )

    def answer_rows(
        self, task: Any, examples: ChoiceExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Predicts the choice of each text."""
        answers = task.predict(examples, batch_size=args.batch_size)
        return [
            {
                "text": text,
                "choice": int(answers["choice"][index]),
                "label": answers["label"][index],
                "score": number(answers["score"][index]),
                "scores": [number(score) for score in answers["scores"][index]],
            }
            for index, text in enumerate(examples.texts)
        ]

    def errors(
        self, task: Any, examples: ChoiceExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists misclassified examples, the highest score first."""
        wrong = []
        for index, answer in enumerate(self.answer_rows(task, examples, args)):
            true = (examples.labels or [])[index]
            if answer["choice"] != true:
                wrong.append(
                    {
                        "text": answer["text"],
                        "label": examples.choices[index][true],
                        "predicted": answer["label"],
                        "score": answer["score"],
                        "scores": answer["scores"],
                        "row": examples.rows[index],
                    }
                )
        return sorted(wrong, key=lambda row: -row["score"])


def _table_options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("text", "choices", "columns", "format", "delimiter", "encoding")
    table = {name: getattr(args, name) for name in names}
    if table["delimiter"] == "\\t":  # a shell passes '\t' unconverted
        table["delimiter"] = "\t"
    return table

"""Relations between two marked entities of a text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import file_format, number
from keras_bert_zoo.cli.tasks.text import TextCommand
from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples


def make_command(name: str) -> RelationCommand:
    """Makes this module's command."""
    return RelationCommand(name)


class RelationCommand(TextCommand):
    """Texts with `<e1>...</e1>` and `<e2>...</e2>`."""

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the columns and the format of the file."""
        super().add_data_options(parser, labelled=labelled)
        action = parser.flags()[parser.flag("--format")]
        action.choices = (*action.choices, "semeval")
        action.help = (
            "the files' format; default: detected from the name, which may end in .gz; "
            + (
                "semeval (that of SemEval-2010 task 8) for .txt"
                if labelled
                else "text (one per line) for .txt and stdin; semeval: that of SemEval-2010 task 8"
            )
        )

    def add_train_options(self, group: Any) -> None:
        """Adds the class weights and the pooling of entities."""
        group.add_argument(
            "--class-weight",
            choices=("balanced", "none"),
            default="none",
            help="balanced: every label has the same total weight",
        )
        group.add_argument(
            "--pooling",
            choices=("mean", "start"),
            default="mean",
            help="representation of an entity: the mean of its tokens, or the marker before it",
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Accepts all options."""

    def format_of(self, path: str, *, labelled: bool) -> str | None:
        """The format by the name; a labelled .txt file has the SemEval format."""
        return file_format(path, {".txt": "semeval"} if labelled else None)

    def read(self, path: str, args: argparse.Namespace) -> Examples:
        """Reads texts with marked entities and their relations."""
        from keras_bert_zoo.data.semeval import check_markers, read_semeval
        from keras_bert_zoo.data.tables import read_table

        table = _table(args)
        if (table["format"] or self.format_of(path, labelled=True)) == "semeval":
            return read_semeval(path, encoding=args.encoding)
        return check_markers(read_table(path, label=args.label, **table))

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Examples]:
        """Reads texts; their entities need not be marked."""
        from keras_bert_zoo.data.semeval import read_semeval

        table = _table(args)
        if table["format"] == "semeval":
            yield read_semeval(source, labelled=False, encoding=args.encoding)
            return
        yield from self.read_table_in_parts(source, args, table)

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """Takes the labels of the preset with --keep-head."""
        if args.keep_head and "id2label" not in config:
            raise ConfigError(f"--keep-head needs a preset with labels, but {args.preset} has none")
        if args.keep_head:
            from keras_bert_zoo.data.labels import LabelMap

            self._labels = LabelMap.from_id2label(config["id2label"])

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds the task."""
        from keras_bert_zoo.tasks.relation_classifier import RelationClassifier

        if args.keep_head or self._labels is None:
            return RelationClassifier.from_preset(args.preset, **common)
        return RelationClassifier.from_preset(
            args.preset, labels=self._labels.names, pooling=args.pooling, **common
        )

    def tune(self, task: Any, dev: Examples | None, args: argparse.Namespace) -> None:
        """Does nothing: the task has no thresholds."""

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:
        """Accepts every loaded task."""

    def answer_rows(
        self, task: Any, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Predicts texts."""
        answers = task.predict(examples, batch_size=args.batch_size)
        rows = []
        for index, text in enumerate(examples.texts):
            row = {
                "text": text,
                "label": answers["label"][index],
                "score": number(answers["score"][index]),
                "entities": [
                    {
                        "text": answers["entity"][index][position],
                        **{
                            name: int(answers[name][index][position])
                            for name in ("start", "end", "start_character", "end_character")
                        },
                    }
                    for position in range(2)
                ],
            }
            if getattr(args, "all_scores", False):
                scores = map(number, answers["scores"][index])
                row["scores"] = dict(zip(task.labels, scores, strict=True))
            rows.append(row)
        return rows


def _table(args: argparse.Namespace) -> dict[str, Any]:
    table = options.table_options(args)
    if table["text_pair"] is not None:
        raise ConfigError("--text-pair does not apply to --task relations: it takes one text")
    return table

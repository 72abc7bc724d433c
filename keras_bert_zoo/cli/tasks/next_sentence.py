"""Next-sentence prediction: pairs from documents, or labelled pairs in a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import number
from keras_bert_zoo.cli.tasks.text import TextCommand
from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples

_WITH_HEAD = ("ForNextSentencePrediction", "BertForPreTraining")


def make_command(name: str) -> NextSentenceCommand:
    """Makes the command of this module's task."""
    return NextSentenceCommand(name)


class NextSentenceCommand(TextCommand):
    """Documents of sentences in a .txt file, or a table of pairs."""

    unit = "pairs"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._new_head = False

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the columns and the format of the table."""
        options.add_table_options(parser, label=labelled)
        parser.flags()["--text-pair"].help = "column of the second text of a table" + (
            "; a .txt file has one sentence per line and a blank line between documents"
            if labelled
            else ""
        )

    def add_train_options(self, group: Any) -> None:
        """Adds no options."""

    def check_options(self, args: argparse.Namespace) -> None:
        """Accepts all options."""

    def read(self, path: str, args: argparse.Namespace) -> Examples:
        """Creates pairs from documents, or reads labelled pairs."""
        from keras_bert_zoo.data.documents import read_sentence_pairs
        from keras_bert_zoo.data.tables import read_table

        if args.format is None and self.format_of(path, labelled=True) == "text":
            # Evaluation has no --seed, so that a file always gives the same pairs.
            seed = getattr(args, "seed", 0)
            return read_sentence_pairs(path, seed=seed, encoding=args.encoding)
        _check_pair(args)
        return read_table(path, label=args.label, **options.table_options(args))

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[Examples]:
        """Reads pairs from a table."""
        _check_pair(args)
        return super().read_in_parts(source, args)

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """Decides whether to keep the preset's head; by default it is kept."""
        names = config.get("architectures") or []
        has_head = any(str(name).endswith(_WITH_HEAD) for name in names)
        if args.keep_head and not has_head:
            raise ConfigError(
                f"--keep-head needs a preset for --task {self.name}, but {args.preset} is a "
                f"{names[0] if names else 'model without architectures in its config.json'}"
            )
        self._new_head = not (has_head if args.keep_head is None else args.keep_head)

    def check_data(self, train: Examples, dev: Examples | None) -> None:
        """Raises DataError for labels other than the two."""
        from keras_bert_zoo.data.documents import NEXT_LABELS
        from keras_bert_zoo.data.labels import LabelMap

        for examples in (train, dev):
            if examples is not None:
                LabelMap(NEXT_LABELS).to_ids(examples)

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds the task."""
        from keras_bert_zoo.tasks.next_sentence import NextSentence

        return NextSentence.from_preset(args.preset, new_head=self._new_head, **common)

    def fit_options(self, args: argparse.Namespace) -> dict[str, Any]:
        """Returns no arguments."""
        return {}

    def predict_hint(self, args: argparse.Namespace) -> str:
        """Training on documents has no columns, but predict needs two."""
        return "" if args.text_pair else "--text-pair COLUMN"

    def tune(self, task: Any, dev: Examples | None, args: argparse.Namespace) -> None:
        """Does nothing: the task has no thresholds."""

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:
        """Accepts every loaded task."""

    def answer_rows(
        self, task: Any, examples: Examples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Predicts pairs."""
        answers = task.predict(examples, batch_size=args.batch_size)
        return [
            {
                "text": text,
                "text_pair": (examples.text_pairs or [])[index],
                "is_next": number(answers["is_next"][index]),
                "label": answers["label"][index],
                "score": number(answers["score"][index]),
            }
            for index, text in enumerate(examples.texts)
        ]


def _check_pair(args: argparse.Namespace) -> None:
    if args.text_pair is None:
        raise ConfigError("--task next-sentence needs pairs of texts; pass --text-pair COLUMN")

"""Token classification: entities as CoNLL columns, JSON Lines or JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, file_format, number
from keras_bert_zoo.data.tags import MODEL_SCHEMES, SCHEMES, guess_scheme, split_tag
from keras_bert_zoo.errors import ConfigError, DataError, one_line

# Data readers are imported in functions: they import NumPy, which makes --help slow.
if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples
    from keras_bert_zoo.data.spans import EntityExamples
    from keras_bert_zoo.data.tables import TableFormat

_FORMATS = {
    **dict.fromkeys((".conll", ".conllu", ".bio", ".iob", ".iob2"), "conll"),
    ".json": "json",
}


def make_command(name: str) -> TokenClassificationCommand:
    """Makes the command of this module's task."""
    return TokenClassificationCommand(name)


class TokenClassificationCommand(TaskCommand):
    """Texts with entities."""

    unit: ClassVar[str] = "texts"
    default_format: ClassVar[str | None] = "conll"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._labels: list[str] = []
        self._saved: list[str] | None = None
        self._nested = False
        self._notes: list[str] = []
        self._evaluated: EntityExamples | None = None

    # === Options ===

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the format of the file, its columns and its tag scheme."""
        group = parser.add_group("format of the data")
        if labelled:
            group.add_argument(
                "--format",
                choices=("conll", "jsonl", "json"),
                help="conll: a word and its tag per line; jsonl: a text and its entities, or "
                "tokens and ner_tags, per line; json: a list of such records or an export of Label "
                "Studio; default: detected from the name, else conll",
            )
            group.add_argument(
                "--entities",
                metavar="KEY",
                help="key of the entities, or of the tags of tokens, in jsonl and json; default: "
                "detected from the records",
            )
            group.add_argument(
                "--offsets",
                choices=("auto", "characters", "utf16"),
                default="auto",
                help="unit of offsets in jsonl and json; utf16: UTF-16 code units, two for an "
                "emoji; auto: characters, unless a file of doccano or Label Studio shows utf16",
            )
            group.add_argument(
                "--tag-names",
                metavar="NAMES",
                type=options.comma_separated,
                help="comma-separated names of ner_tags that are numbers, in their order",
            )
            group.add_argument(
                "--tag-column",
                metavar="N",
                type=_column,
                help="column of the tags in conll, from 1; -1 is the last; default: the one that "
                "contains tags",
            )
            group.add_argument(
                "--tag-scheme", choices=SCHEMES, help="scheme of the file; default: detected"
            )
            group.add_argument(
                "--lenient",
                action="store_true",
                help="start a new entity at an I- tag that continues no entity, instead of failing",
            )
        else:
            group.add_argument(
                "--format",
                choices=("text", "conll", "csv", "tsv", "jsonl"),
                help="default: detected from the name; text (one per line) for .txt and stdin",
            )
        group.add_argument(
            "--text", metavar="KEY", default="text", help="key or column of the text"
        )
        group.add_argument(
            "--word-column",
            metavar="N",
            type=_column,
            help="column of the words in conll; default: the first without word numbers",
        )
        group.add_argument(
            "--join",
            choices=("auto", "space", "none"),
            default="auto",
            help="separator of words in conll; auto: a space, except next to Chinese",
        )
        group.add_argument("--encoding", default="utf-8", help="the files' encoding")

    def add_train_options(self, group: Any) -> None:
        """Adds the tag scheme, the CRF, nested entities and the stride."""
        group.add_argument(
            "--scheme", choices=MODEL_SCHEMES, help="tag scheme of the model; default: IOB2"
        )
        group.add_argument(
            "--crf",
            action="store_true",
            help="add a conditional random field, which learns transitions between tags",
        )
        group.add_argument(
            "--nested",
            action="store_true",
            help="allow overlapping and nested entities: the model learns spans instead of tags",
        )
        group.add_argument(
            "--stride",
            metavar="TOKENS",
            type=options.non_negative_int,
            help="tokens shared by windows of a long text; default: a quarter of --max-length",
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Rejects options that token classification does not support."""
        self._nested = bool(args.nested)
        if args.probe_epochs:
            raise ConfigError(f"--probe-epochs does not apply to --task {self.name}")
        if args.keep_head and args.scheme:
            raise ConfigError("--keep-head keeps the tag scheme, too; leave out --scheme")
        if args.keep_head and args.nested:
            raise ConfigError("--keep-head keeps the head of the preset; leave out --nested")
        for option in ("scheme", "crf"):
            if args.nested and getattr(args, option):
                raise ConfigError(f"--{option} is for tags, --nested for spans; leave out one")

    # === Data ===

    def format_of(self, path: str, *, labelled: bool) -> str | None:
        """The format by the name; labelled files are JSON, JSON Lines or CoNLL."""
        form = file_format(path, _FORMATS)
        return form if not labelled or form in ("conll", "jsonl", "json") else None

    def read(self, path: str, args: argparse.Namespace) -> EntityExamples:
        """Reads texts with entities; the note about the detected format is printed later."""
        from keras_bert_zoo.data.conll import read_conll
        from keras_bert_zoo.data.entity_files import read_entities

        form = args.format or self.format_of(path, labelled=True) or self.default_format
        tag_options = {"scheme": args.tag_scheme, "join": args.join, "lenient": args.lenient}
        if form != "conll":
            examples = read_entities(
                path,
                text=args.text,
                entities=args.entities,
                offsets=args.offsets,
                tag_names=args.tag_names,
                encoding=args.encoding,
                **tag_options,
            )
        else:
            examples = read_conll(
                path,
                word=args.word_column,
                tag=args.tag_column,
                encoding=args.encoding,
                **tag_options,
            )
        self._notes.append(f"{path}: {examples.note}")
        return examples

    def read_to_measure(self, path: str, args: argparse.Namespace) -> EntityExamples:
        """Reads texts with entities, as `read`."""
        self._evaluated = self.read(path, args)
        return self._evaluated

    def read_in_parts(
        self, source: Any, args: argparse.Namespace
    ) -> Iterator[Examples | EntityExamples]:
        """Reads texts without entities: lines, a table, or words in columns."""
        from keras_bert_zoo.data.conll import read_conll
        from keras_bert_zoo.data.tables import read_table_in_parts

        form = args.format or self.format_of(args.input, labelled=False)
        if form == "conll":
            # Tags may be missing or invalid: predict does not use them.
            yield read_conll(
                source,
                word=args.word_column,
                join=args.join,
                encoding=args.encoding,
                tags=False,
            )
            return
        yield from read_table_in_parts(
            source,
            label=None,
            text=args.text,
            format=None
            if form == "json"
            else cast("TableFormat | None", form),  # None: `read_table_in_parts` rejects .json
            encoding=args.encoding,
            replace_invalid=args.replace_invalid,
        )

    # === Training ===

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """Takes the entity labels of the preset with --keep-head."""
        if not args.keep_head:
            return
        from keras_bert_zoo.presets.resolve import find_preset
        from keras_bert_zoo.tasks.files import read_side_file

        tags = list(dict(config.get("id2label") or {}).values())
        if not tags:
            raise ConfigError(f"--keep-head needs labels, but {args.preset} has no id2label")
        self._nested = bool(read_side_file(find_preset(args.preset)).get("nested", False))
        if self._nested:
            self._saved = tags
            return
        scheme = guess_scheme(tags)
        self._saved = list(dict.fromkeys(kind for t in tags if (kind := split_tag(t, scheme)[1])))

    def check_data(self, train: EntityExamples, dev: EntityExamples | None) -> None:
        """Learns the entity labels; raises DataError for entities that the model cannot predict."""
        from keras_bert_zoo.data.spans import check_entities

        self._labels = train.labels if self._saved is None else self._saved
        if not self._labels:
            raise DataError(f"{train.path}: expected at least one entity, received none")
        for examples in (train, dev):
            if examples is not None:
                check_entities(examples, self._labels, nested=self._nested)
        self._print_notes()

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds a token classifier."""
        from keras_bert_zoo.tasks.token_classification.token_classifier import TokenClassifier

        return TokenClassifier.from_preset(
            args.preset,
            labels=None if self._saved is not None else self._labels,
            scheme=args.scheme,
            crf=True if args.crf else None,
            nested=True if args.nested else None,
            stride=args.stride,
            **common,
        )

    # === Predictions ===

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:
        """Compares the entities of the evaluated file with the labels of the model."""
        from keras_bert_zoo.data.spans import check_entities

        if self._evaluated is not None:
            check_entities(self._evaluated, task.labels, nested=task.nested)
        self._print_notes()

    def _print_notes(self) -> None:
        """Prints notes about the files to standard error; standard output is for results."""
        for note in self._notes:
            print(one_line(note), file=sys.stderr, flush=True)
        self._notes.clear()

    def answer_rows(
        self, task: Any, examples: Examples | EntityExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Predicts the entities of each text."""
        answers = task.predict(examples, batch_size=args.batch_size)
        rows = []
        for index, text in enumerate(examples.texts):
            count = sum(map(bool, answers["label"][index]))
            entities = [
                {
                    "entity": answers["entity"][index][position],
                    "label": answers["label"][index][position],
                    "score": number(answers["score"][index][position]),
                    "start": int(answers["start_character"][index][position]),
                    "end": int(answers["end_character"][index][position]),
                }
                for position in range(count)
            ]
            rows.append({"text": text, "entities": entities})
        return rows

    def errors(
        self, task: Any, examples: EntityExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists texts with missed or spurious entities, the most errors first."""
        wrong = []
        examples, aligned = task.align_entities(examples, warn=False)
        predictions = task.find_entities(examples, batch_size=args.batch_size)
        for index, entities in enumerate(aligned):
            text = examples.texts[index]
            true = {(start, end, label) for start, end, label in entities}
            scores = {(start, end, label): score for start, end, label, score in predictions[index]}
            if true == set(scores):
                continue
            spurious = [
                _span(text, *span) | {"score": number(round(scores[span], 6))}
                for span in sorted(set(scores) - true)
            ]
            missed = [_span(text, *span) for span in sorted(true - set(scores))]
            # By the number of errors, then by the highest score of a spurious entity.
            badness = len(spurious) + len(missed) + max((s["score"] for s in spurious), default=0.0)
            row = {"text": text, "missed": missed, "spurious": spurious}
            wrong.append((badness, row | {"row": examples.rows[index]}))
        wrong.sort(key=lambda pair: -pair[0])
        return [row for _, row in wrong]


def _span(text: str, start: int, end: int, label: str) -> dict[str, Any]:
    return {"entity": text[start:end], "label": label, "start": start, "end": end}


def _column(text: str) -> int:
    return options.number_type(
        text, int, lambda v: v != 0, "a column number from 1, or from -1 for the last"
    )

"""Entities in texts, and labels of words: CoNLL columns or JSON Lines in, spans out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, file_format, number
from keras_bert_zoo.data.tags import MODEL_SCHEMES, SCHEMES, guess_scheme, split_tag
from keras_bert_zoo.errors import ConfigError, DataError, one_line

# Readers of data are imported where they are used: they import NumPy, which slows --help down.
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
    """The tagger of words."""

    unit: ClassVar[str] = "texts"
    default_format: ClassVar[str | None] = "conll"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._labels: list[str] = []
        self._kept: list[str] | None = None
        self._nested = False
        self._notes: list[str] = []
        self._measured: EntityExamples | None = None

    # === Options ===

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the format of the file, its columns and its scheme of tags."""
        group = parser.add_group("format of the data")
        if labelled:
            group.add_argument(
                "--format",
                choices=("conll", "jsonl", "json"),
                help="conll: a word and its tag a line; jsonl: a text and its entities a line, or "
                "tokens and ner_tags; json: a list of such, or Label Studio's export; default: "
                "detected from the name, else conll",
            )
            group.add_argument(
                "--entities",
                metavar="KEY",
                help="of the entities, or of the tags of tokens, in jsonl and json; default: "
                "detected from the records",
            )
            group.add_argument(
                "--offsets",
                choices=("auto", "characters", "utf16"),
                default="auto",
                help="what offsets in jsonl and json count; utf16: units of JavaScript, an emoji "
                "has two; auto: characters, or what doccano's or Label Studio's file shows",
            )
            group.add_argument(
                "--tag-names",
                metavar="NAMES",
                type=options.comma_separated,
                help="of ner_tags that are numbers, comma-separated, in their order",
            )
            group.add_argument(
                "--tag-column",
                metavar="N",
                type=_column,
                help="of the tags in conll, from 1; -1 is the last; default: the one that looks "
                "like tags",
            )
            group.add_argument(
                "--tag-scheme", choices=SCHEMES, help="of the file; default: detected by its tags"
            )
            group.add_argument(
                "--lenient",
                action="store_true",
                help="start a new entity at an I- tag that continues none, instead of failing",
            )
        else:
            group.add_argument(
                "--format",
                choices=("text", "conll", "csv", "tsv", "jsonl"),
                help="default: detected from the name; text (one a line) for .txt and stdin",
            )
        group.add_argument(
            "--text", metavar="KEY", default="text", help="of the text in jsonl (csv, tsv)"
        )
        group.add_argument(
            "--word-column",
            metavar="N",
            type=_column,
            help="of the words in conll; default: the first that does not number them",
        )
        group.add_argument(
            "--join",
            choices=("auto", "space", "none"),
            default="auto",
            help="separator of words in conll; auto: a space, except next to Chinese",
        )
        group.add_argument("--encoding", default="utf-8", help="the files' encoding")

    def add_train_options(self, group: Any) -> None:
        """Adds the scheme that is learned, the random field, nested entities and the windows."""
        group.add_argument(
            "--scheme", choices=MODEL_SCHEMES, help="of the tags that are learned; default: IOB2"
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
            help="that windows of a long text share; default: a quarter of --max-length",
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Rejects options that token classification does not support."""
        self._nested = bool(args.nested)
        if args.probe_epochs:
            raise ConfigError(f"--probe-epochs does not apply to --task {self.name}")
        if args.keep_head and args.scheme:
            raise ConfigError("--keep-head keeps the scheme, too: leave --scheme out")
        if args.keep_head and args.nested:
            raise ConfigError("--keep-head keeps to what its head is for: leave --nested out")
        for option in ("scheme", "crf"):
            if args.nested and getattr(args, option):
                raise ConfigError(f"--{option} is of tags, and --nested learns none: leave one out")

    # === Data ===

    def format_of(self, path: str, *, labelled: bool) -> str | None:
        """A file with entities is JSON or CoNLL; one without may be any."""
        form = file_format(path, _FORMATS)
        return form if not labelled or form in ("conll", "jsonl", "json") else None

    def read(self, path: str, args: argparse.Namespace) -> EntityExamples:
        """Reads texts with entities; what was taken from where is reported after the checks."""
        from keras_bert_zoo.data.conll import read_conll
        from keras_bert_zoo.data.entity_files import read_entities

        form = args.format or self.format_of(path, labelled=True) or self.default_format
        of_tags = {"scheme": args.tag_scheme, "join": args.join, "lenient": args.lenient}
        if form != "conll":
            examples = read_entities(
                path,
                text=args.text,
                entities=args.entities,
                offsets=args.offsets,
                tag_names=args.tag_names,
                encoding=args.encoding,
                **of_tags,
            )
        else:
            examples = read_conll(
                path,
                word=args.word_column,
                tag=args.tag_column,
                encoding=args.encoding,
                **of_tags,
            )
        self._notes.append(f"{path}: {examples.note}")
        return examples

    def read_to_measure(self, path: str, args: argparse.Namespace) -> EntityExamples:
        """Reads texts with entities, as `read`."""
        self._measured = self.read(path, args)
        return self._measured

    def read_in_parts(
        self, source: Any, args: argparse.Namespace
    ) -> Iterator[Examples | EntityExamples]:
        """Reads texts without entities: lines, a table, or words in columns."""
        from keras_bert_zoo.data.conll import read_conll
        from keras_bert_zoo.data.tables import read_table_in_parts

        form = args.format or self.format_of(args.input, labelled=False)
        if form == "conll":
            # What the tags are does not matter: they are not compared.
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
            else cast("TableFormat | None", form),  # which is refused by the name
            encoding=args.encoding,
            replace_invalid=args.replace_invalid,
        )

    # === Training ===

    def check_preset(self, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
        """Takes the types of entities over with --keep-head."""
        if not args.keep_head:
            return
        from keras_bert_zoo.presets.resolve import find_preset
        from keras_bert_zoo.tasks.files import read_side_file

        tags = list(dict(config.get("id2label") or {}).values())
        if not tags:
            raise ConfigError(f"--keep-head, but {args.preset} names no labels (id2label)")
        self._nested = bool(read_side_file(find_preset(args.preset)).get("nested", False))
        if self._nested:
            self._kept = tags
            return
        scheme = guess_scheme(tags)
        self._kept = list(dict.fromkeys(kind for t in tags if (kind := split_tag(t, scheme)[1])))

    def check_data(self, train: EntityExamples, dev: EntityExamples | None) -> None:
        """Learns the types of entities; names what of the data the model could not hold."""
        from keras_bert_zoo.data.spans import check_entities

        self._labels = train.labels if self._kept is None else self._kept
        if not self._labels:
            raise DataError(f"{train.path}: expected entities to learn, but no text has any")
        for examples in (train, dev):
            if examples is not None:
                check_entities(examples, self._labels, nested=self._nested)
        self._say_notes()

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds a tagger."""
        from keras_bert_zoo.tasks.token_classification.token_classifier import TokenClassifier

        return TokenClassifier.from_preset(
            args.preset,
            labels=None if self._kept is not None else self._labels,
            scheme=args.scheme,
            crf=True if args.crf else None,
            nested=True if args.nested else None,
            stride=args.stride,
            **common,
        )

    # === Answers ===

    def check_loaded(self, task: Any, args: argparse.Namespace) -> None:
        """Compares what was read for scores with the types that the model knows."""
        from keras_bert_zoo.data.spans import check_entities

        if self._measured is not None:
            check_entities(self._measured, task.labels, nested=task.nested)
        self._say_notes()

    def _say_notes(self) -> None:
        """Says what was read, to standard error: standard output is for results."""
        for note in self._notes:
            print(one_line(note), file=sys.stderr, flush=True)
        self._notes.clear()

    def answer_rows(
        self, task: Any, examples: Examples | EntityExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Answers texts: each with the list of its entities."""
        answers = task.predict(examples, batch_size=args.batch_size)
        rows = []
        for index, text in enumerate(examples.texts):
            count = sum(map(bool, answers["label"][index]))
            entities = [
                {
                    "entity": answers["entity"][index][place],
                    "label": answers["label"][index][place],
                    "score": number(answers["score"][index][place]),
                    "start": int(answers["start_character"][index][place]),
                    "end": int(answers["end_character"][index][place]),
                }
                for place in range(count)
            ]
            rows.append({"text": text, "entities": entities})
        return rows

    def errors(
        self, task: Any, examples: EntityExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists texts with wrong or missed entities, those with most of them first."""
        wrong = []
        examples, aligned = task.align_entities(examples, warn=False)
        found = task.find_entities(examples, batch_size=args.batch_size)
        for index, entities in enumerate(aligned):
            text = examples.texts[index]
            true = {(start, end, label) for start, end, label in entities}
            got = {(start, end, label): score for start, end, label, score in found[index]}
            if true == set(got):
                continue
            spurious = [
                _span(text, *place) | {"score": number(round(got[place], 6))}
                for place in sorted(set(got) - true)
            ]
            missed = [_span(text, *place) for place in sorted(true - set(got))]
            # Among as many errors, those that the model was surest of.
            badness = len(spurious) + len(missed) + max((s["score"] for s in spurious), default=0.0)
            row = {"text": text, "missed": missed, "spurious": spurious}
            wrong.append((badness, row | {"row": examples.rows[index]}))
        wrong.sort(key=lambda pair: -pair[0])
        return [row for _, row in wrong]


def _span(text: str, start: int, end: int, label: str) -> dict[str, Any]:
    return {"entity": text[start:end], "label": label, "start": start, "end": end}


def _column(text: str) -> int:
    return options.number_type(
        text, int, lambda v: v != 0, "a column from 1, or from the end from -1"
    )

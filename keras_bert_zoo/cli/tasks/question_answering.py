"""Extractive question answering, on files in SQuAD format and on tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.tasks.base import TaskCommand, file_format, number
from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from keras_bert_zoo.data.questions import QuestionExamples
    from keras_bert_zoo.data.tables import TableFormat
    from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer

_CHUNK = 1024  # questions per chunk of a SQuAD file, which is read at once


def make_command(name: str) -> QuestionCommand:
    """Makes the command of this module's task."""
    return QuestionCommand(name)


class QuestionCommand(TaskCommand):
    """Questions, each with a context."""

    unit = "questions"
    reads_contexts: ClassVar[bool] = True
    """Whether each question has a context in the file."""

    def add_data_options(self, parser: Any, *, labelled: bool) -> None:
        """Adds the options of answers and columns."""
        if labelled:
            group = parser.add_group("data: JSON in SQuAD format, .gz allowed")
            group.add_argument(
                "--skip-misplaced",
                action="store_true",
                help="train without answers that are not at their offsets; evaluate still compares "
                "their texts",
            )
            return
        group = parser.add_group("columns and format of the data")
        group.add_argument(
            "--question", metavar="COLUMN", default="question", help="column of the question"
        )
        if self.reads_contexts:
            group.add_argument(
                "--context", metavar="COLUMN", default="context", help="column of the context"
            )
        options.add_columns_option(group)
        group.add_argument(
            "--format",
            choices=("jsonl", "csv", "tsv", "squad", *(() if self.reads_contexts else ("text",))),
            help="file format; default: detected from the name, which may end in .gz; squad for "
            + (
                ".json, jsonl for standard input"
                if self.reads_contexts
                else ".json, text (one question per line) for .txt and standard input"
            ),
        )
        options.add_delimiter_option(group)
        group.add_argument("--encoding", default="utf-8", help="the file's encoding")
        parser.add_argument(
            "--top-k",
            type=options.positive_int,
            help="number of answers per question; if above 1, answers are lists; default: as saved",
        )

    def add_train_options(self, group: Any) -> None:
        """Adds the options of windows and spans."""
        group.add_argument(
            "--stride",
            type=options.non_negative_int,
            help="tokens shared by windows of a long text; default: 128, at most a third of "
            "--max-length",
        )
        group.add_argument(
            "--max-answer-tokens",
            type=options.positive_int,
            default=30,
            help="maximum number of tokens of an answer",
        )

    def check_options(self, args: argparse.Namespace) -> None:
        """Rejects options that the task does not support."""
        if args.probe_epochs:
            raise ConfigError("--probe-epochs does not apply to --task question-answering")
        if args.stride and args.max_length and args.stride >= args.max_length - 3:
            raise ConfigError(
                f"expected a --stride below --max-length ({args.max_length}) minus 3 special "
                f"tokens, received {args.stride}"
            )

    def format_of(self, path: str, *, labelled: bool) -> str | None:
        """The format by the name; plain text has no contexts."""
        if path == "-" and self.reads_contexts:
            return "jsonl"
        form = file_format(path, {".json": "squad"})
        return None if form == "text" and self.reads_contexts else form

    def read(self, path: str, args: argparse.Namespace) -> QuestionExamples:
        """Reads a file in SQuAD format with its answers."""
        from keras_bert_zoo.data.squad import read_squad

        return read_squad(path, skip_misplaced=args.skip_misplaced)

    def read_to_measure(self, path: str, args: argparse.Namespace) -> QuestionExamples:
        """Reads a file in SQuAD format; --skip-misplaced keeps the texts of all answers."""
        from keras_bert_zoo.data.squad import read_squad

        return read_squad(path, skip_misplaced=args.skip_misplaced, scoring=True)

    def folds(self, examples: QuestionExamples, count: int, seed: int) -> list[np.ndarray]:
        """Divides questions into folds; questions on one context stay together."""
        from keras_bert_zoo.data.folds import make_folds

        answerable = [bool(texts) for texts in examples.right_texts() or ()]
        return make_folds(
            len(examples), count, seed, labels=answerable or None, groups=examples.contexts
        )

    def read_in_parts(self, source: Any, args: argparse.Namespace) -> Iterator[QuestionExamples]:
        """Reads questions and contexts from a table or a file in SQuAD format."""
        from keras_bert_zoo.data.questions import QuestionExamples
        from keras_bert_zoo.data.squad import read_squad
        from keras_bert_zoo.data.tables import read_table_in_parts

        form = args.format or self.format_of(args.input, labelled=False)
        if form == "squad":
            if args.input == "-":
                raise ConfigError("expected a file for --format squad, received standard input")
            examples = read_squad(args.input, answers=False)
            for begin in range(0, len(examples), _CHUNK):
                yield examples[begin : begin + _CHUNK]
            return
        delimiter = "\t" if args.delimiter == "\\t" else args.delimiter
        for part in read_table_in_parts(
            source,
            text=args.question,
            text_pair=args.context if self.reads_contexts else None,
            label=None,
            format=cast("TableFormat | None", form),
            columns=args.columns,
            delimiter=delimiter,
            encoding=args.encoding,
            replace_invalid=args.replace_invalid,
        ):
            contexts = part.text_pairs if self.reads_contexts else [""] * len(part)
            yield QuestionExamples(
                part.texts, contexts or [], rows=part.rows, lines=part.rows, path=part.path
            )

    def build(self, args: argparse.Namespace, **common: Any) -> Any:
        """Builds a question answerer."""
        from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer

        extra = {} if args.stride is None else {"stride": args.stride}
        return QuestionAnswerer.from_preset(
            args.preset,
            new_head=not args.keep_head,
            max_answer_tokens=args.max_answer_tokens,
            **extra,
            **common,
        )

    def tune(
        self, task: QuestionAnswerer, dev: QuestionExamples | None, args: argparse.Namespace
    ) -> None:
        """Tunes the `no_answer` threshold, if some validation questions have no answer."""
        if dev is not None and len({bool(texts) for texts in dev.right_texts() or ()}) == 2:
            task.tune_threshold(dev)

    def check_loaded(self, task: QuestionAnswerer, args: argparse.Namespace) -> None:
        """Sets the number of answers."""
        if getattr(args, "top_k", None):
            task.top_k = args.top_k

    def answer_rows(
        self, task: QuestionAnswerer, examples: QuestionExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Predicts the answers to questions."""
        import numpy as np

        answers = task.predict(examples, batch_size=args.batch_size)
        rows = []
        for index, question in enumerate(examples.questions):
            row: dict[str, Any] = {"id": examples.ids[index], "question": question}
            for name, values in answers.items():
                value = values[index]
                if isinstance(value, str):
                    row[name] = value
                elif value.dtype == np.float32:
                    row[name] = number(value) if value.ndim == 0 else [number(v) for v in value]
                else:
                    row[name] = value.tolist()
            if task.null_threshold is None:
                del row["no_answer"]
            rows.append(row)
        return rows

    def errors(
        self, task: QuestionAnswerer, examples: QuestionExamples, args: argparse.Namespace
    ) -> list[dict[str, Any]]:
        """Lists answers without an exact match, by lowest F1 and then by highest score."""
        from keras_bert_zoo.metrics.question_answering import answer_scores

        task.top_k = 1
        rows = self.answer_rows(task, examples, args)
        right = examples.right_texts() or []
        exact, f1 = answer_scores([row["answer"] for row in rows], right)
        wrong = []
        for index in sorted(range(len(rows)), key=lambda i: (f1[i], -rows[i]["score"])):
            if exact[index] == 1:
                continue
            row = rows[index]
            wrong.append(
                {
                    "id": row["id"],
                    "question": row["question"],
                    "answers": list(dict.fromkeys(right[index])),
                    "predicted": row["answer"],
                    "f1": round(float(f1[index]), 4),
                    "score": row["score"],
                    **({"passage": row["passage"]} if "passage" in row else {}),
                    "context": examples.contexts[index],
                    "row": examples.rows[index],
                }
            )
        return wrong

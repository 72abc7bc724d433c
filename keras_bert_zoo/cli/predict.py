"""keras-bert-zoo predict: answers texts, a part at a time, as JSON Lines."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.options import Parser

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples

DESCRIPTION = """\
Answer texts from a file or from standard input. Each becomes a line of JSON with the text, its
label and the label's probability; several labels become lists, a regression only a score. An
empty line is an empty text and is answered, too."""

EXAMPLES = """
  echo "My card has not arrived" | keras-bert-zoo predict --model runs/intents
  keras-bert-zoo predict --model runs/intents --input questions.txt --output answers.jsonl
  keras-bert-zoo predict --model runs/intents --input test.csv --text question --all-scores
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="what `keras-bert-zoo train` wrote"
    )
    parser.add_argument(
        "--input", metavar="FILE", default="-", help="texts to answer; -: standard input"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="-", help="where answers go; -: standard output"
    )
    parser.add_argument(
        "--all-scores", action="store_true", help="add `scores`: every label's probability"
    )
    options.add_table_options(parser, label=False, text_format=True)
    parser.add_argument(
        "--replace-invalid",
        action="store_true",
        help="read bytes that are not of the encoding as U+FFFD instead of stopping",
    )
    parser.add_argument("--batch-size", type=options.positive_int, default=64, help="texts at once")
    options.add_dtype_option(parser, default="float32")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.output import written_file
    from keras_bert_zoo.cli.saved_task import check_saved_task, load_saved_task
    from keras_bert_zoo.data.tables import read_table_in_parts

    check_saved_task(args.model)
    table = options.table_options(args)
    source: Any = args.input
    if args.input == "-":
        source = sys.stdin.buffer
        if sys.stdin.isatty():
            print("reading texts, one a line; Ctrl-D ends", file=sys.stderr)
    if table["format"] is None and (
        args.input == "-" or args.input.lower().removesuffix(".gz").endswith(".txt")
    ):
        table["format"] = "text"
    parts = read_table_in_parts(source, label=None, replace_invalid=args.replace_invalid, **table)
    first = next(parts)  # a wrong file is told before TensorFlow is imported

    task = load_saved_task(
        args.model, dtype=args.dtype, text_pair=args.text_pair, verbose=args.verbose
    )
    # Where answers go to a terminal, they are the progress.
    progress = sys.stderr.isatty() and not (args.output == "-" and sys.stdout.isatty())
    count = 0
    with written_file(args.output) as file:
        examples: Examples | None = first
        while examples is not None:
            rows = answer_rows(
                task, examples, batch_size=args.batch_size, all_scores=args.all_scores
            )
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
            file.flush()
            count += len(examples)
            if progress:
                print(f"\r{count:,} texts", end="", file=sys.stderr, flush=True)
            examples = next(parts, None)
    if progress:
        print(file=sys.stderr)
    return 0


def answer_rows(
    task: Any, examples: Examples, *, batch_size: int, all_scores: bool = False
) -> list[dict[str, Any]]:
    """Answers texts.

    Args:
        task: a loaded task.
        examples: Examples.
        batch_size: int.
        all_scores: bool. Whether `scores`, label -> probability, is added.

    Returns:
        a dict for each text, ready for JSON.
    """
    answers = task.predict(examples, batch_size=batch_size)
    rows = []
    for index, text in enumerate(examples.texts):
        row: dict[str, Any] = {"text": text}
        if examples.text_pairs is not None:
            row["text_pair"] = examples.text_pairs[index]
        score = answers["score"][index]
        if "label" not in answers:
            row["score"] = _number(score)
        elif answers["label"].ndim == 1:
            row |= {"label": answers["label"][index], "score": _number(score)}
        else:
            # Those that apply come first; the rest of the row is empty strings.
            labels = [label for label in answers["label"][index] if label]
            row |= {"label": labels, "score": [_number(value) for value in score[: len(labels)]]}
        if all_scores and "scores" in answers:
            scores = map(_number, answers["scores"][index])
            row["scores"] = dict(zip(task.labels, scores, strict=True))
        rows.append(row)
    return rows


def _number(value: Any) -> float:
    # The shortest digits that give this float32 back, not the seventeen of its float64.
    return float(str(value))

"""keras-bert-zoo predict: writes predictions as JSON Lines, chunk by chunk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import json_text
from keras_bert_zoo.cli.options import Parser

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand

DESCRIPTION = """\
Write predictions for texts from a file or standard input. Each text gives a line of JSON with the
text, its label and the label's probability. Several labels are lists; a regression has only a
score. An empty line is an empty text and has a prediction, too. A LiteRT file gives its outputs as
they are. The options that read the training file (--text, --columns and so on) are the defaults."""

EXAMPLES = """
  echo "My card has not arrived" | keras-bert-zoo predict --model runs/intents
  keras-bert-zoo predict --model runs/intents --input questions.txt --output answers.jsonl
  keras-bert-zoo predict --model runs/intents --input test.csv --text question --all-scores
  keras-bert-zoo predict --model intents.tflite --input questions.txt
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="directory written by `keras-bert-zoo train`, or a LiteRT file that takes strings",
    )
    parser.add_argument(
        "--input", metavar="FILE", default="-", help="texts to predict; -: standard input"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="-", help="file for the predictions; -: standard output"
    )
    parser.add_argument(
        "--replace-invalid",
        action="store_true",
        help="replace invalid bytes with U+FFFD instead of raising an error",
    )
    parser.add_argument(
        "--batch-size", type=options.positive_int, default=64, help="examples per batch"
    )
    options.add_dtype_option(parser, default="float32")
    options.add_ignore_option(parser)


def add_task_options(parser: Parser, argv: Sequence[str]) -> None:
    """Adds the options of the task that --model names."""
    from keras_bert_zoo.cli.columns import use_saved_options
    from keras_bert_zoo.cli.saved_task import peek_command

    command = peek_command(argv)
    command.add_data_options(parser, labelled=False)
    use_saved_options(parser, argv, command, "input")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.columns import named_flags
    from keras_bert_zoo.cli.litert import check_takes_texts
    from keras_bert_zoo.cli.output import check_outputs, written_file
    from keras_bert_zoo.cli.saved_task import saved_command
    from keras_bert_zoo.export.litert.model_file import is_litert_file

    check_outputs(args, ("output",))
    command = saved_command(args.model)
    if is_litert_file(args.model):
        check_takes_texts(args.model)
    source: Any = args.input
    if args.input == "-":
        source = sys.stdin.buffer
        if sys.stdin.isatty():
            print("reading texts, one per line; Ctrl-D ends the input", file=sys.stderr)
    chunks = command.read_in_parts(source, args)
    with named_flags(args):
        first = next(chunks)  # an invalid file fails before TensorFlow is imported

    answer_rows = _answers(args, command)
    # Predictions on a terminal already show the progress.
    progress = sys.stderr.isatty() and not (args.output == "-" and sys.stdout.isatty())
    count = 0
    with written_file(args.output) as file:
        examples: Any = first
        while examples is not None:
            for row in answer_rows(examples):
                file.write(json_text(row).encode("utf-8") + b"\n")
            file.flush()
            count += len(examples)
            if progress:
                print(f"\r{count:,} texts", end="", file=sys.stderr, flush=True)
            examples = next(chunks, None)
    if progress:
        print(file=sys.stderr)
    return 0


def _answers(
    args: argparse.Namespace, command: TaskCommand
) -> Callable[[Any], Iterable[dict[str, Any]]]:
    """Loads the model; returns the function from examples to rows for JSON."""
    from keras_bert_zoo.cli.runtime import start_tensorflow
    from keras_bert_zoo.export.litert.model_file import is_litert_file

    if is_litert_file(args.model):
        from keras_bert_zoo.cli.litert import answered
        from keras_bert_zoo.export.litert.interpreter import litert_interpreter

        start_tensorflow(verbose=args.verbose)  # it has the ops of tf.text
        model = litert_interpreter(args.model)
        names = model.info["texts"]
        return lambda examples: answered(
            model, dict(zip(names, examples.columns, strict=True)), args.batch_size
        )
    from keras_bert_zoo.cli.saved_task import load_saved_task

    task = load_saved_task(args, command)
    return lambda examples: command.answer_rows(task, examples, args)

"""keras-bert-zoo evaluate: evaluates a trained model on labelled data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import json_text, show
from keras_bert_zoo.cli.options import Parser

DESCRIPTION = """\
Evaluate a trained model. Classification: accuracy, a confusion matrix, and precision, recall and
F1 by label. Regression: correlations and errors. Other tasks: their standard metrics. --errors
writes the errors as JSON Lines. --html writes a page with plots and the errors. The options that
read the training file (--text, --label, --columns and so on) are the defaults."""

EXAMPLES = """
  keras-bert-zoo evaluate --model runs/intents --data test.csv
  keras-bert-zoo evaluate --model runs/intents --data test.csv --errors wrong.jsonl \\
      --html wrong.html
  keras-bert-zoo evaluate --model runs/intents --data test.csv --json | jq .accuracy
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="directory written by `keras-bert-zoo train`"
    )
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="labelled data to evaluate on"
    )
    parser.add_argument(
        "--errors",
        metavar="FILE",
        help="write the errors to this file as JSON Lines, the worst first",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="write a page with the metrics, plots and errors to this file; needs the extra `html`",
    )
    parser.add_argument(
        "--batch-size", type=options.positive_int, default=64, help="examples per batch"
    )
    options.add_dtype_option(parser, default="float32")
    options.add_ignore_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_task_options(parser: Parser, argv: Sequence[str]) -> None:
    """Adds the options of the task that --model names."""
    from keras_bert_zoo.cli.columns import use_saved_options
    from keras_bert_zoo.cli.saved_task import peek_command

    command = peek_command(argv)
    command.add_data_options(parser, labelled=True)
    use_saved_options(parser, argv, command, "data")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.columns import named_flags
    from keras_bert_zoo.cli.error_page import error_page
    from keras_bert_zoo.cli.output import check_outputs, written_file
    from keras_bert_zoo.cli.saved_task import load_saved_task, saved_command
    from keras_bert_zoo.cli.svg_plots import check_plotting
    from keras_bert_zoo.metrics.classification import format_report

    check_outputs(args, ("errors", "html"))
    if args.html:
        check_plotting()
    command = saved_command(args.model)
    with named_flags(args):
        examples = command.read_to_measure(args.data, args)
    task = load_saved_task(args, command)
    report = task.report(examples, batch_size=args.batch_size)
    errors = command.errors(task, examples, args) if args.errors or args.html else []
    if args.errors:
        with written_file(args.errors) as file:
            for row in errors:
                file.write(json_text(row).encode("utf-8") + b"\n")
    if args.html:
        names = [Path(path).absolute().name for path in (args.model, args.data)]
        page = error_page(
            f"Evaluation of {names[0]} on {names[1]}",
            len(examples),
            report.to_dict(),
            errors,
            predictions=command.predictions(task, examples, args),
            source=f"Model: {args.model}. Data: {args.data}.",
        )
        with written_file(args.html) as file:
            file.write(page.encode("utf-8", "replace"))
    if args.json:
        print(json_text({"rows": len(examples), **report.to_dict()}))
    else:
        show(format_report(report))
    return 0

"""keras-bert-zoo evaluate: measures a trained model on a file with labels."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.options import Parser

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples

DESCRIPTION = """\
Measure a trained model: accuracy, precision, recall and F1 by label and what is confused with
what; for a regression, correlations and errors."""

EXAMPLES = """
  keras-bert-zoo evaluate --model runs/intents --data test.csv
  keras-bert-zoo evaluate --model runs/intents --data test.csv --errors wrong.jsonl
  keras-bert-zoo evaluate --model runs/intents --data test.csv --json | jq .accuracy
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="what `keras-bert-zoo train` wrote"
    )
    parser.add_argument("--data", required=True, metavar="FILE", help="texts with labels")
    parser.add_argument(
        "--errors",
        metavar="FILE",
        help="write the texts told wrong here as JSON Lines, the worst first",
    )
    options.add_table_options(parser)
    parser.add_argument("--batch-size", type=options.positive_int, default=64, help="texts at once")
    options.add_dtype_option(parser, default="float32")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.output import written_file
    from keras_bert_zoo.cli.saved_task import check_saved_task, load_saved_task
    from keras_bert_zoo.data.tables import read_table
    from keras_bert_zoo.training.metrics import format_report

    kind = check_saved_task(args.model)
    examples = read_table(
        args.data,
        label=args.label,
        label_kind=kind,
        label_separator=args.label_separator,
        **options.table_options(args),
    )

    task = load_saved_task(
        args.model, dtype=args.dtype, text_pair=args.text_pair, verbose=args.verbose
    )
    report = task.report(examples, batch_size=args.batch_size)
    if args.errors:
        with written_file(args.errors) as file:
            for row in _errors(task, examples, args.batch_size):
                file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
    if args.json:
        print(json.dumps({"rows": len(examples), **report.to_dict()}, ensure_ascii=False))
    else:
        print(format_report(report))
    return 0


def _errors(task: Any, examples: Examples, batch_size: int) -> list[dict[str, Any]]:
    """Lists what was told wrong: the surer the model was, the earlier; all rows of a regression."""
    from keras_bert_zoo.cli.predict import answer_rows

    wrong = []
    answers = answer_rows(task, examples, batch_size=batch_size)
    for index, answer in enumerate(answers):
        true: Any = (examples.labels or [])[index]
        score = answer.pop("score")
        if isinstance(true, float):
            badness = abs(score - true)
            found = {"predicted": score, "error": badness}
        else:
            label = answer.pop("label")
            if isinstance(label, list):
                if set(label) == set(true):
                    continue
                # How many labels are wrong, and then how sure the model was of one it named.
                sureness = max((s for n, s in zip(label, score, strict=True) if n not in true),
                               default=0.0)  # fmt: skip
                badness = len(set(label) ^ set(true)) + sureness
            else:
                if label == true:
                    continue
                badness = score
            found = {"predicted": label, "score": score}
        row = answer | {"label": true, **found, "row": examples.rows[index]}
        wrong.append((badness, row))
    wrong.sort(key=lambda pair: -pair[0])
    return [row for _, row in wrong]

"""keras-bert-zoo glue: trains and measures an encoder on GLUE or on a small suite."""

from __future__ import annotations

import argparse

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.training_options import (
    add_optimizer_options,
    add_schedule_options,
)

DESCRIPTION = """\
Measure an encoder: fine-tune it on each task of a suite with several seeds, and print the medians.
GLUE's files are read as its zip archives have them. Each task has the options of BERT's paper; the
training options below change them for all tasks. A finished run is in OUTPUT/runs.jsonl, and
--resume does not train it again."""

EXAMPLES = """
  keras-bert-zoo glue --preset bert_base_en_uncased --data glue_data --output runs/glue
  keras-bert-zoo glue --preset runs/pretrained --data glue_data --tasks RTE,MRPC --seeds 3 \\
      --output runs/glue --predict
  keras-bert-zoo glue --preset minilm_l6_en_uncased --suite quick --data data --seeds 1 \\
      --output runs/quick
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--preset",
        required=True,
        metavar="NAME_OR_DIR",
        help="encoder to measure: a name listed by `keras-bert-zoo presets`, or a Hugging Face "
        "directory",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="directory of the data")
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="directory for the scores and predictions; no models are saved",
    )
    parser.add_argument(
        "--suite",
        choices=("glue", "quick"),
        default="glue",
        help="glue: its nine tasks; quick: small samples of six tasks",
    )
    parser.add_argument(
        "--tasks",
        metavar="NAMES",
        type=options.comma_separated,
        help="comma-separated tasks; default: all that DIR has",
    )
    parser.add_argument(
        "--seeds",
        type=options.positive_int,
        default=5,
        metavar="N",
        help="trainings of each task, with the seeds 0 to N - 1",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the runs in OUTPUT; without one, start",
    )
    parser.add_argument(
        "--predict",
        action="store_true",
        help="predict GLUE's test files; OUTPUT/submission gets those of the best seed of each "
        "task",
    )
    group = parser.add_group("training")
    add_schedule_options(
        group, epochs=None, batch_size="that of the task", learning_rate=None, patience=False
    )
    group.add_argument(
        "--probe-epochs",
        type=options.non_negative_int,
        help="epochs that first train only the new head; default: that of the task",
    )
    add_optimizer_options(group)
    group.add_argument(
        "--max-length",
        type=options.positive_int,
        help="maximum number of tokens per text; default: that of the task",
    )
    options.add_dtype_option(group, default="auto")
    options.add_ignore_option(group)
    flags = parser.flags()
    flags["--epochs"].help = "passes over the training data; default: that of the task"
    flags["--learning-rate"].help = "peak learning rate; default: that of the task"
    flags["--probe-epochs"].default = None
    flags[
        "--probe-epochs"
    ].help = "epochs that first train only the new head; default: that of the task"
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end, and the progress to standard error",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.glue_suite import run_suite

    return run_suite(args)

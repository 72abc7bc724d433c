"""keras-bert-zoo export: writes a SavedModel that takes raw strings."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser

DESCRIPTION = """\
Write a trained model as a SavedModel that takes raw strings and runs in TensorFlow Serving:
it contains the tokenizer, the encoder and the labels. Its predictions are compared with the
model's, in a process without this package, before OUTPUT/VERSION appears."""

EXAMPLES = """
  keras-bert-zoo export --model runs/intents --output saved_models/intents
  keras-bert-zoo export --model runs/intents --output saved_models/intents --dtype bfloat16
  keras-bert-zoo export --model nli-model --output saved_models/nli --pairs
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="directory written by `keras-bert-zoo train`"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="the model's folder: saved_models/NAME"
    )
    parser.add_argument(
        "--version",
        metavar="N",
        type=options.non_negative_int,
        help="folder inside --output; default: the newest version plus one",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the encoder's computations; outputs are always float32",
    )
    options.add_ignore_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_task_options(parser: Parser, argv: Sequence[str]) -> None:
    """Adds the options of the task that --model names."""
    from keras_bert_zoo.cli.saved_task import peek_command

    command = peek_command(argv)
    command.add_export_options(parser.add_group(f"--task {command.name}"))


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.columns import named_flags
    from keras_bert_zoo.cli.saved_task import saved_command

    with named_flags(args):
        extra = saved_command(args.model).export_options(args)

    from keras_bert_zoo.cli.runtime import start_tensorflow

    start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.tasks.registry import load_task

    task = load_task(args.model, ignore_config_keys=args.ignore_config_keys)
    export = task.export(args.output, version=args.version, dtype=args.dtype, **extra)
    if args.json:
        values = dataclasses.asdict(export)
        print(json.dumps(values | {"path": str(export.path)}))
        return 0
    show(f"exported {export.path} ({export.model_bytes / 2**20:.1f} MiB, {export.dtype})")
    show(
        f"verified without this package on {export.texts} texts: same predictions, scores within "
        f"{export.largest_difference:.1e}; signatures {', '.join(export.signatures)}"
    )
    show(_how_to_serve(export.path.parent, task.text_specs(pair=extra.get("pair"))))
    return 0


def _how_to_serve(base: Path, specs: dict[str, Any]) -> str:
    """Formats the commands that serve an export and send a request."""
    name = base.name
    # TensorFlow Serving takes the values of a single input without its name.
    example: Any = {}
    for input_name, spec in specs.items():
        text = f"your {input_name.replace('_', ' ')}"
        example[input_name] = text if spec.shape.rank == 1 else [text] * spec.shape[1]
    if len(specs) == 1:
        (example,) = example.values()
    request = json.dumps({"instances": [example]})
    return f"""\
serve:
  docker run --rm -p 8501:8501 -v {shlex.quote(f"{base}:/models/{name}")} \\
      -e {shlex.quote(f"MODEL_NAME={name}")} tensorflow/serving:2.20.0
or:
  tensorflow_model_server --rest_api_port=8501 --model_name={shlex.quote(name)} \\
      --model_base_path={shlex.quote(str(base))}
send a request:
  curl -d {shlex.quote(request)} http://localhost:8501/v1/models/{quote(name)}:predict"""

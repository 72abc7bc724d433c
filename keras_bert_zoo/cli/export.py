"""keras-bert-zoo export: writes a SavedModel that takes raw strings."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand
    from keras_bert_zoo.export.int8 import Int8Report
    from keras_bert_zoo.export.litert.exporter import LiteRTExport

_MOST_CALIBRATION = 1000  # texts
_SAVED_MODEL_DTYPES = ("float32", "bfloat16", "int8")

DESCRIPTION = """\
Write a trained model as a SavedModel that takes raw strings and runs in TensorFlow Serving, or as
a LiteRT (TFLite) file for devices. It contains the tokenizer, the encoder and the labels. Its
predictions are compared with the model's, in a process without this package, before OUTPUT/VERSION
or the file appears."""

EXAMPLES = """
  keras-bert-zoo export --model runs/intents --output saved_models/intents
  keras-bert-zoo export --model runs/intents --output saved_models/intents --dtype bfloat16
  keras-bert-zoo export --model runs/intents --output saved_models/intents --dtype int8 \\
      --calibrate texts.csv --data dev.csv --max-drop 0.003
  keras-bert-zoo export --model runs/intents --output intents.tflite --format litert --dtype int8
  keras-bert-zoo export --model nli-model --output saved_models/nli --pairs
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="directory written by `keras-bert-zoo train`"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="the model's folder, saved_models/NAME; for LiteRT, FILE.tflite",
    )
    parser.add_argument(
        "--format",
        dest="export_format",
        choices=("saved_model", "litert", "mediapipe"),
        help="mediapipe: a LiteRT file for the text tasks of MediaPipe and of the Task Library. "
        "Default: litert if --output ends in .tflite, otherwise saved_model",
    )
    parser.add_argument(
        "--version",
        metavar="N",
        type=options.non_negative_int,
        help="folder inside --output; default: the newest version plus one",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "int8"),
        default="float32",
        help="precision of the encoder's computations, bfloat16 in a SavedModel alone; of the "
        "weights in a LiteRT file, float16 there alone. Outputs are always float32. int8 in a "
        "SavedModel needs --calibrate and an x86-64 CPU",
    )
    litert = parser.add_group("--format litert")
    litert.add_argument(
        "--input",
        choices=("text", "ids"),
        help="text: strings, for LiteRT with the ops of tf.text; ids: token ids, with built-in ops "
        "alone. Default: text if the tokenizer allows it",
    )
    litert.add_argument(
        "--batch-size",
        type=options.positive_int,
        metavar="N",
        help="rows per request; default: 1",
    )
    litert.add_argument(
        "--length",
        type=options.positive_int,
        metavar="N",
        help="tokens per row for --input ids, padding included; default: any number; for "
        "mediapipe, the model's maximum length",
    )
    measured = parser.add_group("--dtype int8, and LiteRT files")
    measured.add_argument(
        "--data",
        metavar="FILE",
        help="labelled file; the change of the model's main figure is shown",
    )
    measured.add_argument(
        "--max-drop",
        metavar="X",
        type=options.non_negative_float,
        help="refuse the export if this figure drops by more; needs --data",
    )
    int8 = parser.add_group("--dtype int8 of a SavedModel")
    int8.add_argument(
        "--calibrate",
        metavar="FILE",
        help="about 100 to 1,000 texts like those that will be served; labels are not read",
    )
    int8.add_argument(
        "--fallback",
        action="store_true",
        help="also write the bfloat16 model, as the version before",
    )
    options.add_ignore_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_task_options(parser: Parser, argv: Sequence[str]) -> None:
    """Adds the options of the task that --model names."""
    from keras_bert_zoo.cli.columns import use_saved_options
    from keras_bert_zoo.cli.saved_task import peek_command

    command = peek_command(argv)
    command.add_export_options(parser.add_group(f"--task {command.name}"))
    parser.rename("--format", "--data-format")
    command.add_data_options(parser, labelled=True)
    use_saved_options(parser, argv, command, "data")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.columns import named_flags
    from keras_bert_zoo.cli.saved_task import saved_command

    command = saved_command(args.model)
    with named_flags(args):
        form = _checked_format(args)
        extra = command.export_options(args) | (
            _int8_options(args, command) | {"version": args.version}
            if form == "saved_model"
            else _litert_options(args, command)
        )

    from keras_bert_zoo.cli.runtime import start_tensorflow

    start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.tasks.registry import load_task

    task = load_task(args.model, ignore_config_keys=args.ignore_config_keys)
    export = task.export(args.output, form, dtype=args.dtype, **extra)
    if args.json:
        values: dict[str, Any] = dataclasses.asdict(export)
        print(json.dumps(values, default=str))
        return 0
    show(f"exported {export.path} ({export.model_bytes / 2**20:.1f} MiB, {export.dtype})")
    if form != "saved_model":
        show(_litert_text(export))
        return 0
    show(
        f"verified without this package on {export.texts} texts: same predictions, scores within "
        f"{export.largest_difference:.1e}; signatures {', '.join(export.signatures)}"
    )
    if export.fallback is not None:
        show(f"exported {export.fallback} (bfloat16)")
    if export.int8 is not None:
        show(_int8_text(export.int8))
    show(_how_to_serve(export.path.parent, task.text_specs(pair=extra.get("pair"))))
    return 0


def _checked_format(args: argparse.Namespace) -> str:
    """Returns the format; raises ConfigError for options of the other one."""
    from keras_bert_zoo.export.litert.model_file import is_litert_file

    form: str = args.export_format or ("litert" if is_litert_file(args.output) else "saved_model")
    others = {"--input": args.input, "--batch-size": args.batch_size, "--length": args.length}
    if form == "mediapipe":
        del others["--length"]
    if form == "litert":
        others = {}
    if form != "saved_model":
        others |= {"--version": args.version, "--calibrate": args.calibrate}
        others["--fallback"] = args.fallback or None
    for flag, value in others.items():
        if value is not None:
            raise ConfigError(f"{flag} does not apply to --format {form}")
    allowed = _SAVED_MODEL_DTYPES if form == "saved_model" else ("float32", "float16", "int8")
    if args.dtype not in allowed:
        raise ConfigError(
            f"expected --dtype to be one of {', '.join(allowed)} for --format {form}, received "
            f"{args.dtype}"
        )
    return form


def _litert_options(args: argparse.Namespace, command: TaskCommand) -> dict[str, Any]:
    """Returns the arguments of `export_litert`; reads the labelled file."""
    given = {
        "input": args.input,
        "batch_size": args.batch_size,
        "length": args.length,
        "examples": None if args.data is None else command.read_to_measure(args.data, args),
        "max_drop": args.max_drop,
    }
    return {name: value for name, value in given.items() if value is not None}


def _litert_text(export: LiteRTExport) -> str:
    """Formats what was verified, and how to use the file."""
    shapes = (
        f"{name} ({', '.join('any' if size is None else str(size) for size in shape)})"
        for name, shape in export.inputs.items()
    )
    narrow = ""
    if export.equal_answers is not None:
        narrow = f", {export.equal_answers:.1%} equal answers in {export.dtype}"
    text = (
        f"inputs: {', '.join(shapes)}; outputs: {', '.join(export.outputs)}\n"
        f"verified without this package on {export.texts} texts: same predictions, scores within "
        f"{export.largest_difference:.1e}{narrow}\n{export.delegation}"
    )
    if export.figures is not None:
        before, after = export.figures.before, export.figures.after
        text += f"\n{export.figures.name}: {before:.4f} before, {after:.4f} in {export.dtype}"
    if export.tokenization is not None:
        text += f"\n{export.tokenization}"
    if export.input == "text":
        text += f"\ntry it:\n  keras-bert-zoo predict --model {shlex.quote(str(export.path))}"
    return text


def _int8_options(args: argparse.Namespace, command: TaskCommand) -> dict[str, Any]:
    """Reads the files of an int8 export."""
    given = {"--calibrate": args.calibrate, "--data": args.data, "--max-drop": args.max_drop}
    if args.dtype != "int8":
        for flag in [flag for flag, value in given.items() if value is not None]:
            raise ConfigError(f"{flag} applies only to --dtype int8")
        if args.fallback:
            raise ConfigError("--fallback applies only to --dtype int8")
        return {}
    if args.calibrate is None:
        raise ConfigError("--dtype int8 needs --calibrate FILE, texts like those that are served")
    reading = unlabelled_options(args, command)
    return {
        "calibration": next(command.read_in_parts(args.calibrate, reading))[:_MOST_CALIBRATION],
        "examples": None if args.data is None else command.read_to_measure(args.data, args),
        "max_drop": args.max_drop,
        "fallback": args.fallback,
    }


def unlabelled_options(args: argparse.Namespace, command: TaskCommand) -> argparse.Namespace:
    """Returns the options that read the calibration file, which has no labels.

    Args:
        args: those of the command, for labelled files.
        command: the task's command.
    """
    parser = Parser()
    command.add_data_options(parser, labelled=False)
    defaults = vars(parser.parse_args([]))
    given = {"input": args.calibrate, "replace_invalid": False}
    return argparse.Namespace(**defaults | vars(args) | given)


def _int8_text(report: Int8Report) -> str:
    """Formats what became int8, and what it costs."""
    total = len(report.layers) + len(report.bfloat16_layers)
    text = (
        f"int8: {len(report.layers)} of {total} dense layers, the others stay bfloat16; "
        f"{report.texts} calibration texts: cosine of the states at least "
        f"{report.least_cosine:.4f}"
    )
    if report.equal_answers is not None:
        text += f", {report.equal_answers:.1%} equal answers"
    if report.figure is not None:
        text += f"\n{report.figure}: {report.before:.4f} before, {report.after:.4f} in int8"
    return text


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

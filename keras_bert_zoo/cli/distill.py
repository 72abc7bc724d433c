"""keras-bert-zoo distill: trains a smaller classifier to give the answers of a trained one."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from typing import Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import given_options, named_flags
from keras_bert_zoo.cli.failures import training_failures
from keras_bert_zoo.cli.messages import say
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.saved_task import is_export, saved_command
from keras_bert_zoo.cli.signals import held_back_signals, name_of, status_of
from keras_bert_zoo.cli.tasks import task_command
from keras_bert_zoo.cli.training_options import (
    add_schedule_options,
    add_validation_options,
    check_validation_options,
    report_training,
    set_batch_size,
)
from keras_bert_zoo.errors import ConfigError

DESCRIPTION = """\
Train a smaller classifier to give the answers of a trained one, its teacher. The student is some
of the teacher's layers (--layers), or another pretrained model (--student). Labels are optional:
with --no-labels the training data is any text. The output is a directory as train writes it."""

EXAMPLES = """
  keras-bert-zoo distill --teacher runs/banking77 --layers 3 --train train.csv --dev-fraction 0.1 \\
      --output runs/small
  keras-bert-zoo distill --teacher saved_models/banking77/1 --student minilm_l6_en_uncased \\
      --train log.jsonl --no-labels --output runs/small
"""


_BATCH_SIZE = 64


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="DIR",
        help="trained classifier: a directory that train wrote, or an exported SavedModel",
    )
    parser.add_argument(
        "--layers",
        type=options.positive_int,
        metavar="N",
        help="layers of the teacher in the student, evenly spaced from the first to the last",
    )
    parser.add_argument(
        "--student", metavar="NAME_OR_DIR", help="pretrained model to train instead; see --preset "
        "of train"
    )  # fmt: skip
    parser.add_argument("--train", required=True, metavar="FILE", help="texts, with labels or not")
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write")
    parser.add_argument(
        "--no-labels",
        action="store_true",
        help="--train has no labels; the teacher's answers are the only targets",
    )
    add_validation_options(parser)
    group = parser.add_group("training")
    group.add_argument(
        "--temperature",
        type=options.positive_float,
        default=2.0,
        help="divides all logits; above 1, the order of improbable labels counts more",
    )
    group.add_argument(
        "--label-weight",
        type=options.share,
        default=0.0,
        help="weight of the labels, from 0 to 1; the rest is the weight of the teacher's answers",
    )
    group.add_argument(
        "--hidden-weight",
        type=options.non_negative_float,
        default=0.0,
        help="weight of the distance of the layers' states from the teacher's; with --layers, or "
        "with a --student of the same vocabulary and width",
    )
    add_schedule_options(group, epochs=5, batch_size=_BATCH_SIZE, learning_rate=3e-4)
    options.add_dtype_option(group, default="auto")
    group.add_argument(
        "--seed", type=options.seed_int, default=0, help="random seed of a new head and the order"
    )
    options.add_ignore_option(group)
    options.add_table_options(parser, text_format=True)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end, and the progress to standard error",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.output import check_output, check_space, save_model

    _check_options(args)
    set_batch_size(args, _BATCH_SIZE)
    exported = is_export(args.teacher)
    command = task_command("classification") if exported else saved_command(args.teacher)
    if command.name not in ("classification", "multi-label"):
        raise ConfigError(
            f"{args.teacher}: expected a text classifier, received a model for --task "
            f"{command.name}"
        )
    check_output(args.output)
    with named_flags(args):
        train, dev = _read(args, command)

    from keras_bert_zoo.cli.runtime import keras_dtype, start_tensorflow

    tf = start_tensorflow(verbose=args.verbose)
    import keras

    from keras_bert_zoo.training.distillation import distill

    out = sys.stderr if args.json else sys.stdout
    keras.utils.set_random_seed(args.seed)
    dtype = keras_dtype(args.dtype, tf)
    teacher, labels = _teacher(args, train, exported=exported, dtype=dtype)
    student = _student(args, teacher, labels, dtype, multi_label=command.name == "multi-label")
    show_parameters = f"{student.count_params():,} parameters"
    if not exported:
        show_parameters += f" of {teacher.count_params():,}"
    print(f"training on {len(train):,} texts, {show_parameters}, {dtype}", file=out, flush=True)
    check_space(args.output, student)
    begun, trained = threading.Event(), threading.Event()
    steps = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda step, logs: begun.set(),
        on_train_batch_end=lambda step, logs: trained.set(),
    )
    with training_failures(begun.is_set):
        interrupt, history = None, {}
        try:
            with contextlib.redirect_stdout(out):
                history = distill(
                    teacher,
                    student,
                    train,
                    validation_data=dev,
                    temperature=args.temperature,
                    label_weight=args.label_weight,
                    hidden_weight=args.hidden_weight,
                    batch_size=args.batch_size,
                    epochs=args.epochs,
                    learning_rate=args.learning_rate,
                    patience=args.patience,
                    seed=args.seed,
                    callbacks=[steps],
                    verbose=1 if sys.stdout.isatty() else 2,  # a progress bar, or a line per epoch
                ).history
        except KeyboardInterrupt as error:
            interrupt = error
            if not trained.is_set():  # an untrained model must not take the place of an earlier one
                say(f"{name_of(interrupt)} before the first step; nothing is saved")
                return status_of(interrupt)
        student.training_record = _record(args, dtype, history, interrupted=interrupt is not None)
        student.column_options = given_options(args, command)
        with held_back_signals():
            save_model(student, args.output)
        if interrupt is not None:
            say(f"{name_of(interrupt)}; the weights so far are saved in {args.output}")
            return status_of(interrupt)
        report_training(args, command, student, dev)
        return 0


def _record(
    args: argparse.Namespace, dtype: str, history: dict[str, Any], *, interrupted: bool
) -> dict[str, Any]:
    """The training record of the saved directory."""
    names = ("teacher", "layers", "student", "train", "no_labels", "dev", "dev_fraction", "epochs",
             "temperature", "label_weight", "hidden_weight", "batch_size", "learning_rate",
             "seed")  # fmt: skip
    return {name: getattr(args, name) for name in names} | {
        "dtype": dtype,
        "interrupted": interrupted,
        "history": {name: [float(v) for v in values] for name, values in history.items()},
    }


def _check_options(args: argparse.Namespace) -> None:
    if bool(args.layers) == bool(args.student):
        raise ConfigError("expected --layers N or --student NAME_OR_DIR, one of the two")
    check_validation_options(args)
    if args.no_labels and (args.label_weight or args.dev_fraction):
        raise ConfigError("--no-labels excludes --label-weight and --dev-fraction; pass --dev")


def _read(args: argparse.Namespace, command: Any) -> tuple[Any, Any]:
    dev = command.read(args.dev, args) if args.dev else None
    if args.no_labels:
        from keras_bert_zoo.cli.tasks.base import file_format
        from keras_bert_zoo.data.tables import read_table

        table = options.table_options(args)
        table["format"] = table["format"] or file_format(args.train)
        return read_table(args.train, label=None, **table), dev
    train = command.read(args.train, args)
    if args.dev_fraction:
        return command.split(train, args.dev_fraction, args.seed)
    return train, dev


def _teacher(
    args: argparse.Namespace, train: Any, *, exported: bool, dtype: str
) -> tuple[Any, list[str]]:
    """Loads the teacher; returns it and the names of its labels."""
    from keras_bert_zoo.tasks.text_classifier import TextClassifier

    if exported:
        from keras_bert_zoo.export.teacher import ExportedClassifier

        if args.layers:
            raise ConfigError(
                "--layers needs a teacher that train wrote; with an export, pass --student"
            )
        classifier = ExportedClassifier(args.teacher)
        return classifier, classifier.labels_of(train)
    ignored = {"ignore_config_keys": args.ignore_config_keys}
    teacher = TextClassifier.load(args.teacher, dtype=dtype, **ignored)
    return teacher, teacher.labels


def _student(
    args: argparse.Namespace, teacher: Any, labels: list[str], dtype: str, *, multi_label: bool
) -> Any:
    from keras_bert_zoo.adaptation.layers import select_layers
    from keras_bert_zoo.tasks.text_classifier import TextClassifier

    if args.layers:
        return select_layers(teacher, args.layers)
    most = getattr(teacher, "max_length", None)
    return TextClassifier.from_preset(
        args.student, labels=labels, multi_label=multi_label, max_length=most, dtype=dtype,
        ignore_config_keys=args.ignore_config_keys,
    )  # fmt: skip

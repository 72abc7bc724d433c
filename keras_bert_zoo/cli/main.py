"""The entry point: runs a subcommand and reports expected errors as one line."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from keras_bert_zoo import __version__
from keras_bert_zoo.cli.failures import status_of_error
from keras_bert_zoo.cli.messages import PROGRAM, log_to_stderr, say, with_flags
from keras_bert_zoo.cli.options import Parser, parse
from keras_bert_zoo.cli.signals import name_of, raised_signals, status_of
from keras_bert_zoo.errors import BertZooError, ConfigError

OK, BROKEN_PIPE = 0, 141

# Subcommand -> description. Each is a module of keras_bert_zoo.cli with `DESCRIPTION`,
# `EXAMPLES`, `add_arguments(parser)` and `run(args)`, which returns an exit status. Some also have
# `add_task_options(parser, argv)`, for options that depend on the task.
COMMANDS = {
    "presets": "list the pretrained models that `train` can start from",
    "convert": "write a checkpoint in another format and compare the two",
    "trim-vocabulary": "write a model with only the tokens of given texts",
    "vocabulary": "train a tokenizer on text files",
    "pretraining-data": "convert text files to examples for pretraining",
    "train": "fine-tune a model on a file",
    "tune": "search for the best options of a training",
    "launch": "run a training command in several processes of this machine",
    "pretrain": "pretrain an encoder on text, from scratch or from a preset",
    "distill": "train a smaller classifier to give the answers of a trained one",
    "index": "build a searchable collection of documents for question answering",
    "evaluate": "evaluate a trained model on labelled data",
    "predict": "write predictions for a file or standard input as JSON Lines",
    "export": "write a SavedModel that takes raw strings, for TensorFlow Serving",
    "glue": "measure an encoder on GLUE or on a small suite of tasks",
    "bench": "measure the latency and throughput of a model or an export",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        argv: the arguments after the program's name; default: those of the process.

    Returns:
        0; 2 for invalid input, and 1 for a failure of a training that had begun, after one line on
        standard error; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP; 141 if the reader of
        the output is closed.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    verbose = "--verbose" in argv
    try:
        with raised_signals(), log_to_stderr(lambda: _flags(argv)):
            status = _dispatch(argv)
        sys.stdout.flush()  # raises BrokenPipeError here instead of at exit
        return status
    except SystemExit as end:  # argparse, after --help
        return int(end.code or OK)
    except KeyboardInterrupt as interrupt:
        say(name_of(interrupt))
        return status_of(interrupt)
    except BrokenPipeError:
        # Python flushes again at exit, which would report the error again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        message = message_of(error)
        if message is None:
            raise
        if verbose:
            traceback.print_exc()
        say(f"error: {with_flags(message, _flags(argv))}")
        return status_of_error(error)


def _dispatch(argv: list[str]) -> int:
    if not argv:
        raise ConfigError(f"expected a command: {', '.join(COMMANDS)}; see {PROGRAM} --help")
    name = argv[0]
    if name not in COMMANDS:
        if not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            choices = ", ".join(COMMANDS)
            raise ConfigError(f"unknown command {name!r}; {hint}Expected one of {choices}")
        _top_parser().parse_args(argv)
        raise ConfigError(f"expected a command before {name!r}: {', '.join(COMMANDS)}")
    command = _module(name)
    parser = command_parser(name, argv[1:])
    return int(command.run(parse(parser, argv[1:])))


def _module(name: str) -> Any:
    return importlib.import_module(f"keras_bert_zoo.cli.{name.replace('-', '_')}")


def command_parser(name: str, argv: Sequence[str]) -> Parser:
    """Builds the parser of a subcommand.

    Args:
        name: one of `COMMANDS`.
        argv: the arguments after the name; some options depend on the task in them.

    Returns:
        Parser, for `options.parse`.
    """
    command = _module(name)
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=command.DESCRIPTION,
        epilog="examples:\n" + command.EXAMPLES.strip("\n"),
    )
    command.add_arguments(parser)
    if hasattr(command, "add_task_options"):
        command.add_task_options(parser, argv)
    return parser


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items())
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [options]",
        description="Fine-tune BERT-family encoders, and export models that take raw text.",
        epilog=f"commands:\n{listing}\n\nexample:\n"
        f"  {PROGRAM} train --preset minilm_l6_en_uncased --train train.csv --dev-fraction 0.1 "
        f"--output runs/first\n\n{PROGRAM} COMMAND --help lists its options.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def message_of(error: Exception) -> str | None:
    """The message of an error that a user can cause; None for other errors."""
    if isinstance(error, BertZooError):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return f"{error.filename}: {reason}" if error.filename else reason
    # Checked by name, because importing TensorFlow takes seconds.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "out of memory; reduce --batch-size or --max-length"
    return None


def _flags(argv: Sequence[str]) -> dict[str, argparse.Action]:
    """The flags of the command; none if the command is unknown."""
    if argv and argv[0] in COMMANDS:
        with contextlib.suppress(BertZooError, OSError):  # invalid options
            return command_parser(argv[0], argv[1:]).flags()
    return {}


if __name__ == "__main__":
    sys.exit(main())

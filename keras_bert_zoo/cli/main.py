"""The entry point: finds the subcommand, and turns every expected failure into one line."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence

from keras_bert_zoo import __version__
from keras_bert_zoo.cli.options import Parser, parse
from keras_bert_zoo.errors import BertZooError, ConfigError

PROGRAM = "keras-bert-zoo"

# An option of Python in a message, with a value or without; no key with its value behind.
_OPTION = re.compile(r"`(?P<name>[a-z]\w*)(?:=(?P<value>[^`]+))?`(?! = )")
_QUOTES = "\"'"

OK, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 2, 130, 141

# Subcommand -> what it does. Each is the module keras_bert_zoo.cli.NAME with `DESCRIPTION`,
# `EXAMPLES`, `add_arguments(parser)` and `run(args)`, which returns an exit status; some have
# `add_task_options(parser, argv)`, too, for options that hang on the task.
COMMANDS = {
    "presets": "list the pretrained models that `train` can start from",
    "convert": "write a checkpoint in another format, and compare the two",
    "train": "fine-tune a model on a file of texts",
    "index": "build a collection of documents that answers questions",
    "evaluate": "measure a trained model on a file of texts with labels",
    "predict": "answer texts from a file or standard input, as JSON Lines",
    "export": "write a SavedModel that answers raw strings, for TensorFlow Serving",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        argv: the arguments after the program's name; None takes those of the process.

    Returns:
        0; 2 for bad input, after one line on standard error; 130 after Ctrl-C; 141 where the
        reader of the output went away.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    verbose = "--verbose" in argv
    try:
        with _log_to_stderr():
            status = _dispatch(argv)
        sys.stdout.flush()  # here, where a closed pipe can still be answered
        return status
    except SystemExit as done:  # argparse, after --help
        return int(done.code or OK)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more at exit, which would complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        if verbose:
            traceback.print_exc()
        _say(f"error: {_with_flags(message, argv)}")
        return BAD_INPUT


def _dispatch(argv: list[str]) -> int:
    top = _top_parser()
    if not argv:
        raise ConfigError(f"expected a command: {', '.join(COMMANDS)}; see {PROGRAM} --help")
    name = argv[0]
    if name not in COMMANDS:
        if not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"unknown command {name!r}; {hint}There are {', '.join(COMMANDS)}")
        top.parse_args(argv)
        raise ConfigError(f"expected a command before {name!r}: {', '.join(COMMANDS)}")
    command = importlib.import_module(f"keras_bert_zoo.cli.{name}")
    parser = command_parser(name, argv[1:])
    return int(command.run(parse(parser, argv[1:])))


def command_parser(name: str, argv: Sequence[str]) -> Parser:
    """The parser of a subcommand.

    Args:
        name: one of `COMMANDS`.
        argv: the arguments after the name; some options are there for some tasks only.

    Returns:
        Parser, for `options.parse`.
    """
    command = importlib.import_module(f"keras_bert_zoo.cli.{name}")
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
    listing = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [options]",
        description="Fine-tune BERT-family encoders on text, and export them to answer raw text.",
        epilog=f"commands:\n{listing}\n\nexample:\n"
        f"  {PROGRAM} train --preset minilm_l6_en_uncased --train train.csv --dev-fraction 0.1 "
        f"--output runs/first\n\n{PROGRAM} COMMAND --help says more.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _message(error: Exception) -> str | None:
    """Says in one line what went wrong; None for what no user can have caused."""
    if isinstance(error, BertZooError):
        # Some messages list one problem a line.
        return " ".join(str(error).split("\n")).strip()
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return f"{error.filename}: {reason}" if error.filename else reason
    # By name: importing TensorFlow's errors here would cost every command seconds.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "out of memory; a smaller --batch-size or --max-length needs less"
    return None


def _with_flags(message: str, argv: Sequence[str]) -> str:
    """Names the command's flags where a message names options of Python.

    `approximate_gelu=True` becomes `--approximate-gelu`, `max_length` becomes `--max-length`. What
    the command has no flag for, and keys of files (`dropout` = 0.1), stay as they are.
    """
    if not argv or argv[0] not in COMMANDS:
        return message
    with contextlib.suppress(Exception):  # of the options themselves, which the message is about
        parser = command_parser(argv[0], argv[1:])
        switches = {
            flag: action.nargs == 0 for action in parser._actions for flag in action.option_strings
        }

        def translate(found: re.Match[str]) -> str:
            flag, value = f"--{found['name'].replace('_', '-')}", found["value"]
            switch = switches.get(flag)
            if switch is None or (switch and value not in (None, "True")):
                return found[0]
            if value is None or switch:
                return f"`{flag}`"
            return f"`{flag} {value.strip(_QUOTES)}`"

        return _OPTION.sub(translate, message)
    return message


def _say(message: str) -> None:
    # Standard error may be closed, too; there is nobody left to tell then.
    with contextlib.suppress(OSError, ValueError):
        print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Shows the package's warnings as lines of this program."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LowerCaseLevel(f"{PROGRAM}: %(levelname)s: %(message)s"))
    logger = logging.getLogger("keras_bert_zoo")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _LowerCaseLevel(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


if __name__ == "__main__":
    sys.exit(main())

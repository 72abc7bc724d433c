"""The options by which a training file was read: saved with the model, defaults for other files."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.errors import BertZooError, DataError, MissingColumnError

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand

SAVED_OPTIONS = (
    "text", "text_pair", "label", "label_separator", "translation", "choices", "first_choice",
    "negatives", "score", "entities", "offsets", "tag_names", "word_column", "tag_column",
    "tag_scheme", "join", "lenient", "columns", "format", "delimiter", "encoding",
)  # fmt: skip
"""What says how a file is read, whatever the task."""

# Columns that a file may do without. Where others are named anew, these are of another file.
_COLUMNS = ("text", "text-column", "text-pair", "label", "translation", "choices", "score",
            "negatives", "entities")  # fmt: skip
# These say how files of one format are read: they are of no use for lines of text, or for JSON.
_OF_THE_FORMAT = ("columns", "delimiter", "encoding")


def given_options(args: argparse.Namespace, command: TaskCommand) -> dict[str, Any]:
    """Lists the options by which `train` read its file, for the saved directory.

    Args:
        args: of train.
        command: of the task.

    Returns:
        dict: name -> str, int, bool or list of str. Options left at their defaults are not in it;
        the file's format is, with other options or if its name does not imply it.
    """
    parser = Parser()
    command.add_data_options(parser, labelled=True)
    flags = parser.flags()
    given = {
        action.dest: getattr(args, action.dest)
        for action in flags.values()
        if action.dest in SAVED_OPTIONS and getattr(args, action.dest) != action.default
    }
    if "--format" in flags and "format" not in given:
        named = command.format_of(args.train, labelled=True)
        read_as = named or command.default_format
        if read_as is not None and (given or read_as != named):
            given["format"] = read_as
    return given


def use_saved_options(
    parser: Parser, argv: Sequence[str], command: TaskCommand, source: str
) -> None:
    """Makes the options that a model was trained with the defaults of a command; flags win.

    Args:
        parser: with the options of the task.
        argv: the arguments after the command's name.
        command: of the task.
        source: str. The option that names the file to be read: "data" or "input".

    Raises:
        ConfigError: the directory holds a value that the option does not take.
    """
    # Imported here to keep --help fast.
    from keras_bert_zoo.directories.replacing import find_directory
    from keras_bert_zoo.files import SIDE_FILE
    from keras_bert_zoo.tasks.files import read_side_file

    directory = options.peek(argv, "model")
    if directory is None:
        return
    saved: Any = {}
    with contextlib.suppress(BertZooError):  # the directory is checked when the command runs
        saved = read_side_file(find_directory(directory)).get("columns", {})
    if not isinstance(saved, dict):
        return
    path = options.peek(argv, source) or "-"
    named = options.peek(argv, "format") or command.format_of(path, labelled=source == "data")
    flags = parser.flags()
    renamed = any(options.peek(argv, name) is not None for name in _COLUMNS)
    defaults: dict[str, Any] = {}
    for name, value in saved.items():
        action = flags.get(f"--{name.replace('_', '-')}")
        if action is None or name not in SAVED_OPTIONS or value is None:
            continue
        if name == "format" and (named is not None or value not in (action.choices or ())):
            continue
        if name in _OF_THE_FORMAT and saved.get("format") != (named or saved.get("format")):
            continue
        if name == "text_pair" and source == "input" and not command.predicts_pairs:
            continue
        may_lack = action.default in (None, []) and name.replace("_", "-") in _COLUMNS
        if renamed and may_lack and not (name == "text_pair" and command.predicts_pairs):
            continue
        where = f"{os.path.join(directory, SIDE_FILE)}: columns: {name}"
        defaults[action.dest] = options.converted(action, value, where)
    parser.set_defaults(saved_options=dict(defaults), **defaults)


@contextlib.contextmanager
def named_flags(args: argparse.Namespace) -> Iterator[None]:
    """Names the flag of a column that is missing, and whether it comes from training.

    Args:
        args: of a command, as parsed.

    Raises:
        DataError: what was raised in the block, with the flag in its message.
    """
    try:
        yield
    except MissingColumnError as error:
        for name in (*SAVED_OPTIONS, "question", "context", "index_text"):
            value = getattr(args, name, None)
            if error.column == value or (isinstance(value, list) and error.column in value):
                flag = f"--{name.replace('_', '-')}"
                if getattr(args, "saved_options", {}).get(name) == value:
                    flag += ", as in training"
                break
        else:
            raise
        expected, comma, rest = str(error).partition(", found ")
        columns = getattr(args, "columns", None)
        if columns and getattr(args, "saved_options", {}).get("columns") == columns:
            rest += ", the columns of the training file; --columns '' reads a header"
        raise DataError(f"{expected} ({flag}){comma}{rest}") from None


def show_next(output: str, *, predict: str = "") -> None:
    """Prints the commands to go on with, as a shell takes them.

    Args:
        output: the directory that was written.
        predict: str. What predict needs in addition to the file.
    """
    model = shell_path(output)
    name = os.path.basename(os.path.abspath(output))
    show(f"saved in {output}; next:")
    show(f"  keras-bert-zoo evaluate --model {model} --data FILE")
    show(f"  keras-bert-zoo predict --model {model} --input FILE{predict and ' ' + predict}")
    show(f"  keras-bert-zoo export --model {model} --output {shell_path(f'saved_models/{name}')}")


def shell_path(path: str) -> str:
    """Quotes a path for a shell, and for argparse, where it would look like an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)

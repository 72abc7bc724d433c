"""The options that read the training file: saved with the model, defaults for later files."""

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
"""The options that determine how a file is read, of all tasks."""

# Optional columns. Once a flag names another column, the saved names of these do not apply.
_COLUMNS = ("text", "text-column", "text-pair", "label", "translation", "choices", "score",
            "negatives", "entities")  # fmt: skip
# Options of one file format. They do not apply to lines of text or to JSON. A table has one column
# per choice, JSON Lines have one list.
_FORMAT_OPTIONS = ("columns", "choices", "delimiter", "encoding")


def given_options(args: argparse.Namespace, command: TaskCommand) -> dict[str, Any]:
    """Collects the options that read the training file, for the saved directory.

    Args:
        args: the arguments of train.
        command: the task's command.

    Returns:
        dict: name -> str, int, bool or list of str, without options at their defaults. The format
        is included with other options, or if the file's name does not imply it.
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
        implied = command.format_of(args.train, labelled=True)
        file_format = implied or command.default_format
        if file_format is not None and (given or file_format != implied):
            given["format"] = file_format
    return given


def use_saved_options(
    parser: Parser, argv: Sequence[str], command: TaskCommand, source: str
) -> None:
    """Makes the data options of training the defaults of a command; flags override them.

    Args:
        parser: the parser, with the options of the task.
        argv: the arguments after the command's name.
        command: the task's command.
        source: str. The option with the file to read: "data" or "input".

    Raises:
        ConfigError: a saved value is not valid for its option.
    """
    # Imported here to keep --help fast.
    from keras_bert_zoo.directories.replacing import find_directory
    from keras_bert_zoo.export.litert.model_file import is_litert_file, read_model
    from keras_bert_zoo.files import SIDE_FILE
    from keras_bert_zoo.tasks.files import read_side_file

    directory = options.peek(argv, "model")
    if directory is None:
        return
    saved: Any = {}
    with contextlib.suppress(BertZooError):  # the directory is checked when the command runs
        if is_litert_file(directory):
            saved = read_model(directory)[1].get("columns", {})
        else:
            saved = read_side_file(find_directory(directory)).get("columns", {})
    if not isinstance(saved, dict):
        return
    path = options.peek(argv, source) or "-"
    flag = parser.flag("--format").lstrip("-")
    form = options.peek(argv, flag) or command.format_of(path, labelled=source == "data")
    flags = parser.flags()
    renamed = any(options.peek(argv, name) is not None for name in _COLUMNS)
    defaults: dict[str, Any] = {}
    for name, value in saved.items():
        action = flags.get(parser.flag(f"--{name.replace('_', '-')}"))
        if action is None or name not in SAVED_OPTIONS or value is None:
            continue
        if name == "format" and (form is not None or value not in (action.choices or ())):
            continue
        if name in _FORMAT_OPTIONS and saved.get("format") != (form or saved.get("format")):
            continue
        if name == "text_pair" and source == "input" and not command.predicts_pairs:
            continue
        is_optional = action.default in (None, []) and name.replace("_", "-") in _COLUMNS
        if renamed and is_optional and not (name == "text_pair" and command.predicts_pairs):
            continue
        location = f"{os.path.join(directory, SIDE_FILE)}: columns: {name}"
        defaults[action.dest] = options.converted(action, value, location)
    parser.set_defaults(saved_options=dict(defaults), **defaults)


@contextlib.contextmanager
def named_flags(args: argparse.Namespace) -> Iterator[None]:
    """Adds the flag of a missing column to the error, and whether training set it.

    Args:
        args: the parsed arguments of a command.

    Raises:
        DataError: a column is missing; the message names its flag.
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
    """Prints the next commands, quoted for a shell.

    Args:
        output: the saved directory.
        predict: str. Options that predict needs in addition to the file.
    """
    model = shell_path(output)
    name = os.path.basename(os.path.abspath(output))
    show(f"saved in {output}; next:")
    show(f"  keras-bert-zoo evaluate --model {model} --data FILE")
    show(f"  keras-bert-zoo predict --model {model} --input FILE{predict and ' ' + predict}")
    show(f"  keras-bert-zoo export --model {model} --output {shell_path(f'saved_models/{name}')}")


def shell_path(path: str) -> str:
    """Quotes a path for a shell; argparse must not read it as an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)

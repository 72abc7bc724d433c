"""Options of the commands, from flags or from a file with the same names."""

from __future__ import annotations

import argparse
import difflib
import functools
import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any, NoReturn

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import read_small_file

_NEVER_IN_A_FILE = ("config", "help")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]{1,30},[0-9]{1,30}")
_LIMIT_BYTES = 1_000_000  # maximum size of a file with options


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises errors and lists its flags.

    It accepts no abbreviated flags.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._flags: dict[str, argparse.Action] = {}
        self._renamed: dict[str, str] = {}
        formatter = functools.partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=30, width=100
        )
        super().__init__(formatter_class=formatter, allow_abbrev=False, add_help=False, **kwargs)
        self.add_argument("-h", "--help", action="help", help="show this help and exit")

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """Adds an argument as argparse does, and records its flags."""
        args, kwargs = self.renamed(args, kwargs)
        return self.record(super().add_argument(*args, **kwargs))

    def rename(self, flag: str, name: str) -> None:
        """Gives an argument that is added later another flag, because the command has this one.

        Args:
            flag: str. The flag that will be added, such as "--format".
            name: str. The flag that the command gets. The attribute of the result is unchanged.
        """
        self._renamed[flag] = name

    def flag(self, name: str) -> str:
        """Returns the flag of an argument, after `rename`."""
        return self._renamed.get(name, name)

    def renamed(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the arguments of `add_argument` after `rename`."""
        if any(flag in self._renamed for flag in args):
            kwargs = {"dest": args[0].lstrip("-").replace("-", "_"), **kwargs}
            args = tuple(self.flag(flag) for flag in args)
        return args, kwargs

    def add_group(self, title: str) -> Group:
        """Adds a titled group of arguments; `add_argument_group` would not record their flags."""
        return Group(self, self.add_argument_group(title))

    def record(self, action: argparse.Action) -> argparse.Action:
        """Records the flags of an action."""
        self._flags.update(dict.fromkeys(action.option_strings, action))
        return action

    def flags(self) -> dict[str, argparse.Action]:
        """Returns the flags with their actions."""
        return dict(self._flags)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError, which `main` prints as one line."""
        raise ConfigError(message)

    def format_help(self) -> str:
        """Formats the help and adds the defaults that it does not mention."""
        for action in self._flags.values():
            unset = any(action.default is value for value in (None, False, argparse.SUPPRESS))
            if not unset and action.help and "default" not in action.help:
                action.help += " (default: %(default)s)"
        return super().format_help()


class Group:
    """A group of a parser's arguments in the help.

    Args:
        parser: Parser. It records the flags.
        group: the return value of argparse's `add_argument_group`.
    """

    def __init__(self, parser: Parser, group: Any) -> None:
        self._parser = parser
        self._group = group

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """Adds an argument as argparse does, and records its flags."""
        args, kwargs = self._parser.renamed(args, kwargs)
        return self._parser.record(self._group.add_argument(*args, **kwargs))


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Reads flags and the file of --config; flags override the file.

    Args:
        parser: the parser with the command's options.
        argv: the arguments after the command's name.

    Returns:
        argparse.Namespace.

    Raises:
        ConfigError: an option or a key of the file is unknown, or its value is missing or invalid.
    """
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="JSON or TOML file with these options by name; flags override it",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show tracebacks and TensorFlow's log messages"
    )
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--config")
    try:
        path = early.parse_known_args(argv)[0].config
    except argparse.ArgumentError:  # --config without a file: `parser` raises below
        path = None
    if path is not None and not {"-h", "--help"} & set(argv):
        _set_defaults(parser, path)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        given = unknown[0].split("=")[0]
        raise ConfigError(f"unknown option {with_hint(given, list(parser.flags()))}")
    return args


def peek(argv: Sequence[str], name: str) -> str | None:
    """Reads one option from the flags or from --config, before all options are known.

    Args:
        argv: the arguments after the command's name.
        name: str. The option, without its dashes.

    Returns:
        str, its unconverted value; None if it is missing or invalid. `parse` raises errors later.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument(f"--{name}", dest="value")
    early.add_argument("--config")
    try:
        args = early.parse_known_args(argv)[0]
        if args.value is None and args.config is not None:
            for key, value in _read(args.config).items():
                if key.replace("_", "-") == name:
                    args.value = _flag_text(value)
    except (argparse.ArgumentError, ConfigError, OSError):
        return None
    return args.value if isinstance(args.value, str) else None


def _flag_text(value: Any) -> str | None:
    """A value of a file as the text of its flag."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def _set_defaults(parser: Parser, path: str) -> None:
    """Makes the options of a file the parser's defaults."""
    actions = {
        flag.removeprefix("--"): action
        for flag, action in parser.flags().items()
        if flag.startswith("--") and action.dest not in _NEVER_IN_A_FILE
    }
    values = {}
    unknown = []
    for key, value in _read(path).items():
        name = key.replace("_", "-")
        if name not in actions:
            unknown.append(with_hint(key, list(actions)))
        elif value is not None:
            values[actions[name].dest] = converted(actions[name], value, f"{path}: {key}")
            actions[name].required = False
    if unknown:
        raise ConfigError(f"{path}: unknown options: {', '.join(unknown)}")
    parser.set_defaults(**values)


def _read(path: str) -> dict[str, Any]:
    try:
        content = read_small_file(path, _LIMIT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid UTF-8: {error.reason}") from None
    if path.lower().endswith(".toml"):
        try:
            return tomllib.loads(content)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON (a TOML file ends in .toml): {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object with options by name")
    return values


def converted(action: argparse.Action, value: Any, where: str) -> Any:
    """Converts a value of a file as the flag converts its text.

    Args:
        action: the action of the flag.
        value: a value of JSON or TOML.
        where: str. File and key, for messages.

    Raises:
        ConfigError: the flag does not accept the value.
    """
    if action.nargs == 0:  # a switch
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: expected true or false, received {value!r}")
        return value
    if action.type in (comma_separated, column_names) and isinstance(value, list):
        if not value or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{where}: expected a list of names, received {value!r}")
        return value
    if action.nargs == "+" and action.type is None:  # the command checks the values
        if not value or not isinstance(value, list | dict):
            raise ConfigError(f"{where}: expected a table or a list, received {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{where}: expected a string or a number, received {value!r}")
    text = value if isinstance(value, str) else repr(value)
    try:
        converted = action.type(text) if callable(action.type) else text
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"{where}: {error}") from None
    if action.choices is not None and converted not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise ConfigError(f"{where}: expected one of {choices}, received {value!r}")
    return converted


def with_hint(name: str, known: list[str]) -> str:
    """Quotes an unknown name and adds the most similar known name."""
    close = difflib.get_close_matches(name[:100].replace("_", "-"), known, n=1)
    quoted = f"{name!r:.100}"
    return f"{quoted} (did you mean {close[0]!r}?)" if close else quoted


# === Value types ===


def positive_int(text: str) -> int:
    """Reads a whole number of at least 1."""
    return number_type(text, int, lambda value: value >= 1, "a whole number of at least 1")


def seed_int(text: str) -> int:
    """Reads a seed."""
    return number_type(text, int, lambda v: 0 <= v < 2**32, "a whole number from 0 to 4294967295")


def non_negative_int(text: str) -> int:
    """Reads a whole number of at least 0."""
    return number_type(text, int, lambda value: value >= 0, "a whole number of at least 0")


def positive_float(text: str) -> float:
    """Reads a finite number above 0."""
    return number_type(text, float, lambda v: 0 < v < float("inf"), "a number above 0")


def non_negative_float(text: str) -> float:
    """Reads a finite number of at least 0."""
    return number_type(text, float, lambda v: 0 <= v < float("inf"), "a number of at least 0")


def finite_float(text: str) -> float:
    """Reads a finite number."""
    return number_type(text, float, lambda v: abs(v) < float("inf"), "a number")


def share(text: str) -> float:
    """Reads a number from 0 to 1."""
    return number_type(text, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def share_below_one(text: str) -> float:
    """Reads a number from 0 to below 1."""
    return number_type(text, float, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def open_share(text: str) -> float:
    """Reads a number between 0 and 1, exclusive."""
    return number_type(text, float, lambda value: 0 < value < 1, "a number between 0 and 1")


def positive_share(text: str) -> float:
    """Reads a number above 0, at most 1."""
    return number_type(text, float, lambda value: 0 < value <= 1, "a number above 0, at most 1")


def comma_separated(text: str) -> list[str]:
    """Reads comma-separated names."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected comma-separated names, received {text!r}")
    return names


def column_names(text: str) -> list[str] | None:
    """Reads column names; None for an empty string, which means a file with a header."""
    return comma_separated(text) if text.strip() else None


def number_type(text: str, kind: Any, accepts: Any, expected: str) -> Any:
    """Reads a number for an option.

    Args:
        text: str. The value on the command line.
        kind: int or float.
        accepts: function of the number; whether the option accepts the number.
        expected: str. The accepted numbers, for the message.

    Returns:
        the number.

    Raises:
        argparse.ArgumentTypeError: the option does not accept the text.

    Example:
        >>> number_type("12", int, lambda value: value > 0, "a number above 0")
        12
    """
    try:
        if "_" in text:  # Python reads 1_0 as 10
            raise ValueError
        value = kind(text)
        accepted = accepts(value)
    except (ValueError, OverflowError):
        accepted = False
    if not accepted:
        hint = ""
        if _DECIMAL_COMMA.fullmatch(text):
            hint = f"; write a decimal point: {text.replace(',', '.')}"
        raise argparse.ArgumentTypeError(f"expected {expected}, received {text[:100]!r}{hint}")
    return value


# === Shared options ===


def add_table_options(
    parser: Parser, *, label: bool = True, text_format: bool = False, pair: bool = True
) -> None:
    """Adds the options that determine how a file of texts is read."""
    group = parser.add_group("columns and format of the data")
    group.add_argument(
        "--text",
        "--text-column",
        dest="text",
        metavar="COLUMN",
        default="text",
        help="column of the text",
    )
    if pair:
        group.add_argument(
            "--text-pair", metavar="COLUMN", help="column of the second text, for a task on pairs"
        )
    if label:
        group.add_argument("--label", metavar="COLUMN", default="label", help="column of the label")
        group.add_argument(
            "--label-separator",
            metavar="SEPARATOR",
            default=",",
            help="separator between several labels of one text",
        )
    add_columns_option(group)
    formats = ("csv", "tsv", "jsonl", *(("text",) if text_format else ()))
    group.add_argument(
        "--format",
        choices=formats,
        help="the files' format; default: detected from the name, which may end in .gz"
        + ("; text (one per line) for .txt and standard input" if text_format else ""),
    )
    add_delimiter_option(group)
    group.add_argument("--encoding", default="utf-8", help="the files' encoding")


def add_columns_option(group: Any) -> None:
    """Adds the names of the columns of a file without a header."""
    group.add_argument(
        "--columns",
        metavar="NAMES",
        type=column_names,
        help=(
            "comma-separated names of all columns, for a CSV or TSV file without a header; an "
            "empty string: the file has a header, which overrides the saved names"
        ),
    )


def add_delimiter_option(group: Any) -> None:
    """Adds the delimiter of a table's fields."""
    group.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="character between fields; default: determined by the format",
    )


def table_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `add_table_options` as arguments of `read_table`."""
    names = ("text", "text_pair", "columns", "format", "delimiter", "encoding")
    options = {name: getattr(args, name, None) for name in names}
    if options["delimiter"] == "\\t":  # a shell passes '\t' unconverted
        options["delimiter"] = "\t"
    return options


def add_ignore_option(parser: Any) -> None:
    """Adds the option for keys of config.json to ignore."""
    parser.add_argument(
        "--ignore-config-keys",
        metavar="NAMES",
        type=comma_separated,
        default=[],
        help="unsupported keys of config.json to ignore, comma-separated; default: none",
    )


def add_dtype_option(parser: Any, default: str | None) -> None:
    """Adds the option for the precision of computations."""
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default=default,
        help="precision of computations; auto: bfloat16 if the hardware supports it",
    )

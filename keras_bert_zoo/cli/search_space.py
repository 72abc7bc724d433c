"""The options that `tune` searches over, and the command line of a trial."""

from __future__ import annotations

import argparse
import itertools
import math
import random
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.errors import ConfigError

__all__ = [
    "Choices",
    "Range",
    "changed_options",
    "checked_combinations",
    "command_line",
    "parse_space",
    "set_options",
]

# Options whose values cannot be compared, or that belong to the whole search.
_FIXED = {
    "help", "json", "train", "dev", "dev_fraction", "output", "task", "seed", "strategy",
    "replicas", "workers", "worker_index", "tpu", "ignore_config_keys", "average_weights",
    "memory_check",
}  # fmt: skip
_RANGE = re.compile(r"(?P<low>[^.:]+(?:\.[^.:]+)?)\.\.(?P<high>[^:]+?)(?P<log>:log)?")
_DIGITS = 3  # significant digits of sampled numbers
_COMBINATIONS = 256  # to check before a search


@dataclass(frozen=True)
class Choices:
    """An option with a list of values.

    Args:
        values: list of str, as on the command line; "true" or "false" for a switch.
    """

    values: tuple[str, ...]

    def ends(self) -> tuple[str, ...]:
        """The values to check before the search."""
        return self.values

    def distribution(self) -> Any:
        """Returns the distribution of optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def text(self, value: Any) -> str:
        """Formats a sampled value for the command line."""
        return str(value)

    def __str__(self) -> str:
        """The values as on the command line."""
        return ",".join(self.values)


@dataclass(frozen=True)
class Range:
    """An option with a range of numbers.

    Args:
        low: int or float.
        high: of the same type; included.
        log: bool. Whether numbers are sampled on a logarithmic scale.
    """

    low: Any
    high: Any
    log: bool = False

    def ends(self) -> tuple[str, ...]:
        """The values to check before the search."""
        return str(self.low), str(self.high)

    def distribution(self) -> Any:
        """Returns the distribution of optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        kind = IntDistribution if isinstance(self.low, int) else FloatDistribution
        return kind(self.low, self.high, log=self.log)

    def text(self, value: Any) -> str:
        """Formats a sampled value for the command line, with three digits if it is a float."""
        if isinstance(self.low, int):
            return str(int(value))
        return repr(min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high))

    def __str__(self) -> str:
        """The range as on the command line."""
        return f"{self.low}..{self.high}{':log' if self.log else ''}"


Space = dict[str, Choices | Range]
"""Option, without its dashes -> its values."""


def parse_space(
    given: Any, flags: Mapping[str, argparse.Action], fixed: Collection[str] = ()
) -> Space:
    """Reads the options to search over and checks their values.

    Args:
        given: list of str, `NAME=VALUE,VALUE` or `NAME=LOW..HIGH[:log]`; or a dict from a file,
            from NAME to a list or to such a text.
        flags: the flags of train and their actions.
        fixed: more options that are not searchable, by the names of their attributes.

    Returns:
        dict.

    Raises:
        ConfigError: an option is unknown, not searchable or given twice, or it does not accept a
            value.

    Example:
        >>> parser = options.Parser()
        >>> _ = parser.add_argument("--epochs", type=options.positive_int)
        >>> parse_space(["epochs=2..4"], parser.flags())
        {'epochs': Range(low=2, high=4, log=False)}
    """
    space: Space = {}
    known = {flag.removeprefix("--"): action for flag, action in flags.items()}
    excluded = _FIXED.union(fixed)
    searchable = [name for name, action in known.items() if action.dest not in excluded]
    for key, value in _pairs(given):
        name = key.strip().removeprefix("--").replace("_", "-")
        if name not in known:
            hint = options.with_hint(key, searchable)
            raise ConfigError(f"--search: unknown option {hint}; expected options of train")
        action = known[name]
        if name not in searchable or (name.startswith("no-") and action.nargs == 0):
            raise ConfigError(
                f"--search: expected an option of the training, received {name!r}: its trials "
                "could not be compared"
            )
        if name in space:
            raise ConfigError(f"--search: expected {name!r} once, received it twice")
        space[name] = _values(name, value, action)
    return space


def _pairs(given: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(given, Mapping):
        yield from given.items()
        return
    for item in given:
        text = str(item)
        name, equals, value = text.partition("=")
        if not equals or not value.strip():
            raise ConfigError(
                "--search: expected NAME=VALUE,VALUE or NAME=LOW..HIGH or NAME=LOW..HIGH:log, "
                f"received {text[:100]!r}"
            )
        yield name, value.strip()


def _values(name: str, value: Any, action: argparse.Action) -> Choices | Range:
    where = f"--search {name}"
    is_path = action.type is None and action.nargs != 0  # or a name, as of a preset
    if isinstance(value, str) and ".." in value and not is_path:
        return _range(where, value, action)
    items = value if isinstance(value, list) else str(value).split(",")
    texts = []
    for item in items:
        text = str(item).lower() if isinstance(item, bool) else str(item).strip()
        if action.nargs == 0:
            if text not in ("true", "false"):
                raise ConfigError(f"{where}: expected true or false, received {text[:100]!r}")
        else:
            options.converted(action, text, where)
        texts.append(text)
    if not texts or len(set(texts)) < len(texts):
        raise ConfigError(f"{where}: expected different values, received {value!r}")
    return Choices(tuple(texts))


def _range(where: str, text: str, action: argparse.Action) -> Range:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{where}: expected LOW..HIGH or LOW..HIGH:log, received {text[:100]!r}")
    ends = []
    for end in (match["low"], match["high"]):
        value = None if action.nargs == 0 else options.converted(action, end.strip(), where)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{where}: expected a list of values, received a range: {text!r}")
        ends.append(value)
    low, high = ends
    if not low < high or not math.isfinite(high):
        raise ConfigError(f"{where}: expected a range with LOW below HIGH, received {text!r}")
    if match["log"] and low <= 0:
        raise ConfigError(f"{where}: expected LOW above 0 with :log, received {text!r}")
    return Range(low, high, bool(match["log"]))


def checked_combinations(space: Space) -> list[dict[str, str]]:
    """Returns combinations of values to check before a search, ranges by their ends.

    All combinations, or a sample of them in which each value occurs. They do not depend on the
    order of the options and values.

    Example:
        >>> checked_combinations({"epochs": Range(1, 3), "crf": Choices(("true",))})
        [{'crf': 'true', 'epochs': '1'}, {'crf': 'true', 'epochs': '3'}]
    """
    values = {name: sorted(space[name].ends()) for name in sorted(space)}
    if math.prod(map(len, values.values())) <= _COMBINATIONS:
        rows = list(itertools.product(*values.values()))
    else:
        count = max(_COMBINATIONS, *map(len, values.values()))
        generator = random.Random(0)
        columns = []
        for ends in values.values():
            column = [ends[index % len(ends)] for index in range(count)]
            generator.shuffle(column)
            columns.append(column)
        rows = list(zip(*columns, strict=True))
    return [dict(zip(values, row, strict=True)) for row in rows]


def command_line(args: argparse.Namespace, flags: Mapping[str, argparse.Action]) -> list[str]:
    """Returns the options of train that differ from their defaults, as a command line.

    Args:
        args: parsed arguments.
        flags: the flags of train and their actions, with their own defaults.

    Returns:
        list of str.
    """
    argv: list[str] = []
    for flag, text in changed_options(args, flags).items():
        if text is None:
            argv.append(flag)
        else:
            argv += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return argv


def changed_options(
    args: argparse.Namespace, flags: Mapping[str, argparse.Action]
) -> dict[str, str | None]:
    """Returns the options of train that differ from their defaults.

    Args:
        args: parsed arguments.
        flags: the flags of train and their actions, with their own defaults.

    Returns:
        dict: flag -> text of the value; None for a switch.
    """
    given: dict[str, str | None] = {}
    for action in dict.fromkeys(flags.values()):
        value = getattr(args, action.dest, action.default)
        if value == action.default or action.dest in ("help", "json"):
            continue
        flag = action.option_strings[0]
        if action.nargs == 0:
            given[flag if value else f"--no-{flag.removeprefix('--')}"] = None
        else:
            given[flag] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return given


def set_options(values: Mapping[str, str], flags: Mapping[str, argparse.Action]) -> list[str]:
    """Returns the values of a trial as a command line.

    Args:
        values: option -> text, as `Choices` and `Range` format it.
        flags: the flags of train and their actions.
    """
    argv: list[str] = []
    for name, text in values.items():
        if flags[f"--{name}"].nargs != 0:
            argv += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
        elif text == "true":
            argv.append(f"--{name}")
        elif f"--no-{name}" in flags:
            argv.append(f"--no-{name}")
    return argv

"""The checks of `tune` before its first trial, and the options that --resume compares."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import train
from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.cli.options import parse
from keras_bert_zoo.cli.search_space import (
    Space,
    changed_options,
    checked_combinations,
    set_options,
)
from keras_bert_zoo.errors import BertZooError, ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand

__all__ = ["check_combinations", "options_to_compare", "train_arguments"]


def train_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parses a command line of train."""
    return parse(command_parser("train", argv), argv)


def check_combinations(
    space: Space, base: Sequence[str], flags: Mapping[str, argparse.Action], command: TaskCommand
) -> None:
    """Raises ConfigError if values cannot be combined; the message has as few as possible."""
    accepted: list[dict[str, str]] = []
    refused: list[tuple[dict[str, str], BertZooError]] = []
    for values in checked_combinations(space):
        try:
            arguments = train_arguments([*base, *set_options(values, flags)])
            train.check_options(arguments, command)
            accepted.append(values)
        except BertZooError as error:
            refused.append((values, error))
    if not refused:
        return
    values, first = refused[0]
    if not accepted:
        raise first
    for size in range(1, len(values) + 1):
        for names in itertools.combinations(values, size):
            part = {name: values[name] for name in names}
            if not any(part.items() <= other.items() for other in accepted):
                shown = " ".join(f"{name}={value}" for name, value in part.items())
                raise ConfigError(f"--search {shown}: {first}")


def options_to_compare(
    args: argparse.Namespace, space: Space, flags: Mapping[str, argparse.Action], data: Any
) -> dict[str, str]:
    """The options and data of the search, which --resume compares."""
    given = {
        flag: "given" if text is None else text
        for flag, text in changed_options(args, flags).items()
        if flag not in ("--output", "--train", "--dev")  # the data is compared
    }
    for flag in ("--preset", "--target"):
        if os.path.isdir(given.get(flag, "")):
            given[flag] = os.path.realpath(given[flag])
    searched = {f"--search {name}": str(values) for name, values in space.items()}
    contents = {
        f"data of {flag}": _digest(part)
        for flag, part in zip(("--train", "--dev or --dev-fraction"), data, strict=True)
    }
    return {**given, **searched, "--method": args.method, **contents}


def _digest(examples: Any) -> str:
    """A hash of examples without the name of their file."""
    values = [
        getattr(examples, field.name)
        for field in dataclasses.fields(examples)
        if field.name != "path"
    ]
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()[:16]

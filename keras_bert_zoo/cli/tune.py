"""keras-bert-zoo tune: searches for the best options of train."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

from keras_bert_zoo.cli import options, train, trial
from keras_bert_zoo.cli.columns import named_flags, show_next
from keras_bert_zoo.cli.messages import PROGRAM, say
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.output import check_output, written_file
from keras_bert_zoo.cli.search_checks import (
    check_combinations,
    options_to_compare,
    train_arguments,
)
from keras_bert_zoo.cli.search_space import (
    Choices,
    Space,
    command_line,
    parse_space,
    set_options,
)
from keras_bert_zoo.cli.signals import held_back_signals, name_of, status_of
from keras_bert_zoo.cli.study import METHODS, Study, Trial, open_study, rank
from keras_bert_zoo.cli.tasks import task_command
from keras_bert_zoo.cli.trial import COMPLETE, FAILED
from keras_bert_zoo.directories.replacing import replace_directory
from keras_bert_zoo.errors import (
    CheckpointError,
    ConfigError,
    TrainingError,
    printable,
)
from keras_bert_zoo.extras import check_package
from keras_bert_zoo.files import SIDE_FILE

DESCRIPTION = """\
Search for the best options of a training. Each trial is a run of `train` with values from the given
ranges, in a new process. The trials are compared by the metric that selects the best epoch.
The model of the best trial is in the output directory, also after Ctrl-C. A trial that fails does
not end the search. The extra `tune` brings optuna, which this command needs."""

EXAMPLES = """
  keras-bert-zoo tune --preset minilm_l6_en_uncased --train train.csv --dev-fraction 0.2 \\
      --output runs/tuned --trials 20 --search learning-rate=1e-5..1e-3:log batch-size=16,32
  keras-bert-zoo tune --config tune.toml --method halving --timeout-minutes 60 --resume

tune.toml:
  preset = "minilm_l6_en_uncased"
  train = "train.csv"
  dev-fraction = 0.2
  output = "runs/tuned"
  [search]
  learning-rate = "1e-5..1e-3:log"
  batch-size = [16, 32]
"""

TABLE = "trials.csv"
"""The file of the output directory with all trials."""

_TRIALS = 20


class _SearchAction(argparse.Action):
    """Collects the values of all --search flags; the first one replaces those of a file."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Adds values."""
        earlier = getattr(namespace, self.dest)
        first = earlier is self.default or earlier is None
        setattr(namespace, self.dest, list(values) if first else [*earlier, *values])


def add_arguments(parser: Parser) -> None:
    """Adds the options of train and those of the search."""
    train.add_training_arguments(parser)
    flags = parser.flags()
    flags["--preset"].required = False  # it may be searched
    flags["--seed"].help = (
        "random seed of the values of the trials, and in each trial of the head, dropout, batch "
        "order and validation split"
    )
    group = parser.add_group("search")
    group.add_argument(
        "--search",
        nargs="+",
        action=_SearchAction,
        required=True,
        metavar="NAME=VALUES",
        help="options of train to search over: NAME=VALUE,VALUE or NAME=LOW..HIGH, with :log for a "
        "logarithmic scale; in a file, a table",
    )
    group.add_argument(
        "--method",
        choices=METHODS,
        default="random",
        help="random; halving: random, and stop the worse two thirds of the trials after 1, 3, 9, "
        "... epochs; tpe: prefer values near good trials; grid: all combinations of lists",
    )
    group.add_argument(
        "--trials",
        type=options.positive_int,
        metavar="N",
        help=f"number of trials; default: {_TRIALS}, with --method grid all combinations",
    )
    group.add_argument(
        "--timeout-minutes",
        type=options.positive_float,
        metavar="M",
        help="start no trial after M minutes; default: no limit",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the search in OUTPUT.trials with the same command; without one, start",
    )


add_task_options = train.add_task_options


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    base, space, run_options = _checked(args)
    out: TextIO = sys.stderr if args.json else sys.stdout
    directory = f"{args.output.rstrip('/')}.trials"
    flags = _train_flags(args)
    count = args.trials or _default_trials(args.method, space)
    interrupt = None
    with open_study(
        directory, run_options, space, method=args.method, seed=args.seed, resume=args.resume
    ) as study:
        _check_best(study.best(), args.output, base, flags, directory)
        try:
            _search(args, study, base, directory, out, count)
        except KeyboardInterrupt as error:
            interrupt = error
        finally:
            _remove_models(directory)
        trials, best = study.trials(), study.best()
    commands = {t.number: _command([*base, *set_options(t.values, flags)]) for t in trials}
    _show_trials(trials, best, list(space), commands, out)
    if best is not None:
        with held_back_signals(), written_file(os.path.join(args.output, TABLE)) as file:
            file.write(_csv(trials, list(space), commands).encode("utf-8"))
    _show_end(args, trials, best, commands)
    if interrupt is not None:
        more = "--resume goes on with the search"
        say(f"{name_of(interrupt)}; {len(trials)} finished trials are kept; {more}")
        return status_of(interrupt)
    if best is None:
        failed = [t for t in trials if t.status == FAILED]
        raise TrainingError(
            f"expected at least one complete trial, received {len(failed)} failed ones; the first: "
            f"{failed[0].message if failed else 'no trial was started'}"
        )
    return 0


def _default_trials(method: str, space: Space) -> int:
    """All combinations for a grid."""
    if method == "grid":
        return math.prod(len(values.ends()) for values in space.values())
    return _TRIALS


def _check_best(
    best: Trial | None,
    output: str,
    base: Sequence[str],
    flags: Mapping[str, argparse.Action],
    directory: str,
) -> None:
    """Raises ConfigError if the model of the best trial of an earlier search is missing."""
    if best is not None and not Path(output, SIDE_FILE).exists():
        command = _command([*base, *set_options(best.values, flags)])
        raise ConfigError(
            f"{output}: expected the model of trial {best.number}, the best one so far, received "
            f"no model; train it again with: {command}; or delete {directory} to start again"
        )


def _train_flags(args: argparse.Namespace) -> dict[str, argparse.Action]:
    """The flags of a training, with their own defaults."""
    parser = Parser()
    train.add_training_arguments(parser)
    train.add_task_options(parser, ["--task", args.task])
    return parser.flags()


def _checked(args: argparse.Namespace) -> tuple[list[str], Space, dict[str, str]]:
    """Checks all options and the data before TensorFlow is imported.

    Returns:
        the options of train without those of the search, the options to search over, and what
        must be the same when a search goes on.
    """
    check_package("optuna", "tune", extra="tune")
    flags = _train_flags(args)
    command = task_command(args.task)
    parser = Parser()
    command.add_data_options(parser, labelled=True)
    data_options = {action.dest for action in parser.flags().values()}
    space = parse_space(args.search, flags, data_options.union(command.metric_options(args)))
    base = command_line(args, flags)
    if not (args.preset or "preset" in space):
        raise ConfigError("the following arguments are required: --preset")
    if not (args.dev or args.dev_fraction):
        raise ConfigError("tune compares trials on validation data; pass --dev or --dev-fraction")
    if args.strategy == "multi-worker":
        raise ConfigError("expected one machine for tune, received --strategy multi-worker")
    if args.average_weights:
        raise ConfigError(
            "--average-weights ends with other weights than those that validation measured; leave "
            "it out of tune"
        )
    for name in space:
        action = flags[f"--{name}"]
        if getattr(args, action.dest) != action.default:
            raise ConfigError(f"expected --{name} or a search over it, received both")
    sizes = [values for values in space.values() if not isinstance(values, Choices)]
    if args.method == "grid" and sizes:
        raise ConfigError(
            f"expected lists of values for --method grid, received the range {sizes[0]}"
        )
    check_combinations(space, base, flags, command)
    check_output(args.output)
    first = {name: values.ends()[0] for name, values in space.items()}
    arguments = train_arguments([*base, *set_options(first, flags)])
    train.check_options(arguments, command)
    with named_flags(arguments):
        data = train.read_data(arguments, command)
    command.check_data(*data)
    return base, space, options_to_compare(args, space, flags, data)


def _search(
    args: argparse.Namespace,
    study: Study,
    base: Sequence[str],
    directory: str,
    out: TextIO,
    count: int,
) -> None:
    """Runs trials until `count` are finished or the time is over."""
    flags = _train_flags(args)
    deadline = math.inf
    if args.timeout_minutes:
        deadline = monotonic() + 60 * args.timeout_minutes
    while len(study.trials()) < count:
        if monotonic() >= deadline:
            print(f"{args.timeout_minutes:g} minutes are over", file=out, flush=True)
            return
        proposal = study.propose()
        if proposal is None:
            print("all combinations of values are tried", file=out, flush=True)
            return
        number, values = proposal
        shown = ", ".join(f"{name} {value}" for name, value in values.items())
        print(f"trial {number} of {count}: {shown}", file=out, flush=True)
        model = tempfile.mkdtemp(prefix="model-", dir=directory)
        argv = [*base, *set_options(values, flags), "--output", model]
        result = _run_trial(args, study, number, values, argv)
        before = study.best()
        is_best = result.status == COMPLETE and (before is None or rank(result) < rank(before))
        if is_best:
            _put_in_place(Path(model), args.output)
        shutil.rmtree(model, ignore_errors=True)
        study.finish(result)
        print(
            f"  {_outcome(result)}{' (the best so far)' if is_best else ''}", file=out, flush=True
        )


def _run_trial(
    args: argparse.Namespace, study: Study, number: int, values: dict[str, str], argv: list[str]
) -> Trial:
    last_epoch = int(values.get("epochs", args.epochs))
    reports: list[trial.Report] = []

    def report(new: trial.Report) -> bool:
        reports.append(new)
        # After the last epoch, stopping a trial would save nothing.
        return study.goes_on(new.epoch, new.value, new.mode) or new.epoch == last_epoch

    start = monotonic()
    ended = trial.run_process([*argv, "--verbose"] if args.verbose else argv, report)
    finite = [r.value for r in reports if math.isfinite(r.value)]
    if ended.status != FAILED and not finite:
        ended = trial.Ended(FAILED, "the metric on the validation data was not finite")
    last = reports[-1] if reports else trial.Report(0, math.nan, "", "max")
    value = None
    if finite:
        value = max(finite) if last.mode == "max" else min(finite)
    seconds = round(monotonic() - start, 1)
    return Trial(
        number, values, ended.status, value, len(reports), seconds, last.monitor, last.mode,
        ended.message,
    )  # fmt: skip


def _put_in_place(model: Path, output: str) -> None:
    """Replaces the model in the output directory by that of a trial."""
    with (
        held_back_signals(),
        replace_directory(output, CheckpointError, marker=SIDE_FILE) as aside,
    ):
        shutil.copytree(model, aside, dirs_exist_ok=True)


def _remove_models(directory: str) -> None:
    """Removes the models of trials, also of killed searches."""
    for path in Path(directory).glob("model-*"):
        shutil.rmtree(path, ignore_errors=True)


# === Output ===


def _outcome(result: Trial) -> str:
    if result.status == FAILED:
        return f"failed: {result.message}"
    epochs = "1 epoch" if result.epochs == 1 else f"{result.epochs} epochs"
    time_taken = f"{epochs}, {result.seconds:.1f} s"
    stopped = "" if result.status == COMPLETE else "; stopped: others were better"
    return f"{result.monitor} {result.value:.4f}, {time_taken}{stopped}"


def _command(argv: Sequence[str]) -> str:
    return f"{PROGRAM} train {shlex.join(argv)}"


def _csv(trials: Sequence[Trial], names: Sequence[str], commands: Mapping[int, str]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["trial", "status", "metric", "value", *names, "epochs_run", "seconds",
                     "message", "command"])  # fmt: skip
    for t in sorted(trials, key=rank):
        value = "" if t.value is None else repr(t.value)
        given = [t.values[name] for name in names]
        row = [t.number, t.status, t.monitor, value, *given, t.epochs, t.seconds, t.message]
        writer.writerow([*row, commands[t.number]])
    return file.getvalue()


def _table(trials: Sequence[Trial], names: Sequence[str]) -> str:
    """Formats one line per trial, the best first."""
    metric = next((t.monitor for t in trials if t.monitor), "value")
    rows = [["trial", metric, *names, "epochs", "seconds", "status"]]
    for t in sorted(trials, key=rank):
        value = "-" if t.value is None else f"{t.value:.4f}"
        given = [t.values[name] for name in names]
        rows.append([str(t.number), value, *given, str(t.epochs), f"{t.seconds:.1f}", t.status])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)


def _show_trials(
    trials: Sequence[Trial],
    best: Trial | None,
    names: Sequence[str],
    commands: Mapping[int, str],
    out: TextIO,
) -> None:
    """Prints the table, the best trial and its command."""
    if trials:
        print(printable(_table(trials, names)), file=out)
    if best is not None:
        print(f"best: trial {best.number}, which this command repeats:", file=out)
        print(f"  {printable(commands[best.number])}", file=out, flush=True)


def _show_end(
    args: argparse.Namespace,
    trials: Sequence[Trial],
    best: Trial | None,
    commands: Mapping[int, str],
) -> None:
    """Prints the JSON object, or the next commands."""
    if args.json:
        values: dict[str, Any] = {
            "output": args.output if best else None,
            "best": best.number if best else None,
            "trials": [vars(t) | {"command": commands[t.number]} for t in trials],
        }
        print(json.dumps(values))
    elif best is not None:
        show_next(args.output, predict=task_command(args.task).predict_hint(args))

"""The work of the command glue: trains and measures the tasks of a suite."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

from keras_bert_zoo.cli.failures import training_failures
from keras_bert_zoo.cli.messages import say
from keras_bert_zoo.cli.monitoring import file_hashes
from keras_bert_zoo.cli.output import written_file
from keras_bert_zoo.cli.signals import name_of, status_of
from keras_bert_zoo.cli.training_options import (
    preset_config,
)
from keras_bert_zoo.errors import ConfigError, DataError, printable
from keras_bert_zoo.pretraining.evaluation.records import RunLog, SuiteRun, open_log
from keras_bert_zoo.pretraining.evaluation.scores import average, best_seed, score_table, summary
from keras_bert_zoo.pretraining.evaluation.suite import (
    Settings,
    Suite,
    SuiteData,
    SuiteTask,
    TestSet,
    require_files,
)

_FIT_OPTIONS = ("warmup_fraction", "weight_decay", "optimizer", "schedule", "layer_decay",
                "average_weights")  # fmt: skip
_SUBMISSION = "submission"


@dataclasses.dataclass(frozen=True)
class _Job:
    """A task with its data and its options."""

    task: SuiteTask
    data: SuiteData
    tests: list[TestSet]
    settings: Settings
    seeds: int


def _suite(name: str) -> Suite:
    from keras_bert_zoo.pretraining.evaluation.glue import GLUE
    from keras_bert_zoo.pretraining.evaluation.quick import QUICK

    return {"glue": GLUE, "quick": QUICK}[name]


def run_suite(args: argparse.Namespace) -> int:
    """Runs the command `glue`; returns the exit status."""
    # All inputs are checked before TensorFlow is imported.
    suite = _suite(args.suite)
    if args.predict and suite.name != "glue":
        raise ConfigError(f"--predict needs --suite glue, received --suite {suite.name}")
    raw_limit = preset_config(args)[1].max_sequence_length
    jobs = [_job(args, task, raw_limit) for task in _tasks(args, suite)]
    out: TextIO = sys.stderr if args.json else sys.stdout
    with open_log(args.output, resume=args.resume) as log:
        interrupt = None
        try:
            _run_all(args, jobs, log, out)
        except KeyboardInterrupt as error:
            interrupt = error
        _report(args, jobs, log)
    if interrupt is not None:
        say(f"{name_of(interrupt)}; finished runs are kept; --resume goes on")
        return status_of(interrupt)
    return 0


def _tasks(args: argparse.Namespace, suite: Suite) -> list[SuiteTask]:
    """The tasks to run, with all their files."""
    directory = Path(args.data)
    if not directory.is_dir():
        raise DataError(f"{args.data}: expected a directory of data, received none")
    if args.tasks:
        tasks = suite.select(args.tasks)
    else:
        tasks = []
        for task in suite.tasks:
            folder = task.files[0].partition("/")[0]
            if (directory / folder).is_dir():
                tasks.append(task)
            else:
                say(
                    f"skipping {task.name}: {directory / folder} is missing; expected the files "
                    f"{', '.join(task.files)}"
                )
    for task in tasks:
        require_files(directory, task)
    if not tasks:
        folders = ", ".join(dict.fromkeys(t.files[0].partition("/")[0] for t in suite.tasks))
        raise DataError(f"{args.data}: expected at least one of the folders {folders}")
    return tasks


def _job(args: argparse.Namespace, task: SuiteTask, limit: int) -> _Job:
    """Reads the data of a task, and takes its options from the command line or its defaults."""
    directory = Path(args.data)
    given = {
        name: getattr(args, name)
        for name in ("epochs", "learning_rate", "batch_size", "max_length", "probe_epochs")
        if getattr(args, name) is not None
    }
    settings = task.settings
    if task.is_trained:
        settings = dataclasses.replace(settings, **given)
        if task.kind in ("token-classification", "question-answering"):  # no head to probe
            settings = dataclasses.replace(settings, probe_epochs=0)
    settings = dataclasses.replace(settings, max_length=min(settings.max_length, limit))
    tests = task.read_tests(directory) if args.predict and task.read_tests else []
    data = task.read(directory)
    return _Job(task, data, tests, settings, args.seeds if task.is_trained else 1)


def _run_all(args: argparse.Namespace, jobs: Sequence[_Job], log: RunLog, out: TextIO) -> None:
    """Trains the runs that are not finished."""
    todo = []
    for job in jobs:
        run_options = _options(args, job)
        for seed in range(job.seeds):
            names = [_prediction_file(seed, test) for test in job.tests]
            finished = log.finished(job.task.name, seed, run_options, names)
            if finished is None:
                todo.append((job, seed, run_options))
    if not todo:
        return
    begun = threading.Event()
    with training_failures(begun.is_set):
        from keras_bert_zoo.cli.runtime import keras_dtype, start_tensorflow

        tf = start_tensorflow(verbose=args.verbose)
        import keras

        from keras_bert_zoo.pretraining.evaluation.runs import train_and_score

        load = {
            "dtype": keras_dtype(args.dtype, tf),
            "ignore_config_keys": args.ignore_config_keys,
        }
        fit = {name: getattr(args, name) for name in _FIT_OPTIONS}
        start = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda step, logs: begun.set())
        fit |= {"global_clipnorm": args.clip_norm or None, "verbose": int(out.isatty())}
        fit["callbacks"] = [start]
        for number, (job, seed, run_options) in enumerate(todo, start=1):
            name = job.task.name
            print(f"run {number} of {len(todo)}: {name}, seed {seed}", file=out, flush=True)
            since = monotonic()
            outcome = train_and_score(
                job.task,
                job.data,
                args.preset,
                settings=job.settings,
                seed=seed,
                load=load,
                fit=fit,
                tests=job.tests,
            )
            for test in job.tests:
                _write_predictions(log, seed, test, outcome.predictions[test.name])
            seconds = round(monotonic() - since, 1)
            names = [_prediction_file(seed, test) for test in job.tests]
            log.add(SuiteRun(name, seed, outcome.scores, seconds, run_options, names))
            shown = ", ".join(f"{key} {value:.4f}" for key, value in outcome.scores.items())
            print(f"  {shown}", file=out, flush=True)


def _options(args: argparse.Namespace, job: _Job) -> dict[str, Any]:
    """The options and data that must be the same when a suite goes on."""
    from keras_bert_zoo.presets.resolve import find_preset

    folder = Path(find_preset(args.preset))
    preset = file_hashes(*(str(path) for path in sorted(folder.iterdir())))
    files = file_hashes(*map(str, require_files(Path(args.data), job.task)))
    names = (*_FIT_OPTIONS, "clip_norm", "dtype", "suite")
    values = {name: getattr(args, name) for name in names}
    digests = {
        "sha256 of the preset": hashlib.sha256("".join(preset.values()).encode()).hexdigest()
    } | {f"sha256 of {Path(path).name}": digest for path, digest in files.items()}
    return dataclasses.asdict(job.settings) | values | digests


# === Predictions ===


def _prediction_file(seed: int, test: TestSet) -> str:
    return f"predictions/seed-{seed}/{test.name}"


def _write_predictions(log: RunLog, seed: int, test: TestSet, predictions: Sequence[str]) -> None:
    """Writes the predictions of a run in the form of GLUE's server."""
    path = log.directory / _prediction_file(seed, test)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_file(str(path)) as file:
        file.write(b"index\tprediction\n")
        for index, prediction in zip(test.indices, predictions, strict=True):
            file.write(f"{index}\t{prediction}\n".encode())


def _submit(job: _Job, log: RunLog, seed: int) -> list[str]:
    """Copies the predictions of a seed to the submission; returns the files."""
    written = []
    for test in job.tests:
        path = log.directory / _SUBMISSION / test.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_file(str(path)) as file:
            file.write((log.directory / _prediction_file(seed, test)).read_bytes())
        written.append(str(path))
    return written


# === Output ===


def _report(args: argparse.Namespace, jobs: Sequence[_Job], log: RunLog) -> None:
    """Prints the table of the finished runs, and writes the submission."""
    results: dict[str, Mapping[int, Mapping[str, float]]] = {}
    files: list[str] = []
    for job in jobs:
        scores = log.scores(job.task.name, job.seeds)
        if not scores:
            continue
        results[job.task.name] = scores
        if job.tests:
            files += _submit(job, log, best_seed(scores))
    if args.json:
        tasks = {
            job.task.name: {
                "measures": summary(results[job.task.name]),
                "seconds": log.seconds(job.task.name, job.seeds),
                "settings": dataclasses.asdict(job.settings),
            }
            for job in jobs
            if job.task.name in results
        }
        print(
            json.dumps(
                {
                    "preset": args.preset,
                    "suite": args.suite,
                    "tasks": tasks,
                    "average": average(results) if results else None,
                    "submission": files,
                }
            )
        )
        return
    if results:
        print(printable(score_table(results)))
    if files:
        print(f"submission: {len(files)} files in {log.directory / _SUBMISSION}")

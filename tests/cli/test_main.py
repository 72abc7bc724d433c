"""The entry point: help, exit statuses, one line for every error."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_bert_zoo import __version__
from keras_bert_zoo.cli import presets
from keras_bert_zoo.cli.main import COMMANDS, command_parser, main
from keras_bert_zoo.cli.messages import with_flags
from keras_bert_zoo.errors import CheckpointError, TrainingError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "numpy", "keras_hub", "keras_nlp", "tensorflow_text")


def in_a_process(*argv, **options) -> subprocess.CompletedProcess:
    code = (
        "import sys; from keras_bert_zoo.cli.main import main; status = main(); "
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **options,
    )


def seconds_of_children():
    """Processor time of finished child processes: other work on the machine doesn't count."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_quick_and_has_an_example(argv):
    begin = seconds_of_children()
    finished = in_a_process(*argv)
    seconds = seconds_of_children() - begin
    assert finished.returncode == 0
    assert finished.stderr == "[]\n", "a slow module was imported"
    assert f"keras-bert-zoo {argv[0] if len(argv) > 1 else 'COMMAND'}" in finished.stdout
    assert "example" in finished.stdout
    assert seconds < 0.5  # 0.1 s on an idle machine


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_command_lines_that_parse(name):
    import importlib
    import shlex

    from keras_bert_zoo.cli.main import command_parser
    from keras_bert_zoo.cli.options import parse

    command = importlib.import_module(f"keras_bert_zoo.cli.{name.replace('-', '_')}")
    lines = command.EXAMPLES.replace("\\\n", " ").split("\n")
    examples = [line.strip() for line in lines if f"keras-bert-zoo {name}" in line]
    assert examples
    for example in examples:
        words = shlex.split(example.partition("keras-bert-zoo ")[2].split(" | ")[0])
        if "--config" in words:
            continue  # tests/cli/test_options.py runs it
        parse(command_parser(name, words[1:]), words[1:])


def test_version(run):
    assert run("--version").out.strip() == __version__


def test_a_command_is_needed(refused):
    assert refused().startswith("expected a command: presets, convert, trim-vocabulary, ")
    assert refused("--json") == "unrecognized arguments: --json"


def test_unknown_command(refused):
    assert refused("trian").startswith("unknown command 'trian'; did you mean 'train'?")


def test_unknown_option_names_the_most_similar(refused):
    assert refused("presets", "--jsn") == "unknown option '--jsn' (did you mean '--json'?)"


def test_missing_option(refused):
    assert "the following arguments are required: --preset, --train, --output" in refused("train")


def test_wrong_values(refused):
    needed = ["train", "--preset", "p", "--train", "t", "--output", "o"]
    for flag, value, expected in (
        ("--epochs", "0", "expected a whole number of at least 1, received '0'"),
        ("--epochs", "2.5", "expected a whole number of at least 1, received '2.5'"),
        ("--learning-rate", "nan", "expected a number above 0, received 'nan'"),
        ("--warmup-fraction", "2", "expected a number from 0 to 1, received '2'"),
        ("--dev-fraction", "1", "expected a number between 0 and 1, received '1'"),
        ("--weight-decay", "-1", "expected a number of at least 0, received '-1'"),
        ("--seed", "-1", "expected a whole number from 0 to 4294967295, received '-1'"),
        ("--columns", "a,,b", "expected comma-separated names, received 'a,,b'"),
        ("--task", "regresion", "invalid choice: 'regresion'"),
    ):
        message = refused(*needed, flag, value)
        assert flag in message
        assert expected in message


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CheckpointError("one\ntwo"), "one two"),
        (PermissionError(errno.EACCES, "Permission denied", "file"), "file: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory; reduce --batch-size or --max-length"),
    ],
)
def test_failures_are_one_line(monkeypatch, refused, error, line):
    def fail(args):
        raise error

    monkeypatch.setattr(presets, "run", fail)
    assert refused("presets") == line


def test_a_training_that_fails_has_another_status(monkeypatch, refused):
    def fail(args):
        raise TrainingError("not finite")

    monkeypatch.setattr(presets, "run", fail)
    assert refused("presets", status=1) == "not finite"


def test_verbose_shows_the_traceback(monkeypatch, run):
    def fail(args):
        raise CheckpointError("no")

    monkeypatch.setattr(presets, "run", fail)
    finished = run("presets", "--verbose")
    assert finished.status == 2
    assert "Traceback" in finished.err
    assert finished.err.endswith("keras-bert-zoo: error: no\n")


def test_unexpected_errors_are_raised(monkeypatch):
    monkeypatch.setattr(presets, "run", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["presets"])


def test_interrupt(monkeypatch, run):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(presets, "run", interrupt)
    finished = run("presets")
    assert (finished.status, finished.err) == (130, "keras-bert-zoo: interrupted\n")


def test_a_closed_pipe_is_no_error(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from keras_bert_zoo.cli.main import main; sys.exit(main(['presets']))"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        stdout=write,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    os.close(write)
    assert (finished.returncode, finished.stderr) == (141, b"")


def test_as_a_module():
    finished = subprocess.run(
        [sys.executable, "-m", "keras_bert_zoo", "--version"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert finished.stdout.strip() == __version__


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("pass `allow_pickle=True`", "pass `--allow-pickle`"),
        ("not `allow_pickle=False`", "not `allow_pickle=False`"),
        ('with `to="google"`', "with `--to google`"),
        ("`to` = 3 in a file", "`to` = 3 in a file"),
        ("`architectures` and `to_huggingface()`", "`architectures` and `to_huggingface()`"),
    ],
)
def test_options_of_python_become_flags_of_the_command(message, expected):
    assert with_flags(message, command_parser("convert", ["a", "b"]).flags()) == expected
    assert with_flags(message, {}) == message

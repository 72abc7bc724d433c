"""Commands print no control characters of files, and their messages have a maximum length."""

import json
import logging

import pytest

from keras_bert_zoo.cli import presets
from keras_bert_zoo.cli.error_page import error_page
from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.cli.messages import json_text, with_flags
from keras_bert_zoo.errors import CheckpointError, DataError
from keras_bert_zoo.metrics.classification import classification_report, format_report

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc\r"
SHOWN = "\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\u202eabc\\r"


def is_clean(text):
    return text.replace("\n", "").isprintable()


@pytest.mark.parametrize("kind", [CheckpointError, DataError, OSError])
def test_errors(monkeypatch, refused, kind):
    def fail(args):
        raise kind(f"modules.json: expected a folder, received {EVIL}")

    monkeypatch.setattr(presets, "run", fail)
    assert refused("presets") == f"modules.json: expected a folder, received {SHOWN}"


def test_long_errors(monkeypatch, refused):
    def fail(args):
        raise CheckpointError(f"expected a folder, received {'x' * 154_000}; name it")

    monkeypatch.setattr(presets, "run", fail)
    message = refused("presets")
    assert len(message) <= 2_000
    assert message.endswith("x; name it")


def test_arguments(refused):
    assert refused(EVIL).startswith(f"unknown command {EVIL!a}")
    for argv in (
        ["presets", f"--{EVIL}"],
        ["presets", "--family", EVIL],
        ["presets", "--config", EVIL],
        ["predict", "--model", EVIL],
        ["presets", "--" + "x" * 300_000],
    ):
        message = refused(*argv)
        assert is_clean(message), message
        assert len(message) <= 2_000


def test_warnings(monkeypatch, run):
    def warn(args):
        logging.getLogger("keras_bert_zoo.data").warning("%s: odd\nline %s", EVIL, "x" * 9_000)
        return 0

    monkeypatch.setattr(presets, "run", warn)
    err = run("presets").err
    assert err.startswith(f"keras-bert-zoo: warning: {SHOWN}: odd line xxx")
    assert err.count("\n") == 1
    assert len(err) <= 2_001


def test_json_keeps_its_value_and_its_letters():
    value = {"text": f"{EVIL} 中文\u3000é\u2028", "label": [EVIL]}
    text = json_text(value)
    assert is_clean(text.replace("\u3000", ""))
    assert json.loads(text) == value
    assert "中文\u3000é" in text
    assert json_text({"a": "\x7f\ud800"}) == '{"a": "\\u007f\\ud800"}'


def test_printed_tables():
    labels = [EVIL, "b\nc", "x" * 5_000]
    text = format_report(classification_report([0, 1, 2, 0], [0, 1, 1, 1], labels))
    assert is_clean(text)
    assert SHOWN in text
    assert "b\\nc" in text
    assert max(map(len, text.split("\n"))) < 400


def test_the_page_escapes_html():
    evil = "<script>alert(1)</script>"
    labels = {evil: {"f1": 0.5}, "b": {"f1": 0.5}}
    row = {"text": evil, "label": evil, "predicted": evil, "score": 0.5, "row": 1}
    page = error_page(evil, 1, {"labels": labels, "confusion": [[1, 1], [1, 1]]}, [row])
    assert evil not in page


@pytest.mark.parametrize(
    ("name", "message", "expected"),
    [
        (
            "train",
            "pass `allow_pickle=True`: it",
            "run `keras-bert-zoo convert --allow-pickle` first: it",
        ),
        ("convert", "pass `allow_pickle=True`: it", "pass `--allow-pickle`: it"),
        ("train", "a new head with `new_head=True`.", "a new head with `--no-keep-head`."),
        ("evaluate", "a new head with `new_head=True`.", "a new head with `new_head=True`."),
        ("train", "`patience` needs `validation_data`", "`--patience` needs `--dev`"),
        ("train", "another `fraction`", "another `--dev-fraction`"),
        ("train", "give `encoding=utf-16`", "give `--encoding utf-16`"),
        ("export", "Pass another `version`", "Pass another `--version`"),
    ],
)
def test_flags_of_a_command(name, message, expected):
    assert with_flags(message, command_parser(name, []).flags()) == expected

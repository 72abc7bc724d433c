"""Errors can be caught as BertZooError and as the built-in error that Python users expect."""

import pickle

import pytest

from keras_bert_zoo import errors


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [
        (errors.ConfigError, ValueError),
        (errors.DataError, ValueError),
        (errors.CheckpointError, ValueError),
        (errors.ExportError, RuntimeError),
    ],
)
def test_kinds(kind, built_in):
    assert issubclass(kind, errors.BertZooError)
    assert issubclass(kind, built_in)
    assert str(kind("expected this, received that")) == "expected this, received that"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b[0m", "a\\x1b[31mred\\x1b[0m"),
        ("\x9b2J\x00\x7f\r\t\b", "\\x9b2J\\x00\\x7f\\r\\t\\x08"),
        ("user\u202etxt.exe\u2066\u200f", "user\\u202etxt.exe\\u2066\\u200f"),
        ("a\u2028b\ufeff\udcff", "a\\u2028b\\ufeff\\udcff"),
        ("中文\u3000é 👩\u200d🔬 \xa0 می\u200cخواهم", "中文\u3000é 👩\u200d🔬 \xa0 می\u200cخواهم"),
        ("one\ntwo", "one\ntwo"),
    ],
)
def test_terminal_controls_are_escaped(text, shown):
    assert str(errors.DataError(text)) == shown
    assert errors.printable(text) == shown
    assert errors.one_line(text) == shown.replace("\n", " ")


def test_long_messages_are_shortened_in_the_middle():
    message = f"a.csv:1: expected a label, received {'x' * 154_000!r}; leave the row out"
    cut = str(errors.DataError(message))
    assert len(cut) == errors.MESSAGE_LIMIT == 20_000
    assert cut.startswith("a.csv:1: expected a label, received 'xxx")
    assert " [... 134,0" in cut
    assert cut.endswith("xxx'; leave the row out")
    line = errors.one_line(cut)
    assert len(line) == errors.LINE_LIMIT == 2_000
    assert line.endswith("xxx'; leave the row out")
    assert len(str(errors.DataError("\x1b" * 100_000))) == 20_000


def test_a_long_list_of_problems_ends_with_a_count():
    problems = [f"tensor {index}: expected (2, 3), received (3, 2)" for index in range(1000)]
    cut = str(errors.CheckpointError("\n".join(["these do not fit:", *problems])))
    assert len(cut) <= 20_000
    *lines, last = cut.split("\n")
    assert lines[1:] == problems[: len(lines) - 1]
    assert last == f"... and {1000 - len(lines) + 1} more lines"
    line = errors.one_line(cut)
    assert len(line) <= 2_000
    assert line.startswith("these do not fit: tensor 0: ")
    assert line.endswith(" more lines")


def test_errors_survive_pickling():
    error = errors.MissingColumnError("a\x1bb" + "x" * 50_000, "label")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.column) == (str(error), "label")
    assert isinstance(again, errors.DataError)
    assert str(errors.DataError()) == ""

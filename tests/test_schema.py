"""Values of JSON files have the declared types; folders are inside the directory."""

import json
import os

import pytest

from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.schema import (
    FLAG,
    NULL,
    OBJECT,
    TEXT,
    check,
    folder_inside,
    integer,
    list_of,
    names_to,
    number,
    one_of,
    read_object,
)  # fmt: skip

HUGE = 10**400
TYPES = {
    "integer": (integer(1, 9), [1, 9], [0, 10, True, 1.0, "1", None, HUGE]),
    "number": (number(0, 1), [0, 1, 0.5], [-1, 1.1, True, "0.5", float("nan"), HUGE, None, []]),
    "flag": (FLAG, [True, False], [0, 1, "true", None]),
    "text": (TEXT, ["", "a"], [1, None, ["a"], b"a"]),
    "list": (list_of(TEXT, 2), [[], ["a", "b"]], [["a", 1], ["a", "b", "c"], "ab", {"a": 1}]),
    "names": (names_to(TEXT | NULL), [{}, {"a": None}], [{"a": 1}, [], "a"]),
    "either": (integer(3, 4) | NULL, [3, None], [2, False]),
    "one of": (one_of("a", "b"), ["a"], ["c", ["a"], None, 1]),
    "object": (OBJECT, [{}], [[], None]),
}


@pytest.mark.parametrize("name", TYPES)
def test_types(name):
    value_type, valid, invalid = TYPES[name]
    for value in valid:
        check({"a": value}, {"a": value_type}, "x.json")
    for value in invalid:
        with pytest.raises(CheckpointError, match=r"^x\.json: 'a' must be .*, received ") as caught:
            check({"a": value}, {"a": value_type}, "x.json", CheckpointError)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


def test_all_problems_are_named_and_other_keys_ignored(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": "\x1b[31m" + "x" * 10_000, "b": 1, "new": []}))
    with pytest.raises(ConfigError) as caught:
        read_object(path, {"a": FLAG, "b": TEXT, "c": TEXT})
    start = f"{path}: 'a' must be true or false, received '\\x1b[31mxxx"
    assert str(caught.value).startswith(start)
    assert "'b' must be a string, received 1." in str(caught.value)
    assert len(str(caught.value)) < 300
    path.write_text("[]")
    with pytest.raises(CheckpointError, match="Expected a JSON object in .*, received list"):
        read_object(path, {}, CheckpointError)


def test_folders_must_be_inside_the_directory(tmp_path):
    base, outside = tmp_path / "base", tmp_path / "outside"
    (base / "in" / "deep").mkdir(parents=True)
    outside.mkdir()
    (base / "link").symlink_to(outside)
    (base / "loop").symlink_to("in")
    (base / "cycle").symlink_to("back")
    (base / "back").symlink_to("cycle")
    os.symlink(base, tmp_path / "linked")
    for name in ("cycle", "cycle/x"):
        with pytest.raises(ConfigError, match=f"^x: .* received '{name}', a cycle of links"):
            folder_inside(base, name, "x")
    for name in ("", "in", "in/deep", "loop", "missing", "é"):
        assert folder_inside(base, name, "x") == base / name
        folder_inside(tmp_path / "linked", name, "x")
    for name in (
        *("..", "../outside", "in/../../outside", "/etc", str(outside), "a\\b", "a\0b", "C:x"),
        *("a\nb", "link", "link/x", "x" * 300, "in/" + "é" * 200),
    ):
        with pytest.raises(ConfigError, match="^x: expected .*, received ") as caught:
            folder_inside(base, name, "x")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400

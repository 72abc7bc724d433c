"""Texts with choices: reading, and errors with their lines."""

import json

import pytest

from keras_bert_zoo.data.choices import ChoiceExamples, read_choices, read_choices_in_parts
from keras_bert_zoo.errors import ConfigError, DataError

CODAH = {"text": "prompt", "choices": ["a", "b", "c"], "columns": ["kind", "prompt", "a", "b", "c",
                                                                  "label"]}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(content, name="data.tsv"):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


def test_reads_a_table_without_a_header(write):
    path = write('o\tI am "tired". I\tsleep\trun\tsing\t0\n\nn\tHe\tflies\twalks\tsits\t2\n')
    examples = read_choices(path, **CODAH)
    assert examples.texts == ['I am "tired". I', "He"]
    assert examples.choices == [["sleep", "run", "sing"], ["flies", "walks", "sits"]]
    assert (examples.labels, examples.rows, examples.num_choices) == ([0, 2], [1, 3], 3)
    assert read_choices(path, **CODAH, label=None).labels is None


def test_reads_json_lines_with_a_list_and_numbers_from_one(write):
    rows = [{"text": "a", "choices": ["x", "y"], "label": 2}, {"text": "b", "choices": ["", "y"],
                                                              "label": "1"}]  # fmt: skip
    path = write("\n".join(map(json.dumps, rows)), "data.jsonl")
    examples = read_choices(path, first_choice=1)
    assert (examples.labels, examples.choices) == ([1, 0], [["x", "y"], ["", "y"]])


def test_reads_in_parts(write):
    path = write("text,a,b,label\n" + "t,x,y,1\n" * 5, "data.csv")
    parts = list(read_choices_in_parts(path, choices=["a", "b"], rows_at_once=2))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert parts[2].rows == [6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("o\tt\ta\tb\tc\t3\n", r"data.tsv:1: expected 'label' .* choice, 0 to 2, received '3'"),
        ("o\tt\ta\tb\tc\t0\no\tt\ta\tb\tc\ta\n", r"data.tsv:2: .* 0 to 2, received 'a'"),
        ("o\tt\ta\tb\tc\t\n", r"data.tsv:1: .* received ''"),
        ("o\tt\ta\tb\tc\t-1\n", r"data.tsv:1: .* received '-1'"),
        ("o\tt\ta\tb\t0\n", r"data.tsv:1: expected 6 columns as named, received 5"),
        ("", "data.tsv: expected at least one row, but the file is empty"),
    ],
)  # fmt: skip
def test_refuses_rows_of_a_table(write, content, message):
    with pytest.raises(DataError, match=message):
        read_choices(write(content), **CODAH)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"choices": ["x"]},
            (
                r"data.jsonl:2: expected at least two choices in 'choices', "
                r"received 1"
            ),
        ),
        ({"choices": "x y"}, r"data.jsonl:2: expected 'choices' to be a list of choices"),
        (
            {"choices": ["x", "y", "z"]},
            (
                r"data.jsonl:2: expected 2 choices, as on line 1, "
                r"received 3"
            ),
        ),
        ({"choices": ["x", 1]}, r"data.jsonl:2: expected 'choices\[1\]' to be a string"),
        ({"text": 1}, r"data.jsonl:2: expected 'text' to be a string"),
        ({"label": True}, r"data.jsonl:2: .* received True"),
        ({"label": 1.5}, r"data.jsonl:2: .* received 1.5"),
        ({"label": None}, r"data.jsonl:2: .* received None"),
    ],
)
def test_refuses_rows_of_json_lines(write, row, message):
    good = {"text": "t", "choices": ["x", "y"], "label": 0}
    path = write("\n".join(map(json.dumps, [good, good | row])), "data.jsonl")
    with pytest.raises(DataError, match=message):
        read_choices(path)


def test_refuses_invalid_choice_columns(write):
    with pytest.raises(ConfigError, match="distinct column names"):
        read_choices(write("x"), choices=["a", "a"])
    with pytest.raises(DataError, match="expected a column 'choices'"):
        read_choices(write("text\ta\tlabel\n"))


def test_examples_are_checked_and_split():
    texts, choices = list("abcdefgh"), [["x", "y"]] * 8
    examples = ChoiceExamples(texts, choices, [0, 1] * 4)
    rest, held_out = examples.split(0.25, seed=0)
    assert sorted(rest.texts + held_out.texts) == texts
    assert (len(held_out), held_out.rows[0]) == (2, texts.index(held_out.texts[0]) + 1)
    assert examples[2:4].texts == ["c", "d"]
    assert ChoiceExamples([], []).num_choices is None
    for arguments, message in [
        ((["a"], [["x", "y"]], [2]), "example 1: expected the label .* 0 to 1, received 2"),
        ((["a"], [["x"]]), "example 1: expected at least two choices"),
        ((["a"], ["xy"]), "example 1: expected at least two choices in a list, received 'xy'"),
        ((["a", "b"], [["x", "y"], ["x", "y", "z"]]), "example 2: expected 2 choices, as in "),
        ((["a", "b"], [["x", "y"]]), "expected 2 choices, one per text, received 1"),
    ]:
        with pytest.raises(DataError, match=message):
            ChoiceExamples(*arguments)


def test_numbers_of_choices_as_pandas_writes_them_with_gaps(write):
    rows = [{"text": "a", "choices": ["x", "y"], "label": label} for label in (1.0, 0, "1.0", "0")]
    path = write("\n".join(map(json.dumps, rows)), "data.jsonl")
    assert read_choices(path).labels == [1, 0, 1, 0]
    for label in (0.5, "0.5", "1.0x", "01.0"):
        path = write(json.dumps(rows[0] | {"label": label}), "data.jsonl")
        with pytest.raises(DataError, match="the number of the correct choice, 0 to 1"):
            read_choices(path)

"""Table cells as texts and labels: lists written by str or JSON."""

import gzip
import re
import time

import pytest

from keras_bert_zoo.data.choices import read_choices
from keras_bert_zoo.data.fields import list_in_text
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import DataError


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[]", []),
        ("[ ]", []),
        ("", []),
        ("['it\\'s', \"say 'x'\", 'a,b']", ["it's", "say 'x'", "a,b"]),
        ("['caf\\xe9', '中文']", ["café", "中文"]),
        ('["caf\\u00e9", "a/b"]', ["café", "a/b"]),
        ("[1, 2]", ["1", "2"]),
        ("[1 2\n 10]", ["1", "2", "10"]),  # of NumPy
        ("['a' 'b']", ["a", "b"]),  # not 'ab'
        ("[np.str_('a'), np.int64(3)]", ["a", "3"]),
        ("('a', 'b')", ["a", "b"]),
        ("('a',)", ["a"]),
        ("{'a', 'b'}", ["a", "b"]),
        ("['a', 'a', ' b ']", ["a", "b"]),
        ("a, b", ["a", "b"]),
        ("[sic], b", ["[sic]", "b"]),
        ("(1)", ["(1)"]),
        ("{1}", ["{1}"]),
        ("007", ["007"]),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_several_labels_of_a_cell(tmp_path, name, cell, labels):
    import csv
    import json

    path = tmp_path / name
    with open(path, "w", newline="", encoding="utf-8") as file:
        if name.endswith("csv"):
            csv.writer(file).writerows([["text", "label"], ["x", cell]])
        else:
            file.write(json.dumps({"text": "x", "label": cell}))
    assert read_table(path, label_kind="multi").labels == [labels]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("['a', 'b'", "expected 'label' to be a list such as ['a', 'b'], received \"['a', 'b'\""),
        ("['a', b]", "expected 'label' to be a list such as ['a', 'b']"),
        ("['a' 'b' ... 'c']", "expected 'label' to be a list such as ['a', 'b']"),
        ("['a', None]", "expected a label in 'label', but it is empty"),
        ("['a', '']", "expected a label in 'label', but it is empty"),
        ("[1.5]", "to be a string or an integer, received the number 1.5"),
        ('[["a"]]', "to be a string or an integer, received a list"),
        ("['" + "x" * 100_000, "expected 'label' to be a list such as"),
        ("[" * 100_000 + "]", "expected 'label' to be a list such as"),
        ("['a'" * 30_000 + "]", "expected 'label' to be a list such as"),
    ],
)
def test_incomplete_lists(tmp_path, cell, message):
    path = tmp_path / "a.tsv"
    path.write_text(f"text\tlabel\nx\t{cell}\n")
    begin = time.process_time()
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_table(path, label_kind="multi")
    assert f"{path}:2: " in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.process_time() - begin < 2


def test_single_labels_are_not_parsed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,[1]\n")
    assert read_table(path).labels == ["[1]"]


def test_choices_of_a_cell(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,choices,label\nx,\"['one, two', 'three']\",1\n")
    assert read_choices(path).choices == [["one, two", "three"]]
    path.write_text("text,choices,label\nx,one,1\n")
    with pytest.raises(DataError, match="expected 'choices' to be a list of choices"):
        read_choices(path)


def test_list_in_text_takes_no_expressions():
    for text in ("[open('x')]", "['a'*9]", "['a'+'b']", "[f'x']", "[['a'],]", "[1,,2]", "[,]"):
        assert list_in_text(text) is None, text


def test_labels_that_are_whole_numbers_with_a_fraction(tmp_path):
    """As pandas writes integers of a column with gaps."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": 1.0}\n{"text": "y", "label": 0}\n')
    assert read_table(path).labels == ["1", "0"]
    path.write_text('{"text": "x", "label": [1.0, 2.0]}\n')
    assert read_table(path, label_kind="multi").labels == [["1", "2"]]
    path.write_text('{"text": "x", "label": 1.5}\n')
    with pytest.raises(DataError, match="received the number 1.5; write it as a string, in quotes"):
        read_table(path)


@pytest.mark.parametrize("cell", ["array(['a', 'b'])", "[nan]", "[['a']]"])
def test_values_that_are_not_labels_are_refused(tmp_path, cell):
    path = tmp_path / "a.csv"
    path.write_text(f'text,label\nx,"{cell}"\n')
    with pytest.raises(DataError, match="expected 'label' to be a list such as"):
        read_table(path, label_kind="multi")


def test_packed_files_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(b"text,label\nx,a\n"))
    with pytest.raises(DataError, match=r"the file is gzipped; give it a name that ends in \.gz"):
        read_table(path)
    path.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(DataError, match="a zip archive or an Excel workbook; unpack it, or save"):
        read_table(path)

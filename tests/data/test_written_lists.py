"""Table cells with lists, forms of numbers, and thousands of labels."""

import time

import numpy as np
import pytest

from keras_bert_zoo.data.columns import numbers
from keras_bert_zoo.data.conll import read_conll
from keras_bert_zoo.data.examples import Examples, closest
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.pairs import read_groups
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import ConfigError, DataError


def labels(tmp_path, cell, *, separator=",", kind="multi"):
    path = tmp_path / "a.tsv"
    path.write_text(f"text\tlabel\nt\t{cell}\n", "utf-8")
    return read_table(path, label_kind=kind, label_separator=separator).labels


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("set()", []),
        ("frozenset()", []),
        ("[]", []),
        ("{'a', 'b'}", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("[1, 2]", ["1", "2"]),
        ("['a' 'b']", ["a", "b"]),
        ("[music], [laughter]", ["[music]", "[laughter]"]),
        ("[music]", ["[music]"]),
        ("a (x), b", ["a (x)", "b"]),
        ("(x) a, b", ["(x) a", "b"]),
    ],
)
def test_lists_are_read(tmp_path, cell, expected):
    assert labels(tmp_path, cell) == [expected]


@pytest.mark.parametrize(
    "cell",
    [
        "[a, b]", "{a, b}", "{}", "{'a': 1, 'b': 2}", "{'a': 1}", "['a', 'b'", "['a', b]", "[1, 2",
        "('a', 'b'", "(a, b)", "[a, 'b']", "{'a': ['b']}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("separator", [",", "|"])
def test_invalid_lists_are_refused_with_line_and_column(tmp_path, cell, separator):
    if separator == "|" and cell in ("[1, 2", "(a, b)"):
        return  # may be one name
    with pytest.raises(DataError, match=r"a.tsv:2: expected 'label' to be .*\['a', 'b'\]"):
        labels(tmp_path, cell, separator=separator)


def test_negatives_of_pairs(tmp_path):
    path = tmp_path / "a.tsv"

    def read(cell):
        path.write_text(f"q\tp\tno\na\tb\t{cell}\n", "utf-8")
        return [column[0] for column in read_groups(path, ["q", "p"], negatives="no").columns]

    assert read("['c', 'd']") == ["a", "b", "c", "d"]
    assert read("{'c'}") == ["a", "b", "c"]
    assert read("a text [sic]") == ["a", "b", "a text [sic]"]
    for cell in ("['c', 'd", "[]", "[1, 2]", "['c' d]"):
        if cell == "['c', 'd":
            assert read(cell)[-1] == cell  # may be a text
            continue
        with pytest.raises(DataError, match=r"a.tsv:2: expected 'no' to be a list "):
            read(cell)


@pytest.mark.parametrize(
    ("cell", "end"),
    [
        ("1_0", "received '1_0'"),
        ("1,5", "received '1,5'; write a decimal point: 1.5"),
        ("-1,25", "received '-1,25'; write a decimal point: -1.25"),
        ("1,000,000", "received '1,000,000'"),
    ],
)
def test_numbers_as_people_write_them(tmp_path, cell, end):
    with pytest.raises(DataError) as caught:
        labels(tmp_path, cell, kind="float")
    assert str(caught.value) == f"{tmp_path}/a.tsv:2: expected a number in 'label', {end}"
    with pytest.raises(DataError, match="Scores must be numbers"):
        numbers([cell], "Scores", Examples(["a"]))
    assert labels(tmp_path, "1e1", kind="float") == [10.0]


def test_names_of_more_digits_than_python_reads():
    long = "9" * 5000
    assert LabelMap.learn(Examples(["a", "b"], None, ["2", long])).names == ("2", long)
    label_map = LabelMap((long, "1"))
    assert [label_map.id_of(value) for value in (long, 1, "1", 10**4999)] == [0, 1, 1, None]


def test_many_labels_take_linear_time():
    names = [f"a long name of a label, number {index}" for index in range(30_000)]
    begin = time.process_time()
    with pytest.raises(ConfigError, match="these repeat: .* and 29980 more"):
        LabelMap(tuple(names * 2))
    wrong = Examples(["a"] * 30_000, None, [f"{name}?" for name in names])
    with pytest.raises(DataError, match="did you mean 'a long name of a label, number 0'"):
        LabelMap(tuple(names)).to_ids(wrong)
    assert time.process_time() - begin < 10
    assert closest("x" * 10**6, ["y" * 10**6, "z"]) is None
    assert closest("lable", ["text", "Label"]) == "Label"


@pytest.mark.parametrize(
    "comment", ["# note", "# sent_id = 1", "# text = O", "#", "# a longer one without end"]
)
@pytest.mark.parametrize("tags", [True, False])
def test_comments_with_the_columns_of_words(tmp_path, comment, tags):
    path = tmp_path / "a.conll"
    for width in (2, 4):
        words = [("Ada", "B-PER"), ("#", "O"), ("#x", "B-TAG")]
        rows = [" ".join([word, *("_",) * (width - 2), tag]) for word, tag in words]
        path.write_text("\n".join([comment, *rows, "", comment, rows[0], ""]))
        if not tags and comment == "# note" and width == 2:
            continue  # ambiguous without tags
        options = {"word": 1} if tags else {"word": 1, "tags": False}
        examples = read_conll(path, **options)
        assert examples.texts == ["Ada # #x", "Ada"], (width, comment)


def test_a_hash_that_begins_a_sentence(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("# O\nAda B-PER\n\n# B-NEW\nx O\n")
    assert read_conll(path).texts == ["# Ada", "# x"]


def test_numbers_of_numpy_are_as_they_were():
    assert numbers([np.float32(0.5), "1.5"], "Scores", Examples(["a", "b"])).tolist() == [0.5, 1.5]


def test_outer_spaces_of_labels_are_dropped_and_the_rest_is_kept(tmp_path):
    """Labels keep control characters; messages escape them."""
    for kind, expected in (("single", ["a\x1b[1mb"]), ("multi", [["a\x1b[1mb", "c"]])):
        cell = " a\x1b[1mb " + " , c" * (kind == "multi")
        assert labels(tmp_path, cell, kind=kind) == expected
    with pytest.raises(DataError) as caught:
        LabelMap(("a", "b")).to_ids(Examples(["t"], None, ["a\x1b[1mb"]))
    assert str(caught.value).isprintable()

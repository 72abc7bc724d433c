"""Groups of texts: reading and errors."""

import json

import pytest

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pairs import TextGroups, read_groups
from keras_bert_zoo.errors import ConfigError, DataError


def write(folder, name, *lines):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_reads_pairs_scores_and_labels(tmp_path):
    path = write(tmp_path, "sts.tsv", "a\tb\tscore\tkind", "one\tan one\t0.9\tx", 'two\t"2\t-1\ty')
    groups = read_groups(path, ["a", "b"], score="score", label="kind")
    assert groups.columns == (["one", "two"], ["an one", '"2'])
    assert groups.scores == [0.9, -1.0]
    assert groups.labels == ["x", "y"]
    assert groups.where(1) == f"{path}:3"
    assert (len(groups), groups.size, groups.texts) == (2, 2, ["one", "two"])


def test_reads_triplets_and_lists_of_negatives(tmp_path):
    path = write(tmp_path, "t.csv", "q,p,n", "a,b,c", '"d, e",f,g')
    assert read_groups(path, ["q", "p", "n"]).columns == (["a", "d, e"], ["b", "f"], ["c", "g"])
    rows = [{"q": "a", "p": "b", "no": ["c", "d"]}, {"q": "e", "p": "f", "no": ["g", "h"]}]
    path = write(tmp_path, "n.jsonl", *map(json.dumps, rows))
    groups = read_groups(path, ["q", "p"], negatives="no")
    assert groups.columns == (["a", "e"], ["b", "f"], ["c", "g"], ["d", "h"])


@pytest.mark.parametrize(
    ("name", "lines", "options", "message"),
    [
        (
            "x.csv",
            ["a,b", "one,two,three"],
            {},
            "x.csv:2: expected 2 columns as in the header, received 3",
        ),
        ("x.csv", ["a,c", "1,2"], {}, "x.csv:1: expected a column 'b', found 'a', 'c'"),
        ("x.csv", ["a,b", "one,"], {}, "x.csv:2: expected a text, but it is empty; leave the row"),
        (
            "x.csv",
            ["a,b"],
            {},
            "x.csv: expected at least one row, but the file has a header and no",
        ),
        (
            "x.csv",
            ["a,b,s", "1,2,good"],
            {"score": "s"},
            "x.csv:2: expected a number in 's', received 'g",
        ),
        ("x.csv", ["a,b,s", "1,2,nan"], {"score": "s"}, "x.csv:2: expected a finite number in 's'"),
        ("x.csv", ["a,b,s", "1,2,"], {"label": "s"}, "x.csv:2: expected a label in 's', but it is"),
        (
            "x.jsonl",
            ['{"a": 1, "b": "x"}'],
            {},
            "x.jsonl:1: expected 'a' to be a string, received the",
        ),
        (
            "x.jsonl",
            ['{"a": "1", "b": "x", "n": "y"}'],
            {"negatives": "n"},
            "x.jsonl:1: expected 'n' to be a list of at least one text, received 'y'",
        ),
        (
            "x.jsonl",
            ['{"a": "1", "b": "x", "n": ["y"]}', '{"a": "1", "b": "x", "n": ["y", "z"]}'],
            {"negatives": "n"},
            "x.jsonl:2: expected 1 texts in 'n', as in the first row, received 2",
        ),
    ],
)
def test_refuses_with_file_and_line(tmp_path, name, lines, options, message):
    path = write(tmp_path, name, *lines)
    with pytest.raises(DataError) as error:
        read_groups(path, ["a", "b"], **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_scores_without_pairs(tmp_path):
    with pytest.raises(ConfigError, match="expected two columns of texts for the score 's'"):
        read_groups(tmp_path / "x.csv", ["a"], score="s")
    with pytest.raises(DataError, match="expected pairs for scores, received groups of 3"):
        TextGroups((["a"], ["b"], ["c"]), [1.0])
    with pytest.raises(DataError, match="expected 1 texts in column 1, one per group, received 2"):
        TextGroups((["a"], ["b", "c"]))


def test_kin_share_a_label_an_anchor_or_a_positive():
    columns = (["a", "b", "a", "c", "d"], ["p", "q", "r", "q", "s"])
    kin = TextGroups(columns).kinship()
    assert kin[0] == kin[2] != kin[1] == kin[3] != kin[4] != kin[0]
    kin = TextGroups(columns, labels=["x", "y", "z", "w", "x"]).kinship()
    assert kin[0] == kin[2] == kin[4] != kin[1]


def test_parts_and_slices_keep_rows_aligned():
    groups = TextGroups(
        ([f"a{i}" for i in range(10)], [f"b{i}" for i in range(10)]),
        scores=[0.1 * i for i in range(10)],
    )
    rest, held_out = groups.split(0.3, seed=0)
    assert (len(rest), len(held_out)) == (7, 3)
    for part in (rest, held_out, groups[2:4]):
        for index, row in enumerate(part.rows):
            assert part.columns[0][index] == f"a{row - 1}"
            assert part.columns[1][index] == f"b{row - 1}"
            assert part.scores[index] == pytest.approx(0.1 * (row - 1))


def test_examples_are_groups():
    groups = TextGroups.from_examples(Examples(["a"], ["b"], [0.5], [7], "f.csv"))
    assert (groups.columns, groups.scores, groups.where(0)) == ((["a"], ["b"]), [0.5], "f.csv:7")
    assert TextGroups.from_examples(Examples(["a"], labels=["x"])).labels == ["x"]

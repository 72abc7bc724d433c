"""Tables written by pandas, Excel and other programs are read without changes."""

import csv
import io
import itertools
import logging
import re

import pytest

from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import DataError

TEXTS = [
    "plain", "one, two", "semi; colon", "tab\there", 'say "hi"', '"all quoted"', "line\nbreak", "",
    " padded ", '"', '""', "it's", "中文，“引号”", "| pipe", 'end"', '"start', 'a "" b', "cr\r\nlf",
]  # fmt: skip
LABELS = ["xy"[index % 2] for index in range(len(TEXTS))]

# DataFrame({"text": ['tab\there', 'say "hi"', 'line\nbreak', None], "label": [1, 0, 1, 0]})
# .to_csv(..., sep="\t") of pandas 3.0, with index and without; with quoting=csv.QUOTE_ALL.
PANDAS = {
    "index.tsv": '\ttext\tlabel\n0\t"tab\there"\t1\n1\t"say ""hi"""\t0\n2\t"line\nbreak"\t1\n'
    "3\t\t0\n",
    "plain.tsv": 'text\tlabel\n"tab\there"\t1\n"say ""hi"""\t0\n"line\nbreak"\t1\n\t0\n',
    "all.tsv": '"text"\t"label"\n"tab\there"\t"1"\n"say ""hi"""\t"0"\n"line\nbreak"\t"1"\n'
    '""\t"0"\n',
    "index.csv": ',text,label\n0,tab\there,1\n1,"say ""hi""",0\n2,"line\nbreak",1\n3,,0\n',
    "twice.csv": ",Unnamed: 0,text,label\n0,0,tab\there,1\n1,1,\"say \"\"hi\"\"\",0\n"
    '2,2,"line\nbreak",1\n3,3,,0\n',
}  # fmt: skip


@pytest.fixture
def logged(caplog):
    """Runs a function; returns its result and the warnings."""

    def logged(function, *args, **options):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="keras_bert_zoo"):
            result = function(*args, **options)
        return result, [record.getMessage() for record in caplog.records]

    return logged


@pytest.mark.parametrize("name", PANDAS)
def test_files_of_pandas(tmp_path, logged, name):
    path = tmp_path / name
    path.write_bytes(PANDAS[name].encode())
    examples, messages = logged(read_table, path)
    assert examples.texts == ["tab\there", 'say "hi"', "line\nbreak", ""]
    assert examples.labels == ["1", "0", "1", "0"]
    assert examples.rows == [2, 3, 4, 6]
    unnamed = {"index": "1 column", "twice": "2 columns"}.get(name.split(".")[0])
    skipped = [] if unnamed is None else [f"{path}: skipped {unnamed} without a name"]
    assert messages == [*skipped, f"{path}: 1 empty texts, the first on line 6"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_every_way_of_writing(tmp_path, suffix):
    """As DataFrame.to_csv: it uses Python's csv writer with these arguments."""
    path = tmp_path / f"a.{suffix}"
    orders = (["text", "label"], ["label", "text"])
    ways = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)
    for index, delimiter, quoting, names in itertools.product((0, 1), ",;\t|", ways, orders):
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n")
        writer.writerow([""] * index + names)
        for row, pair in enumerate(zip(TEXTS, LABELS, strict=True)):
            cells = pair if names[0] == "text" else pair[::-1]
            writer.writerow([row] * index + list(cells))
        path.write_bytes(file.getvalue().encode())
        examples = read_table(path)
        assert (examples.texts, examples.labels) == (TEXTS, LABELS), (index, delimiter, quoting)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_single_column(tmp_path, name):
    path = tmp_path / name
    texts = [text for text in TEXTS if "\n" not in text]
    with open(path, "w", newline="", encoding="utf-8") as file:
        delimiter = "," if name.endswith("csv") else "\t"
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerows([[text] for text in ["text", *texts]])
    assert read_table(path, label=None).texts == texts


@pytest.mark.parametrize(
    "rows",
    [
        'open "quote\t0\n',
        '"open\t0\nclose"\t1\n',
        '"whole"\t0\n',
        '"doubled ""once"""\t0\nand " alone\t1\n',
        '""\t0\n',
        '"a" and "b"\t0\n',
        '"a ""b""" c\t0\n',
        'x\t"0\ny\t1\n',
    ],
)
def test_quotes_in_a_tsv_that_are_text(tmp_path, rows):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + rows)
    expected = [tuple(row.split("\t")) for row in rows.split("\n")[:-1]]
    examples = read_table(path)
    assert list(zip(examples.texts, examples.labels, strict=True)) == expected


def test_a_given_quoting_is_used(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"say ""hi"""\t0\n')
    assert read_table(path).texts == ['say "hi"']
    assert read_table(path, quoting=False).texts == ['"say ""hi"""']


def test_a_quote_after_the_part_that_is_read_ahead(tmp_path):
    """A quote far into the file is detected; a single quote after it is part of the text."""
    path = tmp_path / "a.tsv"
    plain = "word " * 20
    rows = [f"{plain}\t0\n"] * 15_000
    path.write_text("".join(["text\tlabel\n", *rows, '"a\tb"\t1\n', *rows, 'c "d\t0\n']))
    texts = read_table(path).texts
    assert (texts[15_000], texts[-1], len(texts)) == ("a\tb", 'c "d', 30_002)


@pytest.mark.parametrize(("delimiter", "name"), [(";", "a.csv"), ("|", "a.csv"), ("\t", "a.csv"),
                                                 (",", "a.tsv"), (";", "a.tsv")])  # fmt: skip
def test_another_delimiter_is_detected_and_logged(tmp_path, logged, delimiter, name):
    path = tmp_path / name
    path.write_text('text,label\n"a; b",x\n'.replace(",", delimiter))
    usual = "," if name.endswith("csv") else "\t"
    examples, messages = logged(read_table, path, quoting=True)
    assert (examples.texts, examples.labels) == (["a; b"], ["x"])
    assert messages == [f"{path}: fields are separated by {delimiter!r}, not by {usual!r}"]
    # Also where there is no header, by the number of columns.
    path.write_text('"a; b",x\n'.replace(",", delimiter))
    examples, messages = logged(read_table, path, quoting=True, columns=["text", "label"])
    assert (examples.texts, len(messages)) == (["a; b"], 1)
    # A given delimiter is not replaced.
    path.write_text("text;label,more\na;x,\n")
    with pytest.raises(DataError, match="expected a column 'text', found 'text;label', 'more'"):
        read_table(path, delimiter=",")


def test_the_line_of_excel(tmp_path, logged):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffsep=;\r\n Text ; label;\r\na,b;x;\r\n;;\r\n ; ;\r\n".encode())
    examples, messages = logged(read_table, path, text="Text")
    assert (examples.texts, examples.labels, examples.rows) == (["a,b"], ["x"], [3])
    assert messages == [
        f"{path}: skipped 1 column without a name and 2 rows of empty cells, the first on line 4"
    ]


def test_delimiters_at_the_ends_of_lines(tmp_path):
    path = tmp_path / "a.csv"
    for content in (
        "text,label,\na,x\nb,y,\n",
        "text,label\na,x,,\nb,y,,\n",
        "text,label,,\na,x,,\nb,y,,\n",
    ):
        path.write_text(content)
        examples = read_table(path)
        assert (examples.texts, examples.labels) == (["a", "b"], ["x", "y"]), content
    # In these rows, the text has a comma and the label is missing, or fields are extra.
    for content in ("text,label\na,x\nHello, world,\n", "text,label\na,x,\nb,y,,\n",
                    "text,label\na,x,z\n"):  # fmt: skip
        path.write_text(content)
        with pytest.raises(DataError, match="expected 2 columns as in the header, received "):
            read_table(path)


def test_a_row_with_an_empty_text_is_not_empty(tmp_path, logged):
    path = tmp_path / "a.csv"
    path.write_text(",text\n0,a\n1,\n,\n")
    examples, messages = logged(read_table, path, label=None)
    assert examples.texts == ["a", ""]
    assert any("1 row of empty cells, the first on line 4" in message for message in messages)
    # A column without a name has the name that pandas gives it.
    path.write_text("Unnamed: 0,label\na,x\n")
    assert read_table(path, text="Unnamed: 0").texts == ["a"]


def test_only_columns_without_a_name_may_repeat(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",,text,label\n1,2,a,x\n")
    assert read_table(path).texts == ["a"]
    path.write_text("n,n,text,label\n1,2,a,x\n")
    with pytest.raises(DataError, match=re.escape("these repeat: 'n'")):
        read_table(path)

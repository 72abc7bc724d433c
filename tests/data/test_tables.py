"""read_table: the files it reads, and its messages for invalid files."""

import gzip
import io
import json
import logging
import re
from pathlib import Path

import pytest

from keras_bert_zoo.data.tables import read_table, read_table_in_parts
from keras_bert_zoo.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        data = content.encode("utf-8") if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def fails(match: str, *args, kind=DataError, **options) -> None:
    """Asserts that the message is one line and contains `match`."""
    with pytest.raises(kind, match=re.escape(match)) as caught:
        read_table(*args, **options)
    assert "\n" not in str(caught.value)


def test_csv_with_quotes_commas_and_line_ends(write):
    path = write("a.csv", 'text,label\n"one, two",x\n"line\nbreak ""q""",y\r\nlast,x')
    examples = read_table(path)
    assert examples.texts == ["one, two", 'line\nbreak "q"', "last"]
    assert examples.labels == ["x", "y", "x"]
    assert examples.rows == [2, 3, 5]
    assert examples.path == str(path)
    assert examples.where(2) == f"{path}:5"
    assert examples.text_pairs is None


@pytest.mark.parametrize("name", ["a.csv", "a.CSV.GZ", "a.csv.gz"])
def test_gzip_is_detected_from_the_name(tmp_path, name):
    path = tmp_path / name
    content = b"text,label\nhi,x\n"
    path.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    assert read_table(path).texts == ["hi"]


def test_quotes_in_tsv_are_text(write):
    path = write("a.tsv", 'a\tb\tlabel\n"open\tpair "\t0\n')
    examples = read_table(path, text="a", text_pair="b")
    assert (examples.texts, examples.text_pairs) == (['"open'], ['pair "'])


def test_tsv_quoting_on_request(write):
    path = write("a.tsv", 'text\tlabel\n"tab\there"\t0\n')
    assert read_table(path, quoting=True).texts == ["tab\there"]


def test_jsonl_reads_strings_integers_and_booleans_as_labels(write):
    lines = [{"text": "é\u2028x", "label": "a"}, {"label": 3, "text": ""}]
    content = "\n\n".join(json.dumps(line) for line in lines) + '\n{"text":"z","label":true}'
    examples = read_table(write("a.jsonl", content))
    assert examples.texts == ["é\u2028x", "", "z"]
    assert examples.labels == ["a", "3", "true"]
    assert examples.rows == [1, 3, 4]


def test_byte_order_mark_and_other_encodings(write):
    table = "text,label\nüñ,x\n"
    assert read_table(write("a.csv", "\ufeff" + table)).texts == ["üñ"]
    for encoding in ("latin-1", "utf-16", "utf-8-sig", "utf-16-le", "gb18030"):
        path = write("b.csv", table.encode(encoding))
        assert read_table(path, encoding=encoding).texts == ["üñ"]


def test_files_without_a_header_get_their_columns_named(write):
    path = write("a.tsv", "good\t1,3\tx9\n\tbad\n")
    options = {"columns": ["text", "ids", "key"], "label": "ids", "label_kind": "multi"}
    fails(f"{path}:2: expected 3 columns as named, received 2", path, **options)
    path.write_text("good\t1,3\tx9\n\t7\tx8\n")
    examples = read_table(path, **options)
    assert (examples.texts, examples.labels, examples.rows) == (
        ["good", ""], [["1", "3"], ["7"]], [1, 2],
    )  # fmt: skip
    fails(f"{path}: expected a column 'label', found 'text', 'ids'", path, columns=["text", "ids"])


def test_multi_labels(write):
    table = write("a.csv", "text,label\nx,b|a| b\ny,\n")
    examples = read_table(table, label_kind="multi", label_separator="|")
    assert examples.labels == [["b", "a"], []]
    lines = write("a.jsonl", '{"text":"x","label":["b",1]}\n{"text":"y","label":"a,c"}\n')
    assert read_table(lines, label_kind="multi").labels == [["b", "1"], ["a", "c"]]


def test_float_labels(write):
    path = write("a.csv", "text,label\nx, 1.5 \ny,-2e3\n")
    assert read_table(path, label_kind="float").labels == [1.5, -2000.0]


def test_no_labels_for_prediction(write):
    assert read_table(write("a.csv", "id,text\n1,hi\n"), label=None).labels is None


def test_blank_lines(write):
    assert read_table(write("a.csv", "\ntext,label\n\na,x\n\n")).rows == [4]
    one_column = read_table(write("a.tsv", "text\na\n\nb\n"), label=None)
    assert (one_column.texts, one_column.rows) == (["a", "", "b"], [2, 3, 4])


def test_empty_texts_are_kept_and_reported_once(write, caplog):
    path = write("a.csv", 'text,label\n,x\nb,y\n"  ",y\n')
    with caplog.at_level(logging.WARNING, logger="keras_bert_zoo"):
        assert read_table(path).texts == ["", "b", "  "]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{path}: 2 empty texts, the first on line 2"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_text_of_a_megabyte(write, name):
    text = "word " * 200_000
    lines = {
        "a.csv": f'text,label\n"{text}",x\n',
        "a.tsv": f"text\tlabel\n{text}\tx\n",
        "a.jsonl": json.dumps({"text": text, "label": "x"}),
    }
    assert read_table(write(name, lines[name])).texts == [text]


def test_a_stream_needs_a_format_and_stays_open():
    stream = io.BytesIO(b"text\thi\nyou\tx\n")
    fails("<stream>: expected a name that ends in one of", stream, kind=ConfigError)
    examples = read_table(stream, format="tsv", label=None)
    assert (examples.texts, examples.path) == (["you"], "<stream>")
    assert not stream.closed


def test_missing_column_lists_the_columns_and_the_closest(write):
    path = write("a.csv", "Text,category\na,x\n")
    fails(
        f"{path}:1: expected a column 'text', found 'Text', 'category'; did you mean 'Text'?",
        path,
        label="category",
    )
    fails("expected a column 'zzz', found 'Text', 'category'", path, text="zzz")
    headless = write("b.tsv", "q" * 99 + "\t1\n")
    fails(
        f"{headless}:1: expected a column 'text', found '{'q' * 57}...', '1'; if this is no header "
        "but a row, name the columns",
        headless,
    )
    lines = write("a.jsonl", '{"text":"a","label":"x"}\n{"text":"a","labels":"x"}\n')
    fails(":2: expected a column 'label', found 'text', 'labels'; did you mean 'labels'?", lines)


def test_repeated_columns(write):
    path = write("a.csv", "text,label,text\na,x,b\n")
    fails(":1: expected each column name once, but these repeat: 'text'", path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
def test_empty_file(write, name):
    path = write(name, "")
    fails(f"{path}: expected at least one row, but the file is empty", path)


def test_header_only(write):
    path = write("a.csv", "text,label\n")
    fails(f"{path}: expected at least one row, but the file has a header and no rows", path)


def test_wrong_number_of_columns(write):
    path = write("a.csv", 'text,label\n"a\nb",x\nc,d,e\n')
    fails(
        f"{path}:4: expected 2 columns as in the header, received 3; check for an unquoted ','",
        path,
    )
    fails(":2: expected 2 columns as in the header, received 1", write("a.tsv", "text\tlabel\na\n"))


def test_a_quote_that_is_never_closed_names_its_line(write):
    path = write("a.csv", 'text,label\na,x\n"b,y\nc,x\n')
    fails(f"{path}:3: not valid CSV: the quote that opens in this row is never closed", path)


def test_stray_carriage_return(write):
    path = write("a.csv", "text,label\na\rb,x\n")
    fails(":2: not valid CSV: an unquoted field holds a carriage return", path)
    assert read_table(write("a.tsv", "text\tlabel\na\rb\tx\r\n")).texts == ["a\rb"]


def test_invalid_utf8_names_line_and_byte(write):
    for name, lead in (("a.csv", b"text,label\nok,x\nab"), ("a.jsonl", b'\n\n{"')):
        path = write(name, lead + b"\xe9t\xe9,x\n")
        fails(f"{path}:3: byte 0xe9 at byte 3 of the line is not valid utf-8; re-save", path)
    utf16 = write("b.csv", "text,label\na,x\n".encode("utf-16"))
    fails(":1: byte 0xff at byte 1 of the line is not valid utf-8; the file looks like", utf16)
    fails("not valid utf-16", write("c.csv", b"a"), encoding="utf-16")


def test_nul(write):
    path = write("a.csv", "text,label\na\0b,x\n")
    fails(f"{path}:2: expected text, received NUL at character 2; if", path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label": }', "not valid JSON: Expecting value at character 24"),
        (
            '["a"]',
            "expected a JSON object on each line, received a list; write each element of the",
        ),
        ("[\n{}\n]", "not valid JSON: Expecting value at character 3; write each element of the"),
        ("3", "expected a JSON object on each line, received the number 3"),
        ('{"text": null, "label": "x"}', "expected 'text' to be a string, received null"),
        ('{"text": 5, "label": "x"}', "expected 'text' to be a string, received the number 5"),
        ('{"text": "a", "label": null}', "expected a label in 'label', but it is empty"),
        ('{"text": "a", "label": 1.5}', "to be a string or an integer, received the number 1.5"),
        ('{"text": "a", "label": ["x"]}', "to be a string or an integer, received a list"),
        ('{"text": "\\ud83d", "label": "x"}', "characters in 'text', received half of a s"),
        ("[" * 100_000, "not valid JSON: "),
    ],
)
def test_broken_json_lines(write, line, message):
    path = write("a.jsonl", '{"text": "a", "label": "x"}\n' + line + "\n")
    fails(f"{path}:2: ", path)
    fails(message, path)


def test_whole_surrogate_pairs_are_characters(write):
    path = write("a.jsonl", '{"text": "\\ud83d\\ude00", "label": "x"}')
    assert read_table(path).texts == ["\U0001f600"]


def test_missing_labels(write):
    path = write("a.csv", "text,label\na,x\nb, \n")
    fails(f"{path}:3: expected a label in 'label', but it is empty", path)
    fails(f"{path}:2: expected a number in 'label', received 'x'", path, label_kind="float")
    lines = write("a.jsonl", '{"text":"a","label":null}')
    fails(":1: expected 'label' to be a list, received null", lines, label_kind="multi")
    fails(":1: expected a number in 'label', but it is empty", lines, label_kind="float")


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity"])
def test_numbers_that_are_not_finite(write, value):
    path = write("a.csv", f"text,label\na,{value}\n")
    fails(f"{path}:2: expected a finite number in 'label', received ", path, label_kind="float")


def test_unreadable_paths(write, tmp_path):
    missing = tmp_path / "none.csv"
    fails(f"{missing}: there is no such file", missing)
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    fails(f"{folder}: expected a file, but this is a directory", folder)
    fails(f"{tmp_path}: expected a file, but this is a directory", tmp_path)  # without an ending
    plain = tmp_path / "plain.csv.gz"
    plain.write_bytes(b"text,label\na,x\n")
    fails(f"{plain}: cannot decompress after line 0: Not a gzipped file", plain)
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"text,label\n" + b"abc,x\n" * 9)[:-9])
    fails(f"{cut}: cannot decompress after line ", cut)


def test_options_are_checked(write):
    path = write("a.txt", "text,label\na,x\n")
    fails("expected a name that ends in one of .csv", path, kind=ConfigError)
    for option, message in [
        ({"format": "xml"}, "expected `format` to be one of csv, tsv, jsonl, text, received 'xml'"),
        (
            {"format": "csv", "delimiter": "||"},
            "expected `delimiter` to be one character, received '||'",
        ),
        ({"format": "csv", "label_kind": "many"}, "expected `label_kind` to be one of"),
        (
            {"format": "csv", "encoding": "utf-99"},
            "expected `encoding` to be the name of a text encoding",
        ),
        (
            {"format": "jsonl", "delimiter": ","},
            "expected CSV or TSV for `delimiter`, received JSON Lines",
        ),
        (
            {"format": "csv", "label_kind": "multi", "label_separator": ""},
            "expected `label_separator` to be at least one character",
        ),
    ]:
        fails(message, path, kind=ConfigError, **option)
    assert read_table(write("b.txt", "text;label\na;x\n"), format="csv", delimiter=";").texts


def test_the_bundled_banking77(repository):
    folder = repository / "tools" / "data" / "banking77"
    for name, count in (("train.csv.gz", 10_003), ("test.csv.gz", 3_080)):
        examples = read_table(folder / name, label="category")
        assert len(examples) == count
        assert len(set(examples.labels)) == 77


def test_plain_text_is_one_text_a_line(write):
    path = write("a.txt", b'\xef\xbb\xbfone\r\n\n  two, "three"\nlast')
    examples = read_table(path, format="text", label=None)
    assert examples.texts == ["one", "", '  two, "three"', "last"]
    assert examples.rows == [1, 2, 3, 4]
    fails(
        "expected a table with a column 'label', received plain text",
        path,
        format="text",
        kind=ConfigError,
    )
    fails(
        "expected CSV or TSV for `delimiter`, received plain text",
        path,
        format="text",
        label=None,
        delimiter=",",
        kind=ConfigError,
    )


def test_invalid_bytes_can_be_replaced(write):
    path = write("a.txt", b"ok\nbad \xff byte\n")
    fails(f"{path}:2: byte 0xff at byte 5 of the line", path, format="text", label=None)
    (part,) = read_table_in_parts(path, format="text", label=None, replace_invalid=True)
    assert part.texts == ["ok", "bad \ufffd byte"]


@pytest.mark.parametrize("rows_at_once", [1, 3, 4, 10, None])
def test_parts_together_are_the_table(write, rows_at_once):
    path = write("a.csv", "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(4)))
    whole = read_table(path)
    parts = list(read_table_in_parts(path, rows_at_once=rows_at_once))
    assert max(len(part) for part in parts) == min(rows_at_once or 4, 4)
    for name in ("texts", "labels", "rows"):
        assert [x for part in parts for x in getattr(part, name)] == getattr(whole, name)


def test_parts_are_bounded_by_characters_and_read_on_demand(write):
    path = write("a.csv", "text\naaaa\nbbbb\ncc\ndd\n" + '"never closed')
    parts = read_table_in_parts(path, label=None, characters_at_once=5)
    assert next(parts).texts == ["aaaa", "bbbb"]
    with pytest.raises(DataError, match="never closed"):
        list(parts)


def test_empty_texts_of_all_parts_are_logged_once(write, caplog):
    path = write("a.csv", "text,label\na,x\n,x\n,y\n")
    with caplog.at_level(logging.WARNING):
        assert len(list(read_table_in_parts(path, rows_at_once=1))) == 3
    assert [record.message for record in caplog.records] == [
        f"{path}: 2 empty texts, the first on line 3"
    ]

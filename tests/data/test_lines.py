"""Limits of files: long lines, unclosed rows, wide headers, gzipped bombs."""

import gzip
import json
import re
import time
import tracemalloc

import pytest

from keras_bert_zoo.data import lines, quoting, streams
from keras_bert_zoo.data.lines import LINE_BYTES
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import DataError


@pytest.fixture
def small(monkeypatch):
    """Small limits, so that tests need no large files."""
    for module in (lines, quoting):
        monkeypatch.setattr(module, "LINE_BYTES", 1000)
    monkeypatch.setattr(streams, "_BOMB_BYTES", 10_000)


def refused(path, message, **options):
    begin = time.process_time()
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_table(path, **options)
    assert time.process_time() - begin < 5
    assert len(str(caught.value)) < 5000
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "said", "listed"),
    [
        ("text," * 32_000 + "text", "expected each column name once", "these repeat: 'text'"),
        (
            ",".join(map(str, range(50_000))),
            "expected a column 'text', found '0', '1', ",
            "'29', and 49,970 more",
        ),
    ],
)
def test_wide_headers(tmp_path, header, said, listed):
    """Both took minutes."""
    path = tmp_path / "a.csv"
    path.write_text(header + "\n")
    assert listed in refused(path, said)
    path.write_text(f"text,label,{header.replace('text', '')}\na,x{',' * header.count(',')},\n")
    assert read_table(path).texts == ["a"]


def test_many_repeated_names_are_not_all_listed(tmp_path):
    path = tmp_path / "a.csv"
    names = ",".join(f"a{index}" for index in range(2000))
    path.write_text(f"{names},{names}\n")
    assert refused(path, "these repeat: ").endswith("and 1,970 more")


def test_the_limit_is_beyond_any_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "x" * 6_000_000 + ",a\n")
    assert len(read_table(path).texts[0]) == 6_000_000
    assert LINE_BYTES == 16_777_216


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_long_lines(small, tmp_path, name, encoding):
    path = tmp_path / name
    content = ("text,label\n" + "x" * 2000 + "\n").encode(encoding)
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    if name == "a.csv" or name.endswith("gz"):
        refused(
            path,
            f"{path}:2: expected a line of at most 1,000 bytes, received a longer one",
            encoding=encoding,
        )
    if not name.endswith("gz"):
        path.write_text("y" * 2000)
        refused(path, f"{path}:1: expected a line of at most")


def test_memory_does_not_grow_with_a_line(tmp_path):
    """A line of 225 MB took 2.4 GB."""
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"text,label\n")
        for _ in range(60):
            file.write(b"x" * 1_000_000)
    tracemalloc.start()
    try:
        refused(path, f"{path}:2: expected a line of at most 16,777,216 bytes")
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_an_unclosed_quote_does_not_read_the_whole_file(small, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\na,x\n"b\n' + "c,x\n" * 2000)
    refused(path, f"{path}:3: expected a row of at most 1,000 characters, "
"received a longer one; check "
            "for a quote that is never closed")  # fmt: skip


def test_a_gzipped_bomb(small, tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"aaaa,x\n" * 100_000))
    assert path.stat().st_size * 200 < 700_000
    refused(path, "bytes that unpack to more than 200 times their size")
    path.write_bytes(gzip.compress(b"text,label\n" + b"aaaa,x\n" * 1000))
    assert len(read_table(path)) == 1000


def test_json_of_many_lists(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": [' + "[]," * 1_100_000 + "[]]}\n")
    refused(path, f"{path}:1: expected at most 1,000,000 lists and objects, received more")
    path.write_text(json.dumps({f"k{i}": i for i in range(50_000)}) + "\n")
    assert "and 49,970 more" in refused(path, "expected a column 'text', found 'k0'")


def test_utf16_lines_end_at_line_feeds(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes("text\tlabel\na\rb\tx\r\nc\u2028d\ty\n".encode("utf-16"))
    examples = read_table(path, encoding="utf-16")
    assert (examples.texts, examples.rows) == (["a\rb", "c\u2028d"], [2, 3])
    path.write_bytes("text\tlabel\na\tx\n".encode("utf-16")[:-1])
    refused(path, f"{path}:2: not valid utf-16: truncated data", encoding="utf-16")

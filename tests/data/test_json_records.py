"""Objects of JSON files in any encoding, read in pieces, and files that would fill the memory."""

import gzip
import io
import json
import tracemalloc

import pytest

from keras_bert_zoo.data import json_records as module
from keras_bert_zoo.data.entity_files import read_entities
from keras_bert_zoo.data.json_records import json_records
from keras_bert_zoo.data.squad import read_squad
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import ConfigError, DataError

RECORDS = [{"text": "é 北"}, {"text": 'a "[{\\'}, {}, {"n": [1, {"m": None}]}]


def refused(data, **options):
    with pytest.raises(DataError) as caught:
        list(json_records(io.BytesIO(data), **options))
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("piece", [7, 1 << 18])
def test_every_encoding_and_piece(monkeypatch, encoding, piece):
    monkeypatch.setattr("keras_bert_zoo.data.lines._PIECE_CHARACTERS", piece)
    monkeypatch.setattr(module, "_PIECE_CHARACTERS", piece)
    lines = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
    for text, rows in (
        (lines, [1, 3, 5, 7]),
        ("\n [\n" + json.dumps(RECORDS, indent=0, ensure_ascii=False)[1:] + "\n", [4, 7, 10, 11]),
        (json.dumps(RECORDS), [1, 1, 1, 1]),
    ):
        result = list(json_records(io.BytesIO(text.encode(encoding)), encoding=encoding))
        assert [record for _, record in result] == RECORDS
        assert [row for row, _ in result] == rows


@pytest.mark.parametrize("encoding", ["rot13", "hex", "idna", "nonsense", "utf\0", None])
def test_unknown_encodings_are_refused(encoding):
    for data in (b"[{}]", b"{}"):
        with pytest.raises(ConfigError, match="expected `encoding` to be the name of a text enc"):
            list(json_records(io.BytesIO(data), encoding=encoding))


def test_bytes_of_another_encoding_are_refused_with_the_line():
    data = '[\n{"text": "é"}]'.encode("latin-1")
    assert refused(data).startswith("-:2: not valid utf-8: ")
    assert refused("[{}]".encode("utf-16")).endswith("give `encoding=utf-16`")
    assert "not valid utf-16" in refused(b"[{}] ", encoding="utf-16")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[", "-:1: not valid JSON: Expecting value"),
        (b"[{},\n]", "-:2: not valid JSON: Expecting value"),
        (b'[{},\n{"a" 1}]', "-:2: not valid JSON: Expecting ':' delimiter"),
        (b"[{}\n{}]", "-:2: not valid JSON: expected a comma or a closing bracket"),
        (b"[{}", "-:1: not valid JSON: expected a comma or a closing bracket"),
        (b"[{}] {}", "-: not valid JSON: expected nothing after the list"),
        (b"[{},\n1]", "-:2: expected a list of objects, received 1 in it"),
        (b"{}\n1", "-:2: expected a JSON object on each line, received 1"),
        (b'{}\n{"a": ' + b"9" * 5000 + b"}", "-:2: not valid JSON: Exceeds the limit"),
        (b'[\n{"a": ' + b"9" * 5000 + b"}]", "-:2: not valid JSON: Exceeds the limit"),
        (b"[" + b'{"a":' * 100_000, "-:1: not valid JSON: maximum recursion depth"),
    ],
)
def test_invalid_json_is_refused(data, message):
    assert refused(data).startswith(message)


def test_a_path_with_a_nul():
    for read in (lambda path: list(json_records(path)), read_table):
        with pytest.raises(DataError, match="cannot read: embedded null byte"):
            read("a\0b.csv")


def test_tokens_of_a_later_record_that_are_not_strings(tmp_path):
    path = tmp_path / "a.jsonl"
    for token, shown in ((5, "5"), (None, "null"), (["a"], '["a"]')):
        rows = [{"tokens": [one, "b"], "ner_tags": ["O", "O"]} for one in ("a", token)]
        path.write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(DataError) as caught:
            read_entities(path)
        assert str(caught.value) == (
            f"{path}:2: expected 'tokens' to be a list of strings, received {shown} in it"
        )


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": [' + b"[]," * 1_100_000 + b"[]]}",
        b'[{"a": [' + b"[]," * 1_100_000 + b"[]]}]",
        b'{"a": "' + b"x" * 20_000_000 + b'"}',
        b'[{"a": "' + b"x" * 40_000_000 + b'"}]',
        b"[" + b" " * 20_000_000 + '"é"'.encode(),
    ],
    ids=["line", "list", "long line", "long record", "space"],
)
def test_memory_is_bounded(data):
    """A bracket may take sixty bytes; one wide character makes all others four times as wide."""
    stream = io.BytesIO(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected "):
            for _ in json_records(stream):
                pass
        assert tracemalloc.get_traced_memory()[1] < 130_000_000
    finally:
        tracemalloc.stop()


def test_a_file_of_brackets_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_FILE_CONTAINER_LIMIT", 1000)
    for separator in (b",", b"\n"):
        data = separator.join([b"{}"] * 1001)
        message = refused(b"[" + data + b"]" if separator == b"," else data)
        assert "expected at most 1,000 lists and objects up to here, received more" in message
        data = separator.join([b'{"text": "as long as others"}'] * 2000)
        data = b"[" + data + b"]" if separator == b"," else data
        assert len(list(json_records(io.BytesIO(data)))) == 2000


@pytest.mark.parametrize("read", [read_squad, read_entities, read_table])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_small_file_that_unpacks_to_a_large_one(tmp_path, read, encoding):
    suffix = ".csv.gz" if read is read_table else ".json.gz"
    path = tmp_path / f"a{suffix}"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(80):
            file.write((" " * 500_000).encode(encoding) * (2 if encoding == "utf-8" else 1))
    tracemalloc.start()
    try:
        options = {} if read is read_squad else {"encoding": encoding}
        with pytest.raises(DataError, match="unpack to more than 200 times|expected a line of at"):
            read(path, **options)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()

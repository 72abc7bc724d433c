"""Reading of corpora: files and patterns, documents, compression, errors, memory."""

import gzip
import json
import re
import tracemalloc

import pytest
import zstandard

from keras_bert_zoo import extras
from keras_bert_zoo.data import lines, streams
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining import corpus
from keras_bert_zoo.pretraining.corpus import corpus_files, read_documents

TEXT = "\ufeffOne.\r\nTwo 二.\r\n \t\r\n\r\nThree.\n\u3000\nFour. \n"
BY_BLANK_LINE = [["One.", "Two 二."], ["Three."], ["Four. "]]

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def write(path, content, encoding="utf-8"):
    path.write_bytes(PACK[path.suffix if path.suffix in PACK else ""](content.encode(encoding)))
    return path


def refused(path, message, error=DataError, **options):
    with pytest.raises(error, match=re.escape(message)):
        list(read_documents(path, **options))


@pytest.mark.parametrize("suffix", PACK)
def test_documents_of_plain_text(tmp_path, suffix):
    path = write(tmp_path / f"a.txt{suffix}", TEXT)
    assert list(read_documents(path)) == BY_BLANK_LINE
    lines = [line for document in BY_BLANK_LINE for line in document]
    assert list(read_documents(path, documents="line")) == [[line] for line in lines]
    assert list(read_documents(corpus_files([path])[0], documents="file")) == [lines]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "gb18030", "utf-8-sig"])
def test_encodings(tmp_path, encoding):
    path = write(tmp_path / "a.txt", TEXT.removeprefix("\ufeff"), encoding)
    assert list(read_documents(path, encoding=encoding)) == BY_BLANK_LINE


@pytest.mark.parametrize("block", [1, 2, 7, 64])
@pytest.mark.parametrize("suffix", PACK)
def test_blocks_do_not_change_the_documents(tmp_path, monkeypatch, block, suffix):
    monkeypatch.setattr(lines, "_BLOCK_BYTES", block)
    monkeypatch.setattr(streams, "_ZST_PIECE_BYTES", block)
    path = write(tmp_path / f"a{suffix}", TEXT)
    assert list(read_documents(path)) == BY_BLANK_LINE
    assert list(read_documents(write(tmp_path / "b", "end"))) == [["end"]]
    assert list(read_documents(write(tmp_path / "b", ""), documents="file")) == []
    wide = write(tmp_path / "b", TEXT.removeprefix("\ufeff"), "utf-16")
    assert list(read_documents(wide, encoding="utf-16")) == BY_BLANK_LINE


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("form", ["lines", "list"])
def test_json(tmp_path, suffix, form):
    records = [{"text": "a\r\nb\n\nc", "n": 1}, {"text": " "}, {"text": "二"}]
    content = json.dumps(records) if form == "list" else "\n".join(map(json.dumps, records))
    path = write(tmp_path / f"a.jsonl{suffix}", content)
    # A blank line in an object does not end its document.
    assert list(read_documents(path, documents="line")) == [["a", "b", "c"], ["二"]]
    refused(path, f"{path}:1: expected an object with the key 'body', received 'text', 'n'; give",
            field="body")  # fmt: skip
    refused(path, f"{path}:1: expected 'n' to be a text, received 1", field="n")


def test_errors_name_file_and_line(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\n" * 300_000 + b"x \xff\n")  # beyond the first block
    refused(path, f"{path}:300001: byte 0xff at byte 3 of the line is not valid utf-8")
    path.write_bytes(b"good\na\0b\n")
    refused(path, f"{path}:2: expected text, received NUL at character 2")
    path.write_bytes("\ufeffgood\n".encode("utf-16-le"))
    refused(path, f"{path}:1: byte 0xff at byte 1 of the line is not valid utf-8; the file looks")
    path.write_bytes(b"+2AA-\n")
    refused(path, f"{path}:1: not valid utf-7: ", encoding="utf-7")
    refused(path, "expected `encoding` to be the name", ConfigError, encoding="none")
    refused(path, "expected `documents` to be one of blank-line, file, line, received 'page'",
            ConfigError, documents="page")  # fmt: skip
    refused(tmp_path / "none", "there is no such file")
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "\\ud800"}\n')
    refused(path, f"{path}:2: expected characters in 'text', received half of a surrogate pair")
    monkeypatch.setattr(lines, "LINE_BYTES", 1000)
    path = write(tmp_path / "long.txt", "good\n" + "x" * 2000 + "\n")
    refused(path, f"{path}:2: expected a line of at most 1,000 bytes")
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 100)
    refused(path, f"{path}:2: expected a line of at most 1,000 bytes")


def test_damaged_compressed_files(tmp_path, monkeypatch):
    text = ("All work and no play makes Jack a dull boy.\n" * 100).encode()
    path = tmp_path / "a.txt.zst"
    frames = zstandard.compress(text) + zstandard.compress(b"end\n")
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    path.write_bytes(frames[:0] + skippable + frames)
    assert len(next(iter(read_documents(path, documents="file")))) == 101
    path.write_bytes(frames[:-3])
    refused(path, f"{path}: cannot decompress after line 0: the file ends in the middle of a frame")
    path.write_bytes(text)
    refused(path, "the file is truncated, damaged, or not compressed with Zstandard")
    (tmp_path / "a.txt").write_bytes(frames)
    refused(tmp_path / "a.txt", "give it a name that ends in .zst")
    monkeypatch.setattr(streams, "_BOMB_BYTES", 10_000)
    path.write_bytes(zstandard.compress(b"\n" * 1_000_000))
    refused(path, "that unpack to more than 200 times their size")


def test_a_missing_package_is_an_error(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zst", "text")
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    refused(path, "Expected the package zstandard for reading", ConfigError)


def test_long_documents_are_split_after_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "DOCUMENT_CHARACTERS", 10)
    path = write(tmp_path / "a.txt", "12345\n6789\n01\nab\n\nc\n")
    assert list(read_documents(path)) == [["12345", "6789", "01"], ["ab"], ["c"]]
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "12345\n\n67890\n12"}))
    assert list(read_documents(path)) == [["12345", "67890"], ["12"]]


@pytest.mark.parametrize("suffix", PACK)
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(corpus, "DOCUMENT_CHARACTERS", 100_000)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 100_000)

    def peak(path):
        tracemalloc.start()
        count = sum(len(document) for document in read_documents(path))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, size

    # Different lines, because a repeated one looks like a decompression bomb.
    rows = [f"line {number * 7919 % 104729} of this text\n" for number in range(100_000)]
    small = peak(write(tmp_path / f"small{suffix}", "".join(rows[:20_000])))
    large = peak(write(tmp_path / f"large{suffix}", "".join(rows)))
    assert (small[0], large[0]) == (20_000, 100_000)
    assert large[1] < 1.2 * small[1]


def test_corpus_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a/c.txt", "a/d.md", "a/.hidden.txt", "[x].txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("12")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "link.txt").symlink_to("b.txt")
    found = corpus_files(["**/*.txt", "b.txt", tmp_path / "a" / "d.md"])
    names = [str(file.path) for file in found]
    # An absolute name sorts before relative ones.
    expected = [f"{tmp_path}/a/d.md", "[x].txt", "a/c.txt", "b.txt"]
    assert names == expected
    assert {file.bytes for file in found} == {2}
    assert [str(file.path) for file in corpus_files("[x].txt")] == ["[x].txt"]
    for pattern, message in {
        "a": "a: expected a file or a pattern, but this is a folder; give a pattern such as a/**",
        "none.txt": "none.txt: there is no such file",
        "*.csv": "*.csv: expected a pattern of file names, but it matches no file",
        "/dev/null": "/dev/null: expected a regular file",
    }.items():
        with pytest.raises(DataError, match=re.escape(message)):
            corpus_files(["b.txt", pattern])
    with pytest.raises(ConfigError, match="expected at least one file name"):
        corpus_files([])

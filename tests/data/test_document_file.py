"""The file of a collection's documents, also as others may damage it."""

import os
import resource
import time
import tracemalloc

import pytest

from keras_bert_zoo.data.document_file import DOCUMENTS_FILE, read_documents, write_documents
from keras_bert_zoo.errors import CheckpointError


def test_what_is_no_file_is_not_waited_for(tmp_path):
    path = tmp_path / DOCUMENTS_FILE
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="it is not a regular file"):
        read_documents(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="No such file"):
        read_documents(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match="not a regular file|Is a directory"):
        read_documents(tmp_path)


def test_documents_are_read_as_they_were_written(tmp_path):
    documents = [b"", b'a "b" \\ [{', "\u2028 é \U0001f600".encode(), b"\xff\x00", b"[" * 30_000]
    # Lines around the length at which a line's begin is cut.
    documents += [b"x" * length for length in range(4080, 4100)]
    write_documents(tmp_path, documents)
    assert read_documents(tmp_path) == documents
    (tmp_path / DOCUMENTS_FILE).write_text('{"id": 1, "text": "b"}\r\n{ "text":"c" } ')
    assert read_documents(tmp_path) == [b"b", b"c"]


@pytest.mark.parametrize(
    "line",
    ["", "[]", '"a"', "{}", '{"text": 1}', '{"text": null}', '{"text": ["a"]}', '{"text": "a"',
     '{"text": "\\ud800"}', '{"text": "a\nb"}', "[" * 100_000, '{"text": {"text": "a"}}', "\xff",
     '{"text": "a"} {"text": "b"}', '{"a": ' + "[]," * 20_000, '{"text": "\\x"}'],
)  # fmt: skip
def test_lines_of_another_form_are_refused(tmp_path, line):
    contents = b'{"text": "a"}\n' + line.encode("latin-1") + b"\n"
    (tmp_path / DOCUMENTS_FILE).write_bytes(contents)
    with pytest.raises(CheckpointError, match=rf"{DOCUMENTS_FILE}:2: expected"):
        read_documents(tmp_path)


def test_a_large_file_of_another_kind_is_not_read(tmp_path):
    """3 GB without a line end took 1 GB."""
    with open(tmp_path / DOCUMENTS_FILE, "wb") as file:
        file.truncate(3_000_000_000)  # a hole
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=":1: expected"):
            read_documents(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_line_of_lists_takes_no_memory(tmp_path):
    """90 MB of `[],` made 2.2 GB of lists."""
    with open(tmp_path / DOCUMENTS_FILE, "wb") as file:
        file.write(b'{"text": [' + b"[]," * 10_000_000 + b"[]]}\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(CheckpointError, match=":1: expected"):
        read_documents(tmp_path)
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB

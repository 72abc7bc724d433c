"""Readers of a tokenizer directory check strictly, limit sizes, and never block."""

import json
import os

import pytest

from keras_bert_zoo import files
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import vocabulary_files
from keras_bert_zoo.text.byte_bpe import files as byte_bpe_files
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.sentencepiece import model as sentencepiece_model
from keras_bert_zoo.text.wordpiece import vocabulary as wordpiece
from tests.text.wordpiece.test_files import VOCABULARY, lines, write

READERS = {
    "vocab.txt": wordpiece.read_vocabulary,
    "vocab.json": byte_bpe_files.read_vocabulary,
    "merges.txt": byte_bpe_files.read_merges,
    "spiece.model": sentencepiece_model.read_model,
    "tokenizer_config.json": vocabulary_files.read_json,
    "tokenizer.json": vocabulary_files.read_json,
}


def make_large(path):
    with path.open("wb") as file:
        file.truncate(1_500_000_000)  # a sparse file, which takes no disk space


OBSTACLES = {
    "pipe": (os.mkfifo, "it is not a regular file"),
    "directory": (os.mkdir, "cannot be read: "),
    "link": (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory"),
    "large": (make_large, "is larger than "),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_refuses_other_than_small_files(tmp_path, name, obstacle):
    make, message = OBSTACLES[obstacle]
    make(tmp_path / name)
    with pytest.raises(ConfigError) as raised:
        READERS[name](tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name} ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", READERS)
def test_empty_files(tmp_path, name):
    (tmp_path / name).touch()
    if name == "merges.txt":
        assert byte_bpe_files.read_merges(tmp_path / name) == []
        return
    with pytest.raises(ConfigError, match="no line|cannot be read as JSON|no piece"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("obstacle", ["pipe", "link", "directory"])
def test_unreadable_files_are_not_ignored(tmp_path, name, obstacle):
    write(tmp_path, vocab__txt=lines(VOCABULARY))
    (tmp_path / name).unlink(missing_ok=True)
    OBSTACLES[obstacle][0](tmp_path / name)
    with pytest.raises(ConfigError, match=f"{name} cannot be read: "):
        load_tokenizer_directory(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 7, "b": 1, "a": 0}', "the key 'a' is given twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "too large for a float"),
        ('{"\\ud800": 0}', "surrogates not allowed"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nested deeper than 64 levels"),
        ("\0" * 9, "cannot be read as JSON"),
    ],
)
def test_json_that_is_refused(tmp_path, text, message):
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json"):
        (tmp_path / name).write_text(text, "utf-8")
        with pytest.raises(ConfigError) as raised:
            READERS[name](tmp_path / name)
        assert message in str(raised.value), name
        assert "\n" not in str(raised.value)


def test_a_repeated_option(tmp_path):
    write(tmp_path, vocab__txt=lines(VOCABULARY))
    write(tmp_path, tokenizer_config__json='{"do_lower_case": false, "do_lower_case": true}')
    with pytest.raises(ConfigError, match="the key 'do_lower_case' is given twice"):
        load_tokenizer_directory(tmp_path)


def test_tokenizer_json_may_be_larger_than_a_config(tmp_path):
    text = json.dumps({"model": " " * files.JSON_LIMIT_BYTES})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(text, "utf-8")
    assert len(vocabulary_files.read_json(tmp_path / "tokenizer.json")["model"]) == 10_000_000
    with pytest.raises(ConfigError, match="is larger than 10,000,000 bytes"):
        vocabulary_files.read_json(tmp_path / "tokenizer_config.json")


def test_only_line_feeds_end_lines(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("a\r\n\u2028\nb\rc\r\r\n\0\n".encode())
    assert vocabulary_files.read_lines(path, "a vocabulary") == ["a", "\u2028", "b\rc\r", "\0"]

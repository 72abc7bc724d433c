"""Finding the kind of a directory's tokenizer, and loading it."""

import json
import logging

import pytest

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.presets.resolve import load_tokenizer
from keras_bert_zoo.text import WordPieceTokenizer, registry
from tests.text.wordpiece.test_files import VOCABULARY, fast, lines, write

CASED = [*VOCABULARY, *(f"Word{i}" for i in range(20))]


def json_with(model, **others):
    return {"model": model, "added_tokens": [], **others}


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"vocab__txt": lines(VOCABULARY)}, "WordPiece"),
        ({"tokenizer__json": fast()}, "WordPiece"),
        ({"tokenizer__json": json_with({"vocab": {"a": 0}})}, "WordPiece"),
        ({"tokenizer__json": json_with({"type": "Unigram", "vocab": []})}, "SentencePiece"),
        ({"tokenizer__json": json_with({"vocab": [["a", 0.0]]})}, "SentencePiece"),
        (
            {"tokenizer__json": json_with({"type": "BPE"}, pre_tokenizer={"type": "ByteLevel"})},
            "byte-level BPE",
        ),
        (
            {
                "tokenizer__json": json_with(
                    {"vocab": {}, "merges": []},
                    pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
                )
            },
            "byte-level BPE",
        ),
        ({"vocab__json": {}, "merges__txt": ""}, "byte-level BPE"),
        ({"spiece__model": ""}, "SentencePiece"),
        ({"spm__model": ""}, "SentencePiece"),
        ({"tokenizer__model": ""}, "SentencePiece"),
        ({"my-own__model": ""}, "SentencePiece"),
        ({"vocab__txt": lines(VOCABULARY), "my-own__model": ""}, "WordPiece"),
    ],
)
def test_kinds(tmp_path, files, kind):
    assert registry.tokenizer_kind(write(tmp_path, **files)) == kind


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "vocab.json with merges.txt (byte-level BPE)"),
        ({"vocab__json": {}}, "received none of them"),
        ({"tokenizer__json": json_with({"type": "WordLevel"})}, "or Unigram in"),
        (
            {"tokenizer__json": json_with({"type": "BPE"}, pre_tokenizer={"type": "Metaspace"})},
            "received 'BPE' without a ByteLevel pre_tokenizer",
        ),
        ({"tokenizer__json": {"model": 3}}, "Expected a model in"),
        ({"spiece__model": "", "spm__model": ""}, "one vocabulary in"),
        ({"spiece__model": "", "vocab__txt": "a\n"}, "received ['spiece.model', 'vocab.txt']"),
        (
            {"spiece__model": "", "tokenizer_config__json": {"tokenizer_class": "XLNetTokenizer"}},
            "received the tokenizer_class 'XLNetTokenizer'",
        ),
        ({"spiece__model": "", "config__json": {"model_type": "xlnet"}}, "pads on the left"),
        ({"tokenizer_config__json": {"tokenizer_class": 3}}, "tokenizer_class as a string in"),
    ],
)
def test_refused_kinds(tmp_path, files, message):
    with pytest.raises(ConfigError) as raised:
        registry.load_tokenizer_directory(write(tmp_path, **files))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_presets_use_the_registry(tmp_path):
    write(tmp_path, vocab__txt=lines(VOCABULARY))
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, WordPieceTokenizer)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(ConfigError, match="Expected a tokenizer in"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "bert_config.json", "electra_config.json"])
def test_vocabulary_larger_than_the_embedding(tmp_path, name):
    write(tmp_path, vocab__txt=lines(VOCABULARY))
    (tmp_path / name).write_text(json.dumps({"vocab_size": len(VOCABULARY)}), "utf-8")
    assert registry.load_tokenizer_directory(tmp_path).vocabulary_size == len(VOCABULARY)
    (tmp_path / name).write_text(json.dumps({"vocab_size": len(VOCABULARY) - 1}), "utf-8")
    with pytest.raises(
        ConfigError, match=f"at most {len(VOCABULARY) - 1} tokens in .*, the vocab_size in {name}"
    ):
        registry.load_tokenizer_directory(tmp_path)


@pytest.mark.parametrize(
    ("files", "lowercase", "warns"),
    [
        # Google's checkpoints: any piece with a capital letter, except those in brackets.
        ({"vocab__txt": lines(VOCABULARY), "bert_config__json": {}}, False, False),
        ({"vocab__txt": lines([*"ab", "<S>", "[X]"]), "bert_config__json": {}}, True, False),
        # Uncased BERT has this letter; lowercasing does not change it.
        ({"vocab__txt": lines([*"ab", "ℝ"]), "bert_config__json": {}}, True, False),
        ({"vocab__txt": lines([*"ab", "É"]), "electra_config__json": {}}, False, False),
        # Others: the default of transformers, unless the vocabulary contradicts it.
        ({"vocab__txt": lines(VOCABULARY)}, True, False),
        ({"vocab__txt": lines(CASED)}, False, True),
        ({"vocab__txt": lines(CASED), "config__json": {"model_type": "electra"}}, False, True),
        # Options in a file win.
        ({"vocab__txt": lines(CASED), "tokenizer_config__json": {"verbose": True}}, True, False),
        (
            {
                "vocab__txt": lines(CASED), "bert_config__json": {},
                "tokenizer_config__json": {"do_lower_case": True},
            },
            True, False,
        ),
        ({"tokenizer__json": fast(normalizer={"type": "BertNormalizer"})}, True, False),
    ],
)  # fmt: skip
def test_case(tmp_path, caplog, files, lowercase, warns):
    if "vocab__txt" in files and "[UNK]" not in files["vocab__txt"]:
        files = {**files, "vocab__txt": lines(VOCABULARY[:5]) + files["vocab__txt"]}
    with caplog.at_level(logging.WARNING, "keras_bert_zoo"):
        tokenizer = registry.load_tokenizer_directory(write(tmp_path, **files))
    assert tokenizer.lowercase is lowercase
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warns
    if warns:
        assert "pieces of its vocabulary have capital letters" in caplog.records[0].getMessage()

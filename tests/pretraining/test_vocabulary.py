"""Vocabularies: identical ids in transformers, repeated runs, errors, the command."""

import json
import re

import pytest

from keras_bert_zoo.cli.vocabulary import VocabularyMeter
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining import vocabulary
from keras_bert_zoo.pretraining.vocabulary import train_tokenizer
from keras_bert_zoo.pretraining.vocabulary_options import FAMILIES
from keras_bert_zoo.text.registry import load_tokenizer_directory
from tests.documents import ROOT
from tests.helpers import eagerly

CHINESE = """\
他说“今天天气很好。”我们一起去公园散步，看见很多人在湖边喝茶。
我喜欢学习语言。学习语言需要时间，也需要耐心。今天我学习了三十个新词。
公园里有一个小湖，湖边有很多树。天气好的时候，很多人去公园散步。
"""
TEXTS = [
    "Fine-tune an encoder on your own text!",
    "Ünïcödé CAFÉ cafe\u0301 naïve ﬁne ½ Å",
    "今天我 learn 语言。",
    "हिन्दी में 한국어 ไทย 🤷\u200d♀️",
    "`` quoted '' [MASK] <mask> </s>don't  two  spaces\ttab",
    "\u200b\ufeff \u3000 x",
    "",
]
SIZES = {"wordpiece": 1200, "byte_bpe": 900, "unigram": 900}
# One family of each kind of files.
TRAINED = ("bert", "roberta", "modernbert", "albert", "xlm-roberta", "deberta-v2")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """English pages of the documentation, and Chinese text."""
    path = tmp_path_factory.mktemp("texts")
    (path / "zh.txt").write_text(CHINESE * 5)
    return [path / "zh.txt", ROOT / "docs" / "[a-e]*.md", ROOT / "CONTRIBUTING.md"]


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """Family -> (directory, tokenizer)."""
    folder = tmp_path_factory.mktemp("tokenizers")
    result = {}
    for family in TRAINED:
        size = SIZES[FAMILIES[family].kind]
        result[family] = (
            folder / family,
            train_tokenizer(files, folder / family, family=family, vocabulary_size=size),
        )
    return result


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "xlm-roberta"])
def test_a_small_text_has_a_smaller_vocabulary(family):
    """Only a given size must be reached."""
    text = [ROOT / "docs" / "limits.md"]
    tokenizer = train_tokenizer(text, family=family)
    assert 100 < tokenizer.vocabulary_size < 10_000


@pytest.mark.parametrize("family", TRAINED)
def test_transformers_gives_the_same_ids(trained, family):
    transformers = pytest.importorskip("transformers")
    directory, tokenizer = trained[family]
    size = SIZES[FAMILIES[family].kind]
    assert tokenizer.vocabulary_size == size == len(set(tokenizer.vocabulary))
    assert set(FAMILIES[family].special_tokens) == set(tokenizer.special_tokens)
    reference = transformers.AutoTokenizer.from_pretrained(directory)
    loaded = load_tokenizer_directory(directory)
    assert (len(reference), reference.model_max_length, loaded.max_length) == (size, 512, 512)
    with eagerly():
        expected = reference(TEXTS, add_special_tokens=False)["input_ids"]
        assert loaded.tokenize(TEXTS).to_list() == expected
        assert tokenizer.tokenize(TEXTS).to_list() == expected
        pairs = reference(TEXTS[:3], TEXTS[1:4], padding=True)
        assert loaded((TEXTS[:3], TEXTS[1:4]))["token_ids"].numpy().tolist() == pairs["input_ids"]
    assert reference.mask_token_id == loaded.mask_token_id is not None
    assert reference.pad_token_id == loaded.pad_token_id


def test_known_words_are_tokens(trained):
    """Normalization of the training and of the tokenizer agree: frequent words are one token."""
    for family, words in {
        "bert": ["checkpoint", "model", "今"], "roberta": [" checkpoint", " model"],
        "albert": ["checkpoint", "model"], "xlm-roberta": ["model"], "deberta-v2": ["model"],
    }.items():  # fmt: skip
        tokenizer = trained[family][1]
        with eagerly():
            assert tokenizer.tokenize(words).row_lengths().numpy().max() <= 2, family
    lower = trained["bert"][1]
    with eagerly():
        assert lower.tokenize(["MODEL"]).to_list() == lower.tokenize(["model"]).to_list()
    # The rest of the vocabulary can be reached, too: no piece has a capital letter.
    assert not any(piece != piece.lower() for piece in lower.vocabulary[5:])
    assert "##今" not in lower.vocabulary


def test_a_second_training_writes_the_same_files(trained, files, tmp_path):
    """Each hash table of `tokenizers` has another order."""
    for family in ("bert", "albert"):
        size = SIZES[FAMILIES[family].kind]
        train_tokenizer(files, tmp_path / family, family=family, vocabulary_size=size)
        first = trained[family][0]
        names = sorted(path.name for path in first.iterdir())
        assert names == sorted(path.name for path in (tmp_path / family).iterdir())
        for name in names:
            assert (first / name).read_bytes() == (tmp_path / family / name).read_bytes(), name


def test_options_of_wordpiece(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("É é a b\nb c\n" * 20 + "ab ab z\n")
    cased = train_tokenizer([path], lowercase=False, vocabulary_size=13)
    # Characters, then those inside words, then merges.
    assert cased.vocabulary[5:] == ["a", "b", "c", "z", "É", "é", "##b", "ab"]
    lower = train_tokenizer(
        [path], strip_accents=False, vocabulary_size=9, limit_alphabet=2, special_tokens=["[E]"],
        max_length=None,
    )  # fmt: skip
    # é occurs 40 times, b 42 times.
    assert lower.vocabulary[5:] == ["[E]", "b", "é", "##b"]
    assert lower.special_tokens[-1] == "[E]"
    assert lower.max_length is None


def test_long_lines_and_the_sample(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text(" ".join(str(number) for number in range(3000)))  # one line
    lines = vocabulary.VocabularyOptions.checked([path], kind="unigram", sample_lines=5, seed=1)
    sample = vocabulary._sample(lines, vocabulary._no_progress)
    assert len(sample) == 5
    assert sample == vocabulary._sample(lines, vocabulary._no_progress)
    whole = vocabulary.VocabularyOptions.checked([path], kind="unigram")
    parts = vocabulary._sample(whole, vocabulary._no_progress)
    assert "".join(parts) == path.read_text()
    assert max(map(len, parts)) <= 1000 < sum(map(len, parts))
    assert list(vocabulary._parts("字" * 2500)) == ["字" * 1000, "字" * 1000, "字" * 500]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "bpe"}, ConfigError, "expected `kind` to be one of wordpiece, byte_bpe, unigram"),
        ({"family": "gpt"}, ConfigError, "expected `family` to be one of bert, "),
        ({"family": "bert", "kind": "unigram"}, ConfigError, "to be wordpiece, the kind of the"),
        ({"kind": "byte_bpe", "lowercase": True}, ConfigError, "expected no `lowercase` for the f"),
        ({"min_frequency": 0}, ConfigError, "expected `min_frequency` of at least 1, received 0"),
        ({"kind": "unigram", "min_frequency": 2}, ConfigError, "expected no `min_frequency`"),
        ({"character_coverage": 0.5}, ConfigError, "expected `character_coverage` from 0.9 to 1"),
        ({"special_tokens": ["[CLS]"]}, ConfigError, "new and different, received '[CLS]'"),
        ({"special_tokens": " a"}, ConfigError, "as a list of strings without white space"),
        ({"kind": "byte_bpe", "vocabulary_size": 200}, ConfigError, "of at least 261, for the sp"),
        ({"vocabulary_size": 8}, ConfigError, "of at least 12, for the special tokens and the ch"),
        ({"kind": "unigram", "vocabulary_size": 8}, ConfigError, "expected `vocabulary_size` of a"),
        ({"documents": "page"}, ConfigError, "expected `documents` to be one of"),
        ({"size": 8}, ConfigError, "unknown option of train_tokenizer: "),
        (
            {"vocabulary_size": 900},
            DataError,
            "for `vocabulary_size=900`, received text that gives",
        ),
        ({"kind": "byte_bpe", "vocabulary_size": 900}, DataError, "for `vocabulary_size=900`"),
        ({"kind": "unigram", "vocabulary_size": 900}, DataError, "for `vocabulary_size=900`"),
    ],
)
def test_errors(tmp_path, options, error, message):
    path = tmp_path / "a.txt"
    path.write_text("abc abd ab\n" * 20)
    with pytest.raises(error, match=re.escape(message)):
        train_tokenizer([path], **options)


@pytest.mark.parametrize("kind", SIZES)
def test_text_is_needed(tmp_path, kind):
    path = tmp_path / "a.txt"
    path.write_text(" \n")
    with pytest.raises(DataError, match="expected text in .*a.txt, but all lines are empty"):
        train_tokenizer([path], kind=kind)


class Terminal:
    """A stream that is a terminal or a pipe."""

    def __init__(self, terminal):
        self.terminal, self.text = terminal, ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(monkeypatch, terminal):
    stream = Terminal(terminal)
    clock = [0.0]
    monkeypatch.setattr("keras_bert_zoo.cli.status_line.time.monotonic", lambda: clock[0])
    meter = VocabularyMeter(stream, 2)
    for clock[0], stage, characters, files in (
        (11.0, "words", 1_000_000, 0),
        (22.0, "words", 12_000_000, 1),
        (22.5, "words", 13_000_000, 1),  # too early
        (45.0, "training", 0, 0),
    ):
        meter(stage, characters, files)
    meter.close()
    shown = re.split("\r|\n", stream.text)
    shown = [line.removesuffix("\x1b[K") for line in shown if line.removesuffix("\x1b[K")]
    assert shown[1:] == [
        "keras-bert-zoo: counting words: 1 of 2 files, 12.0 million characters, 1.1 million/s",
        "keras-bert-zoo: training",
    ]
    assert meter.characters == 13_000_000
    assert ("\r" in stream.text) == terminal


def test_command(tmp_path, capfd):
    from keras_bert_zoo.cli.main import main

    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"body": "abc abd ab\n" * 20}) + "\n")
    out = tmp_path / "tokenizer"
    argv = ["vocabulary", "--texts", str(path), "--output", str(out), "--vocabulary-size", "12"]
    assert main(argv) == 2
    assert capfd.readouterr().err == (
        f"keras-bert-zoo: error: {path}:1: expected an object with the key 'text', received "
        "'body'; give the `--field` of the text\n"
    )
    assert not out.exists()
    assert main([*argv, "--field", "body"]) == 0
    assert capfd.readouterr().out == (
        f"12 tokens (wordpiece, bert) from 200 characters, in {out}\n"
    )
    assert main([*argv[:4], str(tmp_path / "b"), *argv[5:], "--field", "body", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {
        "path": str(tmp_path / "b"), "kind": "wordpiece", "family": "bert", "vocabulary_size": 12,
        "files": 1, "characters": 200,
    }  # fmt: skip
    assert main([*argv[:4], str(tmp_path / "c"), argv[5], "900", "--field", "body"]) == 2
    assert capfd.readouterr().err.startswith(
        "keras-bert-zoo: error: expected more text for `--vocabulary-size 900`, received"
    )

"""Hugging Face directories, read and written."""

import json

import pytest

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import WordPieceTokenizer
from tests.text.test_wordpiece import GOLDENS

VOCABULARY = GOLDENS["vocabulary"]


def write(folder, **files):
    for name, value in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return folder


def lines(tokens):
    return "".join(f"{token}\n" for token in tokens)


def added(token, **flags):
    return {"content": token, "lstrip": False, "rstrip": False, "normalized": False, **flags}


def fast(**changes):
    tokens = {token: i for i, token in enumerate(VOCABULARY)}
    return {
        "model": {"type": "WordPiece", "vocab": tokens, "unk_token": "[UNK]"},
        "normalizer": {"type": "BertNormalizer", "lowercase": False, "strip_accents": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "added_tokens": [{"id": 4, **added("[MASK]")}],
        **changes,
    }


def test_real_directory(bert_directory, uncased):
    tokenizer = WordPieceTokenizer.from_directory(bert_directory)
    assert tokenizer.vocabulary == uncased.vocabulary
    assert tokenizer.special_tokens == uncased.special_tokens
    assert tokenizer.lowercase is True


def test_round_trip(tmp_path):
    tokenizer = WordPieceTokenizer(
        VOCABULARY,
        lowercase=False,
        strip_accents=True,
        handle_chinese_chars=False,
        additional_special_tokens=["<e1>", "the"],
        max_length=77,
    )
    tokenizer.save(tmp_path / "a" / "b")
    again = WordPieceTokenizer.from_directory(tmp_path / "a" / "b")
    for name in (
        "vocabulary", "lowercase", "strip_accents", "handle_chinese_chars", "special_tokens",
        "additional_special_tokens", "max_length", "pieces",
    ):  # fmt: skip
        found, want = getattr(again, name), getattr(tokenizer, name)
        if "special" in name:  # in the order of their ids
            found, want = sorted(found), sorted(want)
        assert found == want, name
    text = "the <e1> Éthe 中文"
    assert again.tokenize(text).numpy().tolist() == tokenizer.tokenize(text).numpy().tolist()


def test_vocab_alone(tmp_path):
    tokenizer = WordPieceTokenizer.from_directory(write(tmp_path, vocab__txt=lines(VOCABULARY)))
    assert tokenizer.vocabulary == VOCABULARY
    assert tokenizer.lowercase is True
    assert tokenizer.max_length is None


def test_windows_line_ends(tmp_path):
    write(tmp_path, vocab__txt="")
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(VOCABULARY).encode())
    assert WordPieceTokenizer.from_directory(tmp_path).vocabulary == VOCABULARY


def test_tokenizer_json_alone(tmp_path):
    tokenizer = WordPieceTokenizer.from_directory(write(tmp_path, tokenizer__json=fast()))
    assert tokenizer.vocabulary == VOCABULARY
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (False, True)


def test_config_wins_over_tokenizer_json(tmp_path):
    write(tmp_path, tokenizer__json=fast(), tokenizer_config__json={"do_lower_case": True})
    assert WordPieceTokenizer.from_directory(tmp_path).lowercase is True


def test_other_special_tokens(tmp_path):
    names = {"unk_token": "the", "cls_token": added("un"), "sep_token": "x", "mask_token": None}
    write(tmp_path, vocab__txt=lines([*VOCABULARY]), special_tokens_map__json={"pad_token": "y"})
    write(tmp_path, tokenizer_config__json=names | {"model_max_length": 10**30})
    tokenizer = WordPieceTokenizer.from_directory(tmp_path)
    assert tokenizer.special_tokens == ("the", "un", "x", "y")
    assert tokenizer.max_length is None


SINGLE = added("[M]", single_word=True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "expected vocab.txt or tokenizer.json in"),
        ({"vocab__txt": ""}, "of one token a line"),
        ({"vocab__txt": "a\n", "tokenizer_config__json": "{"}, "a JSON object in UTF-8 at"),
        ({"vocab__txt": "a\n", "tokenizer_config__json": []}, "expected a JSON object at"),
        ({"tokenizer_config__json": {"never_split": ["x"]}}, "never_split=['x'] in"),
        ({"tokenizer_config__json": {"do_basic_tokenize": False}}, "do_basic_tokenize=false"),
        ({"tokenizer_config__json": {"truncation_side": "left"}}, "truncation_side='left'"),
        ({"tokenizer_config__json": {"sentencepiece": 1}}, "got ['sentencepiece']"),
        (
            {"tokenizer_config__json": {"added_tokens_decoder": {"4": SINGLE}}},
            "single_word=true of the added token '[M]'",
        ),
        (
            {"tokenizer_config__json": {"added_tokens_decoder": {"999": added("<x>")}}},
            "expected the added token '<x>' to have the id",
        ),
        ({"tokenizer_config__json": {"do_lower_case": "no"}}, "do_lower_case of true or false"),
        ({"added_tokens__json": {"<x>": 999}}, "expected the added token '<x>' to have the id"),
        ({"added_tokens__json": {"<x>": "1"}}, "to be an int of at least 0, got '1'"),
        ({"tokenizer__json": fast(model={"type": "BPE"})}, "expected a WordPiece model"),
        ({"tokenizer__json": fast(added_tokens=[3])}, "a token as a string, got 3"),
        ({"tokenizer__json": fast(normalizer=3)}, "got another structure"),
        ({"tokenizer__json": fast(), "vocab__txt": "a\n"}, "got 1 and"),
        ({"tokenizer__json": fast(normalizer=None)}, "expected a BertNormalizer"),
        ({"tokenizer__json": fast(pre_tokenizer={"type": "Whitespace"})}, "a BertPreTokenizer"),
        ({"tokenizer__json": fast(post_processor={"type": "RobertaProcessing"})}, "post_processor"),
        (
            {"tokenizer__json": fast(added_tokens=[{"id": 4, **SINGLE}])},
            "single_word=true of the added token '[M]'",
        ),
    ],
)  # fmt: skip
def test_refusals(tmp_path, files, message):
    folder = write(tmp_path, **files)
    if files and not any("vocab" in name or "tokenizer__json" in name for name in files):
        write(folder, vocab__txt=lines(VOCABULARY))
    with pytest.raises(ConfigError) as raised:
        WordPieceTokenizer.from_directory(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_vocabulary_that_is_not_utf8(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\ncaf\xe9\n")
    with pytest.raises(
        ConfigError, match="expected a vocabulary in UTF-8 at .*got other bytes at 9"
    ):
        WordPieceTokenizer(tmp_path / "vocab.txt")


def test_missing_vocabulary(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        WordPieceTokenizer(tmp_path / "vocab.txt")


def test_save_refuses_what_the_files_cannot_say(tmp_path):
    with pytest.raises(ConfigError, match="expected trim_offsets=False to save, or separators_be"):
        WordPieceTokenizer(VOCABULARY, trim_offsets=True).save(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parity
@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_loads_what_is_saved(tmp_path, vocabulary_file, lowercase):
    transformers = pytest.importorskip("transformers")
    ours = WordPieceTokenizer(
        vocabulary_file, lowercase=lowercase, additional_special_tokens=["<e1>"], max_length=512
    )
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = ["Hello Wörld [MASK] <e1>x", "한국 中文", "[mask]"]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == ours.tokenize(texts).to_list()
    assert theirs.model_max_length == 512
    theirs.save_pretrained(tmp_path / "again")
    again = WordPieceTokenizer.from_directory(tmp_path / "again")
    assert again.tokenize(texts).to_list() == ours.tokenize(texts).to_list()

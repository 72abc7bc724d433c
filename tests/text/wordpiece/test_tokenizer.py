"""Ids and offsets are those of Hugging Face's fast tokenizer."""

import doctest
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import WordPieceTokenizer, wordpiece
from tests.helpers import eagerly

GOLDENS = json.loads((Path(__file__).parent / "assets/wordpiece_goldens.json").read_text("utf-8"))


def byte_offsets(text, offsets):
    at = [0, *itertools.accumulate(len(char.encode()) for char in text)]
    return [(at[start], at[end]) for start, end in offsets]


def assert_same(ours, reference, texts):
    ids, starts, ends = (part.to_list() for part in ours.tokenize_with_offsets(texts))
    assert ours.tokenize(texts).to_list() == ids
    encodings = reference.encode_batch(texts, add_special_tokens=False)
    for i, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
        assert ids[i] == encoding.ids, ascii(text)
        spans = list(zip(starts[i], ends[i], strict=True))
        assert spans == byte_offsets(text, encoding.offsets), ascii(text)


@pytest.mark.parametrize("case", range(len(GOLDENS["cases"])))
@eagerly()
def test_goldens(case):
    golden = GOLDENS["cases"][case]
    tokenizer = WordPieceTokenizer(
        GOLDENS["vocabulary"],
        lowercase=golden["lowercase"],
        strip_accents=golden["strip_accents"],
        handle_chinese_chars=golden["handle_chinese_chars"],
    )
    ids, starts, ends = (p.to_list() for p in tokenizer.tokenize_with_offsets(GOLDENS["texts"]))
    for i, text in enumerate(GOLDENS["texts"]):
        assert ids[i] == golden["ids"][i], ascii(text)
        spans = list(zip(starts[i], ends[i], strict=True))
        assert spans == byte_offsets(text, golden["offsets"][i]), ascii(text)


@pytest.mark.parametrize("lowercase", [True, False])
def test_code_points(vocabulary_file, make_reference, lowercase):
    ours = WordPieceTokenizer(vocabulary_file, lowercase=lowercase)
    # All characters of the most used parts of the first two planes, and a sample of the others.
    points = [
        *range(0x3400),
        *range(0xA000, 0xAC80),
        *range(0xF900, 0x12000),
        *range(0x1D000, 0x1D200),
    ]
    points += range(0x3400, 0x110000, 101)
    points = [c for c in points if not 0xD800 <= c <= 0xDFFF]
    texts = [f"a{chr(c)}b hello" for c in points] + [chr(c) for c in points]
    assert_same(ours, make_reference(ours), texts)


def test_random_mixtures(uncased, reference):
    rng = random.Random(7)
    parts = [
        "hello", "Straße", "[MASK]", "[SEP]", "[mask]", "[", "]", "é\u0301", "\u0301", "한국",
        "中", "，", "\0", "\u00ad", "\u200d", " ", " ", " ", "\t", "\u00a0", "😀", "\ufffd", "ﬁ",
        "İ", "x" * 60, "한" * 30,
        "don't", "...", "##", "\ue000", "\U000f0000",
    ]  # fmt: skip
    texts = ["".join(rng.choices(parts, k=rng.randint(0, 12))) for _ in range(3000)]
    assert_same(uncased, reference, texts)


@pytest.mark.parametrize("char", ["a", "é", "ж", "😀", "한"])
@pytest.mark.parametrize("length", [33, 34, 50, 51, 99, 100, 101, 500])
def test_long_words(uncased, reference, char, length):
    word = char * length
    assert_same(uncased, reference, [word, f"b {word} c", f"{word}\u0301\u00ad.", f"{word}[MASK]x"])


def test_special_tokens_stay_whole(uncased, reference):
    ids = uncased.tokenize("a[MASK]b [CLS][SEP]").numpy().tolist()
    assert ids == [
        uncased.token_to_id("a"), uncased.mask_token_id, uncased.token_to_id("b"),
        uncased.cls_token_id, uncased.sep_token_id,
    ]  # fmt: skip
    texts = [
        "[MASK]",
        "[[MASK]]",
        "[MASK",
        "MASK]",
        "[Mask]",
        "[MASK\u00ad]",
        "[PAD][PAD] é[UNK]é",
        "[]",
    ]
    assert_same(uncased, reference, texts)


@eagerly()
def test_additional_special_tokens(vocabulary_file, make_reference):
    ours = WordPieceTokenizer(
        vocabulary_file, additional_special_tokens=["<e1>", "</e1>", "zyx", "中国", "[unused1]"]
    )
    assert ours.vocabulary_size == len(ours.pieces) + 4
    assert ours.token_to_id("zyx") == len(ours.pieces) + 2
    texts = ["the <e1>cat</e1>", "azyxb ZYX", "中国中", "[unused1][unused2]", "", "<e1", "<E1>"]
    assert_same(ours, make_reference(ours), texts)


@eagerly()
def test_special_tokens_that_overlap(make_reference):
    """Leftmost first, then longest."""
    ours = WordPieceTokenizer(GOLDENS["vocabulary"], additional_special_tokens=["<a>", "a>b", "<a"])
    assert_same(ours, make_reference(ours), ["<a>b", "<a<a>", "a>b<a>ba>ba>b", "<<a>b a>"])


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff", b"abc\xc3", b"\xc3\x28", b"a\x80b hello\x80\xbf", b"\xe4\xbd", b"\xe4\xbda",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80x", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe0\x80\xafz",
        b"caf\xc3\xa9\xa9 \xc3\x89\x89 x",
        b"\xf0\x9f\x98[MASK]\xf0", bytes(range(256)),
    ],
)  # fmt: skip
def test_invalid_utf8(uncased, reference, raw):
    expected = reference.encode(raw.decode("utf-8", "replace"), add_special_tokens=False)
    ids, starts, ends = (part.numpy().tolist() for part in uncased.tokenize_with_offsets(raw))
    assert ids == expected.ids
    # Without the invalid bytes, each span contains its token.
    for token, start, end in zip(ids, starts, ends, strict=True):
        assert 0 <= start < end <= len(raw)
        inside = reference.encode(
            raw[start:end].decode("utf-8", "ignore"), add_special_tokens=False
        )
        assert token in inside.ids or uncased.id_to_token(token).startswith("##")


def test_empty_texts_and_batches(uncased):
    assert uncased.tokenize("").shape == (0,)
    assert uncased.tokenize(["", " ", "\u0301"]).to_list() == [[], [], []]
    assert uncased.tokenize([]).to_list() == []
    ids, starts, ends = uncased.tokenize_with_offsets([])
    assert ids.nrows() == starts.nrows() == ends.nrows() == 0
    packed = uncased([])
    assert packed["token_ids"].shape[0] == 0
    assert uncased([], max_length=9, padding="max_length")["token_ids"].shape == (0, 9)


def test_one_megabyte(uncased, reference):
    text = "Hello wörld [MASK] 中文 " * 40_000
    assert len(text.encode()) > 1_000_000
    assert_same(uncased, reference, [text, "x" * 1_000_000])


def test_kinds_of_input(uncased):
    one = uncased.tokenize("hello world").numpy().tolist()
    for single in (b"hello world", tf.constant("hello world")):
        assert uncased.tokenize(single).numpy().tolist() == one
    for many in (
        ["hello world"], [b"hello world"], ("hello world",), tf.constant(["hello world"]),
        np.array(["hello world"]), np.array([b"hello world"], object),
    ):  # fmt: skip
        assert uncased.tokenize(many).to_list() == [one]
    assert uncased.tokenize("a\ud800b").numpy().tolist() == uncased.tokenize("ab").numpy().tolist()
    with pytest.raises(ConfigError, match="Expected texts as str or bytes, received int: 3"):
        uncased.tokenize([3])
    with pytest.raises(ConfigError, match="Expected texts as a string tensor, received int32"):
        uncased.tokenize(tf.constant([3]))
    with pytest.raises(ConfigError, match=r"rank 0 or 1, received shape \(1, 1\)"):
        uncased.tokenize(tf.constant([["a"]]))


def test_types(uncased):
    for part in uncased.tokenize_with_offsets(["hello"]):
        assert part.dtype == tf.int32
    assert {value.dtype for value in uncased(["hello"]).values()} == {tf.int32}


def test_detokenize(uncased, reference):
    texts = ["Unaffable people, don't stop! [MASK]", "", "##ing ing", "한국 中文"]
    ids = uncased.tokenize(texts)
    for skip in (False, True):
        decoded = [t.decode() for t in uncased.detokenize(ids, skip_special_tokens=skip).numpy()]
        expected = [reference.decode(row, skip_special_tokens=skip) for row in ids.to_list()]
        assert decoded == expected
    suffix = uncased.token_to_id("##ing")
    rows = [[suffix, 7592], [7592, suffix, 10**6, -1], []]
    assert [t.decode() for t in uncased.detokenize(rows).numpy()] == ["##ing hello", "helloing", ""]
    assert uncased.detokenize(tf.constant([7592, suffix])).numpy() == b"helloing"


def test_vocabulary_lookups(uncased):
    assert uncased.token_to_id("hello") == 7592
    assert uncased.id_to_token(7592) == "hello"
    assert uncased.vocabulary_size == 30522
    with pytest.raises(KeyError, match="received 'nosuchtoken'"):
        uncased.token_to_id("nosuchtoken")
    with pytest.raises(IndexError, match="Expected an id of 0 to 30521, received 30522"):
        uncased.id_to_token(30522)


@pytest.mark.parametrize(
    ("vocabulary", "options", "message"),
    [
        ([*GOLDENS["vocabulary"], "a"], {}, "1 duplicates, such as ['a']"),
        (["[CLS]", "[SEP]", "[PAD]", "[MASK]"], {}, "with unk_token '[UNK]', received 4 tokens"),
        (["[UNK]", "[CLS]", "[SEP]", "[PAD]"], {}, "(mask_token=None if it has none)"),
        (GOLDENS["vocabulary"], {"max_characters_per_word": 0}, "at least 1, received 0"),
        (GOLDENS["vocabulary"], {"max_length": 0}, "max_length of at least 1 or None, received 0"),
        (GOLDENS["vocabulary"], {"additional_special_tokens": [""]}, "that are not empty"),
        ([*GOLDENS["vocabulary"], "x" * 257], {}, "tokens of at most 256 bytes"),
    ],
)  # fmt: skip
def test_bad_vocabularies(vocabulary, options, message):
    with pytest.raises(ConfigError) as raised:
        WordPieceTokenizer(vocabulary, **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@eagerly()
def test_unk_token_that_is_a_word(make_reference):
    """It is matched in the text as a special token, as in Hugging Face."""
    ours = WordPieceTokenizer(
        ["the", "[CLS]", "[SEP]", "[PAD]", "a", "##a", "["],
        unk_token="the",
        mask_token=None,
        additional_special_tokens=["["],
    )
    assert_same(ours, make_reference(ours), ["the a" + "a" * 100, "xthea THE [a[CLS]", "a" * 100])


def test_no_mask_token():
    tokenizer = WordPieceTokenizer(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "a"], mask_token=None)
    assert tokenizer.mask_token_id is None
    assert tokenizer.tokenize("[MASK]a").numpy().tolist() == [0, 0, 0, 4]


@eagerly()
def test_max_characters_per_word(vocabulary_file, make_reference):
    ours = WordPieceTokenizer(vocabulary_file, max_characters_per_word=5)
    assert_same(ours, make_reference(ours), ["hello unaffable 中文 abcdef abcde [MASK] éééééé"])


def test_odd_pieces():
    """Pieces that match no text have no effect."""
    pieces = [
        "",
        "##",
        "\x12",
        "\x125",
        "\U000f0001",
        "a\U000f0001",
        "\ufffd",
        "##\u200d",
        " ",
        "a b",
    ]
    tokenizer = WordPieceTokenizer([*GOLDENS["vocabulary"], *pieces])
    ids = tokenizer.tokenize("\x12 ## a\U000f0001 \x125 a b").numpy()
    assert [tokenizer.id_to_token(i) for i in ids] == ["#", "#", "a", "5", "a", "b"]


def test_docstrings():
    assert doctest.testmod(wordpiece).failed == 0

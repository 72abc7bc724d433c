"""Added tokens in texts, with the flags of Hugging Face's tokenizers."""

import random

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import WordPieceTokenizer, special_tokens
from keras_bert_zoo.text.special_tokens import AddedToken
from tests.helpers import eagerly
from tests.text.test_graph import Model, interpreter
from tests.text.wordpiece.test_tokenizer import GOLDENS, assert_same, byte_offsets

VOCABULARY = [
    "<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>", *"ab<>/sk[]", "##a", "##b", "un", "中",
    "文", "mask", "pad", "é",
]  # fmt: skip
NAMES = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
SETS = {
    "mpnet": [AddedToken("<mask>", lstrip=True), AddedToken("<unk>", normalized=True)],
    "all on the right": [AddedToken(token, rstrip=True) for token in ("<mask>", "<s>", "[UNK]")],
    "both sides": [AddedToken(token, lstrip=True, rstrip=True) for token in ("<mask>", "</s>")],
    "overlapping": [
        AddedToken(token) for token in ("ab", "aba", "bab", "  ", "   ", "b <", "中a", "aa")
    ],
    "overlapping and stripping": [
        AddedToken("ab", lstrip=True), AddedToken("ba"), AddedToken("aba"),
        AddedToken("<mask>", lstrip=True), AddedToken(" <s", lstrip=True),
        AddedToken("a ", special=False),
    ],
    "normalized": [
        AddedToken("<UNK>", normalized=True),
        AddedToken("Ab", normalized=True, special=False), AddedToken("ba", normalized=True),
        AddedToken("<mask>", lstrip=True), AddedToken("b<MA", normalized=True),
        AddedToken("[PAD]", normalized=False, special=False),
    ],
    "words": [
        AddedToken(word, normalized=True, special=False)
        for word in ("Éa", "b \u00adB", "ΣΑΣ", "한국", "<Ñ>")
    ],
}  # fmt: skip
PARTS = [
    "<s>", "</s>", "<mask>", "<MASK>", "<unk>", "<UNK>", "<u\u0301nk>", "\u226eunk>", "[UNK]",
    "[PAD]", "<pad>", "ab", "Ab", "aba", "bab", "a", "b", "<", "un", "中", "中文", "文", "é",
    "e\u0301", "\u0301", "Σας", "σασ", "한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "<ñ>", "<N>",
    " ", "  ", "   ", "\t", "\u00a0", "\u0085", "\u1680", "\u2009", "\u2028", "\u205f", "\u3000",
    "\u200b", "\u00ad", "\x1c", "\ufeff", "\U0001f600", "\u2080", "\u2e52",
]  # fmt: skip


def reference(ours):
    """Returns Hugging Face's tokenizer with the same added tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({t: i for i, t in enumerate(ours.pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        lowercase=ours.lowercase, strip_accents=ours.strip_accents
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    if ours.trim_offsets:
        tokenizer.post_processor = tokenizers.processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
        )
    tokens = sorted(ours.added_tokens, key=lambda token: token.id)
    flags = ("lstrip", "rstrip", "normalized", "special")
    theirs = [(t.content, {flag: getattr(t, flag) for flag in flags}) for t in tokens]
    tokenizer.add_tokens([tokenizers.AddedToken(content, **of) for content, of in theirs])
    assert [tokenizer.token_to_id(token.content) for token in tokens] == [t.id for t in tokens]
    return tokenizer


def random_texts(count, seed=11):
    rng = random.Random(seed)
    return ["".join(rng.choices(PARTS, k=rng.randint(0, 14))) for _ in range(count)]


@pytest.mark.parametrize("case", range(len(GOLDENS["added_cases"])))
@eagerly()
def test_goldens(case):
    golden, texts = GOLDENS["added_cases"][case], GOLDENS["added_texts"]
    ours = WordPieceTokenizer(
        GOLDENS["vocabulary"],
        lowercase=golden["lowercase"],
        added_tokens=[AddedToken(**token) for token in golden["added_tokens"]],
    )
    ids, starts, ends = (x.to_list() for x in ours.tokenize_with_offsets(texts))
    assert ids == golden["ids"]
    for i, text in enumerate(texts):
        spans = list(zip(starts[i], ends[i], strict=True))
        assert spans == byte_offsets(text, golden["offsets"][i]), ascii(text)


@pytest.mark.parametrize(
    ("name", "lowercase"),
    [*((name, True) for name in SETS), ("normalized", False), ("words", False)],
)
@eagerly()
def test_flags(name, lowercase):
    ours = WordPieceTokenizer(VOCABULARY, lowercase=lowercase, added_tokens=SETS[name], **NAMES)
    assert_same(ours, reference(ours), ["", *PARTS, *random_texts(3000)])


def test_tokens_that_are_the_same_when_normalized():
    """The first token is always selected. Hugging Face selects any, and may change in each run."""
    tokens = [AddedToken("<UNK>", normalized=True), AddedToken("<unk>", normalized=True)]
    ours = WordPieceTokenizer(VOCABULARY, added_tokens=tokens, **NAMES)
    assert ours.tokenize("<unk><UNK>").numpy().tolist() == [3, 3]
    tokens = [AddedToken(f"<{x}>", normalized=True) for x in ("New", "NEW")]
    ours = WordPieceTokenizer(VOCABULARY, added_tokens=tokens, **NAMES)
    assert ours.tokenize("<new>").numpy().tolist() == [len(VOCABULARY)]


def test_trimmed_offsets():
    ours = WordPieceTokenizer(VOCABULARY, added_tokens=SETS["mpnet"], trim_offsets=True, **NAMES)
    ids, starts, ends = (x.numpy().tolist() for x in ours.tokenize_with_offsets("a \u3000<mask> b"))
    assert ids == [ours.token_to_id(token) for token in ("a", "<mask>", "b")]
    assert (starts, ends) == ([0, 5, 12], [1, 11, 13])
    assert_same(ours, reference(ours), random_texts(1000))


def test_long_chains_of_overlapping_tokens():
    ours = WordPieceTokenizer(
        VOCABULARY, added_tokens=[AddedToken("aba"), AddedToken("a" * 7), AddedToken("aa")], **NAMES
    )
    texts = ["aba" * 500, "ab" * 1000, "a" * 1001, "b", "", "a" * 13 + "ba" * 9, "ba" * 333]
    assert_same(ours, reference(ours), texts)


@eagerly()
def test_many_tokens():
    tokens = [AddedToken(f"<extra_{i}>", special=i % 2 == 0) for i in range(1500)]
    ours = WordPieceTokenizer(VOCABULARY, added_tokens=tokens, **NAMES)
    texts = [f"a <extra_{i}>b<extra_{i * 7}><extra_{i + 1}" for i in range(0, 1600, 37)]
    assert_same(ours, reference(ours), texts)


def test_ids_and_kinds():
    tokens = [
        AddedToken("<new>", id=len(VOCABULARY) + 1, special=False),
        AddedToken("<newer>", id=len(VOCABULARY)),
        AddedToken("<mask>", id=5, lstrip=True, special=False),
    ]
    ours = WordPieceTokenizer(
        VOCABULARY, added_tokens=tokens, additional_special_tokens=["<e>"], **NAMES
    )
    assert ours.vocabulary == [*VOCABULARY, "<newer>", "<new>", "<e>"]
    assert ours.special_tokens == ("[UNK]", "<s>", "</s>", "<pad>", "<mask>", "<e>", "<newer>")
    assert ours.additional_special_tokens == ("<e>", "<newer>")
    mask = next(token for token in ours.added_tokens if token.content == "<mask>")
    assert mask == AddedToken("<mask>", id=5, lstrip=True)
    assert ours.added_tokens[-1] == AddedToken("<new>", id=len(VOCABULARY) + 1, special=False)
    texts = ["a <new><newer> <mask><e>"]
    ids = ours.tokenize(texts)
    shown = ours.detokenize(ids, skip_special_tokens=True).numpy()
    assert shown.tolist() == [b"a <new>"]


def test_named_tokens_after_the_vocabulary():
    """All special tokens are added if the vocabulary contains only pieces."""
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokens = [AddedToken(token, id=3 + i) for i, token in enumerate(names.values())]
    ours = Characters(["a", "b", "c"], added_tokens=tokens, mask_token=None, **names)
    assert ours.vocabulary[3:] == list(names.values())
    assert (ours.cls_token_id, ours.pad_token_id) == (4, 6)


class Characters(WordPieceTokenizer):
    """A tokenizer without the constants of its class."""

    def _build(self):
        self.pieces = ()


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ({"content": ""}, "as strings that are not empty, received ''"),
        ({"content": 3}, "as strings that are not empty, received 3"),
        ({"content": "\ud800"}, "of Unicode characters"),
        ({"content": "x", "id": -1}, "to be an int of at least 0, received -1"),
        ({"content": "x", "id": "7"}, "to be an int of at least 0, received '7'"),
        ({"content": "x", "id": True}, "to be an int of at least 0, received True"),
        ({"content": "x", "lstrip": 1}, "Expected lstrip of the added token 'x' to be true or"),
        (
            {"content": "x", "single_word": True},
            "single_word=false of the added token 'x', received true",
        ),
    ],
)
def test_bad_tokens(token, message):
    with pytest.raises(ConfigError) as raised:
        AddedToken(**token)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([AddedToken("<x>", id=10**12)], f"'<x>' to have the id {len(VOCABULARY)}, received 1"),
        ([AddedToken("<mask>", id=6)], "'<mask>' to have the id 5, received 6"),
        ([AddedToken("x"), AddedToken("x", lstrip=True)], "'x' once, received it with"),
        ([AddedToken(" x"), AddedToken("y", rstrip=True)], "added tokens with ' x'"),
        ([AddedToken("中a", normalized=True)], "normalized=false of the added token '中a'"),
        ([AddedToken("a ", normalized=True)], "normalized=false of the added token 'a '"),
        ([AddedToken("\u00ad", normalized=True)], "normalized=false of the added token '\\xad'"),
        ([AddedToken("a\u2e52", normalized=True)], "normalized=false of the added token 'a"),
        ([AddedToken("<x>", normalized=True, lstrip=True)], "normalized=false of the added token"),
    ],
)  # fmt: skip
def test_tokens_that_are_refused(tokens, message):
    with pytest.raises(ConfigError) as raised:
        WordPieceTokenizer(VOCABULARY, added_tokens=tokens, **NAMES)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_from_json():
    assert AddedToken.from_json("<x>", token_id=3) == AddedToken("<x>", id=3)
    written = AddedToken("<x>", id=3, lstrip=True, normalized=True, special=False)
    assert AddedToken.from_json(written.to_json(), token_id=3) == written
    with pytest.raises(ConfigError, match="Expected a token as a string, received 3"):
        AddedToken.from_json(3)
    with pytest.raises(ConfigError, match="for the added token 'x', received \\['left'\\]"):
        AddedToken.from_json({"content": "x", "left": True})


def test_finder_needs_ids():
    with pytest.raises(ConfigError, match="Expected an id for the added token 'x', received None"):
        special_tokens.SpecialTokenFinder([AddedToken("x")])


def test_whitespace_is_unicode_s():
    """Compares the first plane with the property in Rust's regex crate."""
    tokenizers = pytest.importorskip("tokenizers")
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\s"), "removed")
    points = [chr(c) for c in range(0x10000) if not 0xD800 <= c <= 0xDFFF]
    solid = "".join(piece for piece, _ in split.pre_tokenize_str("".join(points)))
    assert set(points) - set(solid) == special_tokens.WHITESPACE


@eagerly()
def test_invalid_utf8():
    ours = WordPieceTokenizer(VOCABULARY, added_tokens=SETS["mpnet"], **NAMES)
    invalid = [b"\xc2", b"\x85<mask>", b"\xe2\x80", b"a\xe3\x80 <mask>", b"\x80"]
    # The text after each one would complete its last character.
    texts = [text for raw in invalid for text in (raw, b"\x85 <mask>", b"<mask>")]
    ids, starts, ends = (x.to_list() for x in ours.tokenize_with_offsets(texts))
    for text, row, first, last in zip(texts, ids, starts, ends, strict=True):
        assert row.count(5) == text.count(b"<mask>")
        assert all(0 <= a < b <= len(text) for a, b in zip(first, last, strict=True))


# tf.lite's interpreter always logs this warning; LiteRT's interpreter is an extra.
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_litert():
    # Raw and normalized tokens, overlapping tokens, and tokens that take whitespace.
    ours = WordPieceTokenizer(VOCABULARY, added_tokens=SETS["normalized"], **NAMES)
    model = Model(ours)
    lite = interpreter(model, model.windows).get_signature_runner()
    for texts in (random_texts(40), ["a"], ["ababab  <mask>"], [""]):
        packed = lite(texts=np.array([text.encode() for text in texts], object))
        expected = model.windows(tf.constant(texts))
        for key, value in expected.items():
            np.testing.assert_array_equal(packed[key], value.numpy(), err_msg=key)

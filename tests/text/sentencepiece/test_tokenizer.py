"""SentencePieceTokenizer has the results of Hugging Face, in graphs.

tests/text/test_graph.py saves one in a SavedModel.
"""

import itertools
import random

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.sentencepiece import precompiled_charsmap, unigram
from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
from keras_bert_zoo.text.special_tokens import AddedToken
from tests.helpers import eagerly

S = "\u2581"
PIECES = [
    ("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (S, -2.0), (f"{S}the", -2.5),
    (f"{S}un", -3.0), ("aff", -4.0), ("able", -4.25), ("a", -5.0), ("b", -5.5), ("e", -5.25),
    ("ab", -10.25), ("f", -6.0), ("fi", -7.0), ("i", -6.5), ("l", -6.5), ("n", -6.75), ("u", -7.0),
    ("h", -7.0), ("t", -7.0), ("\u00e9", -8.0), ("\u4e2d", -8.0), ("\u4e2d\u56fd", -8.5),
    ("T", -9.0), ("M", -9.0), ('"', -9.0), (",", -5.0), ("X", -9.5), ("1", -9.0), ("2", -9.0),
    (f"{S}{S}", -3.5), ("\u0301", -9.0), ("\uac00", -9.0), ("ba", -10.5), ("<mask>", 0.0),
]  # fmt: skip
# All kinds of entries of nmt_nfkc's charsmap: longer, shorter, empty, a space, a cluster.
CHARSMAP = {
    "\ufb01": "fi", "e\u0301": "\u00e9", "\r": " ", "\n": " ", "\t": " ", "\x01": "", "\xad": "",
    "\u2122": "TM", "\u3000": " ", "\u00bd": "1\u20442", "\uff21": "A", "\u0344": "\u0308\u0301",
    "a\u0301": "\u00e1", "\u200b": " ", "\u0958": "\u0915\u093c", "\xa0": " ", "\ufdfa": "abe ef",
}  # fmt: skip
METASPACE = {"type": "Metaspace", "replacement": S, "split": True}


def make_charsmap(keys):
    """Returns a compiled map: a trie with 256 units for the children of each node, and texts."""
    encoded = {key.encode(): text.encode() for key, text in keys.items()}
    pool, places = b"", {}
    for text in encoded.values():
        places[text] = len(pool)
        pool += text + b"\0"
    nodes = {b"": 0}
    for key in encoded:
        for end in range(1, len(key) + 1):
            nodes.setdefault(key[:end], len(nodes))
    units = np.zeros(256 * (len(nodes) + 1), np.uint32)
    units[0] = 256 << 10
    for key, node in nodes.items():
        base = 256 * (node + 1)
        if key:
            place = 256 * (nodes[key[:-1]] + 1) ^ key[-1]
            units[place] = (place ^ base) << 10 | key[-1] | (key in encoded) << 8
        if key in encoded:
            units[base] = 1 << 31 | places[encoded[key]]
    return np.uint32(units.nbytes).tobytes() + units.tobytes() + pool


def normalizer(*steps):
    import base64

    charsmap = base64.b64encode(make_charsmap(CHARSMAP)).decode()
    known = {
        "map": {"type": "Precompiled", "precompiled_charsmap": charsmap},
        "quotes": {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
        "one space": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        "spaces": {
            "type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " ",
        },
        "right": {"type": "Strip", "strip_left": False, "strip_right": True},
        "both": {"type": "Strip", "strip_left": True, "strip_right": True},
    }  # fmt: skip
    entries = [known.get(step, {"type": step}) for step in steps]
    return {"type": "Sequence", "normalizers": entries}


# The options of ALBERT, XLM-RoBERTa, DeBERTa, and an unusual combination.
OPTIONS = {
    "albert": {
        "normalizer": normalizer("quotes", "NFKD", "StripAccents", "Lowercase", "map"),
        "added_tokens": [AddedToken("<mask>", lstrip=True)],
    },
    "xlm-roberta": {"normalizer": normalizer("map")},
    "deberta": {
        "normalizer": normalizer("spaces", "NFC", "right"),
        "split_at_whitespace": False,
    },
    "odd": {
        "normalizer": normalizer("both", "map", "one space"),
        "split_at_whitespace": False,
        "split_at_punctuation": True,
        "prefix": "first",
        "added_tokens": [
            AddedToken("<unk>", normalized=True),
            AddedToken("TMn", normalized=True, special=False),
        ],
    },
}


@pytest.fixture(scope="module", params=OPTIONS)
def pair(request):
    """A tokenizer of this package, and the same one of Hugging Face."""
    tokenizers = pytest.importorskip("tokenizers")
    from keras_bert_zoo.text.sentencepiece import files as sentencepiece_files

    ours = SentencePieceTokenizer(PIECES, **OPTIONS[request.param])
    import json

    content = sentencepiece_files.tokenizer_json(ours.pieces, ours.options)
    return ours, tokenizers.Tokenizer.from_str(json.dumps(content))


def expected(theirs, text):
    """Returns Hugging Face's ids and byte offsets."""
    encoding = theirs.encode(text, add_special_tokens=False)
    at = [0, *itertools.accumulate(len(char.encode()) for char in text)]
    return encoding.ids, [(at[start], at[end]) for start, end in encoding.offsets]


def tokenize(ours, texts):
    ids, starts, ends = ours.tokenize_with_offsets(texts)
    spans = zip(starts.to_list(), ends.to_list(), strict=True)
    return list(zip(ids.to_list(), [list(zip(*span, strict=True)) for span in spans], strict=True))


def check(pair, texts):
    ours, theirs = pair
    wrong = [
        (text, theirs_of_text, ours_of_text)
        for text, theirs_of_text, ours_of_text in zip(
            texts, (expected(theirs, text) for text in texts), tokenize(ours, texts), strict=True
        )
        if theirs_of_text != ours_of_text
    ]
    assert not wrong, f"{len(wrong)} of {len(texts)}: {wrong[0]!a}"


SPECIAL_TEXTS = [
    "", " ", "  ", "the unaffable", "the  unaffable  the ", " the", "\x01the un un", "a\x01\x01 un",
    "e\u0301 ", "\ufb01\u0301n", "\ufb01 un\u2122\u0301", "`` ``` ````", "\r\n", "a\r\nb", "a\n b",
    "un \u0301a", "\u4e2d\u56fd\u4e2dqq\u4e2d", "qqq qq", "q<unk>q", "a<mask>b <mask>  the<mask>",
    "<s>the</s>", "\uff1cunk\uff1e", "\u2122n TMn\u2122nTMn q<unk>,<unk>a",
    "\u0344\u0301", "\u0958\u0301", "\u0915\u094d\u0958\u0301",
    "\U0001f469\u200d\u2122\u0301", "\u2122\u200d\u2122", "\u0600\ufb01", "\u1100\uac00\u0301",
    "\uac01\u11a8", "\u1112\u1161\u11ab", "a\u0323\u0301\u0302", "\u0301\u0323a", "\u212b",
    "\u0130\u0049", f"{S}the {S}", f"a{S}{S}{S}b", "a,b, the,", ",", "\u00bd un\u200b un",
    "\u3000the\u3000\u3000un\u3000", "\ufdfa\xad\xad the", "\0a", "a\0 the",
    "\0\u0344\u0301", "\x01", "\x01\x01",
    "x" * 300, "ab" * 200, "the " * 50, "aba" * 30, "\u0345\u0301e\u0301\u0323",
]  # fmt: skip


def test_special_cases(pair):
    check(pair, SPECIAL_TEXTS)


def test_random_texts(pair):
    rng = random.Random(5)
    parts = [
        *"abefilnuhtTMX12,` \r\n\t\x01\xad\u2122\u3000\u0301\u0323\u0344\u0600\u0958\u094d\u0915",
        *"\ufb01\u00bd\uff21\u00e9\uac00\u1100\u1161\u11a8\u200d\u200b\u4e2d\u56fd\U0001f469\ufe0f",
        "the ", " un", "affable", "e\u0301", "<mask>", "<unk>", S, "  ", "q", "\u0e33", "\ufdfa",
    ]  # fmt: skip
    check(pair, ["".join(rng.choices(parts, k=rng.randint(1, 20))) for _ in range(1500)])


def test_code_points(pair):
    points = [c for c in range(1, 0x30000, 41) if not 0xD800 <= c <= 0xDFFF]
    points += [0xE0041, 0xE0100, 0xF0000, 0x10FFFF, *range(0x300, 0x330), *range(0x2000, 0x2070)]
    check(pair, [f"a{chr(c)}e {chr(c)}un {chr(c)}{chr(c)}" for c in points])


def test_texts_of_a_batch_do_not_affect_each_other(pair):
    ours, _ = pair
    together = tokenize(ours, SPECIAL_TEXTS)
    assert together == [tokenize(ours, [text])[0] for text in SPECIAL_TEXTS[:12]] + together[12:]
    assert tokenize(ours, SPECIAL_TEXTS[::-1]) == together[::-1]


def test_detokenize_as_hugging_face(pair):
    ours, theirs = pair
    texts = ["the unaffable", "a the,the", "<mask> un"]
    ids = [theirs.encode(text, add_special_tokens=False).ids for text in texts]
    assert [text.decode() for text in ours.detokenize(ids).numpy()] == [
        theirs.decode(row, skip_special_tokens=False) for row in ids
    ]
    assert ours.detokenize([[0, 5, 2, 6]], skip_special_tokens=True).numpy() == [b"the un"]


@eagerly()
def test_unknown_bytes_are_replacement_characters():
    ours = SentencePieceTokenizer([*PIECES[:-1], ("\ufffd", -3.0), PIECES[-1]])
    broken = [b"a\xffb", b"\xe4\xb8 un", b"\x80", b"the\xed\xa0\x80", b"\xf4\x90"]
    for text, (ids, spans) in zip(broken, tokenize(ours, broken), strict=True):
        decoded = text.decode("utf-8", "replace")
        assert ids == ours.tokenize(decoded).numpy().tolist()
        assert spans[-1][1] == len(text)


def test_byte_fallback_as_hugging_face():
    tokenizers = pytest.importorskip("tokenizers")
    pieces = [*PIECES[:-1], *((f"<0x{byte:02X}>", -20.0) for byte in range(256)), PIECES[-1]]
    ours = SentencePieceTokenizer(pieces, byte_fallback=True)
    theirs = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, 3, True))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Metaspace(),
        ]
    )
    texts = ["the q\u00dfa \U0001f469\u200d", "q<unk>q", "\u4e2dqq\x7f\u07ff\u0800\uffff"]
    for text, result in zip(texts, tokenize_without_added(ours, texts), strict=True):
        assert expected(theirs, text) == result


def tokenize_without_added(ours, texts):
    """Returns ids and spans, without matching special tokens."""
    from keras_bert_zoo.text.text_parts import Parts

    rows = tf.range(len(texts), dtype=tf.int64)
    parts = Parts(
        tf.constant(texts),
        tf.fill([len(texts)], 2),
        rows,
        tf.zeros_like(rows),
        tf.range(len(texts) + 1, dtype=tf.int64),
    )
    ids, splits, (starts, ends) = ours.tokenize_parts(parts)
    rows = [tf.RaggedTensor.from_row_splits(v, splits).to_list() for v in (ids, starts, ends)]
    return [(row, list(zip(a, b, strict=True))) for row, a, b in zip(*rows, strict=True)]


def test_scores_of_64_bits_decide():
    # In 32 bits, both ways to cut "ab" have the same sum.
    small = 2.0**-40
    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -2.0 - small), ("ba", -2.0 + small)]
    model = unigram.UnigramModel(pieces, unk_id=0)
    text = np.array([ord(char) for char in "abba"], np.int32)
    words = tf.constant([0, 0, 1, 1], tf.int64)
    assert model(tf.constant(text), words).ids.numpy().tolist() == [1, 2, 4]


@pytest.mark.parametrize("quantum", [2.0**-10, 0.1])
def test_cutting_words_changes_nothing(quantum):
    """For exact and inexact sums, the best paths are those of a search over the whole word."""
    rng = random.Random(7)
    texts = ["".join(chars) for n in (1, 2, 3) for chars in itertools.product("abc", repeat=n)]
    # Many equal scores, to test ties.
    pieces = [("<unk>", 0.0)]
    pieces += [(text, -quantum * rng.randint(1, 9)) for text in [*rng.sample(texts, 25), "d"]]
    model = unigram.UnigramModel(pieces, unk_id=0)
    words = ["".join(rng.choices("abcde", k=rng.randint(1, 40))) for _ in range(300)]
    points = tf.constant([ord(char) for word in words for char in word], tf.int32)
    numbers = tf.repeat(tf.range(300, dtype=tf.int64), [len(word) for word in words])
    cut = model(points, numbers)
    model.exact_length = 0
    whole = model(points, numbers)
    for one, other in ((cut.ids, whole.ids), (cut.first, whole.first), (cut.last, whole.last)):
        np.testing.assert_array_equal(one, other)
    ids = tf.RaggedTensor.from_value_rowids(cut.ids, tf.gather(numbers, cut.first)).to_list()
    assert ids == [search(pieces, word) for word in words]


def search(pieces, word):
    """Returns the best path, and joins adjacent unknown characters."""
    known = {piece: (i, score) for i, (piece, score) in enumerate(pieces)}
    unk_score = min(score for _, score in pieces) - 10
    best = [(0.0, 0, 0)] + [None] * len(word)
    for at in range(len(word)):
        for end in range(at + 1, len(word) + 1):
            piece = word[at:end]
            if piece not in known and end > at + 1:
                continue
            number, score = known.get(piece, (0, unk_score))
            total = score + best[at][0]
            if best[end] is None or total > best[end][0]:
                best[end] = (total, at, number)
    path, at = [], len(word)
    while at:
        _, start, number = best[at]
        if number or not path or path[-1]:
            path.append(number)
        at = start
    return path[::-1]


def test_trie_finds_every_piece():
    rng = random.Random(3)
    pieces = list(
        {"".join(rng.choices("abcd\u4e2d\U0001f469", k=rng.randint(1, 6))) for _ in range(3000)}
    )
    trie = unigram.build_trie(pieces)
    for number, piece in enumerate(pieces):
        base, parent = trie.root, -1
        for char in piece:
            unit = base + trie.ranks[ord(char)]
            assert trie.units[unit][0] == parent
            parent, base, value = unit, *trie.units[unit][1:]
        assert value == number


@eagerly()
def test_empty_batch_and_single_text():
    ours = SentencePieceTokenizer(PIECES)
    assert ours.tokenize([]).shape == (0, None)
    assert ours.tokenize("the").numpy().tolist() == [5]
    packed = ours(["the", ""], max_length=6)
    assert packed["token_ids"].numpy().tolist() == [[0, 5, 2], [0, 2, 1]]


def test_charsmap_is_read_and_refused():
    charsmap = make_charsmap(CHARSMAP)
    assert precompiled_charsmap.read_charsmap(charsmap) == CHARSMAP
    for broken, message in (
        (b"abc", "received 3 bytes"),
        (charsmap[:1000], "whose trie fits"),
        (b"\xff\xff\xff\xff" + charsmap[4:], "whose trie fits"),
        (b"\0\0\0\0" + charsmap[4:], "received a trie of 0 bytes"),
        (charsmap[: 4 + int.from_bytes(charsmap[:4], "little")], "a key without its text"),
    ):
        with pytest.raises(ConfigError, match=message):
            precompiled_charsmap.read_charsmap(broken)
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(charsmap)
        for place in rng.integers(4, len(charsmap), 200):
            damaged[place] = rng.integers(256)
        try:
            precompiled_charsmap.read_charsmap(bytes(damaged))
        except ConfigError:
            continue


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pieces": [*PIECES, ("a", -1.0)]}, "distinct tokens"),
        ({"pieces": [*PIECES, ("z", float("nan"))]}, "finite scores"),
        ({"pieces": [(piece, 20.0) for piece, _ in PIECES]}, "lowest score of at most 0"),
        ({"unk_token": "[UNK]"}, "unk_token"),
        ({"prefix": "last"}, "Expected prefix of always, first, never"),
        ({"byte_fallback": True}, "<0x00>"),
        ({"normalizer": {"type": "Nmt"}}, "received 'Nmt'. Others are not supported"),
        ({"normalizer": {"type": "Strip"}}, "strip_left"),
        (
            {"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}},
            "received Regex 'a\\+', which is not supported",
        ),
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "%"}},
            "precompiled_charsmap in base64",
        ),
        (
            {"added_tokens": [AddedToken("f o", normalized=True)]},
            "normalized=false of the added token .*, received true",
        ),
        ({"added_tokens": [AddedToken("ff", normalized=True)]}, "cannot overlap"),
    ],
)
def test_refuses(change, message):
    options = {"pieces": PIECES} | change
    with pytest.raises(ConfigError, match=message):
        SentencePieceTokenizer(options.pop("pieces"), **options)

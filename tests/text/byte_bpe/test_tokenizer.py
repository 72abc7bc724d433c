"""Byte-level BPE has the results of Hugging Face: ids, offsets, files, exports."""

import json
import random

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo import ByteBpeTokenizer
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.export.audit import audit_saved_model
from keras_bert_zoo.text.byte_bpe.model import byte_by_character, final_merge, token_bytes
from keras_bert_zoo.text.special_tokens import AddedToken
from tests.helpers import eagerly

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LETTERS = list(byte_by_character())
# Merges that training would not produce: unlisted neighbors that make a listed token ("b" + "c"
# instead of "ab" + "c"), one token from two pairs, tokens that never arise, a repeated pair.
MERGES = [
    ("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc"), ("Ġ", "a"), ("Ġ", "abc"), ("c", "c"),
    ("cc", "c"), ("c", "cc"), ("Ġa", "b"), ("Ã", "©"), ("h", "Ã©"), ("Ċ", "Ġ"), ("Ġ", "Ġ"),
    ("'", "l"), ("'l", "l"), ("d", "d"), ("dd", "d"), ("d", "dd"), ("dd", "dd"), ("b", "c"),
]  # fmt: skip
VOCABULARY = [*SPECIAL, *LETTERS, *dict.fromkeys(map("".join, MERGES)), "dead", "madeup"]

TEXTS = [
    "", " ", "   ", "a", " abc", "abc", "bc abc", "cccc ccccc", "ddddddd d dd",
    "don't a'll  'll 's",
    "I'm ''s 's's x's'll'", "a\n\n b \n", "\t\x85'd \u3000 b \u3000",
    "héé h\u0301 中文 \U0001f600!",
    "<mask>", "a <mask>b", " \t<mask> <mask><s>", "12²Ⅷ a1b", "!?'s ...'t", "x  ", " \n ", "Ġabc",
    "\u1100\u1161\u11a8 \uac00\u11a8", "q\u0307\u0323 e\u0323\u0302x", "\u0958\u09c7\u09be",
    "\0\ufeff\u200d",
]  # fmt: skip


@pytest.fixture(scope="module")
def plain():
    return ByteBpeTokenizer(VOCABULARY, MERGES)


def make_modern(*, trim_offsets, **options):
    spaces = () if trim_offsets else (4, 3, 2)  # trimming would change them
    added = [AddedToken(" " * n, normalized=True, special=False) for n in spaces]
    added += [AddedToken("[MASK]", lstrip=True), AddedToken("|IP|", normalized=True, special=False)]
    return ByteBpeTokenizer(
        [*VOCABULARY[5:], "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
        MERGES,
        nfc=True,
        trim_offsets=trim_offsets,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        added_tokens=added,
        separators_between=1,
        **options,
    )


@pytest.fixture(scope="module")
def modern():
    return make_modern(trim_offsets=False)


def reference(ours):
    """Returns Hugging Face's tokenizer for the file that the tokenizer writes."""
    tokenizers = pytest.importorskip("tokenizers")
    from keras_bert_zoo.text.byte_bpe import files as byte_bpe_files

    content = byte_bpe_files.tokenizer_json(ours.pieces, ours.merges, ours.options)
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def check(ours, theirs, texts, *, also_without_offsets=False):
    results = [part.to_list() for part in ours.tokenize_with_offsets(texts)]
    if also_without_offsets:  # another graph, which takes seconds to trace
        assert ours.tokenize(texts).to_list() == results[0]
    for text, ids, starts, ends in zip(texts, *results, strict=True):
        expected = theirs.encode(text, add_special_tokens=False)
        places = np.cumsum([0, *(len(char.encode()) for char in text)])
        spans = [(places[start], places[end]) for start, end in expected.offsets]
        assert (ids, list(zip(starts, ends, strict=True))) == (expected.ids, spans), ascii(text)


def random_texts(count, seed):
    rng = random.Random(seed)
    parts = [
        *TEXTS, "'s", "'ll", " ", "  ", "abc", "bcab", "ccc", "ddd", "<mask>", "[MASK]",
        "|IP|", "\n", "\xa0",
        "\u0301", "\u0323", "\u0345", "\u1161", "e", "Å", "1", "\u2003", "\u0300", "\u0f71\u0f72",
        "Ω", "\u037e",
    ]  # fmt: skip
    texts = ["".join(rng.choices(parts, k=rng.randint(1, 6))) for _ in range(count)]
    points = [rng.randrange(0x110000 - 0x800) for _ in range(count)]
    chars = [chr(point if point < 0xD800 else point + 0x800) for point in points]
    return texts + [f"a{char}b {char} \u0301{char}'s" for char in chars]


# Graphs are as the results of `test_saved_model`.
@eagerly()
def test_ids_and_offsets_without_tokenizers(plain):
    """A golden that does not need `tokenizers`."""
    ids, starts, ends = plain.tokenize_with_offsets([" abc héé", "a  <mask>'ll", "dddd"])
    tokens = [[plain.id_to_token(i) for i in row] for row in ids.to_list()]
    assert tokens == [
        ["Ġabc", "Ġ", "hÃ©", "Ã©"],
        ["a", "<mask>", "'ll"],
        ["dddd"],
    ]
    assert starts.to_list() == [[1, 5, 5, 8], [0, 3, 9], [0]]
    assert ends.to_list() == [[4, 5, 8, 10], [1, 9, 12], [4]]


@eagerly()
def test_equals_hugging_face(plain):
    check(plain, reference(plain), TEXTS + random_texts(800, 1), also_without_offsets=True)


@eagerly()
def test_equals_hugging_face_in_modernberts_structure(modern):
    check(modern, reference(modern), TEXTS + random_texts(800, 2), also_without_offsets=True)


@eagerly()
def test_equals_hugging_face_with_a_prefix_space():
    ours = ByteBpeTokenizer(VOCABULARY, MERGES, add_prefix_space=True)
    check(ours, reference(ours), TEXTS + random_texts(400, 3))


@eagerly()
def test_every_token_and_every_table_of_merges():
    rng = random.Random(4)
    known = list("abcĠ")
    merges = []
    for _ in range(60):
        pair = (rng.choice(known), rng.choice(known))
        merges.append(pair)
        if len("".join(pair)) < 40:
            known.append("".join(pair))
    rng.shuffle(merges)
    words = dict.fromkeys([*map("".join, merges)])
    ours = ByteBpeTokenizer([*SPECIAL, *dict.fromkeys([*LETTERS, *words])], merges)
    texts = ["".join(rng.choices("abc ", k=rng.randint(1, 40))) for _ in range(500)]
    check(ours, reference(ours), texts + [word.replace("Ġ", " ") for word in words])


def test_long_and_short_tokens_are_merged_alike():
    ranks = {("a", "a"): 1, ("aa", "aa"): 0, ("a", "b"): 2, ("aaaa", "aaaa"): 3, ("aa", "ab"): 4}
    ranks |= {("aaaaaaaa", "aaaaaaaa"): 5, ("a" * 16, "a" * 16): 6, ("aaaaaaaa", "aaab"): 7}
    assert final_merge("a" * 32, ranks) == ("a" * 16, "a" * 16)
    assert final_merge("a" * 16, ranks) == ("a" * 8, "a" * 8)
    assert final_merge("aaab", ranks) == ("aa", "ab")
    assert final_merge("a" * 31, ranks) is None
    assert final_merge("中", ranks) is None


@eagerly()
def test_bytes_that_are_not_utf8_are_ignored(plain, modern):
    texts = [
        b"a\xffb \xe4\xb8 c", b"\x80", b"ab\xc3", b"\xa9c", b"\xed\xa0\x80a",
        b"\xf4\x90\x80\x80", b"\xc0\xaf!",
        "中".encode() + b"\xe4" + "é".encode(), b"\xf8\x88\x80\x80\x80 x", b"e\xff\xcc\x81",
    ]  # fmt: skip
    for ours in (plain, modern):
        decoded = [text.decode("utf-8", "ignore") for text in texts]
        ids, starts, ends = ours.tokenize_with_offsets(texts)
        assert ids.to_list() == ours.tokenize(decoded).to_list()
        for text, row_starts, row_ends in zip(texts, starts.to_list(), ends.to_list(), strict=True):
            for start, end in zip(row_starts, row_ends, strict=True):
                assert 0 <= start <= end <= len(text)
    ids, starts, ends = plain.tokenize_with_offsets(b"a\xffb")
    assert [part.numpy().tolist() for part in (ids, starts, ends)] == [
        [plain.token_to_id("ab")],
        [0],
        [3],
    ]


def test_words_of_any_length(plain):
    ids = plain.tokenize("c" * 100_000).numpy()
    length = sum(len(token_bytes(plain.id_to_token(i))) for i in ids)
    assert (length, set(ids)) == (100_000, {plain.token_to_id("cc")})


@eagerly()
def test_pairs_are_packed_as_in_roberta(plain):
    packed = plain((["a"], ["b"]), max_length=9, padding="max_length")
    a, b = plain.token_to_id("a"), plain.token_to_id("b")
    assert packed["token_ids"].numpy().tolist() == [[0, a, 2, 2, b, 2, 1, 1, 1]]
    assert not packed["segment_ids"].numpy().any()


def test_detokenize(plain):
    assert plain.detokenize(plain.tokenize(["héé 中文 a\n"])).numpy()[0].decode() == "héé 中文 a\n"
    ids = [0, plain.token_to_id("Ã"), plain.token_to_id("h"), -1, 10**6, 2]
    assert plain.detokenize(ids).numpy().decode() == "<s>\ufffdh</s>"
    assert plain.detokenize(ids, skip_special_tokens=True).numpy().decode() == "\ufffdh"


def test_saved_model(tmp_path):
    """A tokenizer with all steps, whose eager results are those of Hugging Face."""
    ours = make_modern(trim_offsets=True, add_prefix_space=True)

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def tokens(self, texts):
            ids, starts, ends = ours.tokenize_with_offsets(texts)
            return {
                "ids": ids.to_tensor(default_value=-1),
                "starts": starts.to_tensor(),
                "ends": ends.to_tensor(),
            }

    model = Model()
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": model.tokens})
    ops = audit_saved_model(tmp_path)
    assert "SentencepieceTokenizeOp" in ops
    assert not {op for op in ops if "HashTable" in op or "Variable" in op}
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    texts = TEXTS + random_texts(100, 5)
    with eagerly():
        check(ours, reference(ours), texts)
        expected = model.tokens(tf.constant(texts))
    for name, value in loaded(texts=tf.constant(texts)).items():
        np.testing.assert_array_equal(value.numpy(), expected[name].numpy())


@pytest.mark.parametrize("name", ["plain", "modern"])
def test_saved_and_read_back(name, request, tmp_path):
    ours = request.getfixturevalue(name)
    (tmp_path / "merges.txt").write_text("stale")
    ours.save(tmp_path)
    again = ByteBpeTokenizer.from_directory(tmp_path)
    for field in (
        "vocabulary", "merges", "added_tokens", "nfc", "trim_offsets", "add_prefix_space",
        "cls_token", "mask_token", "max_length", "separators_between", "second_segment_id",
    ):  # fmt: skip
        assert getattr(again, field) == getattr(ours, field), field
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def write_lists(folder, vocabulary=VOCABULARY, merges=MERGES, **config):
    ids = {token: i for i, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(ids))
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@eagerly()
def test_lists_are_read_with_robertas_options(plain, tmp_path):
    write_lists(tmp_path, tokenizer_class="RobertaTokenizer", model_max_length=77)
    read = ByteBpeTokenizer.from_directory(tmp_path)
    # The mask token differs, because vocab.json and merges.txt do not contain its lstrip.
    assert all(not token.lstrip for token in read.added_tokens)
    assert {(t.content, t.id) for t in read.added_tokens} == {
        (t.content, t.id) for t in plain.added_tokens
    }
    assert (read.max_length, read.trim_offsets, read.separators_between) == (77, True, 2)
    texts = [text for text in TEXTS if "<mask>" not in text]
    assert read.tokenize(texts).to_list() == plain.tokenize(texts).to_list()


@pytest.mark.parity
@pytest.mark.parametrize("lstrip", [None, False, True])
def test_lists_are_read_as_transformers_does(tmp_path, lstrip):
    transformers = pytest.importorskip("transformers")
    mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": lstrip, "normalized": False}
    config = {} if lstrip is None else {"mask_token": mask | {"rstrip": False}}
    write_lists(tmp_path, tokenizer_class="RobertaTokenizer", **config)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    read = ByteBpeTokenizer.from_directory(tmp_path)
    assert read.tokenize("a <mask>").shape[0] == (2 if lstrip else 3)
    check(read, theirs._tokenizer, TEXTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"dropout": 0.1}}, "dropout=0.0 of the model .*, received 0.1. .*not supported"),
        ({"model": {"ignore_merges": True}}, "ignore_merges=False of the model .*, received True"),
        (
            {"model": {"end_of_word_suffix": "</w>"}},
            "end_of_word_suffix='' of the model .*, received '</w>'",
        ),
        ({"model": {"novel": 1}}, r"Expected options of a BPE model in .*, received \['novel'\]"),
        ({"model": {"merges": ["a b c"]}}, "Expected merges of two tokens .* received 'a b c'"),
        ({"model": {"merges": ["a zzz"]}}, "'a' 'zzz' .number 1. without 'zzz'"),
        ({"model": {"vocab": {"a": 0, "b": 0}}}, "Expected the ids 0 to 1 once each .* for 'b'"),
        ({"model": {"vocab": {"a": 0, "b": 7}}}, "Expected the ids 0 to 1 once each .* received 7"),
        ({"model": {"vocab": []}}, "Expected a vocabulary as an object"),
        ({"normalizer": {"type": "NFKC"}}, "Expected no normalizer or NFC in .*, received NFKC"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "Expected a ByteLevel pre_tokenizer"),
        ({"pre_tokenizer": None}, "Expected a ByteLevel pre_tokenizer"),
        ({"post_processor": None}, "Expected a post_processor"),
        (
            {"decoder": {"type": "WordPiece"}},
            "Expected a ByteLevel decoder in .*, received 'WordPiece'",
        ),
        ({"model": None}, "Expected a tokenizer in the format of `tokenizers`"),
    ],
)
def test_refused_files(plain, tmp_path, change, message):
    plain.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    for key, value in change.items():
        content[key] = {**(content[key] or {}), **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        ByteBpeTokenizer.from_directory(tmp_path)


def test_refused_lists(tmp_path):
    write_lists(tmp_path, tokenizer_class="GPT2Tokenizer")
    with pytest.raises(ConfigError, match="Expected tokenizer.json in .* 'GPT2Tokenizer'"):
        ByteBpeTokenizer.from_directory(tmp_path)
    write_lists(tmp_path, split_special_tokens=True)
    with pytest.raises(ConfigError, match="split_special_tokens=False in .*, received True"):
        ByteBpeTokenizer.from_directory(tmp_path)
    write_lists(tmp_path, merges=[("a", "b"), ("", "c")])
    with pytest.raises(
        ConfigError, match="Expected two tokens with a space between them on line 3"
    ):
        ByteBpeTokenizer.from_directory(tmp_path)
    write_lists(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"#version\n\xff\xfe")
    with pytest.raises(ConfigError, match="Expected merges in UTF-8"):
        ByteBpeTokenizer.from_directory(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ConfigError, match="received no merges.txt"):
        ByteBpeTokenizer.from_directory(tmp_path)


@eagerly()
def test_vocabularies_that_lack_bytes():
    vocabulary = [token for token in VOCABULARY if token not in ("z", "Ð")]
    with pytest.raises(ConfigError, match=r"without 0x7A, 0xD0 \(2 in all\)"):
        ByteBpeTokenizer(vocabulary, MERGES)
    ours = ByteBpeTokenizer(vocabulary, MERGES, unknown_bytes=True)
    check(ours, reference(ours), ["azb zz ж z", *TEXTS])


def test_added_tokens_that_trimming_would_change():
    with pytest.raises(ConfigError, match="Expected added tokens without spaces at their ends"):
        ByteBpeTokenizer(VOCABULARY, MERGES, additional_special_tokens=["  "])
    with pytest.raises(ConfigError, match="only for tokens of ASCII characters"):
        ByteBpeTokenizer(
            VOCABULARY, MERGES, nfc=True, added_tokens=[AddedToken("é", normalized=True)]
        )

"""Reading and writing directories of SentencePiece tokenizers."""

import json
import struct

import pytest

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.sentencepiece import files as sentencepiece_files
from keras_bert_zoo.text.sentencepiece import model as sentencepiece_model
from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
from tests.helpers import eagerly

S = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4
WORDS = [(S, -2.0, NORMAL), (f"{S}the", -2.5, NORMAL), ("a", -3.0, NORMAL), ("b", -3.5, NORMAL)]
FAIRSEQ = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), *WORDS]
ALBERT = [
    ("<pad>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN), ("[CLS]", 0.0, CONTROL),
    ("[SEP]", 0.0, CONTROL), ("[MASK]", 0.0, USER), *WORDS,
]  # fmt: skip
DEBERTA = [
    ("[PAD]", 0.0, CONTROL), ("[CLS]", 0.0, CONTROL), ("[SEP]", 0.0, CONTROL),
    ("[UNK]", 0.0, UNKNOWN), *WORDS,
]  # fmt: skip
FAMILIES = {
    "AlbertTokenizer": ("spiece.model", ALBERT, 1),
    "XLMRobertaTokenizer": ("sentencepiece.bpe.model", FAIRSEQ, 0),
    "CamembertTokenizer": ("sentencepiece.bpe.model", FAIRSEQ, 0),
    "DebertaV2Tokenizer": ("spm.model", DEBERTA, 3),
}


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def chunk(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def number(field, value):
    return varint(field << 3) + varint(value)


def make_model(pieces, unk_id, *, algorithm=1, byte_fallback=0):
    """A ModelProto."""
    out = b"".join(
        chunk(
            1,
            chunk(1, text.encode()) + b"\x15" + struct.pack("<f", score) + number(3, kind),
        )
        for text, score, kind in pieces
    )
    trainer = number(3, algorithm) + number(35, byte_fallback) + number(40, unk_id)
    return out + chunk(2, trainer) + chunk(3, chunk(1, b"identity")) + chunk(4, b"")


def make_directory(folder, name, **config):
    file, pieces, unk_id = FAMILIES[name]
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(make_model(pieces, unk_id))
    config = {"tokenizer_class": name, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def describe(tokenizer):
    """Returns all that determines a tokenizer's results."""
    content = sentencepiece_files.tokenizer_json(tokenizer.pieces, tokenizer.options)
    return content, tokenizer.vocabulary, tokenizer.max_length


@pytest.mark.parametrize(
    ("name", "ids", "last"),
    [
        ("AlbertTokenizer", (2, 3, 0, 1, 4), "b"),
        ("XLMRobertaTokenizer", (0, 2, 1, 3, 8), "<mask>"),
        ("CamembertTokenizer", (5, 6, 1, 3, 11), "<mask>"),
        ("DebertaV2Tokenizer", (1, 2, 0, 3, 8), "[MASK]"),
    ],
)
def test_families_from_their_model_files(tmp_path, name, ids, last):
    made = make_directory(tmp_path / "made", name, model_max_length=512)
    tokenizer = SentencePieceTokenizer.from_directory(made)
    names = ("cls_token_id", "sep_token_id", "pad_token_id", "unk_token_id", "mask_token_id")
    assert tuple(getattr(tokenizer, key) for key in names) == ids
    assert tokenizer.vocabulary[-1] == last
    assert tokenizer.max_length == 512
    fairseq = name in ("XLMRobertaTokenizer", "CamembertTokenizer")
    assert (tokenizer.separators_between, tokenizer.second_segment_id) == (
        (2, 0) if fairseq else (1, 1)
    )
    mask = next(token for token in tokenizer.added_tokens if token.content == tokenizer.mask_token)
    assert mask.lstrip == (name == "CamembertTokenizer")
    # The saved directory is read as the same tokenizer, and contains the model file.
    tokenizer.save(tmp_path / "saved")
    again = SentencePieceTokenizer.from_directory(tmp_path / "saved")
    assert describe(again) == describe(tokenizer)
    file = FAMILIES[name][0]
    assert (tmp_path / "saved" / file).read_bytes() == (made / file).read_bytes()


def test_options_of_a_class(tmp_path):
    made = make_directory(
        tmp_path / "a", "AlbertTokenizer", do_lower_case=False, add_prefix_space=False
    )
    tokenizer = SentencePieceTokenizer.from_directory(made)
    assert tokenizer.prefix == "never"
    kinds = [step["type"] for step in tokenizer.normalizer["normalizers"]]
    assert kinds == ["Replace", "Replace", "NFKD", "StripAccents"]
    made = make_directory(tmp_path / "b", "DebertaV2Tokenizer", split_by_punct=True)
    assert SentencePieceTokenizer.from_directory(made).split_at_punctuation


def test_the_model_type_may_set_the_class(tmp_path):
    made = make_directory(tmp_path / "made", "CamembertTokenizer")
    (made / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match="Expected tokenizer_class of AlbertTokenizer, Camembert"):
        SentencePieceTokenizer.from_directory(made)
    (made / "config.json").write_text('{"model_type": "camembert"}')
    assert SentencePieceTokenizer.from_directory(made).cls_token_id == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no piece"),
        (b"not a model", "at .*sentencepiece.bpe.model: a field|a number|wire type"),
        (make_model(FAIRSEQ, 0)[:40], "bytes where"),
        (make_model(FAIRSEQ, 0)[:-1], "bytes where|cut off"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fabc", "bytes where 3 are left"),
        (b"\x0a" + b"\xff" * 20, "more than ten bytes"),
        (chunk(1, chunk(1, b"\xff")), "a piece that is not UTF-8"),
        (chunk(1, number(1, 5)), "a number where a message or text belongs"),
        (chunk(1, chunk(1, b"a") + b"\x10\x01"), "a score that is no float"),
        (make_model(FAIRSEQ, 99), "received the unk_id 99 with 7 pieces"),
        (make_model(FAIRSEQ, 0, algorithm=9), "received the model_type 9 instead of 1 to 4"),
        (make_model([*FAIRSEQ, ("a", -1.0, NORMAL)], 0), "distinct tokens"),
    ],
)
def test_refuses_damaged_models(tmp_path, content, message):
    made = make_directory(tmp_path / "made", "XLMRobertaTokenizer")
    (made / "sentencepiece.bpe.model").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        SentencePieceTokenizer.from_directory(made)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        # transformers fails on these, too.
        (
            "CamembertTokenizer",
            make_model(FAIRSEQ, 0, algorithm=2),
            "a unigram model .* received a bpe model",
        ),
        (
            "CamembertTokenizer",
            make_model(FAIRSEQ, 0, algorithm=3),
            "a unigram model .* received a word model",
        ),
        ("AlbertTokenizer", make_model(FAIRSEQ, 0), "Expected unk_token '<unk>' as piece 1"),
        # transformers accepts these. But no text would get unk_token, and the first pieces would
        # be lost.
        ("DebertaV2Tokenizer", make_model(FAIRSEQ, 0), r"Expected unk_token '\[UNK\]' as piece 0"),
        ("CamembertTokenizer", make_model(ALBERT, 1), "Expected .*<unk>.* as the first pieces"),
    ],
)
def test_refuses_models_that_a_class_does_not_support(tmp_path, name, content, message):
    made = make_directory(tmp_path / "made", name)
    (made / FAMILIES[name][0]).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        SentencePieceTokenizer.from_directory(made)


@eagerly()
def test_any_algorithm_is_used_as_unigram_with_a_warning(tmp_path, caplog):
    made = make_directory(tmp_path / "made", "AlbertTokenizer")
    unigram = SentencePieceTokenizer.from_directory(made)
    assert not caplog.records
    for algorithm, name in ((2, "bpe"), (3, "word"), (4, "char")):
        (made / "spiece.model").write_bytes(make_model(ALBERT, 1, algorithm=algorithm))
        caplog.clear()
        assert describe(SentencePieceTokenizer.from_directory(made)) == describe(unigram)
        assert f"has a {name} model" in caplog.text
    # SentencePiece's word model makes it one unknown word.
    the, a, b = (unigram.token_to_id(piece) for piece in (f"{S}the", "a", "b"))
    assert unigram.tokenize("theab").numpy().tolist() == [the, a, b]


def test_xlm_roberta_loses_the_first_three_pieces_with_a_warning(tmp_path, caplog):
    made = make_directory(tmp_path / "made", "XLMRobertaTokenizer")
    (made / "sentencepiece.bpe.model").write_bytes(make_model(ALBERT, 1, algorithm=3))
    tokenizer = SentencePieceTokenizer.from_directory(made)
    assert "begins with the pieces ('<pad>', '<unk>', '[CLS]')" in caplog.text
    assert tokenizer.vocabulary == [
        "<s>", "<pad>", "</s>", "<unk>", "[SEP]", "[MASK]", S, f"{S}the", "a", "b", "<mask>",
        "[CLS]",
    ]  # fmt: skip


def test_truncated_models_are_refused_or_read():
    data = make_model(FAIRSEQ, 0)
    for end in range(len(data)):
        try:
            assert sentencepiece_model.parse_model(data[:end]).pieces
        except ConfigError:
            continue


@pytest.fixture
def saved(tmp_path):
    made = make_directory(tmp_path / "made", "XLMRobertaTokenizer")
    SentencePieceTokenizer.from_directory(made).save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("model", "type"), "BPE", "Expected a Unigram model"),
        (("model", "alpha"), 0.1, "with the options \\['alpha'\\]"),
        (("model", "x" * 70_000), 0.1, "with the options \\['x{198}\\.$"),
        (("model", "unk_id"), None, "Expected an unk_id below 9"),
        (("model", "unk_id"), 9, "Expected an unk_id below 9"),
        (("model", "unk_id"), 5, "Expected unk_token '▁the'"),
        (("model", "byte_fallback"), "yes", "byte_fallback of true or false"),
        (("model", "vocab"), [["a", "b"]], "pieces with scores"),
        (("model", "vocab"), {"a": 1}, "pieces with scores"),
        (("pre_tokenizer",), None, "and Metaspace"),
        (("pre_tokenizer",), {"type": "ByteLevel"}, "and Metaspace"),
        (("pre_tokenizer", "pretokenizers", 1, "replacement"), "_", "Expected Metaspace"),
        (("pre_tokenizer", "pretokenizers", 1, "foo"), 1, "Expected Metaspace"),
        (("decoder",), {"type": "WordPiece"}, "Expected a Metaspace decoder"),
        (("decoder", "prepend_scheme"), "never", "removes the pre_tokenizer's prefix"),
        (("post_processor",), None, "Expected a TemplateProcessing"),
        (("post_processor", "special_tokens", "<s>", "ids"), [1], "vocabulary's id 0 for '<s>'"),
        (("normalizer",), {"type": "Prepend", "prepend": S}, "received 'Prepend'. Others"),
        (("normalizer",), [], "Expected a normalizer as an object"),
        (("added_tokens", 0, "id"), 7, "id"),
        (("model",), None, "another structure"),
        (("padding",), {"direction": "Left"}, "direction='Right' .*, received 'Left'"),
    ],
)
def test_refuses_options_of_tokenizer_json(saved, place, value, message):
    fast = json.loads((saved / "tokenizer.json").read_text("utf-8"))
    at = fast
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    (saved / "tokenizer.json").write_text(json.dumps(fast), "utf-8")
    with pytest.raises(ConfigError, match=message):
        SentencePieceTokenizer.from_directory(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split_special_tokens": True}, "split_special_tokens=False in .*, received True"),
        ({"padding_side": "left"}, "padding_side='right' .*, received 'left'"),
        ({"sp_model_kwargs": {"enable_sampling": True}}, "sp_model_kwargs"),
        ({"unk_token": "<s>"}, "Expected unk_token '<unk>'"),
        ({"pad_token": None}, "Expected a pad_token"),
        ({"model_max_length": "x"}, "model_max_length"),
    ],
)
def test_refuses_options_of_the_config(saved, change, message):
    path = saved / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change))
    with pytest.raises(ConfigError, match=message):
        SentencePieceTokenizer.from_directory(saved)


def test_no_other_path_is_opened(saved, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("not a tokenizer")
    path = saved / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config |= {"vocab_file": str(secret), "tokenizer_file": str(secret)}
    path.write_text(json.dumps(config))
    assert SentencePieceTokenizer.from_directory(saved).vocabulary_size == 9


def test_older_metaspace(saved):
    path = saved / "tokenizer.json"
    fast = json.loads(path.read_text("utf-8"))
    old = {"type": "Metaspace", "replacement": S, "str_rep": S, "add_prefix_space": True}
    fast["pre_tokenizer"]["pretokenizers"][1] = fast["decoder"] = old
    path.write_text(json.dumps(fast), "utf-8")
    tokenizer = SentencePieceTokenizer.from_directory(saved)
    assert (tokenizer.prefix, tokenizer.split_at_spaces) == ("always", True)
    fast["pre_tokenizer"]["pretokenizers"][1] = {**old, "add_prefix_space": False}
    fast["decoder"] = {**old, "add_prefix_space": False}
    path.write_text(json.dumps(fast), "utf-8")
    assert SentencePieceTokenizer.from_directory(saved).prefix == "never"


def test_refuses_no_model_and_two_models(tmp_path):
    with pytest.raises(ConfigError, match="Expected tokenizer.json or one of"):
        SentencePieceTokenizer.from_directory(tmp_path)
    for name in ("spiece.model", "spm.model"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match="Expected one SentencePiece model"):
        SentencePieceTokenizer.from_directory(tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "model"),
    [
        *((name, None) for name in FAMILIES),
        ("AlbertTokenizer", make_model(ALBERT, 1, algorithm=3)),
        ("DebertaV2Tokenizer", make_model(DEBERTA, 3, algorithm=4)),
        ("XLMRobertaTokenizer", make_model(FAIRSEQ, 0, algorithm=2)),
        ("XLMRobertaTokenizer", make_model(ALBERT, 1, algorithm=3)),
    ],
)
def test_transformers_gives_the_same(tmp_path, name, model):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    made = make_directory(tmp_path / "made", name)
    if model is not None:
        (made / FAMILIES[name][0]).write_bytes(model)
    ours = SentencePieceTokenizer.from_directory(made)
    ours.save(tmp_path / "saved")
    texts = ["the a b", "", "a  \u00c9a <mask>[MASK] b", "\ufb01 thea\u3000a<s>[CLS]"]
    expected = [ids.tolist() for ids in ours.tokenize(texts).numpy()]
    for folder in (made, tmp_path / "saved"):
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        assert theirs(texts, add_special_tokens=False)["input_ids"] == expected
        packed = ours((texts, texts[::-1]), padding="longest")
        lengths = packed["padding_mask"].numpy().sum(axis=1)
        rows = [
            row[:n].tolist() for row, n in zip(packed["token_ids"].numpy(), lengths, strict=True)
        ]
        assert rows == theirs(texts, texts[::-1])["input_ids"]

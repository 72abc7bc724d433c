"""Hugging Face directories, read and written."""

import builtins
import io
import json

import pytest

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import WordPieceTokenizer
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.special_tokens import AddedToken
from tests.helpers import eagerly
from tests.text.wordpiece.test_tokenizer import GOLDENS, assert_same

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


@eagerly()
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
        read, saved = getattr(again, name), getattr(tokenizer, name)
        if "special" in name:  # in the order of their ids
            read, saved = sorted(read), sorted(saved)
        assert read == saved, name
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
        ({}, "Expected vocab.txt or tokenizer.json in"),
        ({"vocab__txt": ""}, "of one token a line"),
        ({"vocab__txt": "a\n", "tokenizer_config__json": "{"}, "cannot be read as JSON"),
        ({"vocab__txt": "a\n", "tokenizer_config__json": []}, ", received list"),
        ({"tokenizer_config__json": {"never_split": ["x"]}}, "Expected no never_split in"),
        ({"tokenizer_config__json": {"do_basic_tokenize": False}}, "do_basic_tokenize=true in"),
        ({"tokenizer_config__json": {"truncation_side": "left"}}, "truncation_side='right' in"),
        ({"tokenizer_config__json": {"split_special_tokens": True}}, "tokens=False in"),
        ({"tokenizer_config__json": {"word_tokenizer_type": "mecab"}}, "type='basic' in"),
        (
            {"tokenizer_config__json": {"added_tokens_decoder": {"4": SINGLE}}},
            "Expected single_word=false of the added token '[M]'",
        ),
        (
            {"tokenizer_config__json": {"added_tokens_decoder": {"999": added("<x>")}}},
            "Expected the added token '<x>' to have the id",
        ),
        ({"tokenizer_config__json": {"do_lower_case": "no"}}, "do_lower_case of true or false"),
        ({"added_tokens__json": {"<x>": 999}}, "Expected the added token '<x>' to have the id"),
        ({"added_tokens__json": {"<x>": "1"}}, "to be an int of at least 0, received '1'"),
        ({"tokenizer__json": fast(model={"type": "BPE"})}, "Expected a WordPiece model"),
        ({"tokenizer__json": fast(added_tokens=[3])}, "a token as a string, received 3"),
        ({"tokenizer__json": fast(normalizer=3)}, "Expected a BertNormalizer"),
        ({"tokenizer__json": fast(), "vocab__txt": "a\n"}, "received 1 and"),
        ({"tokenizer__json": fast(normalizer=None)}, "Expected a BertNormalizer"),
        ({"tokenizer__json": fast(pre_tokenizer={"type": "Whitespace"})}, "a BertPreTokenizer"),
        ({"tokenizer__json": fast(post_processor={"type": "RobertaProcessing"})}, "post_processor"),
        (
            {"tokenizer__json": fast(added_tokens=[{"id": 4, **SINGLE}])},
            "Expected single_word=false of the added token '[M]'",
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


def whole():
    """Returns a tokenizer.json with all keys that `tokenizers` writes."""
    value = mpnet_fast(truncation=None, padding=None)
    return value | {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}


def changed(path, value):
    """Returns the same file with another value at a path of keys."""
    *parents, last = path.split("/")
    changed = inner = whole()
    for key in parents:
        inner[key] = inner = dict(inner[key])
    inner[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", "WordPiece", "Expected a model in"),
        ("model/dropout", 0.5, "Expected options of a WordPiece model in"),
        ("model/unk_token", 5, "Expected unk_token as a string in"),
        ("model/unk_token", None, "Expected unk_token as a string in"),
        ("model/max_input_chars_per_word", "5", "max_input_chars_per_word as an int from 1 to"),
        ("model/max_input_chars_per_word", True, "max_input_chars_per_word as an int from 1 to"),
        ("model/max_input_chars_per_word", 0, "max_input_chars_per_word as an int from 1 to"),
        ("model/max_input_chars_per_word", 10**30, "max_input_chars_per_word as an int from 1 to"),
        ("model/continuing_subword_prefix", "", "Expected continuing_subword_prefix='##' in"),
        ("model/vocab", [1], "Expected a vocabulary as an object of ids in"),
        ("model/vocab", {}, "Expected a vocabulary as an object of ids in"),
        ("model/vocab", {"[PAD]": False, "[UNK]": True}, "once each in"),
        ("model/vocab", {"[PAD]": 0.0}, "received 0.0 for '[PAD]'"),
        ("model/vocab", {"[PAD]": "x", "a": 1}, "received 'x' for '[PAD]'"),
        ("model/vocab", {"[PAD]": 0, "a": -1}, "received -1 for 'a'"),
        ("model/vocab", {"[PAD]": 0, "a": 4}, "Expected the ids 0 to 3 at most once each in"),
        ("model/vocab", {"[PAD]": 0, "a": 10**12}, "the ids 0 to 3 at most once each in"),
        ("normalizer", ["BertNormalizer"], "Expected a BertNormalizer normalizer in"),
        ("normalizer/foo", 1, "Expected options of a BertNormalizer normalizer in"),
        ("normalizer/lowercase", "false", "Expected lowercase of true or false in"),
        ("normalizer/lowercase", None, "Expected lowercase of true or false in"),
        ("normalizer/strip_accents", "no", "Expected strip_accents of true or false in"),
        ("normalizer/handle_chinese_chars", 0, "Expected handle_chinese_chars of true or false"),
        ("normalizer/clean_text", False, "Expected a BertNormalizer with clean_text=true in"),
        ("pre_tokenizer/foo", 1, "Expected options of a BertPreTokenizer pre_tokenizer in"),
        ("decoder", {"type": "ByteLevel"}, "Expected a WordPiece decoder in"),
        ("decoder", "x", "Expected a WordPiece decoder in"),
        ("decoder/prefix", "@@", "Expected a WordPiece decoder with the prefix '##' in"),
        ("decoder/foo", 1, "Expected options of a WordPiece decoder in"),
        ("post_processor", "x", "received 'x'"),
        ("post_processor", [], "received []"),
        ("post_processor/trim_offsets", "yes", "Expected a post_processor for"),
        ("post_processor/foo", 1, "Expected a post_processor for"),
        ("post_processor/sep", ["</s>", True], "Expected a post_processor for"),
        ("added_tokens", "x", "Expected added_tokens as a list in"),
        ("added_tokens", {"id": 1}, "Expected added_tokens as a list in"),
        ("added_tokens", ["x"] * 100_001, "Expected at most 100,000 added tokens in"),
        ("added_tokens", [{"id": 23, **added("z" * 9999)}], "received 'zzz"),
        ("truncation", "x", "Expected truncation as an object or null in"),
        ("truncation", {"direction": "Left"}, "Expected truncation with direction='Right' in"),
        ("truncation", {"maximum": 3}, "Expected options of truncation in"),
        ("padding", [], "Expected padding as an object or null in"),
        ("padding", {"pad_token": "the"}, "in padding of"),
    ],
)  # fmt: skip
def test_refused_steps_of_tokenizer_json(tmp_path, path, value, message):
    WordPieceTokenizer.from_directory(write(tmp_path, tokenizer__json=whole()))
    write(tmp_path, tokenizer__json=changed(path, value))
    with pytest.raises(ConfigError) as raised:
        load_tokenizer_directory(tmp_path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


LENGTHS = {
    "truncation": {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0,
    },
    "padding": {
        "strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 10,
        "pad_type_id": 0, "pad_token": "the",
    },
}  # fmt: skip


@eagerly()
def test_lengths_in_tokenizer_json_are_ignored(tmp_path):
    # As in transformers, where each call sets truncation and padding.
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    names["mask_token"] = "<mask>"
    write(tmp_path, tokenizer__json=whole() | LENGTHS, tokenizer_config__json=names)
    tokenizer = WordPieceTokenizer.from_directory(tmp_path)
    assert (tokenizer.max_length, tokenizer.pad_token) == (None, "<pad>")
    assert tokenizer.tokenize("the x the x the x").shape == [6]


@pytest.mark.parity
def test_lengths_in_tokenizer_json_are_ignored_in_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    names = {"tokenizer_class": "PreTrainedTokenizerFast"}
    write(tmp_path, tokenizer__json=whole() | LENGTHS, tokenizer_config__json=names)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for cut in (False, True):
        assert len(theirs("the x the x the x", truncation=cut)["input_ids"]) == 8
    assert theirs.pad_token == "the"  # so another pad_token is refused
    with pytest.raises(ConfigError, match="Set pad_token in"):
        WordPieceTokenizer.from_directory(tmp_path)


def test_vocabulary_that_is_not_utf8(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\ncaf\xe9\n")
    with pytest.raises(
        ConfigError, match="Expected a vocabulary in UTF-8 at .*received other bytes at 9"
    ):
        WordPieceTokenizer(tmp_path / "vocab.txt")


def test_missing_vocabulary(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        WordPieceTokenizer(tmp_path / "vocab.txt")


def test_save_refuses_options_without_a_post_processor(tmp_path):
    with pytest.raises(ConfigError, match="Expected trim_offsets=False, or separators_be"):
        WordPieceTokenizer(VOCABULARY, trim_offsets=True).save(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parity
@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_loads_a_saved_tokenizer(tmp_path, vocabulary_file, lowercase):
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


MPNET = [
    "<s>", "<pad>", "</s>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<", ">", "[",
    "]", "un", "k", "##k", "the", "x", "##x", "mask", "中", "é", "<mask>",
]  # fmt: skip
MPNET_FLAGS = {
    "0": added("<s>"), "1": added("<pad>"), "2": added("</s>"),
    "3": added("<unk>", normalized=True, special=True), "5": added("[UNK]"),
    "22": added("<mask>", lstrip=True, special=True),
}  # fmt: skip
MPNET_TEXTS = [
    "the \u3000<mask> x", "<UNK> <unk>\u00ad [UNK]</s>", "[MASK] [CLS]", "x<mask><mask>  <mask>",
    "", "中<mask>é", "xx",
]  # fmt: skip


def mpnet_fast(**changes):
    tokens = [
        {"id": int(i), "single_word": False, "special": True, **t} for i, t in MPNET_FLAGS.items()
    ]
    return fast(
        model={
            "type": "WordPiece", "vocab": {t: i for i, t in enumerate(MPNET)}, "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        },
        normalizer={
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": None, "lowercase": True,
        },
        added_tokens=tokens,
        post_processor={
            "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
            "trim_offsets": True, "add_prefix_space": False,
        },
        version="1.0",
        **changes,
    )  # fmt: skip


def template(cls, sep, separators=1, second=1, first=0):
    """Returns a post-processor in the form of `tokenizers`."""

    def special(token, segment):
        return {"SpecialToken": {"id": token, "type_id": segment}}

    def sequence(name, segment):
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special(cls[0], first), sequence("A", 0), special(sep[0], 0)]
    between = [special(sep[0], 0)] * (separators - 1)
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *between, sequence("B", second), special(sep[0], second)],
        "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (cls, sep)},
    }


MPNET_DIRECTORIES = {
    "tokenizer.json": {"tokenizer__json": mpnet_fast()},
    "tokenizer.json and class": {
        "tokenizer__json": mpnet_fast(),
        "tokenizer_config__json": {"tokenizer_class": "MPNetTokenizer"},
    },
    "generic": {
        "tokenizer__json": mpnet_fast(),
        "tokenizer_config__json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "<mask>",
            "pad_token": "<pad>",
        },
    },
    "vocab.txt": {
        "vocab__txt": lines(MPNET),
        "tokenizer_config__json": {
            "tokenizer_class": "MPNetTokenizer", "added_tokens_decoder": MPNET_FLAGS,
        },
    },
    "model type": {
        "vocab__txt": lines(MPNET), "config__json": {"model_type": "mpnet"},
        "added_tokens__json": {"<unk>": 3},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MPNET_DIRECTORIES)
def test_mpnet(tmp_path, name):
    tokenizer = WordPieceTokenizer.from_directory(write(tmp_path, **MPNET_DIRECTORIES[name]))
    assert tokenizer.vocabulary == MPNET
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id) == (0, 2, 1)
    assert (tokenizer.unk_token_id, tokenizer.mask_token_id) == (5, 22)
    assert (tokenizer.separators_between, tokenizer.second_segment_id) == (2, 0)
    assert tokenizer.trim_offsets
    flags = {token.content: token for token in tokenizer.added_tokens}
    assert flags["<mask>"].lstrip
    assert flags["<unk>"].normalized
    tokenizer.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "tokenizer.json").exists()
    again = WordPieceTokenizer.from_directory(tmp_path / "saved")
    assert again.tokenizer_class == "MPNetTokenizer"
    for name in ("vocabulary", "added_tokens", "trim_offsets", "separators_between"):
        assert getattr(again, name) == getattr(tokenizer, name), name


@eagerly()
def test_ids_and_offsets_of_mpnet(tmp_path):
    tokenizer = WordPieceTokenizer.from_directory(write(tmp_path, **MPNET_DIRECTORIES["vocab.txt"]))
    parts = tokenizer.tokenize_with_offsets("the  <mask>x<UNK>")
    expected = [[16, 22, 17, 3], [0, 5, 11, 12], [3, 11, 12, 17]]
    assert [part.numpy().tolist() for part in parts] == expected
    ids = tokenizer(("the", "x [MASK]"))["token_ids"].numpy().tolist()
    assert ids == [[0, 16, 2, 2, 17, 11, 19, 12, 2]]


OTHERS = {
    "ElectraTokenizerFast": (VOCABULARY, {}),
    "DistilBertTokenizer": (VOCABULARY, {"do_lower_case": False}),
    "MobileBertTokenizer": (VOCABULARY, {"tokenize_chinese_chars": False}),
    "FunnelTokenizer": (
        ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>", "un", "x"],
        {},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_classes(tmp_path, name):
    vocabulary, options = OTHERS[name]
    config = {"tokenizer_class": name, **options}
    write(tmp_path, vocab__txt=lines(vocabulary), tokenizer_config__json=config)
    tokenizer = WordPieceTokenizer.from_directory(tmp_path)
    assert tokenizer.tokenizer_class == name.removesuffix("Fast")
    assert tokenizer.cls_segment_id == (2 if "Funnel" in name else 0)
    assert tokenizer.cls_token == ("<cls>" if "Funnel" in name else "[CLS]")
    assert ("<s>" in tokenizer.special_tokens) == ("Funnel" in name)
    tokenizer.save(tmp_path)
    again = WordPieceTokenizer.from_directory(tmp_path)
    assert again.tokenizer_class == tokenizer.tokenizer_class
    assert again.special_tokens == tokenizer.special_tokens
    assert (again.lowercase, again.handle_chinese_chars) == (
        tokenizer.lowercase,
        tokenizer.handle_chinese_chars,
    )


def test_templates_of_tokenizer_json(tmp_path):
    for options in ({}, {"second": 0}, {"first": 2}, {"separators": 2}):
        processor = template(("[CLS]", 2), ("[SEP]", 3), **options)
        names = (
            {} if "separators" not in options else {"pad_token": "[PAD]", "mask_token": "[MASK]"}
        )
        write(
            tmp_path, tokenizer__json=fast(post_processor=processor), tokenizer_config__json=names
        )
        ours = WordPieceTokenizer.from_directory(tmp_path)
        assert ours.separators_between == options.get("separators", 1)
        assert ours.second_segment_id == options.get("second", 1)
        assert ours.cls_segment_id == options.get("first", 0)
        ours.save(tmp_path / "saved")
        again = WordPieceTokenizer.from_directory(tmp_path / "saved")
        for name in ("separators_between", "second_segment_id", "cls_segment_id", "vocabulary"):
            assert getattr(again, name) == getattr(ours, name)


def test_save_without_an_equivalent_class(tmp_path):
    write(tmp_path, vocab__txt="stale", special_tokens_map__json={"cls_token": "stale"})
    ours = WordPieceTokenizer(
        [*VOCABULARY, "a\nb"], max_characters_per_word=9, second_segment_id=0, lowercase=False,
        added_tokens=[AddedToken("The", normalized=True, special=False)], max_length=9,
    )  # fmt: skip
    ours.save(tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    again = WordPieceTokenizer.from_directory(tmp_path)
    for name in (
        "vocabulary", "pieces", "max_characters_per_word", "second_segment_id", "added_tokens",
        "lowercase", "max_length",
    ):  # fmt: skip
        assert getattr(again, name) == getattr(ours, name), name


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_class": "RoFormerTokenizerFast"}, 'set "BertTokenizer" for a character-based'),
        ({"tokenizer_class": "SplinterTokenizer"}, "packs a [QUESTION] token"),
        (
            {"tokenizer_class": "MyTokenizer"},
            "tokenizer_class 'MyTokenizer' without tokenizer.json",
        ),
        (
            {"tokenizer_class": "PreTrainedTokenizerFast"},
            "'PreTrainedTokenizerFast' without tokenizer.json",
        ),
        ({"wordpieces_prefix": "@@"}, 'Expected wordpieces_prefix="##" in'),
        ({"clean_text": False}, "Expected clean_text=true in"),
        ({"cls_token": None}, "Expected cls_token in"),
        ({"cls_token": 3}, "Expected a token as a string, received 3"),
        ({"cls_token": "[NEW]"}, "with cls_token '[NEW]', received"),
        ({"model_max_length": "512"}, "Expected model_max_length of at least 1 in"),
        ({"model_max_length": -1}, "Expected model_max_length of at least 1 in"),
        ({"model_max_length": True}, "Expected model_max_length of at least 1 in"),
        ({"additional_special_tokens": "<x>"}, "Expected special tokens as a list or an object"),
        ({"added_tokens_decoder": [3]}, "Expected added_tokens_decoder as an object in"),
        ({"added_tokens_decoder": {"-1": added("<x>")}}, "as the keys of added_tokens_decoder"),
        ({"added_tokens_decoder": {"²": added("<x>")}}, "as the keys of added_tokens_decoder"),
        ({"added_tokens_decoder": {"9" * 5000: added("<x>")}}, "as the keys of added_tokens_decod"),
        (
            {"added_tokens_decoder": {"9" * 18: added("<x>")}},
            "Expected the added token '<x>' to have the id",
        ),
        ({"added_tokens_decoder": {"3": added("[MASK]")}}, "'[MASK]' to have the id 4, received 3"),
        ({"added_tokens_decoder": {"4": added("[MASK]", nested=[])}}, "received ['nested']"),
    ],
)
def test_refused_configs(tmp_path, files, message):
    write(tmp_path, vocab__txt=lines(VOCABULARY), tokenizer_config__json=files)
    with pytest.raises(ConfigError) as raised:
        WordPieceTokenizer.from_directory(tmp_path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab__txt": lines(MPNET)}, "has both <s> and [CLS]"),
        ({"vocab__txt": lines(VOCABULARY), "config__json": {"model_type": "roformer"}}, "jieba"),
        ({"vocab__txt": lines(VOCABULARY), "config__json": {"model_type": "roberta"}}, "'roberta'"),
        ({"tokenizer__json": "[" * 100_000}, "nested too deeply"),
        ({"tokenizer__json": fast(truncation={"direction": "Left"})}, "truncation with direction="),
        ({"tokenizer__json": fast(padding={"direction": "Left"})}, "padding with direction="),
        (
            {"tokenizer__json": fast(post_processor=template(("[CLS]", 3), ("[SEP]", 3)))},
            "Expected the vocabulary's id 2 for '[CLS]' in",
        ),
        (
            {"tokenizer__json": fast(post_processor={"type": "TemplateProcessing", "pair": []})},
            "Expected a post_processor for",
        ),
        (
            {
                "tokenizer__json": mpnet_fast(),
                "tokenizer_config__json": {"tokenizer_class": "BertTokenizer"},
            },
            "Expected cls_token '[CLS]' in the post_processor",
        ),
        (
            {
                "tokenizer__json": fast(post_processor=template(("[CLS]", 2), ("[SEP]", 3))),
                "tokenizer_config__json": {"cls_token": "x" * 70_000},
            },
            f"Expected cls_token '{'x' * 79} in the post_processor",
        ),
        (
            {
                "tokenizer__json": fast(post_processor=template(("[CLS]", 2), ("[SEP]", 3), 2)),
                "tokenizer_config__json": {"tokenizer_class": "BertTokenizer"},
            },
            "with 1 separators between segments, as in BertTokenizer, re",
        ),
        (
            {"tokenizer__json": fast(added_tokens=[{"id": 10**30, **added("<x>")}])},
            "'<x>' to have the id",
        ),
    ],
)  # fmt: skip
def test_refused_files(tmp_path, files, message):
    with pytest.raises(ConfigError) as raised:
        WordPieceTokenizer.from_directory(write(tmp_path, **files))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_paths_in_files_are_never_opened(tmp_path, monkeypatch):
    folder, secret = tmp_path / "model", tmp_path / "secret.txt"
    folder.mkdir()
    secret.write_text(lines(["secret", *VOCABULARY]), "utf-8")
    paths = dict.fromkeys(
        ("vocab_file", "tokenizer_file", "special_tokens_map_file", "name_or_path"), str(secret)
    )
    write(folder, vocab__txt=lines(VOCABULARY), tokenizer_config__json=paths)
    opened = []
    original = io.open
    for module in (io, builtins):
        monkeypatch.setattr(
            module, "open", lambda *a, **k: opened.append(str(a[0])) or original(*a, **k)
        )
    assert WordPieceTokenizer.from_directory(folder).vocabulary == VOCABULARY
    assert any(name.endswith("vocab.txt") for name in opened)
    assert str(secret) not in opened
    (folder / "vocab.txt").unlink()
    with pytest.raises(ConfigError, match="Expected vocab.txt or tokenizer.json in"):
        WordPieceTokenizer.from_directory(folder)
    assert str(secret) not in opened


@eagerly()
def test_mpnet_equals_tokenizers(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    write(tmp_path, **MPNET_DIRECTORIES["tokenizer.json"])
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = WordPieceTokenizer.from_directory(tmp_path)
    assert_same(ours, theirs, MPNET_TEXTS)
    pairs = list(zip(MPNET_TEXTS, reversed(MPNET_TEXTS), strict=True))
    packed = ours(tuple(map(list, zip(*pairs, strict=True))))
    for row, encoding in enumerate(theirs.encode_batch(pairs)):
        length = int(packed["padding_mask"][row].numpy().sum())
        assert packed["token_ids"].numpy()[row, :length].tolist() == encoding.ids
        assert packed["segment_ids"].numpy()[row, :length].tolist() == encoding.type_ids


def transformers_agrees(transformers, ours, folder, texts):
    """Checks that transformers' tokenizer of a folder has the same results; returns it."""
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    pairs = list(zip(texts, reversed(texts), strict=True))
    for options, text in (
        [{}, texts],
        [{"text_pair": [b for _, b in pairs]}, [a for a, _ in pairs]],
    ):
        expected = theirs(text, **options, return_token_type_ids=True, padding=True)
        packed = ours((text, options["text_pair"]) if options else text)
        assert expected["input_ids"] == packed["token_ids"].numpy().tolist()
        assert expected["token_type_ids"] == packed["segment_ids"].numpy().tolist()
        assert expected["attention_mask"] == packed["padding_mask"].numpy().tolist()
    theirs.backend_tokenizer.no_padding()
    assert_same(ours, theirs.backend_tokenizer, texts)
    assert theirs.mask_token == ours.mask_token
    return theirs


@pytest.mark.parity
@pytest.mark.parametrize("name", [*MPNET_DIRECTORIES, *OTHERS, "no class"])
def test_transformers_reads_the_same(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    texts = [*MPNET_TEXTS, "un the ÉCOLE 中", "<S> <s> </s>[SEP]"]
    if name in MPNET_DIRECTORIES:
        write(tmp_path, **MPNET_DIRECTORIES[name])
    elif name in OTHERS:
        vocabulary, options = OTHERS[name]
        write(tmp_path, vocab__txt=lines(vocabulary))
        write(tmp_path, tokenizer_config__json={"tokenizer_class": name, **options})
    else:
        WordPieceTokenizer(
            [*VOCABULARY, "a\nb"], max_characters_per_word=2, second_segment_id=0,
            added_tokens=[AddedToken("[MASK]", lstrip=True)],
        ).save(tmp_path)  # fmt: skip
    ours = WordPieceTokenizer.from_directory(tmp_path)
    if name == "tokenizer.json":
        # AutoTokenizer needs a class, or a config.json.
        write(tmp_path, config__json={"model_type": "mpnet"})
    theirs = transformers_agrees(transformers, ours, tmp_path, texts)
    ours.save(tmp_path / "saved")
    transformers_agrees(transformers, ours, tmp_path / "saved", texts)
    theirs.save_pretrained(tmp_path / "theirs")
    again = WordPieceTokenizer.from_directory(tmp_path / "theirs")
    transformers_agrees(transformers, again, tmp_path, texts)

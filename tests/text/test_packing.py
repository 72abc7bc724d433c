"""Truncation, packing and windows have the results of Hugging Face."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.text import WordPieceTokenizer
from tests.helpers import eagerly


def words(count, letter="a"):
    return " ".join([letter] * count)


def unpadded(packed):
    rows = []
    for ids, segments, mask in zip(
        *(packed[key].numpy() for key in ("token_ids", "segment_ids", "padding_mask")), strict=True
    ):
        length = int(mask.sum())
        assert mask[:length].all()
        assert not ids[length:].any()
        assert not segments[length:].any()
        rows.append((ids[:length].tolist(), segments[:length].tolist()))
    return rows


@pytest.mark.parametrize("max_length", [3, 4, 5, 8, 9, 16, 17, 30])
def test_longest_first_pairs(uncased, reference, max_length):
    pairs = [(words(a), words(b, "b")) for a in range(14) for b in range(14)]
    first, second = (list(side) for side in zip(*pairs, strict=True))
    with eagerly(max_length != 9):  # one graph
        rows = unpadded(uncased((first, second), max_length=max_length))
    reference.enable_truncation(max_length, strategy="longest_first")
    try:
        expected = [(e.ids, e.type_ids) for e in reference.encode_batch(pairs)]
    finally:
        reference.no_truncation()
    assert rows == expected


@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
def test_one_sided_pairs(uncased, reference, strategy):
    pairs = [(words(a), words(b, "b")) for a in range(1, 10) for b in range(1, 10)]
    valid, expected = [], []
    reference.enable_truncation(12, strategy=strategy)
    try:
        for pair in pairs:
            cut = pair[0] if strategy == "only_first" else pair[1]
            other = 9 - (len(pair[0].split()) + len(pair[1].split()) - len(cut.split()))
            if other < 1:
                with pytest.raises(Exception, match="too short"):
                    reference.encode(*pair)
                continue
            encoding = reference.encode(*pair)
            valid.append(pair)
            expected.append((encoding.ids, encoding.type_ids))
    finally:
        reference.no_truncation()
    assert len(valid) > 50
    first, second = (list(side) for side in zip(*valid, strict=True))
    assert unpadded(uncased((first, second), max_length=12, truncation=strategy)) == expected


@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
def test_one_sided_pairs_never_overflow(uncased, strategy):
    packed = uncased(([words(30)], [words(30)]), max_length=12, truncation=strategy)
    assert packed["token_ids"].shape == (1, 12)
    assert packed["token_ids"].numpy()[0, -1] == uncased.sep_token_id


def test_single_texts(uncased, reference):
    texts = [words(n) for n in range(12)]
    reference.enable_truncation(8)
    try:
        expected = [(e.ids, e.type_ids) for e in reference.encode_batch(texts)]
    finally:
        reference.no_truncation()
    assert unpadded(uncased(texts, max_length=8)) == expected


PACKINGS = {
    "bert": {},
    "roberta": {"separators_between": 2, "second_segment_id": 0},
    "mpnet of old files": {"separators_between": 2},
    "modernbert": {"second_segment_id": 0},
    "funnel": {"cls_segment_id": 2},
}
PIECES = ["<pad>", "[UNK]", "<s>", "</s>", "<mask>", "a", "b", "é"]


def tokenizer_and_reference(kind):
    """Returns a tokenizer of a family, and Hugging Face's with the same post-processor."""
    tokenizers = pytest.importorskip("tokenizers")
    options = {"separators_between": 1, "second_segment_id": 1, "cls_segment_id": 0}
    options |= PACKINGS[kind]
    ours = WordPieceTokenizer(
        PIECES, cls_token="<s>", sep_token="</s>", pad_token="<pad>", mask_token="<mask>",
        strip_accents=False, **PACKINGS[kind],
    )  # fmt: skip
    theirs = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({token: i for i, token in enumerate(PIECES)}, unk_token="[UNK]")
    )
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(strip_accents=False)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    if kind == "roberta":
        theirs.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 3), ("<s>", 2))
    else:
        cls, second = options["cls_segment_id"], options["second_segment_id"]
        between = " ".join(["</s>:0"] * options["separators_between"])
        theirs.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"<s>:{cls} $A:0 </s>:0",
            pair=f"<s>:{cls} $A:0 {between} $B:{second} </s>:{second}",
            special_tokens=[("<s>", 2), ("</s>", 3)],
        )
    return ours, theirs


# Other tests trace graphs of packing.
@pytest.mark.parametrize("kind", PACKINGS)
@eagerly()
def test_families(kind):
    ours, theirs = tokenizer_and_reference(kind)
    pairs = [(words(a), words(b, "b")) for a in range(6) for b in range(6)]
    first, second = (list(side) for side in zip(*pairs, strict=True))
    for max_length in (4, 5, 8, 30):
        theirs.enable_truncation(max_length)
        rows = unpadded(ours(first, max_length=max_length))
        assert rows == [(e.ids, e.type_ids) for e in theirs.encode_batch(first)]
        rows = unpadded(ours((first, second), max_length=max_length))
        assert rows == [(e.ids, e.type_ids) for e in theirs.encode_batch(pairs)]
    with pytest.raises(ConfigError, match=f"at least {2 + ours.separators_between}"):
        ours((first, second), max_length=ours.separators_between + 1)


@pytest.mark.parametrize("kind", PACKINGS)
@eagerly()
def test_windows_of_families(kind):
    ours, theirs = tokenizer_and_reference(kind)
    questions, texts = ["é é", "", "a"], [words(20), words(3, "b"), "aé b " * 5]
    packed = ours.windows(texts, first=questions, max_length=12, stride=3)
    theirs.enable_truncation(12, stride=3, strategy="only_second")
    encodings = theirs.encode_batch(list(zip(questions, texts, strict=True)))
    windows = [(i, w) for i, e in enumerate(encodings) for w in [e, *e.overflowing]]
    expected = [(w.ids, w.type_ids) for _, w in windows]
    if kind == "modernbert":
        # In all windows except the first, tokenizers does not apply the template.
        expected = [(ids, [0] * len(ids)) for ids, _ in expected]
    assert unpadded(packed) == expected
    for row, (document, window) in enumerate(windows):
        at = np.cumsum([0] + [len(char.encode()) for char in texts[document]])
        spans = [
            (int(at[start]), int(at[end])) if sequence == 1 else (0, 0)
            for (start, end), sequence in zip(window.offsets, window.sequence_ids, strict=True)
        ]
        columns = (packed[key].numpy()[row][: len(window)].tolist() for key in ("starts", "ends"))
        assert list(zip(*columns, strict=True)) == spans
    packed = ours.windows(texts, max_length=7, stride=1)
    theirs.enable_truncation(7, stride=1)
    windows = [w for e in theirs.encode_batch(texts) for w in [e, *e.overflowing]]
    assert unpadded(packed) == [(w.ids, w.type_ids) for w in windows]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"separators_between": 3}, "Expected separators_between of 1, 2, received 3"),
        ({"separators_between": True}, "Expected separators_between of 1, 2, received True"),
        ({"second_segment_id": 2}, "Expected second_segment_id of 0, 1, received 2"),
        ({"cls_segment_id": -1}, "Expected cls_segment_id of 0, 1, 2, received -1"),
    ],
)
def test_unsupported_packings(option, message):
    with pytest.raises(ConfigError) as raised:
        WordPieceTokenizer(["[UNK]", "[CLS]", "[SEP]", "[PAD]"], mask_token=None, **option)
    assert message in str(raised.value)


def test_padding(uncased):
    texts = [words(3), words(9)]
    assert uncased(texts)["token_ids"].shape == (2, 11)
    assert uncased(texts, padding=8)["token_ids"].shape == (2, 16)
    assert uncased(texts, padding=8, max_length=12)["token_ids"].shape == (2, 12)
    assert uncased(texts, padding="max_length", max_length=20)["token_ids"].shape == (2, 20)
    assert uncased("hello")["token_ids"].numpy().tolist() == [[101, 7592, 102]]


def test_static_shape_in_a_graph(uncased):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def pack(texts):
        packed = uncased(texts, max_length=16, padding="max_length")
        assert packed["token_ids"].shape[1] == 16
        return packed

    assert pack(tf.constant(["hello"]))["padding_mask"].numpy().sum() == 3


def test_pack_takes_ragged_ids_of_either_split_type(uncased):
    ids = tf.ragged.constant([[5, 6, 7], []], tf.int32, row_splits_dtype=tf.int32)
    assert uncased.pack(ids, max_length=4)["token_ids"].numpy().tolist() == [
        [101, 5, 6, 102], [101, 102, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "max_length of at least 2 (the special tokens), received 1"),
        ({"truncation": "left"}, "longest_first, only_first, only_second, received 'left'"),
        ({"padding": "max_length"}, "Expected max_length with padding='max_length', received None"),
        ({"padding": 0}, "'longest', 'max_length' or a positive int, received 0"),
        ({"padding": "no"}, "'longest', 'max_length' or a positive int, received 'no'"),
    ],
)  # fmt: skip
def test_bad_options(uncased, options, message):
    with pytest.raises(ConfigError) as raised:
        uncased(["a"], **options)
    assert message in str(raised.value)


def test_bad_pairs(uncased):
    with pytest.raises(ConfigError, match="Expected a tuple of two"):
        uncased((["a"], ["b"], ["c"]))
    with pytest.raises(
        DataError, match="one second text for each first text, received 2 first and 1"
    ):
        uncased((["a", "b"], ["c"]))
    with pytest.raises(
        DataError, match="one second text for each first text, received 1 first and 2"
    ):
        uncased.windows(["a"], first=["b", "c"], max_length=9, stride=0)
    with pytest.raises(ConfigError, match="at least 3"):
        uncased((["a"], ["b"]), max_length=2)


@pytest.mark.parametrize(("max_length", "stride"), [(8, 0), (8, 2), (8, 5), (9, 3), (40, 10)])
def test_windows(uncased, reference, max_length, stride):
    texts = [
        " ".join(chr(97 + i % 26) for i in range(n)) + " é" for n in (0, 1, 4, 5, 6, 7, 18, 25)
    ]
    texts += ["", "[MASK] x" * 5]
    packed = uncased.windows(texts, max_length=max_length, stride=stride)
    expected, documents = [], []
    reference.enable_truncation(max_length, stride=stride)
    try:
        for i, text in enumerate(texts):
            encoding = reference.encode(text)
            for window in [encoding, *encoding.overflowing]:
                at = np.cumsum([0] + [len(char.encode()) for char in text])
                spans = [(int(at[a]), int(at[b])) for a, b in window.offsets]
                expected.append((window.ids, window.type_ids, spans))
                documents.append(i)
    finally:
        reference.no_truncation()
    assert unpadded(packed) == [(ids, segments) for ids, segments, _ in expected]
    assert packed["document"].numpy().tolist() == documents
    for row, (ids, _, spans) in enumerate(expected):
        starts, ends = (packed[key].numpy()[row][: len(ids)].tolist() for key in ("starts", "ends"))
        assert list(zip(starts, ends, strict=True)) == spans
    tokens = uncased.tokenize(texts).to_list()
    for ids, document, start in zip(
        expected, documents, packed["window_start"].numpy().tolist(), strict=True
    ):
        inner = ids[0][1:-1]
        assert tokens[document][start : start + len(inner)] == inner


def test_windows_after_a_question(uncased, reference):
    questions = ["q q", "", "who is it ?", "x"]
    texts = [words(20), words(3), words(11, "b"), ""]
    packed = uncased.windows(texts, first=questions, max_length=12, stride=3)
    expected, documents = [], []
    reference.enable_truncation(12, stride=3, strategy="only_second")
    try:
        for i, pair in enumerate(zip(questions, texts, strict=True)):
            encoding = reference.encode(*pair)
            for window in [encoding, *encoding.overflowing]:
                expected.append((window.ids, window.type_ids))
                documents.append(i)
    finally:
        reference.no_truncation()
    assert unpadded(packed) == expected
    assert packed["document"].numpy().tolist() == documents


def test_windows_truncate_a_long_question(uncased):
    rows = unpadded(uncased.windows([words(9)], first=[words(50, "q")], max_length=12, stride=3))
    assert len(rows) == 6
    assert all(len(ids) <= 12 for ids, _ in rows)


def test_windows_of_no_texts(uncased):
    assert uncased.windows([], max_length=8, stride=2)["document"].shape == (0,)


def test_bad_windows(uncased):
    with pytest.raises(ConfigError, match="Expected max_length, received None"):
        uncased.windows(["a"])
    with pytest.raises(
        ConfigError, match=r"more than 12 \(the special tokens and stride=10\), received 12"
    ):
        uncased.windows(["a"], max_length=12, stride=10)
    with pytest.raises(ConfigError, match="stride of at least 0, received -1"):
        uncased.windows(["a"], max_length=12, stride=-1)

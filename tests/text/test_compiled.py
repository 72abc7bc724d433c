"""Equal tokenizers share compiled functions, and no others do."""

import copy
import gc
import pickle
import weakref

import pytest

from keras_bert_zoo import ByteBpeTokenizer, SentencePieceTokenizer, WordPieceTokenizer
from keras_bert_zoo.text import compiled
from keras_bert_zoo.text.byte_bpe.model import byte_by_character

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BYTES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *byte_by_character()]
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<mask>", 0.0)]


def word_piece(*pieces, **options):
    return WordPieceTokenizer([*SPECIAL, *pieces], **options)


def byte_bpe(*merges, **options):
    return ByteBpeTokenizer([*BYTES, "ab", "bc"], merges, **options)


def sentence_piece(*pieces, **options):
    names = {"unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    options = {**names, "pad_token": "<pad>", "mask_token": "<mask>", **options}
    return SentencePieceTokenizer([*PIECES, *pieces], **options)


@pytest.mark.parametrize(
    ("make", "contents", "others", "options"),
    [
        (word_piece, ["a", "##b", "##c"], [["a", "##c", "##b"]], {"lowercase": False}),
        (byte_bpe, [("a", "b"), ("b", "c")], [[("b", "c"), ("a", "b")]], {"trim_offsets": False}),
        (
            sentence_piece,
            [("▁a", -1.0), ("b", -2.0), ("c", -3.0), ("bc", -9.0)],
            [[("▁a", -1.0), ("b", -2.0), ("c", -3.0), ("bc", -1.0)]],
            {"prefix": "never"},
        ),
    ],
)
def test_only_equal_tokenizers_share(make, contents, others, options):
    one, two = make(*contents), make(*contents)
    ids = one.tokenize("abc").numpy().tolist()
    assert two._functions is one._functions
    assert two.tokenize("abc").numpy().tolist() == ids
    different = [make(*other) for other in others]
    for other in [*different, make(*contents, **options), make(*contents, max_length=9)]:
        assert other._functions is not one._functions
    assert different[0].tokenize("abc").numpy().tolist() != ids


def test_copies_share():
    one = word_piece("a", "##b")
    for two in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert "_functions" not in vars(two)
        assert two._functions is one._functions


def test_changes_have_an_effect_and_end_sharing():
    one, two = word_piece("a", max_length=8), word_piece("a", max_length=8)
    text = "a a a a a a a a a"
    assert one(text)["token_ids"].shape == two(text)["token_ids"].shape == (1, 8)
    assert one._functions is two._functions
    one.max_length = 4
    assert one._functions is not two._functions
    assert [one(text)["token_ids"].shape[1], two(text)["token_ids"].shape[1]] == [4, 8]

    options = {"type": "Replace", "pattern": {"String": "x"}, "content": "a"}
    before = sentence_piece(("▁a", -1.0), normalizer=options)
    options["content"] = "b"
    after = sentence_piece(("▁a", -1.0), normalizer=options)
    assert before._functions is not after._functions


def test_a_pickle_of_an_earlier_version():
    one = word_piece("a", "##b")
    two = WordPieceTokenizer.__new__(WordPieceTokenizer)
    two.__setstate__(one.__getstate__() | {"_functions": {}})
    assert two.tokenize("ab").numpy().tolist() == [5, 6]


def test_other_classes_do_not_share():
    """A class may depend on more than its base class, such as `first` here."""

    class Shifted(WordPieceTokenizer):
        def __init__(self, first):
            super().__init__([*SPECIAL, "a"])
            self.first = first

        def tokenize_flat(self, strings, *, with_offsets):
            ids, *others = super().tokenize_flat(strings, with_offsets=with_offsets)
            return ids + self.first, *others

    tokenizers = [word_piece("a"), Shifted(10), Shifted(20)]
    assert [int(tokenizer.tokenize("a")[0]) for tokenizer in tokenizers] == [5, 15, 25]


def test_functions_end_with_the_last_tokenizer():
    one, two = word_piece("x"), word_piece("x")
    assert one.tokenize("x").shape == two.tokenize("x").shape
    functions = weakref.ref(one._functions)
    del one
    gc.collect()
    assert two._functions is functions()
    entries = len(compiled._SHARED)
    del two
    gc.collect()
    assert functions() is None
    assert len(compiled._SHARED) < entries

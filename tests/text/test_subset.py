"""A tokenizer with a part of its vocabulary splits the texts of that part as before."""

import json
import random
from pathlib import Path

import pytest

from keras_bert_zoo import ByteBpeTokenizer, SentencePieceTokenizer, Tokenizer, WordPieceTokenizer
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.special_tokens import AddedToken
from tests.documents import PAGES

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
OTHERS = [
    "Zebras quiz  foxes!",
    "naïve \u4e2d\u6587 \U0001f600",
    "ÅÄÖ",
    "",
    "x<mask>y",
    "'s q\u0301",
]


def pieces_of(tokenizer, texts):
    """The tokens of each text, without ids, which differ between vocabularies."""
    return [[tokenizer.vocabulary[i] for i in ids] for ids in tokenizer.tokenize(texts).to_list()]


@pytest.fixture(scope="module")
def texts():
    """Real sentences, of this project's pages."""
    lines = [line for page in PAGES[:6] for line in Path(page).read_text("utf-8").splitlines()]
    return [line for line in lines if len(line.split()) > 4][:150]


@pytest.fixture(scope="module")
def trained(texts, uncased):
    """A tokenizer of each algorithm, of which two are trained on the texts."""
    tokenizers = pytest.importorskip("tokenizers")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=900, show_progress=False, special_tokens=SPECIAL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    ))  # fmt: skip
    unigram = tokenizers.Tokenizer(tokenizers.models.Unigram())
    unigram.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    unigram.train_from_iterator(texts, tokenizers.trainers.UnigramTrainer(
        vocab_size=600, show_progress=False, special_tokens=SPECIAL, unk_token="<unk>",
    ))  # fmt: skip
    model = json.loads(bpe.to_str())["model"]
    names = sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(merge) for merge in model["merges"]]
    scores = [tuple(piece) for piece in json.loads(unigram.to_str())["model"]["vocab"]]
    word = AddedToken("tf.data", special=False)
    return {
        "wordpiece": uncased,
        "byte_bpe": ByteBpeTokenizer(names, merges, added_tokens=[word, AddedToken("<new>")]),
        "sentencepiece": SentencePieceTokenizer(scores, added_tokens=[word]),
    }


@pytest.mark.parametrize("name", ["wordpiece", "byte_bpe", "sentencepiece"])
def test_texts_of_the_part_have_the_same_tokens(name, trained, texts, tmp_path):
    tokenizer = trained[name]
    part = texts[: len(texts) // 3]
    used = {i for ids in tokenizer.tokenize(part).to_list() for i in ids}
    smaller = tokenizer.subset(used)
    assert type(smaller) is type(tokenizer)
    assert len(used) < smaller.vocabulary_size < tokenizer.vocabulary_size
    assert pieces_of(smaller, part) == pieces_of(tokenizer, part)
    # The order of ids is the same, and no added token is lost.
    places = [tokenizer.vocabulary.index(token) for token in smaller.vocabulary]
    assert places == sorted(places)
    assert [t.content for t in smaller.added_tokens] == [t.content for t in tokenizer.added_tokens]
    # Words in other orders consist of the same tokens, too, if no token crosses words.
    words = [word for text in part for word in text.split()]
    random.Random(0).shuffle(words)
    words = words[:200]
    for old, new in zip(pieces_of(tokenizer, words), pieces_of(smaller, words), strict=True):
        if set(old) <= set(smaller.vocabulary):
            assert new == old
    # Its files have the same vocabulary, and Hugging Face reads them with the same results.
    smaller.save(tmp_path)
    loaded = Tokenizer.from_preset(tmp_path)
    assert loaded.vocabulary == smaller.vocabulary
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*part[:20], *texts[-20:], *OTHERS]:
        wanted = reference(text, add_special_tokens=False)["input_ids"]
        assert loaded.tokenize([text]).to_list() == [wanted], text


def test_the_whole_vocabulary_is_the_same_tokenizer(trained):
    for tokenizer in trained.values():
        same = tokenizer.subset(range(tokenizer.vocabulary_size))
        assert same.vocabulary == tokenizer.vocabulary
        assert same.added_tokens == tokenizer.added_tokens


def test_ids_outside_the_vocabulary_are_refused():
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    for outside in (-1, 6):
        with pytest.raises(ConfigError, match=f"Expected ids from 0 to 5, received {outside}"):
            tokenizer.subset([1, outside])

"""Passages of documents."""

import itertools

import pytest

from keras_bert_zoo import Tokenizer
from keras_bert_zoo.data.passages import cut_passages
from keras_bert_zoo.errors import ConfigError
from tests.tasks.collection import DOCUMENTS, RETRIEVER


def test_documents_are_cut_at_white_space():
    tokenizer = Tokenizer.from_preset(RETRIEVER)
    documents = [text if isinstance(text, bytes) else text.encode() for text in DOCUMENTS]
    documents += [b"x" * 100, "日本中文".encode() * 20, b" a b " * 40, b"ab cd " * 40]
    passages = cut_passages(documents, tokenizer, tokens=12, overlap=4)
    texts = passages.texts(documents)
    assert len(passages) == len(texts) > len(documents)
    ids = passages.document_id.tolist()
    assert ids == sorted(ids)
    for number, document in enumerate(documents):
        own = [i for i, value in enumerate(ids) if value == number]
        count = len(tokenizer.tokenize(document))
        assert (len(own) == 1) == (count <= 12)
        assert (passages.start[own[0]], passages.end[own[-1]]) == (0, len(document))
        for before, after in itertools.pairwise(own):
            assert passages.start[before] < passages.start[after] <= passages.end[before] + 1
            assert passages.end[before] < passages.end[after]
        for i in own:
            assert len(tokenizer.tokenize(texts[i])) <= 12
            before = document[: passages.start[i]]
            assert passages.start_character[i] == sum(byte & 0xC0 != 0x80 for byte in before)
    words = {word for text, number in zip(texts, ids, strict=True) if number == len(documents) - 1
             for word in text.split()}  # fmt: skip
    assert words == {b"ab", b"cd"}
    with pytest.raises(ConfigError, match="Expected an overlap of 0 to 6 tokens"):
        cut_passages(documents, tokenizer, tokens=12, overlap=7)
    with pytest.raises(ConfigError, match="passages of at least one token, received 0"):
        cut_passages(documents, tokenizer, tokens=0, overlap=0)

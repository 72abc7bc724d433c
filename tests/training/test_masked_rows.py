"""Rows of a masked language model: words, rows without words, and masking in turn."""

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.training.masked_rows import maskable_rows, pseudo_perplexities
from keras_bert_zoo.training.rows import packed_rows

TOKENIZER = kbz.WordPieceTokenizer(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "sat"]
)
CLS, SEP, MASK, CAT, S, SAT = 2, 3, 4, 5, 6, 7


def test_rows_have_numbered_words_and_the_index_of_their_text():
    data, texts = maskable_rows(TOKENIZER, ["cats sat", "", "sat"], max_length=4)
    ids = data.rows.token_ids.tolist()
    assert ids == [CLS, CAT, S, SEP, CLS, SAT, SEP, CLS, SAT, SEP]
    assert texts.tolist() == [0, 0, 2]  # the empty text has no row
    no = NO_LABEL
    assert data.token_labels.tolist() == [no, 1, 2, no, no, 5, no, no, 8, no]


def test_tokens_of_a_word_have_one_number():
    def begins_word(ids, first):
        return first | tf.constant(ids != S)

    data, _ = maskable_rows(TOKENIZER, ["sat cats"], max_length=5, begins_word=begins_word)
    assert data.token_labels.tolist() == [NO_LABEL, 1, 2, 2, NO_LABEL]


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_texts_without_words_are_refused(texts):
    with pytest.raises(DataError, match="no word to mask"):
        maskable_rows(TOKENIZER, texts, max_length=8)


def test_every_token_is_masked_in_turn():
    rows = packed_rows(TOKENIZER, ["sat", "cats sat", ""], max_length=8)
    masked = {}

    def log_probability(inputs, tokens):
        for ids, position, token in zip(*map(np.array, (
            inputs["token_ids"], inputs["mask_positions"][:, 0], tokens[:, 0]
        )), strict=True):  # fmt: skip
            assert ids[position] == MASK
            ids[position] = token
            masked.setdefault(tuple(ids[ids > 0].tolist()), set()).add(int(position))
        return -tf.ones_like(tokens, tf.float32)

    answers = pseudo_perplexities(rows, log_probability, mask_id=MASK, pad_id=0, batch_size=3)
    assert masked == {(CLS, SAT, SEP): {1}, (CLS, CAT, S, SAT, SEP): {1, 2, 3}}
    assert answers["tokens"].tolist() == [1, 3, 0]
    assert answers["pseudo_log_likelihood"].tolist() == [-1, -3, 0]
    np.testing.assert_allclose(answers["pseudo_perplexity"], np.exp([1, 1, 0]), rtol=1e-6)

"""Texts of tokens, and texts with tokens in place of masks."""

import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.text.filling import fill_masks, token_texts
from keras_bert_zoo.text.token_offsets import offsets_of_columns

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "##"]


def test_token_texts_have_no_sign_in_a_filled_text():
    texts, replacements = token_texts(kbz.WordPieceTokenizer(VOCABULARY), 9)
    assert texts.tolist() == [*(token.encode() for token in VOCABULARY), b""]
    assert replacements.tolist()[5:] == [b"cat", b"s", b"##", b""]


def test_bytes_between_masks_are_kept():
    texts = tf.constant([b"\xff_ and _", b"none", b""])
    starts, ends = tf.constant([[1, 7], [0, 0], [0, 0]]), tf.constant([[2, 8], [0, 0], [0, 0]])
    exists = ends > 0
    tokens = tf.where(exists[:, :, tf.newaxis], tf.constant(["x", "yy", ""]), "")
    filled = fill_masks(texts, starts, ends, exists, tokens).numpy().tolist()
    assert filled == [
        [b"\xffx and x", b"\xffyy and yy", b"\xff and "], [b"none"] * 3, [b""] * 3
    ]  # fmt: skip


def test_offsets_without_texts_or_tokens():
    none = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), [0, 0])
    columns, exists = tf.zeros([2, 1], tf.int32), tf.zeros([2, 1], tf.bool)
    assert offsets_of_columns(none, columns, exists).numpy().tolist() == [[0], [0]]
    assert offsets_of_columns(none[:0], columns[:0], exists[:0]).shape == (0, 1)

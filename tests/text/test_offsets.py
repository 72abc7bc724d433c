"""Offsets in bytes and characters."""

import tensorflow as tf

from keras_bert_zoo.text.offsets import character_offsets


def test_characters_are_counted_in_any_bytes():
    texts = tf.constant(["a南é🎈".encode(), b"\xe5\x8d\xff\x80\xc3", b""])
    places = tf.constant([[0, 1, 4, 6, 10], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]])
    counted = character_offsets(texts, places)
    assert counted.numpy().tolist() == [[0, 1, 2, 3, 4], [1, 1, 2, 2, 3], [0] * 5]

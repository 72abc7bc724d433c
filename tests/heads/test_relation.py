"""R-BERT's head, compared with NumPy: poolings, layouts, missing markers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.relation import RelationHead, find_entities
from keras_bert_zoo.layers.token_layout import TokenLayout, from_batch

IDS = np.array([
    [2, 50, 7, 51, 8, 52, 9, 9, 53, 3],  # both
    [2, 52, 7, 53, 50, 8, 9, 51, 3, 0],  # the second first
    [2, 50, 51, 7, 52, 8, 50, 3, 0, 0],  # empty; never closed
    [2, 51, 7, 50, 8, 51, 3, 52, 5, 53],  # closed before it opens; beyond the mask
])  # fmt: skip
LENGTHS = [10, 9, 8, 7]
MASK = (np.arange(10) < np.array(LENGTHS)[:, np.newaxis]).astype(np.int32)
SPANS = [[(2, 3), (6, 8)], [(5, 7), (2, 3)], [None, None], [(4, 5), None]]


def test_finds_entities():
    begin, end, exists = (x.numpy() for x in find_entities(IDS, MASK, (50, 51, 52, 53)))
    assert exists.tolist() == [[span is not None for span in row] for row in SPANS]
    for row, spans in enumerate(SPANS):
        for place, span in enumerate(spans):
            assert (begin[row, place], end[row, place]) == (span or (0, 0))
    empty = tf.zeros([0, 0], tf.int32)
    assert find_entities(empty, empty, (50, 51, 52, 53))[2].shape == (0, 2)


@pytest.mark.parametrize("pooling", ["mean", "start"])
@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_equals_the_paper(pooling, kind):
    keras.utils.set_random_seed(0)
    head = RelationHead(3, hidden_dim=4, marker_ids=(50, 51, 52, 53), pooling=pooling,
                        initializer_range=0.5)  # fmt: skip
    for variable in head.weights:
        variable.assign_add(keras.random.normal(variable.shape))
    states = np.random.default_rng(0).normal(size=(4, 10, 4)).astype(np.float32)
    layout = TokenLayout(kind)(IDS, np.zeros_like(IDS), MASK)
    logits = head(from_batch(tf.constant(states), layout), layout, IDS, MASK)
    text, entity, output = (
        [value.numpy() for value in layer.weights] for layer in head.extra_layers().values()
    )
    for row, spans in enumerate(SPANS):
        vectors = [np.tanh(states[row, 0]) @ text[0] + text[1]]
        for span in spans:
            pooled = states[row, 0]
            if span is not None:
                pooled = states[row, slice(*span)].mean(axis=0)
                if pooling == "start":
                    pooled = states[row, span[0] - 1]
            vectors.append(np.tanh(pooled) @ entity[0] + entity[1])
        expected = np.concatenate(vectors) @ output[0] + output[1]
        np.testing.assert_allclose(logits[row], expected, atol=1e-5)
    again = RelationHead.from_config(head.get_config())
    assert (again.pooling, again.marker_ids) == (pooling, (50, 51, 52, 53))


def test_unknown_pooling():
    with pytest.raises(ConfigError, match="Expected `pooling` to be one of .*, received .max."):
        RelationHead(2, hidden_dim=4, marker_ids=(1, 2, 3, 4), pooling="max")

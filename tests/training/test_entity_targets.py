"""Entities as whole words."""

import numpy as np

from keras_bert_zoo.data.spans import Entity
from keras_bert_zoo.training.entity_targets import overlapped_words


def test_words_that_entities_overlap_with():
    starts, ends = np.array([0, 4, 9]), np.array([3, 8, 12])
    entities = [Entity(1, 2, "X"), Entity(2, 6, "X"), Entity(8, 9, "X"), Entity(10, 13, "X")]
    assert overlapped_words(entities, starts, ends) == [(0, 1), (1, 2), None, (2, 3)]
    assert overlapped_words(entities, starts, ends, nested=True) == [(0, 1), (0, 2), None, (2, 3)]

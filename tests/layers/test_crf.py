"""The random field, compared with an enumeration of all paths."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.crf import (
    FORBIDDEN,
    ConditionalRandomField,
    best_path,
    marginals,
    sequence_loss,
)

LENGTHS = np.array([4, 1, 0, 3], np.int32)
ROWS, STEPS, TAGS = 4, 5, 3


def make(seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(ROWS, STEPS, TAGS)).astype(np.float32)
    parts = [random.normal(size=shape).astype(np.float32) for shape in ((TAGS, TAGS), TAGS, TAGS)]
    parts[0][0, 1] = FORBIDDEN
    return logits, parts


def paths(logits, parts, length):
    """Every path of a sequence with its score."""
    transitions, starts, ends = parts
    for path in itertools.product(range(TAGS), repeat=length):
        score = starts[path[0]] + ends[path[-1]] + sum(logits[np.arange(length), path])
        score += sum(transitions[a, b] for a, b in itertools.pairwise(path))
        yield path, float(score)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_counting_all_paths(seed):
    logits, parts = make(seed)
    tags = np.random.default_rng(seed).integers(0, TAGS, (ROWS, STEPS)).astype(np.int32)
    losses = sequence_loss(logits, tags, LENGTHS, *parts).numpy()
    best = best_path(logits, LENGTHS, *parts).numpy()
    chances = marginals(logits, LENGTHS, *parts).numpy()
    assert best.shape == (ROWS, STEPS)
    for row, length in enumerate(LENGTHS):
        if not length:
            assert losses[row] == 0
            continue
        all_paths, scores = zip(*paths(logits[row], parts, length), strict=True)
        total = np.logaddexp.reduce(scores)
        own = scores[all_paths.index(tuple(tags[row, :length]))]
        assert losses[row] == pytest.approx(total - own, rel=1e-4, abs=1e-4)
        assert tuple(best[row, :length]) == all_paths[int(np.argmax(scores))]
        expected = np.zeros((length, TAGS))
        for path, score in zip(all_paths, scores, strict=True):
            expected[np.arange(length), path] += np.exp(score - total)
        np.testing.assert_allclose(chances[row, :length], expected, atol=1e-5)
    assert np.isfinite(chances).all()


def test_gradients_equal_differences():
    logits, parts = make()
    parts[0][0, 1] = 0.5
    tags = np.zeros((ROWS, STEPS), np.int32)

    def loss(transitions):
        return tf.reduce_sum(sequence_loss(logits, tags, LENGTHS, transitions, *parts[1:]))

    transitions = tf.constant(parts[0])
    with tf.GradientTape() as tape:
        tape.watch(transitions)
        value = loss(transitions)
    gradient = tape.gradient(value, transitions).numpy()
    for place in ((0, 0), (2, 1)):
        step = np.zeros((TAGS, TAGS), np.float32)
        step[place] = 0.01
        expected = (loss(parts[0] + step) - loss(parts[0] - step)) / 0.02
        assert gradient[place] == pytest.approx(float(expected), abs=2e-3)


def test_long_sequences_keep_their_digits():
    random = np.random.default_rng(0)
    logits = random.normal(size=(1, 3000, TAGS)).astype(np.float32) - 1000
    zeros = [np.zeros(shape, np.float32) for shape in ((TAGS, TAGS), TAGS, TAGS)]
    best = tf.function(best_path)(tf.constant(logits), tf.constant([3000]), *zeros)
    np.testing.assert_array_equal(best, logits.argmax(axis=-1))


def test_the_layer_learns_faster_than_its_weights():
    layer = ConditionalRandomField(TAGS, scale=50.0)
    assert layer(tf.ones((1, 2, TAGS))).shape == (1, 2, TAGS)
    layer.transitions.assign(np.ones((TAGS, TAGS)))
    np.testing.assert_array_equal(layer.parts()[0], np.full((TAGS, TAGS), 50))
    np.testing.assert_array_equal(tf.function(lambda: layer.arrays()[0])(), layer.parts()[0])
    assert [weight.shape for weight in layer.weights] == [(TAGS, TAGS), (TAGS,), (TAGS,)]
    assert keras.backend.backend() == "tensorflow"

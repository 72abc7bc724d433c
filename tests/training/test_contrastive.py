"""Losses of embeddings: equal values in sentence-transformers, and further properties."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.contrastive import (
    CoSENTLoss,
    CosineSimilarityLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    TripletLoss,
    make_loss,
)
from tests.helpers import ASSETS

# Written by tools/tasks/embedding_goldens.py.
GOLDEN = dict(np.load(ASSETS / "sentence_transformers" / "losses.npz"))
EMBEDDINGS = GOLDEN["embeddings"]
DISTINCT = np.arange(len(EMBEDDINGS), dtype=np.int32)


@pytest.mark.parametrize(
    ("name", "group", "loss", "y"),
    [
        ("ranking_pairs", 2, MultipleNegativesRankingLoss(), DISTINCT),
        ("ranking_negatives", 4, MultipleNegativesRankingLoss(7.0), DISTINCT),
        ("ranking_symmetric", 2, MultipleNegativesRankingLoss(symmetric=True), DISTINCT),
        (
            "ranking_symmetric_negatives",
            4,
            MultipleNegativesRankingLoss(symmetric=True),
            DISTINCT,
        ),
        ("cosent", 2, CoSENTLoss(), GOLDEN["scores"]),
        ("cosine", 2, CosineSimilarityLoss(), GOLDEN["scores"]),
        ("triplet_euclidean", 3, TripletLoss(), DISTINCT),
        ("triplet_cosine", 3, TripletLoss("cosine", 0.5), DISTINCT),
        ("triplet_manhattan", 3, TripletLoss("manhattan", 2.0), DISTINCT),
        (
            "matryoshka_ranking",
            4,
            MatryoshkaLoss(MultipleNegativesRankingLoss(), [8, 4, 2], [1.0, 0.5, 2.0]),
            DISTINCT,
        ),
        ("matryoshka_cosent", 2, MatryoshkaLoss(CoSENTLoss(), [8, 3]), GOLDEN["scores"]),
    ],
)
def test_values_equal_sentence_transformers(name, group, loss, y):
    assert float(loss(y, EMBEDDINGS[:, :group])) == pytest.approx(float(GOLDEN[name]), rel=2e-6)


def test_groups_with_one_number_are_not_negatives_of_each_other():
    x = tf.constant(EMBEDDINGS[:3, :2])
    loss = MultipleNegativesRankingLoss()
    two = loss.call(tf.constant([7, 8]), x[::2])  # only rows 0 and 2
    three = loss.call(tf.constant([5, 5, 9]), x)
    unit = x / tf.norm(x, axis=-1, keepdims=True)
    # The only wrong answer for row 0 is that of row 2, as if row 1 did not exist.
    np.testing.assert_allclose(three[0], two[0], rtol=1e-5)
    logits = 20 * tf.reduce_sum(unit[2, 0] * unit[:, 1], axis=-1)
    np.testing.assert_allclose(three[2], tf.reduce_logsumexp(logits) - logits[2], rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "none"),
    [
        (MultipleNegativesRankingLoss(symmetric=True), NO_LABEL),
        (CoSENTLoss(), np.nan),
        (MatryoshkaLoss(CoSENTLoss(), [8, 3]), np.nan),
    ],
)
def test_groups_without_a_label_are_ignored(loss, none):
    groups = 3 if loss.needs == "groups" else 2
    labels = np.array([0.0, 1.0, 3.0, 2.0], np.float32)
    expected = float(loss(labels[[0, 2]], EMBEDDINGS[[0, 2], :groups]))
    labels[[1, 3]] = none
    assert expected > 1e-3
    assert float(loss(labels, EMBEDDINGS[:4, :groups])) == pytest.approx(expected, rel=1e-5)


def test_a_single_group_has_loss_zero():
    loss = MultipleNegativesRankingLoss(symmetric=True)
    assert float(loss(np.array([0]), EMBEDDINGS[:1, :2])) == pytest.approx(0, abs=1e-6)
    assert float(CoSENTLoss()(np.array([0.5]), EMBEDDINGS[:1, :2])) == 0


@pytest.mark.parametrize("loss", [MultipleNegativesRankingLoss(), CoSENTLoss(), TripletLoss()])
def test_zeros_have_finite_gradients(loss):
    x = tf.Variable(tf.zeros([3, 2 if loss.needs != "negatives" else 3, 4]))
    with tf.GradientTape() as tape:
        value = loss(np.arange(3), x)
    assert np.isfinite(tape.gradient(value, x).numpy()).all()


def test_invalid_arguments_are_refused():
    with pytest.raises(ConfigError, match=r"Loss 'ranking' is unknown. Expected one of: multiple_"):
        make_loss("ranking")
    with pytest.raises(ConfigError, match="`scale` must be a number above 0, received 0"):
        MultipleNegativesRankingLoss(0)
    with pytest.raises(ConfigError, match="`distance` must be one of euclidean, cosine"):
        TripletLoss("dot")
    with pytest.raises(ConfigError, match="There are 2 `dimensions` but 1 `weights`"):
        MatryoshkaLoss(CoSENTLoss(), [8, 4], [1.0])
    with pytest.raises(ConfigError, match="fewer than the 9 of `dimensions`"):
        MatryoshkaLoss(CoSENTLoss(), [9])(GOLDEN["scores"], EMBEDDINGS[:, :2])
    with pytest.raises(DataError, match=r"takes scores from -1 to 1, received values from 0 to 5"):
        MatryoshkaLoss(CosineSimilarityLoss(), [8]).check_scores(np.array([0.0, 5.0]))


def test_configs_rebuild_the_losses():
    for loss in (MultipleNegativesRankingLoss(3.0, symmetric=True), TripletLoss("cosine", 0.1)):
        again = type(loss).from_config(loss.get_config())
        assert again.get_config() == loss.get_config()

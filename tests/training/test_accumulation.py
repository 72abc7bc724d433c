"""A batch in parts gives the update of the whole batch."""

import numpy as np
import pytest

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.contrastive import CosineSimilarityLoss
from tests.helpers import as_graphs, eagerly
from tests.tasks.every_task import TRAINED, make, spread_weights


def fit(name, **options):
    task, x, y = make(name)
    spread_weights(task)
    weighted = {}
    if name != "masked-lm":
        weighted["sample_weight"] = np.linspace(0.5, 2, 7).astype(np.float32)
    options = {"epochs": 1} | options
    history = task.fit(
        x, y, **weighted, batch_size=7, learning_rate=1e-2, global_clipnorm=0.1, verbose=0,
        **options,
    )  # fmt: skip
    return task, history.history, task.get_weights()


def check_equal(name, parts=4, *, epochs=1, **options):
    task, history, weights = fit(name, epochs=epochs)
    other, other_history, other_weights = fit(
        name, accumulation_steps=parts, epochs=epochs, **options
    )
    assert int(other.optimizer.iterations.numpy()) == int(task.optimizer.iterations.numpy())
    np.testing.assert_allclose(other_history["loss"], history["loss"], rtol=1e-5)
    for own, other in zip(other_weights, weights, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)


OF_BATCHES = {"embedding", "embedding scored"}  # their losses compare the texts of a batch


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in OF_BATCHES])
def test_parts_give_the_update_of_the_batch(name):
    with eagerly():
        check_equal(name, parts=3)


@pytest.mark.parametrize("name", sorted(OF_BATCHES))
def test_losses_of_whole_batches_are_refused(name):
    task, x, y = make(name)
    with eagerly(), pytest.raises(ConfigError, match="which needs the outputs of the whole batch"):
        task.fit(x, y, batch_size=7, epochs=1, verbose=0, accumulation_steps=4)


def test_losses_of_pairs_are_means_over_rows():
    results = []
    for parts in (1, 2):
        task, x, y = make("embedding scored")
        spread_weights(task)
        with eagerly():
            history = task.fit(
                x, y, loss=CosineSimilarityLoss(), batch_size=5, epochs=1, learning_rate=1e-2,
                verbose=0, accumulation_steps=parts,
            )  # fmt: skip
        results.append([*history.history["loss"], *task.get_weights()])
    for own, other in zip(*results, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)


@as_graphs()
def test_several_steps_in_one_call_accumulate():
    # More parts than rows: some have none.
    check_equal("classification", parts=40, epochs=2, steps_per_execution=2)


def test_a_later_fit_takes_whole_batches_again():
    with eagerly():
        task, x, y = make("classification")
        task.compile("sgd", metrics=["accuracy"])
        task.fit(x, y, batch_size=7, epochs=1, verbose=0, accumulation_steps=4)
        before = task.get_weights()
        task.train_on_batch(x, y)
        assert any((a != b).any() for a, b in zip(before, task.get_weights(), strict=True))

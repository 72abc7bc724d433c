"""Results are equal on one, two and three replicas."""

import keras
import pytest

from keras_bert_zoo.training.loss_units import loss_unit
from keras_bert_zoo.training.outputs import OneHotLoss
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss
from tests.helpers import run_module
from tests.tasks.every_task import TRAINED


def test_only_means_have_a_unit():
    for reduction in ("sum_over_batch_size", "mean"):
        assert loss_unit(SmoothedTokenLoss(reduction=reduction)) == "tokens"
    for reduction in ("sum", "mean_with_sample_weight"):
        assert loss_unit(SmoothedTokenLoss(reduction=reduction)) == ""
    hinge = keras.losses.CategoricalHinge
    assert loss_unit(OneHotLoss(hinge(), 2)) == loss_unit(hinge()) == "rows"
    assert loss_unit(OneHotLoss(hinge(reduction="sum"), 2)) == ""
    assert loss_unit(keras.losses.Dice()) == ""  # of the whole batch


def test_a_classifier_has_equal_results_on_two_replicas():
    run_module("tests.tasks.replicas_script", "classifiers")


# Each takes twenty seconds of processor time.
@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_task_has_equal_results_on_any_number_of_replicas(name):
    run_module("tests.tasks.replicas_script", name)

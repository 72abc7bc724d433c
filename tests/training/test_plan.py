"""The plan of a run equals the run."""

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.config import config_class
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.training.cost import training_flops
from keras_bert_zoo.training.model_shapes import task_shapes
from keras_bert_zoo.training.plan import plan_training
from tests.helpers import ASSETS, eagerly
from tests.tasks.every_task import make_tokenizer

TEXTS = ["a", "a b", "a b c", "a b c a b c", "c"] * 7
LABELS = ["x", "y", "x", "y", "x"] * 7


@pytest.fixture(scope="module")
def task():
    return kbz.TextClassifier.from_preset(ASSETS / "bert_gelu", labels=["x", "y"], max_length=16)


def test_the_plan_counts_what_fit_reads(task):
    plan = plan_training(task, TEXTS, LABELS, batch_size=8, epochs=2, seed=3)
    batches = list(task.make_dataset(TEXTS, LABELS, batch_size=8, seed=3))
    tokens = sum(int(inputs["padding_mask"].numpy().sum()) for inputs, _ in batches)
    cells = sum(inputs["padding_mask"].numpy().size for inputs, _ in batches)
    lengths = np.concatenate([x["padding_mask"].numpy().sum(axis=1) for x, _ in batches])
    assert (plan.rows, plan.tokens) == (35, tokens)
    assert plan.padding == pytest.approx(1 - tokens / cells)
    assert (plan.steps_per_epoch, plan.steps) == (len(batches), 2 * len(batches))
    flops = training_flops(task.encoder.config, lengths, head="classification", units=2)
    assert plan.flops_per_step == pytest.approx(flops / len(batches))
    assert plan.parameters == plan.trained_parameters == task.count_params()
    assert plan.step.seconds == pytest.approx(plan.flops_per_step / plan.peak / plan.share)
    with eagerly():
        history = task.fit(TEXTS, LABELS, batch_size=8, epochs=2, verbose=0)
    assert task.training_record["steps"] == plan.steps
    assert len(history.epoch) == plan.epochs


def test_the_padded_layout_computes_the_padding(task):
    padded = kbz.TextClassifier.from_preset(
        ASSETS / "bert_gelu", labels=["x", "y"], max_length=16, token_layout="padded"
    )
    options = {"batch_size": 8, "epochs": 1}
    dense, packed = (plan_training(t, TEXTS, LABELS, **options) for t in (padded, task))
    assert dense.flops_per_step > packed.flops_per_step
    assert dense.tokens == packed.tokens
    assert "which is not computed" in " ".join(packed.lines())
    assert "which is not computed" not in " ".join(dense.lines())


def test_rows_of_groups_and_predicted_tokens_count():
    choices = kbz.MultipleChoice.from_preset(
        "minilm_l6_en_uncased", num_choices=2, new_head=True, max_length=16
    )
    plan = plan_training(choices, (["a b"] * 4, [["c", "d e f"]] * 4), [0, 1, 0, 1], batch_size=2)
    assert (plan.rows, plan.steps_per_epoch) == (8, 2)
    masked = kbz.MaskedLM.from_preset("minilm_l6_en_uncased", new_head=True, max_length=16)
    plan = plan_training(masked, ["a b c d e f g h"] * 10, batch_size=10)
    flops = training_flops(
        masked.encoder.config, [10] * 10, head="masked_lm", predicted=round(0.15 * 80)
    )
    assert plan.flops_per_step == pytest.approx(flops)
    assert plan.to_dict()["memory"]["total"] == plan.memory.total


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_each_batch_projects_its_own_table_of_distances(layout):
    tokenizer = make_tokenizer()
    config = config_class("deberta-v2")(
        vocabulary_size=tokenizer.vocabulary_size, hidden_dim=8, num_layers=1, num_heads=2,
        intermediate_dim=16, max_sequence_length=24, relative_attention=True, position_buckets=8,
        position_attention=("c2p", "p2c"), pad_token_id=0,
    )  # fmt: skip
    options = {"max_length": 16, "token_layout": layout}
    task = kbz.TextClassifier(build_encoder(config), tokenizer, ["x", "y"], **options)
    plan = plan_training(task, TEXTS, LABELS, batch_size=4, epochs=1)
    counts = []
    for inputs, _ in task.make_dataset(TEXTS, LABELS, batch_size=4, seed=0):
        lengths = inputs["padding_mask"].numpy().sum(axis=1)
        counts.append(training_flops(task_shapes(task), lengths, token_layout=layout))
    assert len(counts) == plan.steps_per_epoch == 9
    assert plan.flops_per_step == pytest.approx(sum(counts) / 9, rel=1e-12)

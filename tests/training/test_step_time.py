"""The model of step time, and the tables of docs/at_scale.md."""

import math
import sys

import pytest

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.model_shapes import model_shapes
from keras_bert_zoo.training.step_time import StepTime, all_reduce_bytes, step_time
from tests.documents import ROOT

CONFIG = EncoderConfig(
    vocabulary_size=10, hidden_dim=4, num_layers=1, num_heads=1, intermediate_dim=8,
    max_sequence_length=6,
)  # fmt: skip


def test_bytes_of_a_ring_and_of_rows():
    model = model_shapes(CONFIG, head="classification", units=2)
    tables = 4 * (10 + 6 + 2)
    dense = model.parameters - tables
    assert all_reduce_bytes(model, 1, tokens=7) == 0
    # 3 of 4 parts are sent twice; the rows of three tables go to three others.
    assert all_reduce_bytes(model, 4, tokens=7) == 4 * (1.5 * dense + 3 * 3 * 7 * 4)
    assert all_reduce_bytes(model, 4, dense_tables=True) == 4 * 1.5 * model.parameters
    tied = model_shapes(CONFIG, head="masked_lm")
    dense = tied.parameters - 4 * (6 + 2)
    assert all_reduce_bytes(tied, 2, tokens=7) == 4 * (dense + 2 * 7 * 4)


def test_frozen_weights_are_not_sent():
    model = model_shapes(CONFIG, head="classification", units=2, frozen_blocks=1)
    trained = 2 * 4 + 2 + 4 * 4 + 4  # the classifier and the pooler
    assert all_reduce_bytes(model, 2, tokens=7) == 4 * trained == 4 * model.trained_parameters


def test_a_step_waits_for_the_slower_of_input_and_computation():
    step = step_time(6e12, peak=1e12, share=0.5, replicas=4, bytes_sent=2e9, link=1e9, overlap=0.5,
                     rows=32, input_rate=8)  # fmt: skip
    assert step == StepTime(compute=3.0, all_reduce=1.0, input=4.0)
    assert step.seconds == 4.0
    assert StepTime(compute=3.0, all_reduce=1.5, input=4.0).seconds == 4.5
    assert step_time(1e12, peak=1e12, share=1.0).seconds == 1.0


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.1}, {"replicas": 0}, {"peak": 0.0},
                                   {"overlap": 2}, {"link": 0}, {"flops": math.nan}])  # fmt: skip
def test_wrong_numbers_are_named(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"`{name}` is out of range"):
        step_time(**{"flops": 1.0, "peak": 1.0, "share": 0.5} | wrong)
    with pytest.raises(ConfigError, match="`replicas` to be at least 1"):
        all_reduce_bytes(model_shapes(CONFIG), 0)


def test_the_tables_of_the_page_are_those_of_the_tool(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools" / "bench"), *sys.path])
    import at_scale

    page = at_scale.PAGE.read_text("utf-8")
    assert at_scale.replaced(page) == page
    assert f"{100 * at_scale.measured_share():.1f} %" in page
    assert at_scale.SHARES["GPU"] == round(at_scale.measured_share(), 3)
    # The first check by hand: 2 operations per weight and token, three times, and attention.
    blocks = 24 * (12 * 1024**2 * 128 + 2 * 128**2 * 1024)
    head = 20 * (1024**2 + 1024 * 30522)
    assert at_scale.flops(at_scale.LARGE, 1, 128) == 6 * (blocks + head)

"""Exports in int8."""

import dataclasses

import numpy as np
import pytest

from keras_bert_zoo import TextClassifier
from keras_bert_zoo.encoders.registry import families
from keras_bert_zoo.errors import ConfigError, DataError, ExportError
from keras_bert_zoo.export import int8
from keras_bert_zoo.export.int8 import quantize
from keras_bert_zoo.export.verify import hostile_rows
from tests.export.conftest import LABELS
from tests.export.test_families import small_task

# The kinds of blocks that BERT, in the tests below, lacks. The other families are slow.
USUAL = ("deberta-v2", "mobilebert", "modernbert")
FAMILIES = [
    pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in families()
]


def texts_of(task):
    return [text for (text,) in hostile_rows(task)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_in_int8(family, tokenizer):
    task = small_task(family, tokenizer)
    before = task.get_weights()
    copy, report = quantize(task, texts_of(task))
    assert report.layers
    assert report.least_cosine >= 0.995
    assert report.texts == len(texts_of(task))
    for left, right in zip(before, task.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    scores, exact = copy.predict(texts_of(task))["scores"], task.predict(texts_of(task))["scores"]
    assert 0 < np.abs(scores - exact).max() < 0.1


@pytest.fixture(scope="module")
def bert(tokenizer):
    return small_task("bert", tokenizer)


def test_an_export_measures_itself(bert, tmp_path):
    texts = texts_of(bert)
    labels = [str(label) for label in bert.predict(texts)["label"]]
    export = bert.export(
        tmp_path / "model",
        dtype="int8",
        calibration=texts,
        examples=(texts, labels),
        max_drop=0.5,
    )
    assert (export.dtype, export.version) == ("int8", 1)
    assert "_QuantizedMatMul" in (export.path / "assets.extra/REQUIREMENTS.txt").read_text()
    assert export.int8.figure == "accuracy"
    assert export.int8.before == 1.0
    assert 0.5 <= export.int8.after <= 1.0
    assert export.int8.equal_answers == pytest.approx(export.int8.after)


def test_a_drop_is_refused(bert, tmp_path, monkeypatch):
    texts = texts_of(bert)
    report = bert.report(texts, [LABELS[0]] * len(texts))
    monkeypatch.setattr(
        TextClassifier,
        "report",
        lambda task, *_, **__: dataclasses.replace(report, accuracy=0.9 if task is bert else 0.85),
    )
    with pytest.raises(ExportError, match="at most 0.01 below 0.9000, received 0.8500"):
        bert.export(
            tmp_path / "model", dtype="int8", calibration=texts, examples=texts, max_drop=0.01
        )
    assert not (tmp_path / "model").exists()


def test_without_a_layer_in_int8_there_is_no_export(bert, monkeypatch):
    monkeypatch.setattr(int8, "_LEAST_COSINE", 1.1)
    with pytest.raises(ExportError, match="at least one dense layer in int8"):
        int8.quantize(bert, texts_of(bert)[:2])


def test_options_are_checked(bert, tmp_path):
    def export(**options):
        bert.export(tmp_path / "model", **options)

    with pytest.raises(ConfigError, match="Expected `calibration` for int8"):
        export(dtype="int8")
    with pytest.raises(ConfigError, match='`calibration` applies only to dtype="int8"'):
        export(dtype="bfloat16", calibration=["a"])
    with pytest.raises(ConfigError, match="labelled `examples` with `max_drop`"):
        export(dtype="int8", calibration=["a"], max_drop=0.1)
    with pytest.raises(ConfigError, match="weights are constants"):
        export(dtype="int8", calibration=["a"], freeze=False)
    with pytest.raises(DataError, match="received none"):
        export(dtype="int8", calibration=[])
    assert not (tmp_path / "model").exists()

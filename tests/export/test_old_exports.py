"""Exports that were made by earlier versions still load and answer as they did then."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops)

TINY = Path(__file__).resolve().parents[2] / "saved_models" / "tiny"
VERSIONS = sorted(path.name for path in TINY.iterdir() if path.name.isdigit())


def test_there_are_old_exports():
    assert VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_export_answers_as_it_did(version):
    expected = json.loads((TINY / f"expected_{version}.json").read_text("utf-8"))
    serve = tf.saved_model.load(str(TINY / version)).signatures["serving_default"]
    answers = serve(text=tf.constant(expected["text"]))
    # Rounding of another TensorFlow or CPU moves a score by about 1e-6.
    np.testing.assert_allclose(answers["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(answers["score"], expected["score"], atol=1e-5)
    assert [label.decode() for label in answers["label"].numpy()] == expected["label"]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_export_is_small(version):
    size = sum(file.stat().st_size for file in (TINY / version).rglob("*") if file.is_file())
    assert size < 2_000_000

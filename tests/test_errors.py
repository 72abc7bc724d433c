"""Errors can be caught as one kind, and as the built-in that Python users expect."""

import pytest

from keras_bert_zoo import errors


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [
        (errors.ConfigError, ValueError),
        (errors.DataError, ValueError),
        (errors.CheckpointError, ValueError),
        (errors.ExportError, RuntimeError),
    ],
)
def test_kinds(kind, built_in):
    assert issubclass(kind, errors.BertZooError)
    assert issubclass(kind, built_in)
    assert str(kind("expected this, got that")) == "expected this, got that"

"""Settings and fixtures that all tests share."""

import os
from pathlib import Path

# Before the first import of TensorFlow or Keras: no start-up chatter, and always this backend.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository, for tests that need more than the installed package."""
    return Path(__file__).resolve().parent.parent

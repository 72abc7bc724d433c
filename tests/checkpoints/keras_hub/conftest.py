"""Fixtures of KerasHub presets."""

import functools
import shutil

import pytest

from tests.checkpoints.keras_hub.models import backbone, task


@pytest.fixture(scope="session")
def presets(tmp_path_factory):
    """Directory of a family's preset, with a head if one is named."""
    root = tmp_path_factory.mktemp("presets")

    @functools.cache
    def make(name, kind=""):
        folder = root / f"{name}{kind}"
        (task(name, kind) if kind else backbone(name)).save_to_preset(str(folder))
        return folder

    return make


@pytest.fixture
def broken(presets, tmp_path):
    """A copy of BERT's preset that a test may damage."""

    def make(name="Bert", kind=""):
        folder = tmp_path / "broken"
        shutil.copytree(presets(name, kind), folder)
        return folder

    return make

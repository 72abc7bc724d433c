"""Settings and fixtures that all tests share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Before the first import of TensorFlow or Keras: no start-up chatter, and always this backend.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import pytest


@pytest.fixture(autouse=True, scope="session")
def small_chunks() -> Iterator[None]:
    """Makes models run on several chunks of the small batches of tests, too."""
    from keras_bert_zoo.tasks import chunks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "TOKENS_AT_ONCE", 512)
        yield


@pytest.fixture(autouse=True, scope="module")
def collect_garbage() -> Iterator[None]:
    """Frees a module's models before the next one: they hang in cycles, graphs and all."""
    yield
    gc.collect()


@pytest.fixture(autouse=True, scope="session")
def known_parts() -> Iterator[None]:
    """Checks at every save of every test that what it writes is known to be the model's.

    The next save would otherwise keep it, as it keeps the files of the user.
    """
    from keras_bert_zoo.directories import contents, replacing

    keep = replacing.keep_other_files

    def check_and_keep(target, new, parts):
        if (new / "keras_bert_zoo.json").exists():
            unknown = sorted(p.name for p in new.iterdir() if not contents.is_part(p, parts))
            assert not unknown, f"directories.contents does not know {unknown}"
        keep(target, new, parts)

    replacing.keep_other_files = check_and_keep
    yield
    replacing.keep_other_files = keep


@pytest.fixture(autouse=True, scope="session")
def one_verifier() -> Iterator[None]:
    """Checks all exports in one interpreter, as each would spend its time on importing TensorFlow.

    After a check that failed comes a new one.
    """
    from keras_bert_zoo.export import saved_model

    class KeptVerifier(saved_model.Verifier):
        kept = None

        def __new__(cls):
            return cls.kept or super().__new__(cls)

        def __init__(self):
            if self is not self.kept:
                super().__init__()
                type(self).kept = self

        def __exit__(self, kind, *error):
            if kind is not None:
                type(self).kept = None
                super().__exit__(kind, *error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "Verifier", KeptVerifier)
        yield
    if KeptVerifier.kept is not None:
        KeptVerifier.kept.__exit__(GeneratorExit, None, None)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository, for tests that need more than the installed package."""
    return Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config, items):
    """Under pytest-xdist (`-n 2 --dist loadgroup`) keeps together what shares costly fixtures."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        shared = item.path.parent.name in ("cli", "export")
        group = item.path.parent if shared else item.path
        item.add_marker(pytest.mark.xdist_group(str(group)))

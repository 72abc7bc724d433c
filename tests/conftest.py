"""Settings and fixtures that all tests share."""

import gc
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before the first import of TensorFlow or Keras: no start-up chatter, and always this backend.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
if "PYTEST_XDIST_WORKER" in os.environ:
    # The other workers use the other cores. Two threads of one small operation would mostly wait
    # for each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import pytest


@pytest.fixture(autouse=True, scope="session")
def small_chunks() -> Iterator[None]:
    """Makes models run on several chunks of the small batches of tests, too."""
    from keras_bert_zoo.tasks import chunks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "TOKENS_AT_ONCE", 512)
        yield


def pytest_collection_finish() -> None:
    """Excludes what is imported from garbage collection, and collects rarely.

    Models consist of many objects that live long. Collections would visit them again and again.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture(autouse=True, scope="session")
def lasting_kernels() -> Iterator[None]:
    """Keeps the kernels of operations when a test sets a seed.

    TensorFlow forgets them all, and making one takes a millisecond, because kernels of stateful
    random operations hold their states. All random operations here are stateless.
    """
    from tensorflow.python import pywrap_tfe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda context: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def whole_tracebacks() -> None:
    """Turns off traceback filtering, which wraps each call of an operation or layer."""
    import keras
    import tensorflow as tf

    keras.config.disable_traceback_filtering()
    tf.debugging.disable_traceback_filtering()


@pytest.fixture(autouse=True, scope="module")
def collect_garbage() -> Iterator[None]:
    """Frees a module's models before the next one: they hang in cycles, graphs and all."""
    yield
    gc.collect()


@pytest.hookimpl(tryfirst=True)  # before fixtures of any scope
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Runs tests of tasks and commands op by op, except tf.data, exports and `as_graphs`.

    Tracing a step of a tiny model takes ten times as long as running it.
    """
    eager = item.path.relative_to(item.config.rootpath).parts[1] in ("cli", "tasks")
    if eager or "tensorflow" in sys.modules:
        import tensorflow as tf

        tf.config.run_functions_eagerly(eager)


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


# Files of few tests that take long: begun last, one of them would run alone at the end.
_LONG = ("test_new_parts.py", "test_replicas.py", "test_pages.py", "test_run_checkpoints.py",
         "test_static_shapes.py", "test_optimizers.py")  # fmt: skip


def _scope(nodeid: str) -> str:
    """The file of a test, or the folder if its files share costly fixtures."""
    path = Path(nodeid.partition("::")[0])
    return str(path.parent if path.parent.name in ("cli", "export") else path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what takes long first: some files, then those of many tests."""
    tests = Counter(_scope(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[bool, int]:
        scope = _scope(item.nodeid)
        return not scope.endswith(_LONG), -tests[scope]

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Runs all tests that share costly fixtures in one worker, in the order of collection.

    `--dist loadgroup` would need a suffix of node ids, which pytest 9.2 ignores.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduler(config, log)

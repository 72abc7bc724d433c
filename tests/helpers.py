"""Small models and inputs that several tests share."""

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import test_util

ASSETS = Path(__file__).resolve().parent / "assets"


@contextlib.contextmanager
def eagerly(eager: bool = True) -> Iterator[None]:
    """Runs tf.functions op by op, except tf.data: a few steps take less time than a trace."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(eager)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def as_graphs() -> Iterator[None]:
    """Traces tf.functions, in folders where `eagerly` is the default. Also a decorator of tests."""
    with eagerly(False):
        yield


def load_golden(name: str) -> dict[str, np.ndarray]:
    """The arrays that tools/make_goldens.py or tools/zoo/goldens.py wrote for a model."""
    with np.load(ASSETS / name / "golden.npz") as golden:
        return dict(golden)


def golden_inputs(golden: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What an encoder takes, out of a golden."""
    return {name: golden[name] for name in ("token_ids", "segment_ids", "padding_mask")}


def run_module(name: str, *arguments: str) -> None:
    """Runs a module of the tests in a new process; it ends with the line "equal"."""
    finished = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert finished.stdout.endswith("equal\n"), finished.stderr[-3000:]


def random_inputs(
    rows: int, length: int, *, vocabulary_size: int, seed: int = 0, segments: int = 2
) -> dict[str, np.ndarray]:
    """Inputs with random padding masks, holes included."""
    random = np.random.default_rng(seed)
    shape = (rows, length)
    return {
        "token_ids": random.integers(0, vocabulary_size, shape).astype(np.int32),
        "segment_ids": random.integers(0, segments, shape).astype(np.int32),
        "padding_mask": (random.random(shape) < 0.6).astype(np.int32),
    }


def executed_ops(directory: Path, inputs: dict[str, list[str] | np.ndarray]) -> Counter[str]:
    """Counts the kernels that a SavedModel starts for a request, by operation.

    Unlike the optimized graph, they include those of functions that are called.
    """
    v1 = tf.compat.v1
    metadata = v1.RunMetadata()
    with v1.Session(graph=tf.Graph()) as session:
        loaded = v1.saved_model.load(session, ["serve"], str(directory))
        signature = loaded.signature_def["serving_default"]
        session.run(
            [output.name for output in signature.outputs.values()],
            {signature.inputs[name].name: values for name, values in inputs.items()},
            options=v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE),
            run_metadata=metadata,
        )
    return kernels(metadata)


def kernels(metadata: tf.compat.v1.RunMetadata) -> Counter[str]:
    """Counts the kernels in a trace of a session, by operation."""
    labels = [
        node.timeline_label for part in metadata.step_stats.dev_stats for node in part.node_stats
    ]
    return Counter(label.split(" = ")[1].split("(")[0] for label in labels if " = " in label)


def onednn_is_on() -> bool:
    """Whether TensorFlow uses its oneDNN kernels here: by default with AVX-512 VNNI."""
    return bool(test_util.IsMklEnabled())


def run_with_onednn(test: str) -> None:
    """Runs a test in a process in which TensorFlow uses oneDNN on any processor.

    Args:
        test: str. The test's id.
    """
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stdout
    assert "1 passed" in child.stdout

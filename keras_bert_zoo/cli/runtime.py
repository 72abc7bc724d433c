"""The start of TensorFlow for a command, without its log messages."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import BertZooError

# Flags in /proc/cpuinfo of CPUs with bfloat16 matrix products.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


def start_tensorflow(*, verbose: bool, first: Callable[[], Any] | None = None) -> Any:
    """Imports TensorFlow and lists its devices.

    Args:
        verbose: bool. Whether to show TensorFlow's messages.
        first: what to do before TensorFlow starts its devices, such as making a strategy.

    Returns:
        the module `tensorflow`.
    """
    if verbose:
        return start_interruptible(first)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow ignores the log level until its logging is set up.
    with _captured_stderr():
        tf = start_interruptible(first)
    tf.get_logger().setLevel("ERROR")
    return tf


def start_interruptible(first: Callable[[], Any] | None = None) -> Any:
    """Imports TensorFlow, which Ctrl-C and SIGTERM interrupt; returns its module."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import tensorflow as tf

    if first is not None:
        first()
    tf.config.list_logical_devices()
    return tf


@contextlib.contextmanager
def _captured_stderr() -> Iterator[None]:
    """Captures the standard error of C++ code, and shows it only after an error."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BertZooError:  # its message says everything
            raise
        except Exception:
            os.dup2(saved, 2)
            captured.seek(0)
            os.write(2, captured.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def keras_dtype(name: str, tf: Any) -> str:
    """Returns the Keras dtype policy of a --dtype.

    Args:
        name: str. "auto", "float32", "bfloat16" or "float16".
        tf: the return value of `start_tensorflow`.

    Returns:
        "float32", "mixed_bfloat16" or "mixed_float16".
    """
    if name == "auto":
        name = "bfloat16" if _has_bfloat16(tf) else "float32"
    return name if name == "float32" else f"mixed_{name}"


def _has_bfloat16(tf: Any) -> bool:
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        # Tensor cores support bfloat16 since compute capability 8.0 (Ampere).
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    return cpu_has_bfloat16()


def cpu_has_bfloat16(cpuinfo: str | os.PathLike[str] = "/proc/cpuinfo") -> bool:
    """Whether the CPU has bfloat16 matrix products; False if /proc/cpuinfo is unreadable."""
    try:
        lines = Path(cpuinfo).read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = [line for line in lines if line.lower().startswith(("flags", "features"))]
    return any(_BFLOAT16_FLAGS & set(line.partition(":")[2].split()) for line in flags)

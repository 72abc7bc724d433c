"""Starting TensorFlow for a command: when work begins, and without its chatter."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Flags in /proc/cpuinfo of CPUs whose matrix products take bfloat16.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


def start_tensorflow(*, verbose: bool) -> Any:
    """Imports TensorFlow and lists its devices.

    Args:
        verbose: bool. Whether TensorFlow's messages are shown.

    Returns:
        the module `tensorflow`.
    """
    if verbose:
        return _start()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # What TensorFlow logs before its logging is set up heeds no level.
    with _stderr_aside():
        tf = _start()
    tf.get_logger().setLevel("ERROR")
    return tf


def _start() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import tensorflow as tf

    tf.config.list_logical_devices()
    return tf


@contextlib.contextmanager
def _stderr_aside() -> Iterator[None]:
    """Sends what C++ writes to standard error to a file, and shows it only on failure."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(saved, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def keras_dtype(name: str, tf: Any) -> str:
    """Returns the Keras dtype policy for a --dtype.

    Args:
        name: str. "auto", "float32" or "bfloat16".
        tf: the module `tensorflow`, started.

    Returns:
        "float32" or "mixed_bfloat16".
    """
    if name == "auto":
        name = "bfloat16" if _has_bfloat16(tf) else "float32"
    return "mixed_bfloat16" if name == "bfloat16" else name


def _has_bfloat16(tf: Any) -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        # Tensor cores take bfloat16 from compute capability 8.0 (Ampere) on.
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    return cpu_has_bfloat16()


def cpu_has_bfloat16(cpuinfo: str | os.PathLike[str] = "/proc/cpuinfo") -> bool:
    """Says whether the CPU multiplies bfloat16 matrices; False where that cannot be known."""
    try:
        lines = Path(cpuinfo).read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = [line for line in lines if line.lower().startswith(("flags", "features"))]
    return any(_BFLOAT16_FLAGS & set(line.partition(":")[2].split()) for line in flags)

"""Converts a graph to a LiteRT model of ops that need no TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export.litert.graph import LiteRTGraph
from keras_bert_zoo.export.litert.ops import TEXT_OPS, custom_ops

_logger = logging.getLogger(__name__)


def convert(graph: LiteRTGraph, *, text: bool) -> bytes:
    """Converts a graph to a LiteRT model.

    Args:
        graph: LiteRTGraph.
        text: bool. Whether ops of tf.text are allowed.

    Returns:
        bytes, the flatbuffer.

    Raises:
        ExportError: LiteRT lacks an op.
    """
    functions = list(graph.functions.values())
    converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, graph.module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    # Ops of tf.text are custom. Without this flag, the converter names the op that LiteRT lacks,
    # but not the layer.
    converter.allow_custom_ops = True
    try:
        with _quiet():
            model: bytes = converter.convert()
    except Exception as failure:  # ConverterError is not public, and has other causes
        raise ExportError(f"LiteRT cannot compute this model: {_cause(failure)}.") from failure
    allowed = TEXT_OPS if text else frozenset()
    for op, name in custom_ops(model):
        if op not in allowed:
            raise ExportError(
                f"LiteRT cannot compute this model: it has no op {op}, which computes {name!r}."
            )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the converter prints: it reports progress and repeats its errors on stderr."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _cause(failure: Exception) -> str:
    """Returns the line of the converter's message that names the cause."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    errors = [re.sub(r"^.*?error: ", "", line) for line in lines if "error: " in line]
    text: Any = (errors or lines or [type(failure).__name__])[0]
    return str(text)[:300].rstrip(".")

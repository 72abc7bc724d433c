"""Runs LiteRT models; imports neither TensorFlow's Python nor the models of this package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.export.litert.model_file import read_model
from keras_bert_zoo.extras import check_package

__all__ = ["LiteRTModel", "litert_interpreter", "make_interpreter"]


class LiteRTModel:
    """A LiteRT model that is ready to call.

    Attributes:
        info: dict. See `read_model`.
        inputs: name -> shape, with None for any size.
        outputs: tuple of str. The names of the results.
        interpreter: LiteRT's Interpreter.

    Example: `litert_interpreter("intents.tflite")(text=["My card has not arrived"])` returns
    `{"label": array([b"card_arrival"], dtype=object), "score": ..., "scores": ...}`.
    """

    def __init__(self, interpreter: Any, info: Mapping[str, Any]) -> None:
        self.interpreter = interpreter
        self.info = dict(info)
        self._runner = interpreter.get_signature_runner()
        details = self._runner.get_input_details()
        self.inputs = {name: _shape(detail) for name, detail in details.items()}
        self.outputs = tuple(sorted(self._runner.get_output_details()))
        self._dtypes = {name: detail["dtype"] for name, detail in details.items()}

    def __call__(self, **inputs: Any) -> dict[str, np.ndarray]:
        """Answers a request.

        Args:
            **inputs: by name: lists of str or bytes, or arrays of int32.

        Returns:
            name -> array. Strings are bytes.

        Raises:
            DataError: the inputs are not those of the model, or it cannot compute them.
        """
        if inputs.keys() != self.inputs.keys():
            raise DataError(
                f"Expected the inputs {sorted(self.inputs)}, received {sorted(inputs)}."
            )
        arrays = {name: self._array(name, value) for name, value in inputs.items()}
        rows = {len(array) for array in arrays.values()}
        if len(rows) != 1:
            raise DataError(f"Expected inputs of one batch size, received {sorted(rows)}.")
        if rows == {0}:
            raise DataError("Expected at least one row, received none.")
        try:
            outputs: dict[str, np.ndarray] = self._runner(**arrays)
        except (RuntimeError, ValueError) as failure:
            cause = " ".join(str(failure).split())
            raise DataError(f"LiteRT cannot compute this request: {cause:.300}") from failure
        return outputs

    def _array(self, name: str, value: Any) -> np.ndarray:
        if self._dtypes[name] in (np.object_, np.bytes_, np.str_):
            array = np.array(_as_bytes(value), object)
        else:
            array = np.asarray(value, self._dtypes[name])
        shape = self.inputs[name]
        fits = array.ndim == len(shape) and all(
            size in (None, given) for size, given in zip(shape, array.shape, strict=True)
        )
        if not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(f"Expected {name} of the shape ({sizes}), received {array.shape}.")
        return array


def litert_interpreter(path: str | os.PathLike[str], *, threads: int | None = None) -> LiteRTModel:
    """Loads a LiteRT model of this package.

    It needs ai-edge-litert and, for models that take strings, tensorflow-text, which has their
    ops.

    Args:
        path: path of the file.
        threads: int. None: one.

    Returns:
        LiteRTModel.

    Raises:
        ConfigError: ai-edge-litert is not installed.
        DataError: the file is missing or damaged, or the runtime lacks one of its ops.

    Example: see `LiteRTModel`.
    """
    model, info = read_model(path)
    try:
        interpreter = make_interpreter(model, text=info.get("input") == "text", threads=threads)
    except (RuntimeError, ValueError) as failure:
        cause = " ".join(str(failure).split())
        raise DataError(f"The installed LiteRT cannot run {path}: {cause:.300}") from failure
    return LiteRTModel(interpreter, info)


def make_interpreter(model: bytes, *, text: bool, threads: int | None = None) -> Any:
    """Returns LiteRT's interpreter, with the ops of tf.text if the model needs them.

    Args:
        model: bytes, a flatbuffer.
        text: bool.
        threads: int. None: one.

    Raises:
        ConfigError: a package is not installed.
    """
    check_package("ai_edge_litert", "LiteRT models", package="ai-edge-litert", extra="litert")
    from ai_edge_litert import interpreter

    if not text:
        return interpreter.Interpreter(model_content=model, num_threads=threads)
    from tensorflow_text.core.pybinds import tflite_registrar

    return interpreter.InterpreterWithCustomOps(
        model_content=model,
        num_threads=threads,
        custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS,
    )


def _shape(detail: Mapping[str, Any]) -> tuple[int | None, ...]:
    signature = detail.get("shape_signature")
    sizes = detail["shape"] if signature is None or not len(signature) else signature
    return tuple(None if size < 0 else int(size) for size in sizes)


def _as_bytes(value: Any) -> Any:
    """Encodes all strings in nested lists or arrays."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    return [_as_bytes(part) for part in value]

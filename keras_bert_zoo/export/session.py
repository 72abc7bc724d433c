"""Answers of an export in a TensorFlow session, as TensorFlow Serving computes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export.verify import strings_as_bytes


def newest_version(path: str | os.PathLike[str]) -> Path:
    """Returns the directory of an export's newest version, or `path` if it is a version.

    Raises:
        ExportError: there is no export.
    """
    base = Path(path)
    if (base / "saved_model.pb").is_file():
        return base
    versions = [file.parent for file in base.glob("*/saved_model.pb")]
    numbered = [version for version in versions if version.name.isdecimal()]
    if not numbered:
        raise ExportError(
            f"Expected an export in {base}: saved_model.pb, or versions with it, received neither."
        )
    return max(numbered, key=lambda version: int(version.name))


class ExportSession:
    """An export in a session.

    Args:
        path: path of the model or of a version.
        signature: str.

    Attributes:
        inputs: name -> tf.TensorShape.

    Example: `ExportSession("saved_models/intents").run({"text": ["My card has not arrived"]})`
    returns `{"label": array([b"card_arrival"]), "score": ..., "scores": ...}`.
    """

    def __init__(self, path: str | os.PathLike[str], *, signature: str = "serving_default") -> None:
        import tensorflow_text  # noqa: F401  (registers the ops)

        session = tf.compat.v1.Session(graph=tf.Graph())
        with session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(newest_version(path)))
        chosen = loaded.signature_def[signature]
        self.inputs = {
            name: tf.TensorShape(spec.tensor_shape) for name, spec in chosen.inputs.items()
        }
        self._strings = {n for n, spec in chosen.inputs.items() if spec.dtype == tf.string}
        self._names = sorted(chosen.outputs)
        self._call = session.make_callable(
            [chosen.outputs[name].name for name in self._names],
            feed_list=[spec.name for spec in chosen.inputs.values()],
        )

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Answers a request.

        Args:
            inputs: name -> array, or nested lists of str or bytes.

        Returns:
            name -> array.
        """
        arrays = [
            np.array(strings_as_bytes(np.asarray(inputs[name], object).tolist()), object)
            if name in self._strings
            else np.asarray(inputs[name])
            for name in self.inputs
        ]
        return dict(zip(self._names, self._call(*arrays), strict=True))

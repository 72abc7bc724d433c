"""Loads a LiteRT model and answers with it, without keras_bert_zoo.

The verification of an export runs this file in a separate interpreter. Like a device, it has only
LiteRT and, for models that take strings, the ops of tf.text. A request is one line of JSON on
standard input:

    {"model": PATH, "text": WHETHER IT TAKES STRINGS,
     "calls": [[WHERE, {"input": {"shape": [...], "values": [...]}, ...}], ...]}

Strings are in base64. The answer is one line of JSON on standard output, as that of the script for
SavedModels: for each call, its outputs by name. The last line is {"refused": 0}, or
{"failed": WHERE, "error": TEXT}.
"""

# ruff: noqa: T201

import base64
import json
import sys
from typing import Any

import numpy as np
from ai_edge_litert import interpreter


def array(value: dict[str, Any]) -> np.ndarray:
    """Converts a tensor in JSON to an array."""
    values = value["values"]
    if values and isinstance(values[0], str):
        flat = np.empty(len(values), object)
        flat[:] = [base64.b64decode(text) for text in values]
        return flat.reshape(value["shape"])
    return np.array(values, np.int32).reshape(value["shape"])


def plain(outputs: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns the shapes of arrays and flat lists of their values, with strings in base64."""
    return {
        name: {
            "shape": list(value.shape),
            "values": [base64.b64encode(text).decode() for text in value.ravel()]
            if value.dtype == object
            else value.ravel().tolist(),
        }
        for name, value in outputs.items()
    }


def answer(request: dict[str, Any]) -> None:
    """Prints the answer to a request."""
    if request["text"]:
        from tensorflow_text.core.pybinds import tflite_registrar

        model = interpreter.InterpreterWithCustomOps(
            model_path=request["model"],
            custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS,
        )
    else:
        model = interpreter.Interpreter(model_path=request["model"])
    runner = model.get_signature_runner()
    answers = {}
    for where, inputs in request["calls"]:
        try:
            answers[where] = plain(runner(**{name: array(x) for name, x in inputs.items()}))
        except (RuntimeError, ValueError) as error:
            print("\n" + json.dumps({"failed": where, "error": str(error)}), flush=True)
            return
    print("\n" + json.dumps({"answers": answers}), flush=True)
    print("\n" + json.dumps({"refused": 0}), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        answer(json.loads(line))

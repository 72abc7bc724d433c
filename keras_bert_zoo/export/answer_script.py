"""Loads a SavedModel and answers texts with it, knowing nothing of keras_bert_zoo.

`verify` runs this file in an interpreter of its own, which imports TensorFlow and TensorFlow Text
alone, as whoever serves the export does. A request is one line of JSON on standard input, with
texts in base64, as they need not be UTF-8 (one a row, or a list of them):

    {"model": PATH, "alone": [0, ...],
     "texts": {"text": [...], ...}, "tokens": {"token_ids": [[...]], ...}}

and the answer one line of JSON on standard output: for each way of asking, the answers by name.
"""

# ruff: noqa: T201

import base64
import json
import sys
from typing import Any

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops)


def plain(outputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Tensors as their shape and a flat list of values, strings in base64."""
    return {
        name: {
            "shape": value.shape.as_list(),
            "values": [base64.b64encode(text).decode() for text in value.numpy().ravel()]
            if value.dtype == tf.string
            else value.numpy().ravel().tolist(),
        }
        for name, value in outputs.items()
    }


def decoded(text: Any) -> Any:
    """The bytes of a text in base64, or of a list of them."""
    return [decoded(part) for part in text] if isinstance(text, list) else base64.b64decode(text)


def example(texts: dict[str, Any]) -> bytes:
    """A serialized tf.Example of one string each, or of a list of them."""
    features = {
        name: tf.train.Feature(
            bytes_list=tf.train.BytesList(value=text if isinstance(text, list) else [text])
        )
        for name, text in texts.items()
    }
    row = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(row.SerializeToString())


def main() -> None:
    """Answers the one request."""
    request = json.loads(sys.stdin.readline())
    texts = {name: decoded(rows) for name, rows in request["texts"].items()}
    rows = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    signatures = tf.saved_model.load(request["model"]).signatures
    serve = signatures["serving_default"]
    asked = {"serving_default": (serve, {k: tf.constant(v) for k, v in texts.items()})}
    for i in request["alone"]:
        alone = {name: tf.constant([text]) for name, text in rows[i].items()}
        asked[f"serving_default, text {i} alone"] = (serve, alone)
    none = {name: tf.constant(column)[:0] for name, column in texts.items()}
    asked["serving_default, no texts"] = (serve, none)
    serialized = tf.constant([example(row) for row in rows])
    asked["examples"] = (signatures["examples"], {"examples": serialized})
    tokens = {name: tf.constant(ids, tf.int32) for name, ids in request["tokens"].items()}
    asked["tokens"] = (signatures["tokens"], tokens)
    answers = {}
    for where, (signature, inputs) in asked.items():
        try:
            answers[where] = plain(signature(**inputs))
        except tf.errors.OpError as error:
            # TensorFlow's messages go through every layer first; what went wrong stands last,
            # before the name of the node.
            lines = [line.strip() for line in error.message.splitlines()]
            told = [line for line in lines if line and not line.startswith("[[")]
            print("\n" + json.dumps({"failed": where, "error": told[-1]}), flush=True)
            return
    print("\n" + json.dumps({"tensorflow": tf.__version__, "answers": answers}), flush=True)


if __name__ == "__main__":
    main()

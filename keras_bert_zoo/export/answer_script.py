"""Loads a SavedModel and answers texts with it, without keras_bert_zoo.

`verify` runs this file in a separate interpreter. Like a server, it imports only TensorFlow and
TensorFlow Text. A request is one line of JSON on standard input. Its texts are in base64, because
they may be invalid UTF-8. A row has one text, or a list of texts:

    {"model": PATH, "alone": [0, ...],
     "texts": {"text": [...], ...}, "tokens": {"token_ids": [[...]], ...},
     "max_tokens": LONGEST ROW, "in_range": [NAMES OF INPUTS WHOSE VALUES ARE CHECKED]}

The answer is one line of JSON on standard output: for each call, its outputs by name. Then the
export must refuse invalid shapes, dtypes and ids. Each invalid call is printed first, as
{"asking": WORDS}. If the process ends, this line names the call that ended it. The last line of an
answer is {"refused": COUNT}, or an error: {"failed": ...} or {"accepted": ...}.
"""

# ruff: noqa: T201

import base64
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops)

TOKEN_INPUTS = ("token_ids", "segment_ids", "padding_mask")


def plain(outputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the shapes of tensors and flat lists of their values, with strings in base64."""
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
    """Decodes a text in base64, or a list of such texts."""
    return [decoded(part) for part in text] if isinstance(text, list) else base64.b64decode(text)


def example(texts: dict[str, Any]) -> bytes:
    """Returns a serialized tf.Example. Each feature has one string or a list of strings."""
    features = {
        name: tf.train.Feature(
            bytes_list=tf.train.BytesList(value=text if isinstance(text, list) else [text])
        )
        for name, text in texts.items()
    }
    row = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(row.SerializeToString())


def hostile_requests(
    signature: Any, inputs: dict[str, tf.Tensor]
) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
    """Yields invalid shapes and dtypes for a signature, made from valid inputs of two rows."""
    specs = signature.structured_input_signature[1]
    for name, x in inputs.items():
        changed = {
            "a scalar": tf.zeros([], x.dtype),  # `x` may have no elements
            "one dimension more": tf.stack([x, x], axis=1),
            "another dtype": tf.zeros(x.shape, tf.float32),
        }
        if len(inputs) > 1:
            changed["another batch size"] = x[:1]
        if x.shape.rank > 1:
            changed["one dimension less"] = x[0]
        if x.shape.rank > 1 and specs[name].shape[1]:  # a fixed number of texts in each row
            changed["too few columns"] = x[:, 1:]
            changed["too many columns"] = tf.concat([x, x], axis=1)
        for how, value in changed.items():
            yield f"{name}: {how}", inputs | {name: value}


def hostile_tokens(
    inputs: dict[str, tf.Tensor], max_tokens: int, in_range: list[str]
) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
    """Yields invalid ids and lengths for a model, made from valid token inputs of two rows."""
    for name in in_range:
        for value in (-1, 10**9):
            flat = tf.concat([[value], tf.reshape(inputs[name], [-1])[1:]], axis=0)
            if tf.size(inputs[name]):
                yield f"{name}: {value}", inputs | {name: tf.reshape(flat, inputs[name].shape)}
    rows = {name: x for name, x in inputs.items() if name in TOKEN_INPUTS}
    for name, x in rows.items():
        yield f"{name}: fewer tokens than the others", inputs | {name: x[..., 1:]}
    yield "no tokens", inputs | {name: x[..., :0] for name, x in rows.items()}
    long = {name: tf.repeat(x[..., :1], max_tokens + 1, axis=-1) for name, x in rows.items()}
    yield f"{max_tokens + 1} tokens", inputs | long


def check_refusals(requests: Iterable[tuple[str, Any, dict[str, tf.Tensor]]]) -> dict[str, Any]:
    """Makes requests that must fail with INVALID_ARGUMENT. Reports the first that does not."""
    count = 0
    for where, signature, inputs in requests:
        print("\n" + json.dumps({"asking": where}), flush=True)
        try:
            signature(**inputs)
        except (tf.errors.InvalidArgumentError, TypeError, ValueError):
            count += 1
        except tf.errors.OpError as error:
            return {"accepted": where, "how": f"failed as {type(error).__name__}"}
        else:
            return {"accepted": where, "how": "was answered"}
    return {"refused": count}


def answer(request: dict[str, Any]) -> None:
    """Prints the answer to a request."""
    texts = {name: decoded(rows) for name, rows in request["texts"].items()}
    rows = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    signatures = tf.saved_model.load(request["model"]).signatures
    serve = signatures["serving_default"]
    calls = {"serving_default": (serve, {k: tf.constant(v) for k, v in texts.items()})}
    for i in request["alone"]:
        alone = {name: tf.constant([text]) for name, text in rows[i].items()}
        calls[f"serving_default, text {i} alone"] = (serve, alone)
    none = {name: tf.constant(column)[:0] for name, column in texts.items()}
    calls["serving_default, no texts"] = (serve, none)
    serialized = tf.constant([example(row) for row in rows])
    calls["examples"] = (signatures["examples"], {"examples": serialized})
    tokens = {name: tf.constant(ids, tf.int32) for name, ids in request["tokens"].items()}
    calls["tokens"] = (signatures["tokens"], tokens)
    answers = {}
    for where, (signature, inputs) in calls.items():
        try:
            answers[where] = plain(signature(**inputs))
        except tf.errors.OpError as error:
            # The last line of TensorFlow's message before the name of the node is the cause.
            lines = [line.strip() for line in error.message.splitlines()]
            causes = [line for line in lines if line and not line.startswith("[[")]
            print("\n" + json.dumps({"failed": where, "error": causes[-1]}), flush=True)
            return
    print("\n" + json.dumps({"tensorflow": tf.__version__, "answers": answers}), flush=True)
    two = {
        name: {key: value[:2] for key, value in calls[name][1].items()}
        for name in ("serving_default", "examples", "tokens")
    }
    hostile = [
        (f"{name}, {how}", signatures[name], inputs)
        for name, valid in two.items()
        for how, inputs in hostile_requests(signatures[name], valid)
    ]
    hostile += [
        (f"tokens, {how}", signatures["tokens"], inputs)
        for how, inputs in hostile_tokens(two["tokens"], request["max_tokens"], request["in_range"])
    ]
    print("\n" + json.dumps(check_refusals(hostile)), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        answer(json.loads(line))

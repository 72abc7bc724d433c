"""Requests of another shape, dtype or with unknown ids are refused, by every signature."""

import functools
import signal
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export import answer_script, signatures, verify
from keras_bert_zoo.export.audit import audit_saved_model
from keras_bert_zoo.export.checks import id_ranges
from keras_bert_zoo.tasks.registry import TASKS
from tests.helpers import ASSETS
from tests.tasks.collection import make_collection, make_models

TINY = ASSETS / "bert_gelu"
MAKERS = {
    "classification": lambda: kbz.TextClassifier.from_preset(TINY, labels=["a", "b"]),
    "regression": lambda: kbz.TextRegressor.from_preset(TINY, new_head=True),
    "token-classification": lambda: kbz.TokenClassifier.from_preset(TINY, labels=["PER"]),
    "embedding": lambda: kbz.TextEmbedder.load(ASSETS / "sentence_transformers" / "prompted"),
    "question-answering": lambda: kbz.QuestionAnswerer.load(ASSETS / "question_answering"),
    "multiple-choice": lambda: kbz.MultipleChoice.from_preset(TINY, num_choices=3),
    "relations": lambda: kbz.RelationClassifier.from_preset(TINY, labels=["a", "b"]),
    "masked-lm": lambda: kbz.MaskedLM.load(ASSETS / "masked_lm"),
    "next-sentence": lambda: kbz.NextSentence.from_preset(TINY, new_head=True),
    "translation": lambda: kbz.Translator.from_preset(ASSETS / "translator"),
    "open-domain-question-answering": lambda: make_collection(make_models()),
}


class NoStage:
    """Replaces a model in tests of the checks before it."""

    def __init__(self, model, **_):
        self.weights = SimpleNamespace(variables={})
        self.bytes = 0

    def run(self, inputs):
        return inputs


def valid_requests(task):
    """Two rows for each signature."""
    rows = verify.hostile_rows(task)[:2]
    columns = [verify.strings_as_bytes(list(column)) for column in zip(*rows, strict=True)]
    texts = dict(zip(task.text_specs(), columns, strict=True))
    examples = [
        answer_script.example({name: column[i] for name, column in texts.items()}) for i in (0, 1)
    ]
    inputs = task.spec.serving_inputs()
    tokens = {name: tf.ones([2] * len(x.shape), tf.int32) for name, x in inputs.items()}
    return {
        "serving_default": {name: tf.constant(column) for name, column in texts.items()},
        "examples": {"examples": tf.constant(examples)},
        "tokens": tokens | {"segment_ids": tf.zeros_like(tokens["segment_ids"])},
    }


def hostile(task, loaded, name, valid):
    yield from answer_script.hostile_requests(loaded[name], valid)
    if name == "tokens":
        in_range = [n for n, allowed in id_ranges(task).items() if allowed]
        yield from answer_script.hostile_tokens(valid, task.encoder.config.max_tokens, in_range)


@contextmanager
def session_calls(path):
    """Signature name -> a function that asks it in a session of TensorFlow 1, as a server does.

    `Session.run` would compare shapes with placeholders; a server's session does not.
    """
    graph = tf.Graph()
    with tf.compat.v1.Session(graph=graph) as session:
        meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(path))

        @functools.cache  # TensorFlow optimizes the graph for every callable
        def make_callable(name, inputs):
            signature = meta.signature_def[name]
            options = config_pb2.CallableOptions(
                feed=[signature.inputs[n].name for n in inputs],
                fetch=[tensor.name for tensor in signature.outputs.values()],
            )
            return session._make_callable_from_options(options)

        def ask(name, inputs):
            call = make_callable(name, tuple(inputs))
            return call(
                *(x.numpy() if x.shape.rank else np.array(x.numpy()) for x in inputs.values())
            )

        yield ask


def refuses(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except tf.errors.InvalidArgumentError:
        return True
    return False


@pytest.mark.parametrize("name", TASKS)
def test_every_signature_of_every_task_checks_first(name, tmp_path, monkeypatch):
    task = MAKERS[name]()
    requests = valid_requests(task)
    monkeypatch.setattr(signatures, "_Stage", NoStage)
    monkeypatch.setattr(
        task, "answer_with", lambda runs, *texts, options: {"size": tf.size(texts[0])}
    )
    monkeypatch.setattr(task, "answers", lambda inputs: {"ids": inputs["token_ids"]})
    graph = signatures.build_serving_graph(task, dtype="float32", freeze=True, attention_groups=1)
    tf.saved_model.save(graph.module, str(tmp_path), signatures=graph.signatures)
    audit_saved_model(tmp_path)
    loaded = tf.saved_model.load(str(tmp_path)).signatures
    wrong = [
        (signature, how, inputs)
        for signature, valid in requests.items()
        for how, inputs in hostile(task, loaded, signature, valid)
    ]
    assert len(wrong) >= 20
    assert all(loaded[signature](**valid) for signature, valid in requests.items())
    for signature, how, inputs in wrong:
        assert refuses(loaded[signature], **inputs), (signature, how)
    with session_calls(tmp_path) as ask:
        assert all(ask(signature, valid) for signature, valid in requests.items())
        for signature, how, inputs in wrong:
            # Of dtypes a session's own Python complains.
            assert "dtype" in how or refuses(ask, signature, inputs), (signature, how)


REFUSED = {
    "serving_default": [
        ({"text": "hello"}, r"Expected text of shape \[batch\], received \[\]"),
        ({"text": [["a", "b"], ["c", "d"]]}, r"Expected text of shape \[batch\], received \[2 2\]"),
    ],
    "examples": [({"examples": "x"}, r"Expected examples of shape \[batch\], received \[\]")],
    "tokens": [
        ({"token_ids": [[5, -1]]}, r"token_ids within the vocabulary, received -1: not in \[0"),
        ({"token_ids": [[5, 10**9]]}, r"received 1000000000: not in \[0, 68\)"),
        ({"segment_ids": [[0, 2]]}, r"within the model.{1,2}s segments, received 2: not in \[0, 2"),
        (
            {"padding_mask": [[1, 7]]},
            r"padding_mask within 0 \(padding\) and 1 \(a token\), received",
        ),
        ({"segment_ids": [[0]]}, r"Expected token_ids, segment_ids, padding_mask of one shape"),
        ({"segment_ids": [[0, 0]] * 2}, r"of one batch size, received the sizes \[1 2 1\]"),
        (
            {key: [[1] * 49] for key in INPUT_NAMES},
            r"rows of 1 to 48 tokens, received token_ids of shape \[1 49\]",
        ),
    ],
}


def test_an_export_says_what_it_expected(single):
    ids = {name: [[1, 1]] for name in INPUT_NAMES}
    wrong = []
    for name, requests in REFUSED.items():
        for changed, message in requests:
            inputs = (ids if name == "tokens" else {}) | changed
            dtype = tf.int32 if name == "tokens" else tf.string
            tensors = {key: tf.constant(value, dtype) for key, value in inputs.items()}
            wrong.append((name, tensors, message))
    for name, tensors, message in wrong:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            single.loaded.signatures[name](**tensors)
    text = tf.constant(["the card"])
    with session_calls(single.export.path) as ask:
        for name, tensors, message in wrong:
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                ask(name, tensors)
        assert [len(answer) for answer in ask("serving_default", {"text": text})] == [1, 1, 1]


def test_pairs_of_two_batch_sizes(pairs):
    message = r"Expected text and text_pair of one batch size, received the sizes \[2 1\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        pairs.ask(text=["a", "b"], text_pair=["c"])


# === The verifier ===


def fake(tmp_path, monkeypatch, body):
    script = tmp_path / "script.py"
    script.write_text(f"import json, os, signal\ninput()\n{body}\n")
    monkeypatch.setattr(verify, "_SCRIPT", Path(script))
    return verify.Verifier()


def test_the_process_ends_with_the_verifier(tmp_path, monkeypatch):
    with fake(tmp_path, monkeypatch, "") as verifier:  # waits for a request
        assert verifier._process.poll() is None
    assert verifier._process.returncode == -signal.SIGKILL


def test_a_crash_is_one_clear_error(tmp_path, monkeypatch):
    body = """
print(json.dumps({"answers": {}}), flush=True)
print(json.dumps({"asking": "tokens, token_ids: a scalar"}), flush=True)
os.kill(os.getpid(), signal.SIGSEGV)"""
    with (
        fake(tmp_path, monkeypatch, body) as verifier,
        pytest.raises(ExportError, match=r"its process ended \(SIGSEGV\): tokens, token_ids: a sc"),
    ):
        verifier.ask({})


def test_an_answer_to_a_wrong_request_is_an_error(tmp_path, monkeypatch):
    def answers(**_):
        return {}

    def fails(**_):
        raise tf.errors.InternalError(None, None, "no check")

    def refuses(**_):
        raise tf.errors.InvalidArgumentError(None, None, "check")

    said = answer_script.check_refusals([("good", refuses, {}), ("x: a scalar", answers, {})])
    assert said == {"accepted": "x: a scalar", "how": "was answered"}
    assert answer_script.check_refusals([("y", fails, {})])["how"] == "failed as InternalError"
    assert answer_script.check_refusals([("z", refuses, {})]) == {"refused": 1}
    body = f"print(json.dumps({said!r}))"
    with (
        fake(tmp_path, monkeypatch, body) as verifier,
        pytest.raises(ExportError, match=r"with INVALID_ARGUMENT: x: a scalar was answered"),
    ):
        verifier.ask({})

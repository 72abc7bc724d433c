import errno
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_bert_zoo.directories import hidden, renames
from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import ConfigError, ExportError
from keras_bert_zoo.export import saved_model
from keras_bert_zoo.export.signatures import ServingGraph
from keras_bert_zoo.export.verify import Verification, Verifier, hostile_rows
from tests.export.conftest import LABELS, make_task
from tests.helpers import eagerly


def specs(signature) -> tuple[dict, dict]:
    def plain(tensors):
        return {name: (x.dtype.name, x.shape.as_list()) for name, x in tensors.items()}

    return plain(signature.structured_input_signature[1]), plain(signature.structured_outputs)


def test_signatures_of_a_classifier(single):
    signatures = single.loaded.signatures
    assert set(signatures) == {"serving_default", "tokens", "examples"}
    answers = {
        "label": ("string", [None]),
        "score": ("float32", [None]),
        "scores": ("float32", [None, len(LABELS)]),
    }
    assert specs(signatures["serving_default"]) == ({"text": ("string", [None])}, answers)
    assert specs(signatures["examples"]) == ({"examples": ("string", [None])}, answers)
    ids = dict.fromkeys(INPUT_NAMES, ("int32", [None, None]))
    assert specs(signatures["tokens"]) == (ids, answers)


def test_signatures_of_pairs_and_several_labels(pairs):
    inputs, outputs = specs(pairs.loaded.signatures["serving_default"])
    assert inputs == dict.fromkeys(("text", "text_pair"), ("string", [None]))
    assert {name: dtype for name, (dtype, _) in outputs.items()} == {
        "label": "string",
        "score": "float32",
        "scores": "float32",
    }
    assert all(shape == [None, len(LABELS)] for _, shape in outputs.values())


def test_signatures_of_a_regressor(regressor):
    _, outputs = specs(regressor.loaded.signatures["serving_default"])
    assert outputs == {"score": ("float32", [None])}


def test_answers_are_pythons(single):
    texts = [text for (text,) in hostile_rows(single.task)]
    with eagerly():
        expected = single.task.predict(texts)
    outputs = single.ask(text=texts)
    np.testing.assert_allclose(outputs["scores"], expected["scores"], atol=1e-5)
    assert [label.decode() for label in outputs["label"]] == list(expected["label"])
    assert set(expected["label"]) == set(LABELS), "outputs must differ between the texts"


def test_answers_to_pairs_are_pythons(pairs):
    first, second = zip(*hostile_rows(pairs.task), strict=True)
    with eagerly():
        expected = pairs.task.predict((list(first), list(second)))
    outputs = pairs.ask(text=first, text_pair=second)
    np.testing.assert_allclose(outputs["scores"], expected["scores"], atol=1e-5)
    assert [[x.decode() for x in row] for row in outputs["label"]] == expected["label"].tolist()


def test_a_batch_of_64_is_64_of_one(single):
    texts = [("the card has not arrived! " * (i % 7))[i % 5 :] for i in range(64)]
    together = single.ask(text=texts)["scores"]
    alone = [single.ask(text=[text])["scores"][0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_texts(single, pairs, regressor):
    assert {k: v.shape for k, v in single.ask(text=[]).items()} == {
        "label": (0,),
        "score": (0,),
        "scores": (0, 3),
    }
    assert pairs.ask(text=[], text_pair=[])["label"].shape == (0, 3)
    assert regressor.ask(text=[])["score"].shape == (0,)


def test_a_text_of_a_megabyte(single):
    long = "the card has not arrived. " * 40_000
    assert len(long) > 1_000_000
    got = single.ask(text=[long, "the card"])["scores"]
    with eagerly():
        expected = single.task.predict([long, "the card"])["scores"]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_examples_of_pairs(pairs):
    def feature(text):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))

    features = tf.train.Features(feature={"text": feature("the card"), "text_pair": feature("天")})
    row = tf.train.Example(features=features).SerializeToString()
    got = pairs.loaded.signatures["examples"](examples=tf.constant([row]))["scores"]
    np.testing.assert_allclose(got, pairs.ask(text=["the card"], text_pair=["天"])["scores"])


def test_tokens_outside_the_vocabulary_are_refused(single):
    ids = dict.fromkeys(INPUT_NAMES, tf.ones([1, 4], tf.int32)) | {
        "token_ids": tf.fill([1, 4], 9999)
    }
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="Expected token_ids within the vocabulary"
    ):
        single.loaded.signatures["tokens"](**ids)


def test_constants_are_stored_once(single, regressor):
    export = single.export
    assert export.frozen
    assert not regressor.export.frozen
    # Besides the weights: the graphs and the tokenizer's tables, alike in both exports.
    pb = (export.path / "saved_model.pb").stat().st_size
    variables = (regressor.export.path / "saved_model.pb").stat().st_size
    assert pb - variables < 1.3 * export.weight_bytes


def test_the_record_of_an_export(single):
    export = single.export
    assert export.version == 1
    assert export.path.name == "1"
    assert export.largest_difference < 1e-5
    assert export.model_bytes == sum(
        file.stat().st_size for file in export.path.rglob("*") if file.is_file()
    )
    assert sorted(os.listdir(export.path.parent)) == ["1"]


def test_warmup_requests_replay(single, pairs):
    for exported in (single, pairs):
        path = exported.export.path / "assets.extra" / "tf_serving_warmup_requests"
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        assert 1 <= len(records) <= 40
        sizes = set()
        for record in records:
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            assert request.model_spec.name == exported.export.path.parent.name
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            signature = exported.loaded.signatures[request.model_spec.signature_name]
            answers = signature(**{name: tf.constant(value) for name, value in inputs.items()})
            sizes.add(len(answers["label"]))
        assert sizes == {1, 2, 4, 8, 16, 32}


def test_batching_parameters(single):
    text = (single.export.path / "batching_params.pbtxt").read_text("utf-8")
    fields = [line for line in text.splitlines() if line and not line.startswith("#")]
    values = dict(re.fullmatch(r"(\w+) \{ value: (\d+) \}", line).groups() for line in fields)
    # The fields of tensorflow_serving/servables/tensorflow/session_bundle_config.proto.
    assert set(values) == {
        "max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches",
    }  # fmt: skip


def test_loads_in_the_tensorflow_of_tf_serving(single, pairs):
    python = os.environ.get("KBZ_SERVING_PYTHON")
    if not python:
        pytest.skip("KBZ_SERVING_PYTHON does not name an interpreter with TensorFlow 2.20")
    with Verifier(python) as verifier, eagerly():
        for exported in (single, pairs):
            verifier.check(exported.export.path, exported.task, tolerance=1e-5)


class AgreeingVerifier:
    """Replaces the interpreter of the checks in tests of other things."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def check(self, directory, task, *, tolerance, pair):
        return Verification(0, 0.0)


def empty_graph(task, **_):
    return ServingGraph(tf.Module(), {}, 0)


@pytest.fixture
def quick(monkeypatch):
    """Makes exports instant: no graph is built and nothing is checked."""
    monkeypatch.setattr(saved_model, "Verifier", AgreeingVerifier)
    monkeypatch.setattr(saved_model, "build_serving_graph", empty_graph)


def test_versions_count_up(quick, single, tmp_path):
    def export(**options):
        return single.task.export(tmp_path / "model", **options).version

    (tmp_path / "model" / "notes").mkdir(parents=True)
    assert export() == 1
    assert export() == 2
    assert export(version=20) == 20
    assert export(version=7) == 7
    assert export() == 21
    with pytest.raises(ExportError, match=r"Version 7 is already in .*model \(newest: 21\)"):
        export(version=7)
    with pytest.raises(ConfigError, match="Expected `version` to be an integer >= 0, received -1"):
        export(version=-1)
    with pytest.raises(ConfigError, match="`version` to be <= 9223372036854775807, received"):
        export(version=2**63)
    assert sorted(os.listdir(tmp_path / "model")) == ["1", "2", "20", "21", "7", "notes"]


@pytest.fixture
def rivals(monkeypatch, tmp_path):
    """Has other exports write versions while one is being built."""
    written = iter([])

    def build(task, **_):
        for version in next(written):
            (tmp_path / "model" / str(version)).mkdir(parents=True)
            (tmp_path / "model" / str(version) / "saved_model.pb").write_text("theirs")
        return ServingGraph(tf.Module(), {}, 0)

    def set_rivals(*versions):
        nonlocal written
        written = iter(versions)

    monkeypatch.setattr(saved_model, "Verifier", AgreeingVerifier)
    monkeypatch.setattr(saved_model, "build_serving_graph", build)
    return set_rivals


@pytest.mark.parametrize("renameat2", [True, False])
def test_a_version_that_is_taken_meanwhile(rivals, single, tmp_path, monkeypatch, renameat2):
    if not renameat2:

        def refuse(*_):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(renames, "_renameat2", refuse)
    base = tmp_path / "model"
    rivals([1], [3, 7], [9])
    assert single.task.export(base).path == base / "2"
    assert single.task.export(base).version == 8
    with pytest.raises(ExportError, match="Version 9 is already in"):
        single.task.export(base, version=9)
    for version in (1, 3, 7, 9):
        assert (base / str(version) / "saved_model.pb").read_text() == "theirs"
    assert sorted(os.listdir(base)) == ["1", "2", "3", "7", "8", "9"]


def test_what_a_killed_export_left_is_removed(quick, single, tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = tmp_path / "model" / f".version.new-{hidden.host_name()}-{dead.pid}-abcdefgh"
    left.mkdir(parents=True)
    (left / "saved_model.pb").write_text("half")
    assert single.task.export(tmp_path / "model").version == 1
    assert os.listdir(tmp_path / "model") == ["1"]


def test_the_graph_has_no_custom_gradients(single):
    """Loading it would log a warning for each."""
    graph = (single.export.path / "saved_model.pb").read_bytes()
    assert b"StatelessIf" in graph  # functions in functions are a part of it
    assert b"_gradient_op_type" not in graph
    assert b"IdentityN" not in graph


def test_ask_export_prints_other_outputs(regressor, repository):
    script = repository / "tools" / "ask_export.py"
    finished = subprocess.run(
        [sys.executable, script, regressor.export.path, "the sky"], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    text, score, _ = finished.stdout.splitlines()
    assert text == "the sky"
    assert score.startswith("    score: ")


def test_unknown_options(single, tmp_path):
    with pytest.raises(ConfigError, match="'onnx' is not supported. Expected one of: saved_model"):
        single.task.export(tmp_path, format="onnx")
    with pytest.raises(
        ConfigError, match="Expected `dtype` to be one of float32, bfloat16, int8 or None"
    ):
        single.task.export(tmp_path, dtype="float16")


def test_a_folder_that_cannot_be_written(quick, single, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="a new path, received the file .*/file") as info:
        single.task.export(tmp_path / "file" / "model")
    assert "\n" not in str(info.value)


def test_a_name_that_is_too_long(single, tmp_path):
    with pytest.raises(ExportError, match="File name too long. Nothing was changed there."):
        single.task.export(tmp_path / ("m" * 300))
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fails_when_the_version_is_there(tmp_path, monkeypatch):
    aside = tmp_path / ".version.new"
    aside.mkdir()
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(ExportError, match="1 was written, but the disk failed .*: No space"):
        saved_model.place_version(aside, tmp_path / "1", None)
    assert os.listdir(tmp_path) == ["1"]


def disk_full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def tensorflow_disk_full(*_, **__):
    raise tf.errors.ResourceExhaustedError(None, None, "/x/y; No space left on device")


@pytest.mark.parametrize("fail", [disk_full, tensorflow_disk_full])
def test_a_full_disk_leaves_nothing_behind(quick, single, tmp_path, monkeypatch, fail):
    single.task.export(tmp_path / "old")
    monkeypatch.setattr(tf.saved_model, "save", fail)
    for name, left in (("old", ["1"]), ("new", None)):
        with pytest.raises(ExportError, match="No space left on device. Nothing was changed"):
            single.task.export(tmp_path / name)
        assert (os.listdir(tmp_path / name) if left else None) == left
    assert not (tmp_path / "new").exists()


def test_an_export_that_answers_otherwise_is_not_put_in_place(single, tmp_path, monkeypatch):
    answer_rows = single.task.answer_rows

    def otherwise(*columns):
        answers = answer_rows(*columns)
        return answers | {"scores": answers["scores"] + 1e-3}

    def copy(module, signatures, directory):
        shutil.copytree(single.export.path, directory, dirs_exist_ok=True)
        shutil.rmtree(directory / "assets.extra")

    monkeypatch.setattr(single.task, "answer_rows", otherwise)
    monkeypatch.setattr(saved_model, "build_serving_graph", empty_graph)
    monkeypatch.setattr(saved_model, "_save", copy)
    # The verifier has answered completely, so the next export can use it.
    monkeypatch.setattr(saved_model.Verifier, "__exit__", lambda *_: None)
    with (
        eagerly(),
        pytest.raises(ExportError, match=r"scores of the export .* differ from the model"),
    ):
        single.task.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_request_that_fails_is_named(single, tmp_path, monkeypatch):
    task = make_task("single_label")

    answers = task.decode

    def decode(outputs, context, *, options=None):
        check = tf.debugging.Assert(tf.shape(outputs)[0] > 0, ["nobody there"])
        with tf.control_dependencies([check]):
            return answers(tf.identity(outputs), context, options=options)

    monkeypatch.setattr(task, "decode", decode)
    with pytest.raises(ExportError, match=r"\(serving_default, no texts\): .*nobody there"):
        task.export(tmp_path / "model")


def test_bfloat16(tmp_path):
    task = make_task("single_label", dtype="mixed_bfloat16")
    with eagerly():
        export = task.export(tmp_path / "model", attention_groups=2)
    assert export.dtype == "bfloat16"
    assert export.weight_bytes < 60_000  # of 89,356 in float32
    assert 0 < export.largest_difference < 0.05

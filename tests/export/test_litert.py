"""LiteRT files answer as their tasks do, and damaged files are refused."""

import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError, DataError, ExportError
from keras_bert_zoo.export.litert import exporter, measuring
from keras_bert_zoo.export.litert.conversion import convert
from keras_bert_zoo.export.litert.graph import LiteRTGraph, build_graph
from keras_bert_zoo.export.litert.interpreter import make_interpreter
from keras_bert_zoo.export.litert.model_file import joined, read_model
from keras_bert_zoo.export.litert.ops import custom_ops
from keras_bert_zoo.export.verify import compare_answers, hostile_rows
from tests.export.conftest import LABELS, VOCABULARY, make_task
from tests.tasks.every_task import EVERY_TASK, make

ROOT = Path(kbz.__file__).parents[1]
NOT_POSSIBLE = {
    "translation": ("text", "ids"),
    "open-domain-question-answering": ("text",),
}
FIXED = {"input": "ids", "batch_size": 2, "length": 12}


@pytest.fixture(scope="module")
def task():
    return make_task("single_label")


@pytest.fixture(scope="module")
def from_text(task, tmp_path_factory):
    """A classifier that takes strings, in float32."""
    path = tmp_path_factory.mktemp("litert") / "text.tflite"
    return task.export(path, "litert", pair=False)


@pytest.fixture(scope="module")
def from_ids(task, tmp_path_factory):
    """A classifier that takes two rows of twelve token ids, in float32."""
    path = tmp_path_factory.mktemp("litert") / "ids.tflite"
    return task.export(path, "litert", pair=False, **FIXED)


def hostile_texts(count):
    """Random texts of parts that have broken tokenizers, and of any code points."""
    generator = random.Random(0)
    parts = [row[0] for row in hostile_rows(make_task("single_label"))]
    parts = [p if isinstance(p, bytes) else p.encode() for p in parts if len(p) < 100]
    parts += [b" ", b"the card", b"[MASK]", b"[SEP]", b"\xff", "İ天Å".encode(), b"a" * 99]
    texts = []
    for _ in range(count):
        points = [generator.randrange(0x110000 - 0x800) for _ in range(3)]
        chars = "".join(chr(p if p < 0xD800 else p + 0x800) for p in points).encode()
        texts.append(b"".join(generator.choices([*parts, chars], k=generator.randint(1, 6))))
    return texts


def test_strings_in_answers_out(task, from_text):
    model = kbz.export.litert_interpreter(from_text.path)
    assert model.inputs == {"text": (1,)}
    assert model.outputs == from_text.outputs == ("label", "score", "scores")
    texts = hostile_texts(300)
    expected = task.answer_rows(texts)
    assert len(set(expected["label"])) > 1
    for index, text in enumerate(texts):
        answer = model(text=[text])
        part = {name: values[index : index + 1] for name, values in expected.items()}
        compare_answers(task, repr(text), part, answer, 1e-4)
        assert answer["label"] == part["label"]


def test_the_file_has_the_vocabulary_and_the_labels(from_text):
    with zipfile.ZipFile(from_text.path) as archive:
        assert archive.read("vocab.txt").decode().splitlines() == VOCABULARY
        assert archive.read("labels.txt").decode().splitlines() == LABELS
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    _, info = read_model(from_text.path)
    assert (info["task"], info["input"], info["dtype"]) == ("classification", "text", "float32")
    assert from_text.model_bytes == from_text.path.stat().st_size


def test_a_device_needs_only_litert(from_text):
    code = (
        "import sys\n"
        "from keras_bert_zoo.export import litert_interpreter\n"
        f"print(litert_interpreter({str(from_text.path)!r})(text=['the card'])['label'])\n"
        "names = ('keras_bert_zoo.tasks', 'keras_bert_zoo.layers', 'keras')\n"
        "print([name for name in names if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    # tensorflow_text imports Keras; this package does not.
    answer, modules = finished.stdout.splitlines()
    assert answer.startswith("[b'")
    assert modules in ("[]", "['keras']")


def test_ids_need_no_custom_ops_and_fixed_shapes(task, from_ids):
    model, _ = read_model(from_ids.path)
    assert not list(custom_ops(model))
    assert make_interpreter(model, text=False).get_input_details()[0]["shape"].tolist() == [2, 12]
    assert from_ids.delegation.nodes - sum(from_ids.delegation.outside.values()) > 80
    assert "FULLY_CONNECTED" not in from_ids.delegation.outside
    assert "BATCH_MATMUL" not in from_ids.delegation.outside
    assert "GELU" not in from_ids.delegation.outside
    run = kbz.export.litert_interpreter(from_ids.path)
    packed = task.tokenizer(["the card", "weather!"], max_length=12, padding="max_length")
    answer = run(**packed)
    assert answer["label"].tolist() == list(task.answer_rows(["the card", "weather!"])["label"])


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_narrow_weights(dtype, task, from_ids, tmp_path):
    texts = ["the card has not arrived", "weather", "other", "a b c"] * 3
    labels = list(task.predict(texts)["label"])
    labels[0] = next(label for label in LABELS if label != labels[0])
    export = task.export(
        tmp_path / "x.tflite", "litert", dtype=dtype, pair=False, examples=(texts, labels), **FIXED
    )
    assert export.equal_answers > 0.9
    assert export.figures.name == "accuracy"
    assert export.figures.before == pytest.approx(11 / 12)
    assert export.figures.after == pytest.approx(11 / 12)
    assert os.path.getsize(export.path) < os.path.getsize(from_ids.path)
    model, _ = read_model(export.path)
    types = {str(t["dtype"]) for t in make_interpreter(model, text=False).get_tensor_details()}
    assert f"<class 'numpy.{dtype}'>" in types


def test_the_report_is_computed_by_litert(task, monkeypatch):
    """With the weights of another model, it is the figure of the other model."""
    other = make_task("single_label")
    other.head.bias.assign_add([100.0, 0.0, 0.0])  # always the first label
    graph = build_graph(other, inputs="ids", batch_size=None, raw=True)
    narrow = convert(graph, text=False)
    monkeypatch.setattr(measuring, "quantized", lambda model, dtype: narrow)
    texts = ["the card", "weather", "other", "a b", "c d"]
    labels = list(task.predict(texts)["label"])
    share = labels.count(LABELS[0]) / len(labels)
    assert share < 1
    figures = measuring.measure(task, "int8", (texts, labels), max_drop=1.0)
    assert figures == measuring.Figures("accuracy", 1.0, pytest.approx(share))
    with pytest.raises(ExportError, match=f"at most 0 below 1.0000, received {share:.4f}"):
        measuring.measure(task, "int8", (texts, labels), max_drop=0.0)


@pytest.mark.parametrize("name", ["token-classification crf", "question-answering"])
@pytest.mark.parametrize("input", ["text", "ids"])
def test_spans(name, input, tmp_path):
    """The export compares offsets and labels with the task's."""
    export = make(name)[0].export(tmp_path / "x.tflite", "litert", input=input)
    assert export.largest_difference < 1e-4
    assert export.texts >= 15


@pytest.mark.slow
@pytest.mark.parametrize("input", ["text", "ids"])
@pytest.mark.parametrize("name", EVERY_TASK)
def test_every_task(name, input, tmp_path):
    path = tmp_path / "x.tflite"
    if input in NOT_POSSIBLE.get(name, ()):
        with pytest.raises(ExportError, match="LiteRT cannot compute this model: it has no op"):
            make(name)[0].export(path, "litert", input=input)
        assert not list(tmp_path.iterdir())
        return
    export = make(name)[0].export(path, "litert", input=input, dtype="int8")
    assert export.largest_difference < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "Expected `dtype` to be one of 'float32', 'float16', 'int8'"),
        ({"input": "audio"}, "Expected `input` to be one of 'text', 'ids'"),
        ({"input": "text", "length": 8}, "`length` applies only to input='ids'"),
        ({"batch_size": 0}, "Expected `batch_size` to be an integer of at least 1"),
        ({"length": 49}, "Expected `length` to be an integer .*48"),
        ({"max_drop": 0.1}, "Expected labelled `examples` with `max_drop`"),
    ],
)
def test_options_are_checked_first(task, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(exporter, "build_graph", None)
    with pytest.raises(ConfigError, match=message):
        task.export(tmp_path / "x.tflite", "litert", pair=False, **options)


def test_the_path_is_that_of_a_file(task, tmp_path):
    with pytest.raises(ConfigError, match=r"end in \.tflite, received"):
        task.export(tmp_path / "model", "litert", pair=False)
    (tmp_path / "x.tflite").mkdir()
    with pytest.raises(ExportError, match="a file or a new path, received the directory"):
        task.export(tmp_path / "x.tflite", "litert", pair=False)


def test_a_difference_leaves_the_earlier_file(task, tmp_path, monkeypatch):
    path = tmp_path / "x.tflite"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(type(task), "respond", lambda self, inputs: tf.zeros([2, len(LABELS)]))
    with pytest.raises(ExportError, match="Expected the model's answer|differ from the model's"):
        task.export(path, "litert", pair=False, **FIXED)
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["x.tflite"]


def test_a_task_in_bfloat16_becomes_float32(tmp_path):
    export = make_task("single_label", dtype="mixed_bfloat16").export(
        tmp_path / "x.tflite", "litert", pair=False, **FIXED
    )
    assert 1e-4 < export.largest_difference < 0.05  # its own answers were rounded
    model, _ = read_model(export.path)
    types = {t["dtype"] for t in make_interpreter(model, text=False).get_tensor_details()}
    assert np.float32 in types


def test_an_op_that_litert_lacks_is_named():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serving_default(text):
        with tf.name_scope("my_layer"):
            upper = tf.strings.upper(text)
        return {"upper": tf.expand_dims(upper, 1)}

    function = serving_default.get_concrete_function()
    graph = LiteRTGraph(tf.Module(), {"serving_default": function})
    with pytest.raises(ExportError, match="no op StringUpper, which computes 'my_layer"):
        convert(graph, text=True)


def damaged(data, how):
    if how == "cut short":
        return data[: len(data) // 2]
    if how == "empty":
        return b""
    if how == "another file":
        return b"PK" + bytes(1000)
    place = {"a changed weight": len(data) // 3, "a changed header": 5}[how]
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    "how", ["cut short", "empty", "another file", "a changed weight", "a changed header"]
)
def test_damaged_files_give_one_line(from_ids, tmp_path, how):
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged(from_ids.path.read_bytes(), how))
    with pytest.raises(DataError) as caught:
        kbz.export.litert_interpreter(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"command": 3}, {"texts": [1]}, {"command": "x" * 2_000_000}])
def test_a_crafted_description_is_refused(from_ids, tmp_path, change):
    model, info = read_model(from_ids.path)
    path = tmp_path / "crafted.tflite"
    path.write_bytes(joined(model, info | change, {}))
    with pytest.raises(DataError, match="cut short or changed"):
        read_model(path)


def test_a_missing_file_gives_one_line(tmp_path):
    with pytest.raises(DataError, match="No such file or directory"):
        kbz.export.litert_interpreter(tmp_path / "none.tflite")


def test_a_runtime_that_lacks_an_op_gives_one_line(from_text, tmp_path, monkeypatch):
    """As if the app did not link the ops of tf.text."""
    from keras_bert_zoo.export.litert import interpreter

    def without_ops(model, *, text, threads=None):
        return make_interpreter(model, text=False, threads=threads)

    monkeypatch.setattr(interpreter, "make_interpreter", without_ops)
    with pytest.raises(DataError, match="unresolved custom op: FastBertNormalize") as caught:
        interpreter.litert_interpreter(from_text.path)(text=["a"])
    assert "\n" not in str(caught.value)


def test_wrong_inputs_give_one_line(from_ids, from_text):
    run = kbz.export.litert_interpreter(from_ids.path)
    ids = np.full([2, 12], 5, np.int32)
    valid = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    assert run(**valid)["label"].shape == (2,)
    for change, message in (
        ({"token_ids": ids[:1]}, r"Expected token_ids of the shape \(2, 12\), received \(1, 12\)"),
        ({"token_ids": ids[:, :3]}, r"received \(2, 3\)"),
        ({"token_ids": ids + 10**6}, "LiteRT cannot compute this request"),
        ({"text": ["a"]}, "Expected the inputs"),
    ):
        with pytest.raises(DataError, match=message):
            run(**(valid | change))
    with pytest.raises(DataError, match=r"Expected text of the shape \(1\), received \(2,\)"):
        kbz.export.litert_interpreter(from_text.path)(text=["a", "b"])

"""Files for MediaPipe's text tasks."""

import subprocess
import sys
import unicodedata
import zipfile

import flatbuffers
import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.export.litert import exporter
from keras_bert_zoo.export.litert.mediapipe_tokenizer import (
    MediaPipeTokenizer,
    compare_tokenization,
)
from keras_bert_zoo.export.litert.model_file import read_model
from keras_bert_zoo.export.litert.ops import unpack
from tests.export.conftest import LABELS, VOCABULARY, make_task
from tests.tasks.every_task import make

LENGTH = 16


@pytest.fixture(scope="module")
def task():
    return make_task("single_label")


@pytest.fixture(scope="module")
def export(task, tmp_path_factory):
    """A classifier in int8."""
    path = tmp_path_factory.mktemp("mediapipe") / "x.tflite"
    return task.export(path, "mediapipe", dtype="int8", length=LENGTH, pair=False)


def field(table, number, kind):
    """Reads a field of a flatbuffer's table: a string, a table, a byte, or a list of tables."""
    place = table.Offset(4 + 2 * number)
    if not place:
        return None
    place += table.Pos
    if kind == "string":
        return table.String(place).decode()
    if kind == "byte":
        return table.Get(flatbuffers.number_types.Uint8Flags, place)
    if kind == "table":
        return flatbuffers.table.Table(table.Bytes, table.Indirect(place))
    start = table.Vector(table.Offset(4 + 2 * number))
    count = table.VectorLen(table.Offset(4 + 2 * number))
    return [
        flatbuffers.table.Table(table.Bytes, table.Indirect(start + 4 * index))
        for index in range(count)
    ]


def metadata_of(path):
    root = unpack(read_model(path)[0])
    (entry,) = [entry for entry in root.metadata if entry.name == b"TFLITE_METADATA"]
    data = bytes(root.buffers[entry.buffer].data)
    assert flatbuffers.util.BufferHasIdentifier(data, 0, b"M001")
    begin = flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)
    return root, flatbuffers.table.Table(bytearray(data), begin)


def test_the_metadata_name_tensors_tokenizer_and_labels(export):
    """Field numbers are those of metadata_schema.fbs."""
    root, model = metadata_of(export.path)
    (graph,) = root.subgraphs
    names = {tensor.tensorIndex: tensor.name.decode() for tensor in root.signatureDefs[0].inputs}
    (subgraph,) = field(model, 3, "list")
    described = [field(tensor, 0, "string") for tensor in field(subgraph, 2, "list")]
    roles = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
    assert described == [roles[names[index]] for index in graph.inputs]
    assert {tuple(graph.tensors[index].shape) for index in graph.inputs} == {(1, LENGTH)}
    (output,) = field(subgraph, 3, "list")
    assert field(output, 0, "string") == "probability"
    (labels,) = field(output, 6, "list")
    assert (field(labels, 0, "string"), field(labels, 2, "byte")) == ("labels.txt", 2)
    (unit,) = field(subgraph, 5, "list")
    assert field(unit, 0, "byte") == 4  # BERT's tokenizer
    (vocabulary,) = field(field(unit, 1, "table"), 0, "list")
    assert (field(vocabulary, 0, "string"), field(vocabulary, 2, "byte")) == ("vocab.txt", 5)
    with zipfile.ZipFile(export.path) as archive:
        assert archive.read("vocab.txt").decode().split("\n")[: len(VOCABULARY)] == VOCABULARY
        assert archive.read("labels.txt").decode().splitlines() == LABELS


def test_the_file_answers_as_the_task(task, export):
    run = kbz.export.litert_interpreter(export.path)
    assert run.outputs == ("scores",)
    for text in ("the card has not arrived", "weather", "!"):
        packed = task.tokenizer([text], max_length=LENGTH, padding="max_length")
        scores = run(**packed)["scores"]
        np.testing.assert_allclose(scores, task.predict([text])["scores"], atol=0.05)
    assert export.largest_difference < 1e-4  # before int8


def test_differences_are_counted_and_explained(export):
    assert export.tokenization.texts == 15
    assert {"accents", "special tokens", "control characters"} <= set(export.tokenization.reasons)
    letters = [*"abcdef", "æ", "б"]
    words = ["the", "card", "has", "not", "arrived", "cafe", *letters, *(f"##{c}" for c in letters)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = kbz.WordPieceTokenizer([*special, *words, *"!?-()天气"])
    plain = ["The card has NOT arrived!", "天气?", "a-b (c)", "", "  ", "ab\tcd\nef"]
    same = compare_tokenization(tokenizer, plain)
    assert (same.different, same.reasons) == (0, {})
    assert str(same) == "MediaPipe tokenizes all 6 texts as the model does"
    for text, reason in (
        ("caf\u00e9", "accents"),
        ("Æb", "upper case beyond ASCII"),
        ("a [MASK]", "special tokens"),
        ("a\u200db", "control characters"),
        ("a\u00a0b", "other spaces"),
        ("б" * 60, "long words"),
    ):
        differences = compare_tokenization(tokenizer, [text, "the card"])
        assert (differences.different, differences.reasons) == (1, {reason: 1}), text


def test_its_words_are_those_of_the_regular_expression():
    """Unicode's punctuation and BERT's ideographs are words; symbols beyond ASCII are not."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "$", "…", "€", "天"]
    tokenize = MediaPipeTokenizer(kbz.WordPieceTokenizer(pieces))
    assert tokenize("a$b") == [5, 8, 6]
    assert tokenize("A…B") == [5, 9, 6]
    assert tokenize("a€b") == [1]  # a currency sign is part of the word
    assert unicodedata.category("€") == "Sc"
    assert tokenize("ab天b") == [5, 7, 11, 6]
    assert tokenize("a\u00a0b") == [1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("multiple-choice", {}, 'received a MultipleChoice. Use format="litert"'),
        ("relations", {}, "received a RelationClassifier"),
        ("classification", {"pair": True}, "classifies single texts"),
        ("question-answering", {"length": 128}, "Expected `length` to be 384, received 128"),
    ],
)
def test_what_mediapipe_lacks_is_refused(name, options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "build_graph", None)
    with pytest.raises(ConfigError, match=message):
        make(name)[0].export(tmp_path / "x.tflite", "mediapipe", **options)


def test_cased_tokenizers_are_refused(task, tmp_path):
    cased = kbz.WordPieceTokenizer(VOCABULARY, lowercase=False)
    other = kbz.TextClassifier(task.encoder, cased, LABELS, head=task.head)
    with pytest.raises(ConfigError, match="a WordPieceTokenizer that keeps upper case"):
        other.export(tmp_path / "x.tflite", "mediapipe", pair=False)


@pytest.mark.parametrize("name", ["embedding", "question-answering"])
def test_other_tasks(name, tmp_path):
    task = make(name)[0]
    if name == "question-answering" and task.encoder.config.max_tokens < 384:
        with pytest.raises(ConfigError, match="Expected `length` to be an integer"):
            task.export(tmp_path / "x.tflite", "mediapipe")
        return
    export = task.export(tmp_path / "x.tflite", "mediapipe", length=12)
    assert export.outputs == ("embedding",)
    assert export.largest_difference < 1e-4


@pytest.mark.slow
def test_mediapipe_itself_reads_the_file(task, tmp_path):
    """Needs the package mediapipe, which pulls OpenCV."""
    pytest.importorskip("mediapipe")
    path = tmp_path / "x.tflite"
    task.export(path, "mediapipe", length=LENGTH, pair=False)
    texts = ["the card has not arrived", "Weather!", "a b c", "天气"]
    code = (
        "import sys\n"
        "from mediapipe.tasks import python as mp\n"
        "from mediapipe.tasks.python import text\n"
        "base = mp.BaseOptions(model_asset_path=sys.argv[1])\n"
        "options = text.TextClassifierOptions(base_options=base)\n"
        "with text.TextClassifier.create_from_options(options) as client:\n"
        "    for line in sys.argv[2:]:\n"
        "        best = client.classify(line).classifications[0].categories[0]\n"
        "        print(best.category_name)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(path), *texts], capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines() == list(task.predict(texts)["label"])

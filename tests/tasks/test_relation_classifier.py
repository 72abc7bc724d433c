"""Relations: markers in the tokenizer, answers, training, files and export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.semeval import MARKERS
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.presets.extra_weights import EXTRA_WEIGHTS_FILE
from keras_bert_zoo.tasks.registry import load_task
from tests.helpers import ASSETS, as_graphs

TINY = ASSETS / "bert_gelu"
LABELS = ["A(e1,e2)", "A(e2,e1)", "Other"]
TEXTS = ["a <e1>b</e1> c <e2> x y </e2>", "<e2>z</e2> a <e1>x</e1>", "<e1>y</e1><e2>z</e2> b"]
HOSTILE = [
    *TEXTS,
    "no markers",
    "",
    "天 <e1>é天</e1>👩‍👧 <e2></e2>",
    b"\xff\xfe<e1>\xc3 a</e1> \xe5\xa4 <e2>b \xff</e2>",
    "</e1>a<e1> b</e1> <E2>c</E2>",
    "a " * 40 + "<e1>b</e1> <e2>c</e2>",
    "<e1> <e2> a </e2> b </e1>",
]


def make_task(**options):
    keras.utils.set_random_seed(0)
    task = kbz.RelationClassifier.from_preset(
        TINY, **{"labels": LABELS, "max_length": 20} | options
    )
    for variable in task.weights:
        variable.assign_add(keras.random.normal(variable.shape, stddev=0.1))
    return task


def test_labels_may_be_an_iterator_and_are_checked_before_a_head_is_made():
    task = make_task(labels=iter(LABELS))
    assert task.labels == LABELS
    again = kbz.RelationClassifier(task.encoder, task.tokenizer, (name for name in LABELS))
    assert (again.labels, again.head.units) == (LABELS, 3)
    for labels in ("Other", ["Other"], []):
        with pytest.raises(ConfigError, match="labels"):
            kbz.RelationClassifier(task.encoder, task.tokenizer, labels)
        with pytest.raises(ConfigError, match="labels"):
            kbz.RelationClassifier.from_preset("not there", labels=labels)
    assert kbz.TextClassifier.from_preset(TINY, labels=iter("ab")).labels == ["a", "b"]


def test_embeddings_of_markers_start_as_the_mean_of_their_pieces():
    keras.utils.set_random_seed(0)
    task = kbz.RelationClassifier.from_preset(TINY, labels=LABELS)
    before = kbz.Tokenizer.from_preset(TINY)
    first = before.vocabulary_size
    assert task.tokenizer.vocabulary[-4:] == list(MARKERS)
    assert set(MARKERS) <= set(task.tokenizer.special_tokens)
    assert task.head.marker_ids == tuple(range(first, first + 4))
    old = kbz.Encoder.from_preset(TINY).embeddings.token_table.numpy()
    new = task.encoder.embeddings.token_table.numpy()
    for index, marker in enumerate(MARKERS):
        expected = old[before.tokenize(marker).numpy()].mean(axis=0)
        np.testing.assert_allclose(new[first + index], expected, atol=1e-6)
    with pytest.raises(ConfigError, match=r"lacks the special tokens <e1>, </e1>, <e2>, </e2>"):
        kbz.RelationClassifier(kbz.Encoder.from_preset(TINY), before, LABELS)


def test_answers_name_relation_and_entities():
    task = make_task()
    answers = task.answer_rows(HOSTILE)
    for index, text in enumerate(HOSTILE):
        raw = text if isinstance(text, bytes) else text.encode()
        for place in range(2):
            start, end = answers["start"][index, place], answers["end"][index, place]
            assert raw[start:end] == answers["entity"][index, place]
            if isinstance(text, str):
                cut = text[answers["start_character"][index, place] :]
                length = answers["end_character"][index, place]
                length -= answers["start_character"][index, place]
                assert cut[:length].encode() == raw[start:end]
    entities = [[part.decode("utf-8", "replace") for part in row] for row in answers["entity"]]
    assert entities[:5] == [["b", "x y"], ["x", "z"], ["y", "z"], ["", ""], ["", ""]]
    assert entities[5] == ["é天", ""]
    assert entities[7] == ["b", ""]  # markers are found by exact case
    assert entities[8] == ["", ""]  # beyond max_length
    np.testing.assert_allclose(answers["scores"].sum(axis=1), 1, atol=1e-6)
    assert [label.decode() for label in answers["label"]] == [
        LABELS[index] for index in answers["scores"].argmax(axis=1)
    ]
    assert {name: len(values) for name, values in task.predict([]).items()} == dict.fromkeys(
        answers, 0
    )
    marked, bare = task.predict(TEXTS), task.predict([text.replace("e1", "e3") for text in TEXTS])
    assert np.abs(marked["scores"] - bare["scores"]).max() > 1e-3


def test_training_learns_and_a_saved_task_answers_the_same(tmp_path):
    task = make_task(pooling="start")
    examples = Examples(TEXTS * 4, labels=LABELS * 4)
    before = [variable.numpy() for variable in task.trainable_weights]
    options = {"epochs": 30, "batch_size": 12, "learning_rate": 1e-2, "verbose": 0}
    with as_graphs():
        task.fit(examples, class_weight="balanced", **options)
    for variable, old in zip(task.trainable_weights, before, strict=True):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path
    assert task.report(examples).macro_f1 == 1
    task.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    loaded = load_task(tmp_path / "saved")
    assert isinstance(loaded, kbz.RelationClassifier)
    assert (loaded.labels, loaded.head.pooling, loaded.max_length) == (LABELS, "start", 20)
    inputs, _ = task.encode_texts(tf.constant(HOSTILE))
    for name, expected in loaded.encode_texts(tf.constant(HOSTILE))[0].items():
        np.testing.assert_array_equal(inputs[name], expected)
    np.testing.assert_array_equal(loaded(inputs), task(inputs))
    # The saved task is also a preset: for other relations, with the same markers.
    other = kbz.RelationClassifier.from_preset(tmp_path / "saved", labels=["x", "y"])
    assert other.head.marker_ids == task.head.marker_ids
    (tmp_path / "saved" / EXTRA_WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match=EXTRA_WEIGHTS_FILE):
        load_task(tmp_path / "saved")


@pytest.mark.parity
def test_transformers_loads_the_encoder_and_the_tokenizer(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    task = make_task()
    task.save(tmp_path / "saved")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs, _ = task.encode_texts(tf.constant(TEXTS))
    np.testing.assert_array_equal(inputs["token_ids"], theirs["input_ids"].numpy())
    model = transformers.AutoModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False)
    with torch.no_grad():
        states = model.eval()(**theirs).last_hidden_state.numpy()
    mask = inputs["padding_mask"].numpy()[:, :, np.newaxis]
    ours = task.encoder(inputs)["sequence_output"]
    assert np.abs((ours - states) * mask).max() < 1e-5


def test_invalid_arguments_and_texts_are_refused(tmp_path):
    task = make_task()
    with pytest.raises(DataError, match="t.txt:4: expected <e2> once, received it 0 times"):
        task.fit(Examples(["<e1>a</e1>"], labels=["Other"], rows=[4], path="t.txt"))
    with pytest.raises(DataError, match="example 1: expected <e1> once"):
        task.report(["a"], ["Other"])
    with pytest.raises(DataError, match="received pairs"):
        task.predict((["a"], ["b"]))
    with pytest.raises(ConfigError, match="no thresholds"):
        task.tune_thresholds(TEXTS, LABELS)
    with pytest.raises(ConfigError, match="`probe_epochs` is not possible"):
        task.fit(TEXTS, LABELS, probe_epochs=1)
    with pytest.raises(CheckpointError, match=r"no head for RelationClassifier.*labels=\["):
        kbz.RelationClassifier.from_preset(TINY)
    task.save(tmp_path / "saved")
    with pytest.raises(ConfigError, match="trained with `pooling='mean'`, received 'start'"):
        kbz.RelationClassifier.load(tmp_path / "saved", pooling="start")


def test_the_export_has_the_answers_of_the_task(tmp_path):
    task = make_task()
    export = task.export(tmp_path / "export")  # `export` compares the answers without this package
    served = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    texts = [*HOSTILE, *(text for (text,) in hostile_rows(task))]
    expected = task.answer_rows(texts)
    got = {name: value.numpy() for name, value in served(text=tf.constant(texts)).items()}
    assert set(got) == set(expected)
    for name in ("entity", "start", "end", "start_character", "end_character", "label"):
        np.testing.assert_array_equal(got[name], expected[name])
    np.testing.assert_allclose(got["scores"], expected["scores"], atol=1e-5)
    many = [texts[index % len(texts)] for index in range(64)]
    together = served(text=tf.constant(many))["scores"].numpy()
    for index in range(0, 64, 9):
        alone = served(text=tf.constant([many[index]]))["scores"][0]
        np.testing.assert_allclose(alone, together[index], atol=1e-5)

"""Nested entities: spans, windows, the loss, training, files, exports, the command line."""

import argparse
import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.cli.main import main
from keras_bert_zoo.cli.tasks.token_classification import make_command
from keras_bert_zoo.data.entity_files import read_entities
from keras_bert_zoo.data.spans import Entity, EntityExamples, check_entities
from keras_bert_zoo.encoders.bert import BertEncoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.heads.global_pointer import GlobalPointerHead, span_loss, span_scores
from keras_bert_zoo.layers.token_layout import TokenLayout
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.tasks.token_classification import entities as entities_module
from keras_bert_zoo.text.words import candidate_spans
from keras_bert_zoo.training.data import prepared
from tests.cli.conftest import fast
from tests.cli.conftest import refused as refused
from tests.cli.conftest import run as run
from tests.helpers import as_graphs
from tests.tasks.taggers import LETTERS, TYPES, VOCABULARY, hostile

# Real sentences, annotated by hand: names of institutions hold names of places and of people.
NESTED = [
    ("The Bank of England raised its rate", ["Bank of England ORG", "England LOC"]),
    ("Johns Hopkins University is in Baltimore",
     ["Johns Hopkins University ORG", "Johns Hopkins PER", "Baltimore LOC"]),
    ("The Royal Society of London was founded in 1660",
     ["Royal Society of London ORG", "London LOC"]),
    ("The San Francisco Museum of Modern Art reopened",
     ["San Francisco Museum of Modern Art ORG", "San Francisco LOC"]),
    ("Nobody came", []),
    ("The mayor of New York City left New York City Hall",
     ["New York City LOC", "New York City Hall LOC", "New York City LOC 2"]),
]  # fmt: skip


def annotated(text, names):
    found = []
    for name in names:
        again = name.endswith(" 2")
        surface, label = name.removesuffix(" 2").rsplit(" ", 1)
        start = text.index(surface)
        if again:
            start = text.index(surface, start + 1)
        found.append((start, start + len(surface), label))
    return found


TEXTS = [text for text, _ in NESTED]
ENTITIES = [annotated(text, names) for text, names in NESTED]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]
WORDS = sorted({word.lower() for text in TEXTS for word in text.split()})


def make_task(types=TYPES, *, vocabulary=VOCABULARY, max_length=16, spread=0.3, **options):
    keras.utils.set_random_seed(1)
    config = kbz.EncoderConfig(
        vocabulary_size=len(vocabulary),
        hidden_dim=32,
        num_layers=2,
        num_heads=4,
        intermediate_dim=64,
        max_sequence_length=48,
        initializer_range=spread,
        dropout=0.0,  # training takes fewer steps
        attention_dropout=0.0,
    )
    return kbz.TokenClassifier(
        BertEncoder(config, pooler=False),
        kbz.WordPieceTokenizer(vocabulary),
        types,
        nested=True,
        max_length=max_length,
        **options,
    )


@pytest.fixture(scope="module")
def few():
    """A tagger whose random weights find some spans, but not most."""
    task = make_task()
    bias = np.zeros(task.head.units, np.float32)
    bias[-4:] = 1.0  # two types' beginnings and ends are likelier than a new head has them
    task.head.bias.assign(bias)
    return task


def check_spans(texts, answers):
    """Every offset cuts the entity out of the text, in bytes and in characters; in order, once."""
    count = 0
    for index, text in enumerate(texts):
        raw = text if isinstance(text, bytes) else text.encode()
        # The number of characters before each byte.
        before = np.cumsum([0] + [byte & 0xC0 != 0x80 for byte in raw])
        seen = []
        for place, label in enumerate(answers["label"][index]):
            start, end = int(answers["start"][index][place]), int(answers["end"][index][place])
            entity = answers["entity"][index][place]
            assert raw[start:end] == entity
            if not label:
                assert (start, end, entity) == (0, 0, b"")
                continue
            assert start < end
            seen.append((start, -end, label))
            first = int(answers["start_character"][index][place])
            last = int(answers["end_character"][index][place])
            assert first == before[start]
            assert last == before[end]
            if isinstance(text, str):
                assert text[first:last].encode() == entity
            assert 0.5 < answers["score"][index][place] <= 1
        assert [s[:2] for s in seen] == sorted(s[:2] for s in seen)
        assert len(set(seen)) == len(seen)
        count += len(seen)
    return count


# === The head and the loss ===


@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_scores_are_products_of_turned_queries_and_keys(kind):
    keras.utils.set_random_seed(0)
    head = GlobalPointerHead(3, head_dim=8, initializer_range=0.5)
    head.build((None, 6))
    ids = np.arange(10, dtype=np.int32).reshape(2, 5)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    layout = TokenLayout(kind)(ids, ids * 0, mask)
    random = np.random.default_rng(0)
    states = random.normal(size=(10, 6)).astype(np.float32)  # by token id
    pointers = head(tf.gather(states, layout["token_ids"]), layout)
    assert pointers.shape == (2, 5, 2 * 3 * 10)
    assert not pointers.numpy()[1, 3:].any()
    scores = span_scores(pointers, 3).numpy()

    flat = states @ head.kernel.numpy() + head.bias.numpy()
    queries, keys = np.moveaxis(flat[:, :48].reshape(2, 5, 2, 3, 8), 2, 0)
    begins, ends = np.moveaxis(flat[:, 48:].reshape(2, 5, 2, 3), 2, 0) - 2
    for row, length in ((0, 5), (1, 3)):
        for i in range(length):
            for j in range(length):
                for kind_ in range(3):
                    q, k = queries[row, i, kind_], keys[row, j, kind_]
                    # Complex numbers turn as pairs do; only the distance is left of both angles.
                    turn = np.exp(1j * (i - j) / 10000.0 ** (np.arange(4) / 4))
                    product = ((q[:4] + 1j * q[4:]) * turn * np.conj(k[:4] + 1j * k[4:])).sum()
                    expected = product.real / np.sqrt(8)
                    expected += begins[row, i, kind_] + ends[row, j, kind_]
                    np.testing.assert_allclose(scores[row, kind_, i, j], expected, atol=1e-4)
    assert GlobalPointerHead.from_config(head.get_config()).units == head.units
    with pytest.raises(ConfigError, match="`head_dim` to be a positive even number"):
        GlobalPointerHead(2, head_dim=7)


def test_loss_is_that_of_the_paper():
    random = np.random.default_rng(0)
    scores = random.normal(size=(2, 3, 4, 4)).astype(np.float32) * 3
    candidates = random.random((2, 4, 4)) < 0.6
    targets = candidates[:, np.newaxis] & (random.random((2, 3, 4, 4)) < 0.3)
    targets[0, 1] = False
    expected = np.zeros(2)
    for row in range(2):
        for kind in range(3):
            yes = scores[row, kind][targets[row, kind]]
            no = scores[row, kind][candidates[row] & ~targets[row, kind]]
            expected[row] += np.log1p(np.exp(-yes).sum()) + np.log1p(np.exp(no).sum())
    got = span_loss(tf.constant(scores), tf.constant(candidates), tf.constant(targets))
    np.testing.assert_allclose(got, expected / 3, rtol=1e-5)
    nothing = tf.zeros([1, 4, 4], tf.bool)
    none = span_loss(tf.constant(scores[:1]), nothing, tf.zeros([1, 3, 4, 4], tf.bool))
    assert none.numpy().tolist() == [0]


# === Candidates ===


def test_candidates_begin_and_end_with_words(few):
    inputs, context = few.encode_texts(tf.constant(["abc card d", "天气!", ""]))
    places = context["places"]
    #        [CLS] a ##b ##c card d [SEP]
    assert places["may_begin"].numpy().astype(int).tolist() == [
        [0, 1, 0, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0, 0], [0] * 7,
    ]  # fmt: skip
    assert places["may_end"].numpy().astype(int).tolist() == [
        [0, 0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0, 0], [0] * 7,
    ]  # fmt: skip
    parts = [places[name] for name in ("may_begin", "may_end", "least", "limit")]
    assert np.argwhere(candidate_spans(*parts).numpy()[0]).tolist() == [
        [1, 3], [1, 4], [1, 5], [4, 4], [4, 5], [5, 5],
    ]  # fmt: skip
    assert inputs["token_ids"].shape == (3, 7)


# === Answers ===


@as_graphs()
def test_offsets_cut_the_entities_out_of_hostile_texts(few, monkeypatch):
    texts = hostile(few)
    answers = few.answer_rows(texts)
    assert check_spans(texts, answers) > 100
    alone = [few.answer_rows([text]) for text in texts]
    for index, one in enumerate(alone):
        width = one["label"].shape[1]
        assert not answers["label"][index, width:].any()
        for name, value in one.items():
            got = answers[name][index, :width]
            if value.dtype == np.float32:
                np.testing.assert_allclose(got, value[0], atol=1e-5)
            else:
                np.testing.assert_array_equal(got, value[0])
    assert few.predict([])["label"].shape[0] == 0
    # In many steps as in one.
    monkeypatch.setattr(entities_module, "_SCORES_AT_ONCE", 2000)
    few.graphs.clear()
    stepwise = few.answer_rows(texts)
    few.graphs.clear()
    for name, value in answers.items():
        np.testing.assert_array_equal(stepwise[name], value)


def test_spans_of_a_text_are_those_of_its_scores(few):
    text = "the card is here, ab"  # one window
    inputs, context = few.encode_texts(tf.constant([text]))
    pointers = few(inputs, training=False)
    scores = span_scores(pointers, 2).numpy()[0]
    places = context["places"]
    parts = [places[name] for name in ("may_begin", "may_end", "least", "limit")]
    allowed = candidate_spans(*parts).numpy()[0]
    starts, ends = places["starts"].numpy(), places["ends"].numpy()
    expected = {
        (int(starts[i - 1]), int(ends[j - 1]), TYPES[kind])
        for kind, i, j in np.argwhere((scores > 0) & allowed)
    }
    assert len(expected) > 3
    assert {entity[:3] for entity in few.find_entities([text])[0]} == expected
    on_ids = few.answers(pointers)
    inside = np.triu(np.ones_like(scores[0], bool))
    inside[[0, -1]] = inside[:, [0, -1]] = False
    spans = {(int(i), int(j) + 1, TYPES[k]) for k, i, j in np.argwhere((scores > 0) & inside)}
    columns = (on_ids[name].numpy()[0].tolist() for name in ("start", "end", "label"))
    assert {(i, j, label.decode()) for i, j, label in zip(*columns, strict=True)} == spans


def test_a_character_of_several_words_is_one_span(few):
    inside = [[False, True, True, True, False]]
    pointers = np.ones((1, 5, 2 * 2 * 64), np.float32)
    texts = tf.constant(["½"])
    places = {
        "may_begin": inside, "may_end": inside,
        "least": [0], "limit": [10], "document": [0], "offset": np.array([-1]),
        "starts": np.array([0, 0, 0]), "ends": np.array([2, 2, 2]),
    }  # fmt: skip
    places = {name: tf.constant(value) for name, value in places.items()}
    answers = few.decode(tf.constant(pointers), {"places": places, "texts": texts})
    assert answers["label"].numpy().tolist() == [[b"PER", b"LOC"]]
    assert answers["end"].numpy().tolist() == [[2, 2]]


def test_entities_of_about_a_half_may_differ(few):
    answer = {
        "entity": np.array([b"abc", b"c"], object), "label": np.array([b"PER", b"LOC"], object),
        "score": np.array([0.9, 0.501], np.float32),
        **{name: np.array([0, 2]) for name in ("start", "start_character")},
        **{name: np.array([3, 3]) for name in ("end", "end_character")},
    }  # fmt: skip
    without = {name: value[:1] for name, value in answer.items()}
    assert few.answer_difference(answer, without, 1e-3) == 0
    # Another entity's doubt does not excuse a sure one, whatever overlaps.
    assert few.answer_difference(answer, {n: v[1:] for n, v in answer.items()}, 1e-3) is None


# === Training ===


def test_targets_are_spans_of_words(few, caplog):
    with caplog.at_level(logging.WARNING, logger="keras_bert_zoo"):
        data = few.rows(*prepared(few,
            ["abc \u200b card d", "a"],
            [[(0, 10, "LOC"), (6, 10, "PER"), (0, 10, "PER"), (1, 12, "PER"), (4, 5, "LOC")], []],
        )).data  # fmt: skip
    assert "of 5 entities 1 begin or end within a word" in caplog.text
    assert "1 have no word and are left out" in caplog.text
    assert data.labels.dtype == np.int16
    spans = data.labels[0, :, 2:5]
    assert spans[spans[:, 0] >= 0].tolist() == [[1, 1, 4], [0, 1, 4], [0, 1, 5], [0, 4, 4]]
    assert data.labels[1, :, 2].max() == -1
    no_tokens = few.rows(*prepared(few, ["\u200b"], [[(0, 1, "PER")]])).data
    assert no_tokens.labels[0, :, 2].max() == -1
    weighted = few.rows(
        EntityExamples(["a b c d e f g h i " * 3, "a"]), [[], []], np.array([2, 3], np.float32)
    ).data
    assert weighted.weights.tolist() == [2.0] * (len(weighted.rows) - 1) + [3.0]


def test_every_span_is_trained_in_one_window(caplog):
    task = make_task(max_length=10, stride=4)
    text = "a b c d e f g h i j k l m n o p"
    spans = [(2 * i, 2 * j + 1, "PER") for i in range(16) for j in range(i, 16)]
    with caplog.at_level(logging.WARNING, logger="keras_bert_zoo"):
        data = task.rows(*prepared(task, [text], [spans])).data
    held = data.labels[:, :, 2] >= 0
    lost = int(caplog.text.split("entities ")[1].split(" are not contained in any window")[0])
    assert held.sum() + lost == len(spans)
    # Windows of 8 words that share 4: from 0, 4 and 8. What is in none as a whole is lost.
    inside = [any(b <= i and j < b + 8 for b in (0, 4, 8)) for i in range(16) for j in range(i, 16)]
    assert lost == inside.count(False)
    # And what a window does not decide on is no candidate there.
    labels = data.labels.astype(np.int32)
    parts = labels[:, :, 0] > 0, labels[:, :, 1] > 0, *labels[:, :2, 5].T
    candidates = candidate_spans(*map(tf.constant, parts)).numpy()
    assert candidates.sum() == held.sum()
    for row, _, first, last in (
        (row, *span[2:5]) for row, window in enumerate(data.labels) for span in window
    ):
        assert first < 0 or candidates[row, first, last]


def test_every_weight_receives_a_gradient(few):
    task = few
    task.compile("sgd")
    texts, entities = ["ab cd ef", "the card"], [[(0, 8, "PER"), (0, 2, "LOC")], []]
    data = task.rows(*prepared(task, texts, entities))
    x, y = next(iter(data.batches(batch_size=16)))
    with tf.GradientTape() as tape:
        loss = task.compute_loss(x, y, task(x, training=True))
    gradients = tape.gradient(loss, task.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    assert {v.path for v in task.head.weights} == {"global_pointer/kernel", "global_pointer/bias"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A preset, the sentences as JSON Lines, and what `train --nested` made of them."""
    folder = tmp_path_factory.mktemp("files")
    make_task(["A"], vocabulary=[*PIECES, *WORDS], max_length=32, spread=0.1).save(folder / "tiny")
    rows = [
        json.dumps({"text": text, "entities": [list(entity) for entity in entities]}) + "\n"
        for text, entities in zip(TEXTS, ENTITIES, strict=True)
    ]
    (folder / "train.jsonl").write_text("".join(rows * 10), "utf-8")
    (folder / "dev.jsonl").write_text("".join(rows), "utf-8")
    arguments = [
        "train", *fast(folder / "tiny", "--task", "token-classification", "--nested"), "--epochs",
        "5", "--batch-size", "8", "--learning-rate", "5e-3", "--max-length", "32", "--train",
        folder / "train.jsonl", "--dev", folder / "dev.jsonl", "--output", folder / "model",
    ]  # fmt: skip
    with as_graphs():
        assert main([str(argument) for argument in arguments]) == 0
    return folder


def test_nested_entities_are_learned_saved_and_loaded(files, tmp_path):
    task = load_task(files / "model")
    assert task.nested
    types = ["LOC", "ORG", "PER"]
    assert (task.labels, task.tags, task.scheme, task.max_length) == (types, types, None, 32)
    history = task.training_record["history"]
    assert {"val_f1", "val_precision", "val_recall", "val_loss"} <= history.keys()
    assert task.report(TEXTS, ENTITIES).f1 == max(history["val_f1"]) == 1.0
    found = [{entity[:3] for entity in entities} for entities in task.find_entities(TEXTS)]
    assert found == [set(entities) for entities in ENTITIES]
    # Of examples with words, entities are made of these, also where that makes two of them one.
    examples = EntityExamples(TEXTS[:1], [[Entity(0, 19, "ORG")]], [[(0, 19)]])
    assert {entity[:3] for entity in task.find_entities(examples)[0]} <= {(0, 19, "ORG")}

    task.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "keras_bert_zoo.json").read_text())["nested"] is True
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert list(config["id2label"].values()) == types
    loaded = load_task(tmp_path / "saved")
    assert (loaded.stride, loaded.max_length) == (task.stride, task.max_length)
    for ours, theirs in zip(task.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    encoder = kbz.Encoder.from_preset(tmp_path / "saved")
    for ours, theirs in zip(task.encoder.weights, encoder.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ConfigError, match="has a head of nested entities, received `nested=False`"):
        kbz.TokenClassifier.load(tmp_path / "saved", nested=False)
    flat = kbz.TokenClassifier.from_preset(tmp_path / "saved", labels=["A"])
    assert not flat.nested
    # So many types would take gigabytes, were a head made for them.
    config["id2label"] = {str(index): f"T{index}" for index in range(200_000)}
    config["label2id"] = {name: int(index) for index, name in config["id2label"].items()}
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"names 200000 labels, .* \(26000000,\); it has \(390"
    ):
        load_task(tmp_path / "saved")
    (tmp_path / "saved" / "keras_bert_zoo.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"keras_bert_zoo\.safetensors"):
        load_task(tmp_path / "saved")


@as_graphs()
def test_export_answers_as_the_task(few, tmp_path):
    export = few.export(tmp_path / "model")  # which compares hostile rows, without the package
    ask = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    rows = [text if isinstance(text, bytes) else text.encode() for text in hostile(few)]
    short = [text for text in rows if len(text) < 1000]
    texts = [*rows, *short * 4][:64]
    answers = {name: value.numpy() for name, value in ask(text=tf.constant(texts)).items()}
    assert check_spans(texts, answers) > 100
    expected = few.answer_rows(texts)
    names = ("entity", "label", "start", "end", "start_character", "end_character")
    for name in names:
        np.testing.assert_array_equal(answers[name], expected[name])
    for index, text in enumerate(texts):
        alone = ask(text=tf.constant([text]))
        width = alone["label"].shape[1]
        assert not answers["label"][index, width:].any()
        for name in names:
            np.testing.assert_array_equal(answers[name][index, :width], alone[name][0])
    empty = ask(text=tf.zeros([0], tf.string))
    assert all(value.shape[0] == 0 for value in empty.values())


# === Refusals and the command line ===


def test_refusals(few):
    flat = kbz.TokenClassifier.from_preset
    examples = EntityExamples(["ab cd ef"], [[Entity(3, 8, "B"), Entity(0, 5, "A")]])
    check_entities(examples, ["A", "B"], nested=True)
    with pytest.raises(DataError, match=r"at 0 to 5 and one at 3 to 8; .* nested=True or --nest"):
        check_entities(examples, ["A", "B"])
    with pytest.raises(DataError, match="example 1: expected a label of PER, LOC, received 'ORG'"):
        few.fit(["ab cd"], [[(0, 2, "ORG")]])
    for options, message in (
        ({"crf": True}, "`crf=True` is for tags"),
        ({"scheme": "IOBES"}, "`scheme='IOBES'` is for tags"),
        ({"legal_only": True}, "`legal_only=True` is for tags"),
    ):
        with pytest.raises(ConfigError, match=message):
            kbz.TokenClassifier(few.encoder, few.tokenizer, TYPES, nested=True, **options)
        with pytest.raises(ConfigError, match=message):
            flat("nowhere", labels=["A"], nested=True, **options)
    with pytest.raises(ConfigError, match="expected each label once, but these repeat: 'A'"):
        kbz.TokenClassifier(few.encoder, few.tokenizer, ["A", "A"], nested=True)


def test_command_line(run, refused, files, tmp_path):
    data, model = files / "train.jsonl", files / "model"
    options = [*fast(files / "tiny"), "--task", "token-classification", "--train", data]
    flat = refused("train", *options, "--output", tmp_path / "none")
    assert flat.startswith(
        f"{data}:1: expected entities without overlap, received one at 4 to 19 and"
    )
    assert flat.endswith("; for nested entities use nested=True or --nested")
    for more in (("--crf",), ("--scheme", "IOBES")):
        assert "--nested for spans; leave out one" in refused(
            "train", *options, "--nested", *more, "--output", tmp_path / "none"
        )
    other = tmp_path / "other.jsonl"
    row = {"text": "The mayor of England", "entities": [[4, 20, "ORG"], [13, 20, "PER"]]}
    other.write_text(json.dumps(row) + "\n", "utf-8")
    errors, page = tmp_path / "errors.jsonl", tmp_path / "page.html"
    measured = run(
        "evaluate", "--model", model, "--data", other, "--errors", errors, "--html", page, "--json"
    ).json
    assert [measured["labels"][name]["support"] for name in ("LOC", "ORG", "PER")] == [0, 1, 1]
    listed = [json.loads(line) for line in errors.read_text("utf-8").splitlines()]
    assert "mayor of England" in {span["entity"] for span in listed[0]["missed"]}
    for row in listed:
        for span in (*row["missed"], *row["spurious"]):
            assert row["text"][span["start"] : span["end"]] == span["entity"]
    assert "mayor of England" in page.read_text("utf-8")
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), "utf-8")
    answered = run("predict", "--model", model, "--input", texts).rows
    assert [row["text"] for row in answered] == TEXTS
    command = make_command("token-classification")
    keep = argparse.Namespace(keep_head=True, preset=str(model))
    command.check_preset(keep, json.loads((model / "config.json").read_text("utf-8")))
    command.check_data(read_entities(data), None)  # overlapping, and taken

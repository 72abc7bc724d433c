"""Searches of a collection: against brute force, and exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.export.saved_model import SavedModelExport
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.heads.embedder import EmbeddingHead
from keras_bert_zoo.tasks.embedding import index as embedding_index
from tests.helpers import ASSETS

MODELS = ASSETS / "sentence_transformers"  # see tools/tasks/embedding_goldens.py
DOCUMENTS = ["a b", "x y z", "q r s", "h e l l o", "a b", "日本", "k", b"not \xff utf-8"]


@pytest.fixture(scope="module")
def embedder():
    return kbz.TextEmbedder.load(MODELS / "prompted")


@pytest.fixture(scope="module")
def search(embedder):
    return embedder.index(DOCUMENTS, top_k=3)


def test_finds_the_nearest_as_brute_force_does(embedder, search):
    queries = ["a b", "x", "hello", ""]
    answers = search.predict(queries)
    documents = embedder.embed(DOCUMENTS, prompt="document")
    scores = embedder.embed(queries, prompt="query") @ documents.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(answers["document_id"], order)
    np.testing.assert_allclose(answers["score"], np.take_along_axis(scores, order, 1), atol=1e-5)
    texts = [d.decode("utf-8", "replace") if isinstance(d, bytes) else d for d in DOCUMENTS]
    assert answers["document"].tolist() == [[texts[i] for i in row] for row in order]
    assert answers["document_id"].dtype == np.int32
    assert search.predict([])["document"].shape == (0, 3)


def test_a_small_collection_is_answered_whole(embedder):
    assert embedder.index(["one"], top_k=10).predict(["x", "y"])["document"].tolist() == [
        ["one"],
        ["one"],
    ]


def test_dot_products_are_not_scaled(embedder):
    head = EmbeddingHead(normalize=False, name="embedding_head")
    plain = kbz.TextEmbedder(embedder.encoder, embedder.tokenizer, head, similarity="dot")
    answers = plain.index(DOCUMENTS, top_k=1).predict(["x"])
    scores = plain.embed(["x"]) @ plain.embed(DOCUMENTS).T
    assert answers["score"][0, 0] == pytest.approx(scores.max(), rel=1e-5)
    assert scores.max() > 1


def test_there_is_nothing_to_train(search):
    for name in ("compile", "fit", "evaluate", "train_on_batch", "test_on_batch"):
        with pytest.raises(
            ConfigError, match=f"`{name}` is not supported. .* measure it by its `r"
        ):
            getattr(search, name)(["a"], ["b"])
    expected = search.predict(["a"])["document"]
    assert search.predict_on_batch(["a"])["document"].tolist() == expected.tolist()


def test_what_makes_no_sense_is_refused(embedder, search, monkeypatch, tmp_path):
    with pytest.raises(DataError, match="There are no documents"):
        embedder.index([])
    with pytest.raises(ConfigError, match="`top_k` to be an integer of at least 1, received 0"):
        embedder.index(["a"], top_k=0)
    other = kbz.TextEmbedder(embedder.encoder, embedder.tokenizer, similarity="manhattan")
    with pytest.raises(ConfigError, match="to be one of 'cosine', 'dot', received 'manhattan'"):
        other.index(["a"])
    with pytest.raises(ConfigError, match="A search cannot be saved"):
        search.save(tmp_path / "saved")
    monkeypatch.setattr(embedding_index, "_MOST_TEXT_BYTES", 10)
    with pytest.raises(ConfigError, match="bytes of text; an export holds at most 10 in its graph"):
        search.export(tmp_path / "search")
    assert not list(tmp_path.iterdir())


def test_equally_near_documents_may_change_places(search):
    def answer(ids, scores):
        return {
            "document": np.array([search.documents[i] for i in ids], dtype=object),
            "document_id": np.array(ids, np.int32),
            "score": np.array(scores, np.float32),
        }

    ours = answer([0, 4, 2], [0.9, 0.9, 0.5])
    assert search.answer_difference(ours, answer([4, 0, 2], [0.9, 0.9, 0.5]), 1e-5) == 0
    assert search.answer_difference(ours, answer([0, 4, 3], [0.9, 0.9, 0.5]), 1e-5) == 0
    assert search.answer_difference(ours, answer([0, 2, 4], [0.9, 0.9, 0.5]), 1e-5) is None
    assert search.answer_difference(ours, answer([0, 3, 2], [0.9, 0.9, 0.5]), 1e-5) is None
    other = answer([0, 4, 2], [0.9, 0.9, 0.5]) | {"document": ours["document"][::-1]}
    assert search.answer_difference(ours, other, 1e-5) is None


@pytest.mark.parametrize("variables", [False, True])
def test_the_exported_search_answers_alike_without_the_package(
    search, embedder, tmp_path, monkeypatch, variables
):
    if variables:
        monkeypatch.setattr(embedding_index, "_MOST_CONSTANT_BYTES", 10)
        export = embedder.export(tmp_path / "search", index=DOCUMENTS, top_k=3)
    else:
        export = search.export(tmp_path / "search")
    assert isinstance(export, SavedModelExport)
    assert export.frozen is not variables
    # `export` asked it in a process without this package: each text alone, in batches, none.
    assert export.texts == len(hostile_rows(search))
    if variables:
        return
    serve = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    answers = serve(text=tf.constant([b"a b", b"", b"\xff"]))
    assert answers["document"].shape == (3, 3)
    assert {str(value.dtype.name) for value in answers.values()} == {"string", "int32", "float32"}
    assert set(answers["document"].numpy().ravel()) <= set(search.documents)
    graph = (export.path / "saved_model.pb").read_bytes()
    assert graph.count("日本".encode()) == 1  # the documents are there once


@pytest.mark.slow
def test_the_exported_embedder_answers_alike_without_the_package(embedder, tmp_path):
    export = embedder.export(tmp_path / "embedder")
    loaded = tf.saved_model.load(str(export.path)).signatures
    texts = ["a b", "", "x y z " * 40, "日本"]
    answers = loaded["serving_default"](text=tf.constant(texts))["embedding"].numpy()
    np.testing.assert_allclose(answers, embedder.embed(texts), atol=1e-5)
    many = loaded["serving_default"](text=tf.constant(texts * 16))["embedding"].numpy()
    one = [loaded["serving_default"](text=tf.constant([t]))["embedding"].numpy() for t in texts]
    np.testing.assert_allclose(many, np.concatenate(one * 16), atol=1e-5)
    ids = embedder.encode_texts(tf.constant(texts))[0]
    on_ids = loaded["tokens"](**ids)["embedding"].numpy()
    np.testing.assert_allclose(on_ids, answers, atol=1e-5)
    assert keras.utils.is_keras_tensor(embedder.output)

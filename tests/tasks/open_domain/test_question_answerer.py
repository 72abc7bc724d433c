"""Answering from a collection: against brute force, through files, and exported."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.passages import Passages
from keras_bert_zoo.data.questions import Answer, QuestionExamples
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.export.signatures import compute_dtype
from keras_bert_zoo.export.verify import compare_answers
from keras_bert_zoo.tasks.embedding.index import document_vectors
from keras_bert_zoo.tasks.open_domain.files import load_passages, save_passages
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.training.question_answering import reference_answers
from tests.helpers import as_graphs, eagerly
from tests.tasks.collection import (
    DOCUMENTS,
    QUESTIONS,
    READER,
    RETRIEVER,
    check_places,
    make_collection,
    make_models,
)


@pytest.fixture(scope="module")
def models():
    return make_models()


@pytest.fixture(scope="module")
def built(models):
    return make_collection(models)


@pytest.fixture
def task(built):
    built.top_k, built.top_passages, built.retriever_weight = 1, 3, 50.0
    built.reader.null_threshold = None
    return built


def brute_force(task, questions, less_null):
    """For each question all spans of the nearest passages, by NumPy: place -> sums; and nulls."""
    retriever, reader, passages = task.retriever, task.reader, task.passages
    vectors = retriever.embed(questions, prompt="query")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarities = vectors @ passages.vectors.T
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, : task.top_passages]
    texts = passages.texts(task.documents)
    inputs, context = reader.encode_texts(
        tf.constant([question for question in questions for _ in nearest[0]]),
        tf.constant([texts[number] for number in nearest.ravel()]),
    )
    logits = reader(inputs).numpy()
    assert len(logits) == nearest.size  # a window each
    starts, ends = context["starts"].numpy(), context["ends"].numpy()
    found = [({}, []) for _ in questions]
    for window, number in enumerate(nearest.ravel()):
        index = window // nearest.shape[1]
        spans, nulls = found[index]
        null = logits[window, 0].sum()
        added = task.retriever_weight * similarities[index, number] - (null if less_null else 0)
        nulls.append(null + added)
        tokens = np.flatnonzero(ends[window] > starts[window])
        base = passages.start[number]
        for i in tokens:
            for j in tokens:
                if i <= j < i + reader.max_answer_tokens:
                    first, last = base + starts[window, i], base + ends[window, j]
                    score = logits[window, i, 0] + logits[window, j, 1] + added
                    place = (passages.document_id[number], first, last)
                    spans.setdefault(place, []).append(score)
    return found


@pytest.mark.parametrize("less_null", [False, True])
def test_answers_are_the_best_spans_of_all_passages(task, less_null):
    task.reader.null_threshold = 1e5 if less_null else None
    task.top_k = 4
    found = task.answer_rows(QUESTIONS)
    check_places(task, found)
    for index, (spans, nulls) in enumerate(brute_force(task, QUESTIONS, less_null)):
        everything = np.concatenate([np.concatenate(list(spans.values())), nulls * less_null])
        total = np.logaddexp.reduce(everything)
        best = sorted(((max(scores), place) for place, scores in spans.items()), reverse=True)[:4]
        for k, (score, place) in enumerate(best):
            assert found["score"][index, k] == pytest.approx(np.exp(score - total), rel=1e-3)
            names = ("document_id", "start", "end")
            if k == 0 or score < best[k - 1][0] - 1e-3:
                assert tuple(found[name][index, k] for name in names) == place
        places = list(zip(*(found[n][index] for n in ("document_id", "start", "end")), strict=True))
        assert len(set(places)) == len(places)
    if less_null:
        return
    task.top_k = 1
    one = task.answer_rows(QUESTIONS)
    assert one["answer"].shape == (len(QUESTIONS),)
    for name, values in one.items():
        wanted = found[name] if name == "no_answer" else found[name][:, 0]
        if values.dtype == np.float32:
            np.testing.assert_allclose(values, wanted, atol=1e-5)
        else:
            np.testing.assert_array_equal(values, wanted)


def test_passages_without_an_answer_give_none(task):
    task.reader.null_threshold = 1.0
    task.top_passages = 1
    found = task.answer_rows(QUESTIONS)
    task.reader.null_threshold = float(np.median(found["no_answer"]))
    found = task.answer_rows(QUESTIONS)
    check_places(task, found)
    none = found["no_answer"] > task.reader.null_threshold
    assert 0 < none.sum() < len(QUESTIONS)
    np.testing.assert_array_equal(found["answer"] == b"", none)
    assert set(found["passage"][none]) == {b""}
    assert (found["document_id"][none] == -1).all()
    assert (found["passage_score"][none] == 0).all()
    assert (found["score"] > 0).all()


@as_graphs()
def test_texts_and_shapes_of_predict(task):
    found = task.predict(QUESTIONS)
    assert {name: values.dtype.name for name, values in found.items()} == {
        "answer": "object", "score": "float32", "start": "int32", "end": "int32",
        "start_character": "int32", "end_character": "int32", "document_id": "int32",
        "passage": "object", "passage_score": "float32", "no_answer": "float32",
    }  # fmt: skip
    assert all(isinstance(text, str) for text in [*found["answer"], *found["passage"]])
    assert {name: values.shape for name, values in task.predict([]).items()} == dict.fromkeys(
        found, (0,)
    )
    questions = QUESTIONS * 2
    rows = task.answer_rows(questions, batch_size=8)
    alone = task.answer_rows(questions, batch_size=1)
    assert compare_answers(task, "alone", rows, alone, 1e-5) < 1e-5
    with eagerly():
        eager = task.answer_rows(questions)
    assert compare_answers(task, "op by op", rows, eager, 1e-5) < 1e-5
    with pytest.raises(DataError, match="Expected only questions, received pairs"):
        task.predict((["a"], ["b"]))


def test_a_prompt_takes_its_room(task):
    prompt = task.retriever.prompts["document"]
    for text in task.passages.texts(task.documents):
        inputs = task.retriever.tokenizer([prompt.encode() + text])
        assert inputs["token_ids"].shape[1] <= 20


# === Measuring ===


def examples(task):
    contexts = [text for text in DOCUMENTS if isinstance(text, str) and "king" in text]
    questions = [*QUESTIONS[:3], "king in a"]
    contexts.append("the king of no document")
    answers = [[Answer("king", text.index("king"))] for text in contexts[:2]]
    return QuestionExamples(
        questions, contexts, [*answers, [], [Answer("king", contexts[3].index("king"))]]
    )


def test_report_counts_what_is_found(task):
    data = examples(task)
    task.top_k = 3
    report = task.report(data)
    assert task.top_k == 3
    task.top_k = 1
    assert (report.answers.questions, report.located, report.documents) == (4, 2, 6)
    assert report.passages == len(task.passages)
    numbers, scores = task.find_passages(data.questions, top_passages=20)
    assert numbers.shape == scores.shape == (4, min(20, len(task.passages)))
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    texts = task.passages.texts(task.documents)
    for k in (1, 3, 5, 20):
        located = [
            any(
                task.passages.document_id[number] == document and b"king" in texts[number]
                for number in numbers[index, :k]
            )
            for index, document in ((0, 0), (1, 1))
        ]
        assert report.recall[k] == np.mean(located)
        holding = [any(b"king" in texts[n] for n in numbers[i, :k]) for i in (0, 1, 3)]
        assert report.answer_recall[k] == pytest.approx(np.mean(holding))
    figures = task.evaluate(data)
    assert figures == report.to_dict()
    assert {"exact_match", "f1", "recall_at_5", "answer_recall_at_1", "passages"} <= set(figures)
    assert "passage found, first 5" in report.to_text()
    elsewhere = QuestionExamples(["king ?"], ["not here"], [[Answer("not", 0)]])
    assert task.report(elsewhere).recall == {}


def test_answers_may_be_texts_without_a_place(task, monkeypatch):
    data = examples(task)
    asked = QuestionExamples(data.questions, data.contexts)
    texts = [[answer.text for answer in row] for row in data.answers]
    nowhere = [[] for _ in texts]
    starts = [
        {"text": [a.text for a in row], "answer_start": [a.start for a in row]}
        for row in data.answers
    ]
    for x, y, places in (
        (data, None, data.answers),
        (asked, data.answers, data.answers),
        (asked, starts, data.answers),
        (asked, texts, nowhere),
        (data.questions, texts, nowhere),
        (asked, [[(text, -1) for text in row] for row in texts], nowhere),
        (replace(asked, references=texts), None, nowhere),
    ):
        assert reference_answers(task.examples(x), y) == (places, texts)
    report = task.report(asked, texts)
    assert (report.located, report.recall) == (0, {})
    assert report.answer_recall[20] > 0
    assert task.tune_weight(data.questions, texts, weights=[7.0]) == task.retriever_weight == 7.0

    monkeypatch.setattr(task, "report", lambda *_, **options: calls.append(options) or report)
    calls = []
    figures = task.evaluate(asked, texts, return_dict=True, batch_size=None, verbose=1)
    assert figures == report.to_dict()
    numbers = [figure for name, figure in figures.items() if name != "segmentation"]
    assert task.evaluate(asked, texts, return_dict=False, batch_size=3) == numbers
    assert [options["batch_size"] for options in calls] == [64, 3]
    with pytest.raises(ConfigError, match="`evaluate` of a collection does not take 'steps', 'cal"):
        task.evaluate(data, steps=1, callbacks=[])


def test_tuning_takes_the_weight_of_the_best_f1(task):
    data = examples(task)
    weights = (0.0, 500.0)
    f1 = []
    for weight in weights:
        task.retriever_weight = weight
        f1.append(task.report(data).f1)
    chosen = task.tune_weight(data, weights=weights)
    assert chosen == task.retriever_weight == weights[int(np.argmax(f1))]
    with pytest.raises(ConfigError, match="at least one candidate in `weights`, received none"):
        task.tune_weight(data, weights=())


# === Refusals ===


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passage_tokens": 1000}, "`passage_tokens` to be an integer from 1 to"),
        ({"passage_tokens": 3}, "Expected `passage_tokens` of at least"),
        ({"passage_overlap": 200}, "`passage_overlap` to be an integer from 0 to"),
        ({"passage_overlap": True}, "`passage_overlap` to be an integer from 0 to"),
        ({"top_passages": 0}, "`top_passages` to be an integer from 1 to 1,000, received 0"),
        ({"top_k": 101}, "`top_k` to be an integer from 1 to 100, received 101"),
        (
            {"retriever_weight": -1},
            "`retriever_weight` to be a number of at least 0 .*, received -1",
        ),
        (
            {"retriever_weight": 1e6},
            "`retriever_weight` to be .* below 1,000,000, received 1000000.0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(models, monkeypatch, options, message):
    monkeypatch.setattr(models[0], "embed", None)  # not even called
    with pytest.raises(ConfigError, match=message):
        kbz.OpenDomainQuestionAnswerer(*models, ["a"], **options)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_k", 101, "`top_k` to be an integer from 1 to 100, received 101"),
        ("top_k", True, "`top_k` to be an integer from 1 to 100, received True"),
        (
            "top_passages",
            1001,
            "`top_passages` to be an integer from 1 to 1,000, received 1001",
        ),
        ("retriever_weight", -3.0, "`retriever_weight` to be a number of at least 0"),
        ("retriever_weight", float("nan"), "`retriever_weight` to be .*, received nan"),
        ("retriever_weight", "1", "`retriever_weight` to be .*, received '1'"),
    ],
)
def test_what_is_set_later_is_checked_as_well(task, name, value, message):
    before = getattr(task, name)
    with pytest.raises(ConfigError, match=message):
        setattr(task, name, value)
    assert getattr(task, name) == before


@pytest.mark.parametrize("name", ["passage_tokens", "passage_overlap"])
def test_how_documents_were_cut_cannot_be_set(task, name):
    with pytest.raises(AttributeError):
        setattr(task, name, 7)


def test_missing_data_is_refused(models, task):
    with pytest.raises(DataError, match="There are no documents"):
        kbz.OpenDomainQuestionAnswerer(*models, [])
    with pytest.raises(DataError, match="Expected answers, received none"):
        task.report([])
    with pytest.raises(DataError, match="Expected answers, received none; pass QuestionExamples"):
        task.report(["king ?"])
    with pytest.raises(DataError, match="answers to 1 questions, received answers to 2"):
        task.report(["king ?"], [[], []])
    for method in (task.fit, task.train_on_batch, task.test_on_batch, task.compile):
        with pytest.raises(ConfigError, match="is not trained, so .* Train .* `report` measures"):
            method(["king ?"], [["king"]])
    with pytest.raises(CheckpointError, match=r"or build one: OpenDomainQuestionAnswerer\(embed"):
        kbz.OpenDomainQuestionAnswerer.from_preset(RETRIEVER)


# === Files ===


CUT = Passages(
    document_id=np.array([0, 0, 1], np.int32),
    start=np.array([0, 3, 0], np.int32),
    end=np.array([4, 6, 2], np.int32),
    start_character=np.array([0, 3, 0], np.int32),
    vectors=np.eye(3, 4, dtype=np.float32),
)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("document_id", lambda x: x.astype(np.float32)),
        ("document_id", lambda x: x.astype(np.int64)),
        ("document_id", lambda x: x[::-1]),
        ("document_id", lambda x: x + 1),
        ("document_id", lambda x: x - 1),
        ("start", lambda x: x.astype(np.float32)),
        ("start", lambda x: x - 1),
        ("end", lambda x: x * 0),
        ("end", lambda x: x + 1),
        ("end", lambda x: x[:2]),
        ("start_character", lambda x: x - 10**6),
        ("start_character", lambda x: x + 1),
        ("vectors", lambda x: x * np.float32(np.nan)),
        ("vectors", lambda x: x.astype(np.float16)),
        ("vectors", lambda x: x[0]),
    ],
)
def test_what_cannot_be_passages_is_refused(tmp_path, name, change):
    documents = [b"abcdef", b"gh"]
    save_passages(tmp_path, CUT)
    assert load_passages(tmp_path, documents).texts(documents) == [b"abcd", b"def", b"gh"]
    save_passages(tmp_path, replace(CUT, **{name: change(getattr(CUT, name))}))
    with pytest.raises(CheckpointError, match="does not fit the collection's 2 documents; build"):
        load_passages(tmp_path, documents)


def test_a_saved_collection_answers_alike(task, tmp_path):
    task.top_k, task.retriever_weight = 2, 12.5
    folder = tmp_path / "library"
    task.save(folder)
    loaded = load_task(folder)
    assert isinstance(loaded, kbz.OpenDomainQuestionAnswerer)
    assert loaded.documents == task.documents
    assert (loaded.top_k, loaded.top_passages, loaded.retriever_weight) == (2, 3, 12.5)
    expected, found = task.answer_rows(QUESTIONS), loaded.answer_rows(QUESTIONS)
    assert compare_answers(task, "loaded", expected, found, 1e-5) < 1e-5
    options = {"top_passages": 1, "dtype": "mixed_bfloat16", "null_threshold": 1.5}
    again = kbz.OpenDomainQuestionAnswerer.load(folder, **options)
    assert (again.top_passages, compute_dtype(again), again.null_threshold) == (1, "bfloat16", 1.5)
    assert compute_dtype(again.retriever) == "float32"
    for name in ("passage_tokens", "documents"):
        with pytest.raises(
            ConfigError, match=f"Expected options to load a collection .*, received '{name}'"
        ):
            kbz.OpenDomainQuestionAnswerer.load(folder, **{name: 7})
    task.save(folder)  # over an earlier one
    with pytest.raises(CheckpointError, match="exists, and `overwrite` is False"):
        task.save(folder, overwrite=False)
    for part, kind in (("retriever", kbz.TextEmbedder), ("reader", kbz.QuestionAnswerer)):
        assert isinstance(load_task(folder / part), kind)

    lines = (folder / "documents.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[3])["text"].encode("utf-8", "surrogateescape") == DOCUMENTS[3]
    (folder / "documents.jsonl").write_text("".join([*lines[:2], '{"txt": ""}\n', *lines[3:]]))
    with pytest.raises(CheckpointError, match=r"documents.jsonl:3: expected \{\"text\": ...\}"):
        load_task(folder)
    (folder / "documents.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(CheckpointError, match="does not fit the collection's 2 documents"):
        load_task(folder)
    (folder / "documents.jsonl").write_text("".join(lines))
    order = np.arange(len(task.passages))
    order[1:] = order[:0:-1]
    save_passages(folder, replace(task.passages, vectors=task.passages.vectors[order]))
    with pytest.raises(CheckpointError, match="were embedded by another retriever than the one"):
        load_task(folder)
    save_passages(folder, task.passages)
    other = kbz.TextEmbedder.from_preset(RETRIEVER, pooling="cls")
    shutil.rmtree(folder / "retriever")
    other.save(folder / "retriever")
    with pytest.raises(CheckpointError, match="were embedded by another retriever than the one"):
        load_task(folder)
    (folder / "passages.safetensors").unlink()
    with pytest.raises(CheckpointError, match="passages.safetensors"):
        load_task(folder)
    with pytest.raises(
        CheckpointError, match="Expected a collection in .*, found another model or none"
    ):
        kbz.OpenDomainQuestionAnswerer.load(READER)
    with pytest.raises(CheckpointError, match="No directory"):
        kbz.OpenDomainQuestionAnswerer.load(tmp_path / "nowhere")


def test_passages_that_are_given_are_not_embedded(models, monkeypatch, task):
    vectors = document_vectors(models[0], [b"king"])
    given = Passages(*(np.array([n], np.int32) for n in (0, 0, 4, 0)), vectors)
    monkeypatch.setattr(models[0], "embed", None)
    small = kbz.OpenDomainQuestionAnswerer(*models, ["king"], passages=given, top_k=3)
    assert small.passages is given
    assert small.top_passages == 1  # all there are
    found = small.predict(["king ?"])
    assert found["answer"].tolist() == [["king", "", ""]]
    assert found["document_id"].tolist() == [[0, -1, -1]]


def test_equally_good_spans_may_change_places(task):
    def answer(place, score, passage_score=0.5):
        return {
            "answer": np.array(b"a", dtype=object),
            "score": np.array(score, np.float32),
            **{
                name: np.array(place, np.int32)
                for name in ("document_id", "start", "end", "start_character", "end_character")
            },
            "passage": np.array(b"a", dtype=object),
            "passage_score": np.array(passage_score, np.float32),
            "no_answer": np.array(0.0, np.float32),
        }

    assert task.answer_difference(answer(1, 0.5), answer(1, 0.5), 1e-5) == 0
    assert task.answer_difference(answer(1, 0.5), answer(2, 0.5, 0.7), 1e-5) == 0
    assert task.answer_difference(answer(1, 0.5), answer(2, 0.6), 1e-5) is None
    assert task.answer_difference(answer(1, 0.5), answer(1, 0.5, 0.7), 1e-5) == pytest.approx(0.2)

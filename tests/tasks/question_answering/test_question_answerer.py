"""Question answering on strings: against transformers, through training, and through files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.questions import Answer, QuestionExamples
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.training.data import prepared
from tests.helpers import ASSETS, as_graphs
from tests.tasks.small_models import without_dropout

GOLDEN = ASSETS / "question_answering"
COLOURS = ["rome", "paris", "12", "river"]


def load(**options):
    return kbz.QuestionAnswerer.load(GOLDEN, **options)


def made_up(count, unanswerable=False):
    """Questions whose answer is the word behind "king", or that have none."""
    random = np.random.default_rng(count)
    questions, contexts, answers = [], [], []
    for index in range(count):
        words = random.choice(
            ["in", "city", "of", "was", "war", "born"], random.integers(3, 9)
        ).tolist()
        place = random.integers(0, len(words))
        before = " ".join(words[:place])
        word = COLOURS[index % len(COLOURS)]
        if unanswerable and index % 3 == 0:
            contexts.append(" ".join(words))
            answers.append([])
        else:
            context = f"{before} king {word} {' '.join(words[place:])}".strip()
            contexts.append(context)
            answers.append([Answer(word, context.index(word))])
        questions.append("king ?")
    return QuestionExamples(questions, contexts, answers)


def fresh(**options):
    keras.utils.set_random_seed(0)
    return kbz.QuestionAnswerer.from_preset(
        GOLDEN, **{"new_head": True, "max_length": 20, "stride": 6} | options
    )


@pytest.fixture(scope="module")
def shared():
    """One task for many tests, as building one takes seconds."""
    return load(max_length=40, stride=8)


@pytest.fixture
def task(shared):
    shared.top_k, shared.max_answer_tokens, shared.null_threshold = 1, 30, None
    return shared


@pytest.fixture(scope="module")
def trained():
    """A task, trained on questions with answers and without, and these."""
    task = without_dropout(fresh(max_answer_tokens=7))
    data = made_up(48, unanswerable=True)
    with as_graphs():
        task.fit(
            data, validation_data=data[:24], validation_freq=[1, 7], epochs=7, batch_size=6,
            learning_rate=0.01, verbose=0,
        )  # fmt: skip
    return task, data


def test_spans_are_those_of_the_transformers_pipeline():
    task = load(top_k=5, max_answer_tokens=6)
    assert (task.max_length, task.null_threshold) == (64, None)
    rows = json.loads((GOLDEN / "answers.json").read_text("utf-8"))
    questions = [row["question"] for row in rows]
    found = task.predict((questions, [row["context"] for row in rows]))
    for index, row in enumerate(rows):
        expected = row["answers"]
        assert len(expected) >= 1
        for k, answer in enumerate(expected):
            assert found["answer"][index, k] == answer["answer"]
            assert found["start_character"][index, k] == answer["start"]
            assert found["end_character"][index, k] == answer["end"]
        # Its scores are products of two softmax: the ratios are the same.
        ours = np.log(found["score"][index, : len(expected)])
        theirs = np.log([answer["score"] for answer in expected])
        np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], atol=1e-4)


def test_both_layouts_give_the_same_logits_and_hide_padding():
    inputs, _ = load().encode_texts(
        tf.constant(["king ?", "rome"]), tf.constant(["the king was rome", "a " * 90])
    )
    packed, padded = (load(token_layout=layout)(inputs) for layout in ("packed", "padded"))
    np.testing.assert_allclose(packed, padded, atol=1e-5)
    mask = inputs["padding_mask"].numpy().astype(bool)
    assert (packed.numpy()[~mask] == -1e4).all()
    assert np.abs(packed.numpy()[mask]).max() < 100


def test_a_long_context_is_read_in_windows(task):
    context = "the city of rome was born , " * 40
    whole = task.predict((["king ?"], [context]))
    inputs, _ = task.encode_texts(tf.constant(["king ?"]), tf.constant([context]))
    assert len(inputs["token_ids"]) > 5
    assert context[whole["start"][0] : whole["end"][0]] == whole["answer"][0] != ""


def test_no_answer_comes_first_above_the_threshold_and_spans_follow(task):
    task.top_k, task.null_threshold = 3, 0.0
    texts = (["king ?", "rome"], ["the king was rome ( 12 )", ""])
    found = [task.predict(texts)]
    difference = found[0]["no_answer"]
    assert difference[1] == 1e4
    # The other way round, whichever it was.
    task.null_threshold = float(difference[0]) + (0.01 if difference[0] > 0 else -0.01)
    found.append(task.predict(texts))
    left, answered = found if difference[0] > 0 else found[::-1]
    assert left["answer"][0].tolist() == ["", *answered["answer"][0, :2]]
    assert left["start"][0].tolist() == [0, *answered["start"][0, :2]]
    np.testing.assert_allclose(left["score"][0, 1:], answered["score"][0, :2], rtol=1e-6)
    odds = np.log(left["score"][0, 0] / left["score"][0, 1])
    assert odds == pytest.approx(left["no_answer"][0], abs=1e-4)
    assert answered["answer"][1].tolist() == ["", "", ""]
    assert answered["score"][1].tolist() == [1, 0, 0]
    task.null_threshold = None
    always = task.predict(texts)
    assert always["answer"][0].tolist() == answered["answer"][0].tolist()
    assert always["score"][1].tolist() == [0, 0, 0]


def test_probabilities_of_all_spans_and_of_none_are_one(task):
    task.top_k, task.null_threshold = 7, 1e6
    found = task.predict((["king ?"], ["king of rome"]))
    assert (found["score"] > 0).sum() == 6  # the spans of three tokens
    null = np.exp(found["no_answer"][0]) * found["score"][0, 0]
    assert found["score"].sum() + null == pytest.approx(1, abs=1e-5)


@as_graphs()
def test_any_bytes_are_cut_exactly_and_batches_do_not_matter(task):
    task.top_k, task.null_threshold = 2, 0.0
    rows = hostile_rows(task)
    rows += [row for row in rows if max(map(len, row)) < 1000] * 5
    columns = [list(column) for column in zip(*rows, strict=True)]
    found = task.answer_rows(*columns, batch_size=64)
    for index, (_, context) in enumerate(rows):
        data = context if isinstance(context, bytes) else context.encode()
        # The number of characters before each byte.
        before = np.cumsum([0] + [byte & 0xC0 != 0x80 for byte in data])
        for k in range(2):
            start, end = found["start"][index, k], found["end"][index, k]
            assert data[start:end] == found["answer"][index, k]
            assert found["start_character"][index, k] == before[start]
            assert found["end_character"][index, k] == before[end]
    for index in range(15):
        alone = task.answer_rows(*([column[index]] for column in columns))
        ours, theirs = (
            {name: values[row] for name, values in answers.items()}
            for answers, row in ((found, index), (alone, 0))
        )
        assert task.answer_difference(ours, theirs, 1e-5) < 1e-5
    empty = task.predict(([], []))
    assert {name: len(values) for name, values in empty.items()} == dict.fromkeys(found, 0)


def test_answers_of_equal_probability_may_change_places_and_no_others(task):
    row = {
        name: np.array(value, object if isinstance(value, bytes) else None)
        for name, value in {
            "answer": b"x", "score": np.float32(0.3), "start": 1, "end": 2, "start_character": 1,
            "end_character": 2, "no_answer": np.float32(0.5),
        }.items()
    }  # fmt: skip
    other = row | {"answer": np.array(b"y", object), "start": np.array(3)}
    assert task.answer_difference(row, other, 1e-5) == 0
    assert task.answer_difference(row, other | {"score": np.float32(0.31)}, 1e-5) is None
    assert task.answer_difference(row, row | {"no_answer": np.float32(0.9)}, 1e-5) > 0.05


def test_training_learns_and_measures_whole_questions(trained):
    task, data = trained
    assert task.null_threshold is not None  # as there are questions without an answer
    learned = task.training_record["history"]["val_f1"]
    assert max(learned) > 0.65 > 0.5 > learned[0]
    assert task.evaluate(data, return_dict=True)["span_accuracy"] > 0.35
    task.null_threshold = 0.0
    before = task.report(data)
    assert before.segmentation == "words"
    assert before.f1 >= before.exact_match > 0.5
    threshold = task.tune_threshold(data)
    assert task.null_threshold == threshold
    after = task.report(data)
    assert after.f1 == pytest.approx(before.best_f1)
    assert after.f1 >= before.f1
    answers = task.predict(data)
    assert ((answers["answer"] == "") == (answers["no_answer"] > threshold)).all()
    with pytest.raises(DataError, match="questions that have an answer and questions that have no"):
        task.tune_threshold(data.subset(range(0, 48, 3)))


def test_windows_are_weighted_as_their_questions():
    task = fresh(max_length=12, stride=3)
    data = QuestionExamples(
        ["rome", "12"], ["the king of rome " * 6, "12"], [[Answer("rome", 12)], [Answer("12", 0)]]
    )
    rows = task.rows(data, data.answers, np.array([3, 5], np.float32)).data
    assert len(rows) > 4
    assert rows.weights.tolist() == [3.0] * (len(rows) - 1) + [5.0]
    assert (rows.labels[0] > 0).all()
    assert not rows.labels[1:-1].any()
    assert rows.labels[-1].tolist() == [3, 3]


def test_save_and_load_lose_nothing(trained, tmp_path):
    task, data = trained
    task.save(tmp_path / "saved")
    for loaded in (
        kbz.QuestionAnswerer.load(tmp_path / "saved"),
        load_task(tmp_path / "saved"),
    ):
        assert type(loaded) is kbz.QuestionAnswerer
        for name in ("max_length", "stride", "max_answer_tokens", "top_k", "null_threshold"):
            assert getattr(loaded, name) == getattr(task, name), name
    answers = loaded.predict(data[:8])
    for name, expected in task.predict(data[:8]).items():
        np.testing.assert_array_equal(answers[name], expected)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForQuestionAnswering"]
    (tmp_path / "saved" / "keras_bert_zoo.json").unlink()
    plain = load_task(tmp_path / "saved")  # as any directory of transformers
    assert type(plain) is kbz.QuestionAnswerer
    assert plain.null_threshold is None
    shorter = kbz.QuestionAnswerer.from_preset(GOLDEN, max_length=10)
    assert (shorter.max_length, shorter.stride) == (10, 3)


@pytest.mark.parity
def test_transformers_loads_what_is_saved(tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForQuestionAnswering

    task = fresh()
    task.save(tmp_path / "saved")
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "saved").eval()
    inputs, _ = task.encode_texts(tf.constant(["king ?"]), tf.constant(["the king of rome"]))
    with torch.no_grad():
        found = model(
            input_ids=torch.tensor(inputs["token_ids"].numpy()).long(),
            token_type_ids=torch.tensor(inputs["segment_ids"].numpy()).long(),
            attention_mask=torch.tensor(inputs["padding_mask"].numpy()).long(),
        )
    expected = np.stack([found.start_logits.numpy(), found.end_logits.numpy()], axis=-1)
    np.testing.assert_allclose(task(inputs), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 17}, "`stride` to be an integer from 0 to 16, received 17"),
        ({"top_k": 0}, "`top_k` to be an integer from 1 to 512, received 0"),
        ({"max_answer_tokens": 1.5}, "`max_answer_tokens` to be an integer .*, received 1.5"),
        ({"null_threshold": float("nan")}, "`null_threshold` to be a number, received nan"),
        ({"max_length": 65}, "`max_length` must be from 3 to the encoder's 64 positions"),
    ],
)
def test_numbers_without_sense_are_refused(shared, options, message):
    options = {"max_length": 20} | options
    with pytest.raises(ConfigError, match=message):
        kbz.QuestionAnswerer(shared.encoder, shared.tokenizer, shared.head, **options)


def test_answers_to_compare_with_come_in_every_form(task, monkeypatch):
    asked = (["king ?"] * 3, ["the king was rome ( 12 )", "rome 12", "x"])
    monkeypatch.setattr(
        task, "_spans", lambda *_: (["rome", "12", "x"], np.array([-1.0, 2.0, 0.0], np.float32))
    )
    starts = [
        {"text": ["rome"], "answer_start": [13]},
        {"text": [], "answer_start": []},
        [["x", 0]],
    ]
    for y in (
        starts,
        np.array([*starts, None], object)[:3],
        [["rome"], [], ["x"]],
        [[("rome", 13)], [], ("x",)],
        [{"text": np.array(["rome"]), "answer_start": np.array([13])}, [], ["x", ("y", 1)]],
    ):
        assert task.report(asked, y).exact_match == pytest.approx(2 / 3)
    assert 0 <= task.tune_threshold(asked, starts) < 2
    for y, message in (
        (
            ["rome", "12", "x"],
            r"question 1 .*Expected a list of texts, or .*\(text, start\), received 'r",
        ),
        ([["rome"], [], [3]], r"question 3 .*received \[3\]"),
        ([[], {"text": "yz", "answer_start": 2}, []], "question 2 .*received {'text': 'yz', 'ans"),
        ("rome", "Expected a list of answers, received one string"),
        (7, "Expected a list of answers, received an int"),
        ({"text": ["rome"]}, "Expected a list of answers, received a dict"),
        ([["rome"]], "answers to 3 questions, received answers to 1"),
    ):
        with pytest.raises(DataError, match=message):
            task.report(asked, y)


def test_answers_beside_the_questions_say_which_have_none():
    task = fresh()
    examples, targets = prepared(task, (["king ?"] * 2, ["rome 12", "x"]), [[("12", 5)], []])
    assert examples.answers == targets == [[("12", 5)], []]
    task.objective().adopt(examples)
    assert task.null_threshold == 0.0
    assert set(task.objective().measure(examples, targets, 8)) == {"f1", "exact_match"}


def test_data_that_does_not_fit_is_refused(task):
    with pytest.raises(
        DataError, match="a tuple of two lists, questions and contexts, received a l"
    ):
        task.predict(["king ?"])
    with pytest.raises(DataError, match="Expected answers, received none; pass Question"):
        task.report((["king ?"], ["rome"]))
    with pytest.raises(DataError, match="answers to 1 questions, received answers to 2"):
        task.report((["king ?"], ["rome"]), [[("rome", 0)]] * 2)
    with pytest.raises(
        DataError, match="question 1 .*: expected 'rome' at character 1, received 'ome"
    ):
        task.fit((["king ?"], ["rome"]), [[("rome", 1)]])
    with pytest.raises(DataError, match="takes examples in memory, received a tf.data.Dataset"):
        task.fit(tf.data.Dataset.from_tensors((("a", "b"), 1)))

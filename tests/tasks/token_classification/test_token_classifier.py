"""Entities out of texts: words, windows, schemes, training, files and exports."""

import logging

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.conll import read_conll
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.data.tagging import Tagging, make_tags
from keras_bert_zoo.data.tags import MODEL_SCHEMES, chunks
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.metrics.entities import snap_to_words
from keras_bert_zoo.tasks.token_classification.entities import read_entities
from keras_bert_zoo.training.data import prepared
from tests.helpers import as_graphs
from tests.tasks.taggers import VOCABULARY, check_cuts, hostile, make_task


@as_graphs()
@pytest.mark.parametrize("options", [{}, {"crf": True, "scheme": "IOBES"}])
def test_offsets_cut_the_entities_out_of_hostile_texts(options):
    task = make_task(**options)
    texts = hostile(task)
    answers = task.answer_rows(texts)
    assert check_cuts(texts, answers) > 100
    assert {name: value.dtype for name, value in answers.items()} == {
        "entity": object, "label": object, "score": np.float32, "start": np.int32, "end": np.int32,
        "start_character": np.int32, "end_character": np.int32,
    }  # fmt: skip
    alone = [task.answer_rows([text]) for text in texts]
    for index, one in enumerate(alone):
        width = one["label"].shape[1]
        assert not answers["label"][index, width:].any()
        for name, value in one.items():
            got = answers[name][index, :width]
            if value.dtype == np.float32:
                np.testing.assert_allclose(got, value[0], atol=1e-5)
            else:
                np.testing.assert_array_equal(got, value[0])
    assert task.predict([])["label"].shape[0] == 0
    assert task.predict(["ab"])["entity"].dtype == object


@pytest.mark.parametrize("scheme", MODEL_SCHEMES)
def test_graph_reads_tags_as_chunks_does(scheme):
    tagging = Tagging(make_tags(["X", "Y"], scheme), scheme)
    random = np.random.default_rng(0)
    for _ in range(20):
        counts = random.integers(0, 6, size=4)
        splits = np.concatenate([[0], np.cumsum(counts)])
        ids = random.integers(0, len(tagging.tags), splits[-1]).astype(np.int32)
        places = np.concatenate([np.arange(n) for n in counts]).astype(np.int64) * 2
        words = {"starts": places, "ends": places + 1, "splits": splits.astype(np.int64)}
        texts = tf.constant(["a b c d e f"] * 4)
        chances = random.random(len(ids)).astype(np.float32)
        answers = read_entities(
            tagging, tf.constant(ids), chances, {n: tf.constant(v) for n, v in words.items()}, texts
        )
        for row in range(4):
            own = slice(*splits[row : row + 2])
            expected = chunks([tagging.tags[i] for i in ids[own]], scheme)
            found = [
                (start // 2, end // 2 + 1, label.decode())
                for start, end, label in zip(
                    answers["start"][row].numpy(), answers["end"][row].numpy(),
                    answers["label"][row].numpy(), strict=True,
                )
                if label
            ]  # fmt: skip
            assert found == expected
            scores = [chances[own][first:behind].min() for first, behind, _ in expected]
            np.testing.assert_array_equal(answers["score"][row][: len(scores)], scores)


@pytest.mark.parametrize(("max_length", "stride"), [(8, 3), (8, 2), (9, 0), (5, None), (48, None)])
def test_windows_give_each_word_to_the_one_with_most_context(max_length, stride):
    task = make_task(max_length=max_length, stride=stride)
    texts = ["abc card, " * 9 + "end", "", "a", "天气" * 7, "abcdefghijklmnop" * 3]
    inputs, context = task.encode_texts(tf.constant(texts))
    words = {name: value.numpy() for name, value in context["places"].items()}
    whole = kbz.WordPieceTokenizer(VOCABULARY)
    lengths = inputs["padding_mask"].numpy().sum(axis=1) - 2
    windows = task.tokenizer.windows(texts, max_length=max_length, stride=task.stride)
    documents, begins = windows["document"].numpy(), windows["window_start"].numpy()
    seen = 0
    for index, text in enumerate(texts):
        ids, starts, ends = whole.tokenize_with_offsets(text)
        first = [i for i, t in enumerate(ids.numpy()) if not VOCABULARY[t].startswith("##")]
        own = slice(*words["splits"][index : index + 2])
        np.testing.assert_array_equal(words["starts"][own], starts.numpy()[first])
        last = [*(i - 1 for i in first[1:]), len(ids) - 1][: len(first)]
        np.testing.assert_array_equal(words["ends"][own], ends.numpy()[last])
        for token, (window, column) in zip(first, words["place"][own], strict=True):
            assert documents[window] == index
            assert begins[window] + column - 1 == token
            seen += 1
            here = np.flatnonzero(documents == index)

            def context_of(w, token=token, here=here):
                at = token - begins[w]
                if not 0 <= at < lengths[w]:
                    return -1
                left = np.inf if w == here[0] else at
                right = np.inf if w == here[-1] else lengths[w] - 1 - at
                return min(left, right)

            assert context_of(window) == max(map(context_of, here))
    assert seen == len(words["place"])


def test_targets_stand_at_first_pieces():
    task = make_task(loud=False)
    data = task.rows(*prepared(task, ["abc card d"], [[(0, 8, "LOC")]])).data
    tags = ["" if label == NO_LABEL else task.tags[label] for label in data.token_labels]
    #               [CLS]  a      ##b ##c card     d    [SEP]
    assert tags == ["", "B-LOC", "", "", "I-LOC", "O", ""]
    several = make_task(loud=False, max_length=8, scheme="IOBES")
    data = several.rows(*prepared(several, ["a b c d e f g h i"], [[(0, 13, "PER")]])).data
    assert len(data.rows) > 1
    labels = [several.tags[label] for label in data.token_labels if label != NO_LABEL]
    assert labels == ["B-PER", *["I-PER"] * 5, "E-PER", "O", "O"]  # each word once


def test_entities_within_words_are_counted(caplog):
    task = make_task(loud=False)
    with caplog.at_level(logging.WARNING, logger="keras_bert_zoo"):
        data = task.rows(
            *prepared(task, ["abc d", "a \u200b b"], [[(1, 2, "PER")], [(2, 3, "LOC")]])
        ).data
    assert "of 2 entities 1 begin or end within a word" in caplog.text
    assert "1 have no word and are left out" in caplog.text
    assert task.tags[data.token_labels[1]] == "B-PER"


def test_words_of_a_file_are_what_is_compared(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("a.b\tB-PER\nc\tO\n\ncard\tB-LOC\n", "utf-8")
    examples = read_conll(path)
    assert examples.words[0] == [(0, 3), (4, 5)]
    spans = [(0, 1, "PER", 0.9), (4, 5, "LOC", 0.8)]
    assert snap_to_words(spans, examples.words[0]) == [(0, 3, "PER", 0.9), (4, 5, "LOC", 0.8)]
    assert snap_to_words([(1, 3, "PER", 0.9)], examples.words[0]) == []
    task = make_task(loud=False)
    report = task.report(examples)
    assert report.texts == 2
    assert report.labels.support.sum() == 2


def test_refusals():
    task = make_task(loud=False)
    for y, message in (
        ([[(0, 2, "ORG")]], "example 1: expected a label of PER, LOC, received 'ORG'"),
        (
            [[(0, 2, "PER"), (1, 4, "LOC")]],
            "example 1: expected entities without overlap, received one",
        ),
        ([[(0, 99, "PER")]], "example 1: expected an entity with 0 <= start < end <="),
        ([[], []], "There are 1 texts but entities of 2"),
        (None, "There are no entities"),
    ):
        with pytest.raises(DataError, match=message.replace("(", r"\(")):
            task.fit(["ab cd"], y)
    with pytest.raises(DataError, match="Expected texts, received pairs"):
        task.predict((["a"], ["b"]))
    with pytest.raises(DataError, match="takes examples in memory"):
        task.fit(tf.data.Dataset.from_tensors((["a"], [1])))
    with pytest.raises(ConfigError, match="`stride` must be from 0 to 7"):
        make_task(stride=8)
    with pytest.raises(ConfigError, match="not of IOB2"):
        kbz.TokenClassifier(task.encoder, task.tokenizer, ["O", "PER"], scheme="IOB2")
    with pytest.raises(ConfigError, match="expected each label once, but these repeat: 'O'"):
        kbz.TokenClassifier(task.encoder, task.tokenizer, ["O", "O"])
    with pytest.raises(ConfigError, match="expected a scheme of IOB2"):
        make_task().from_preset("nowhere", labels=["A"], scheme="IOB1")


def test_sample_weights_reach_every_window():
    task = make_task(loud=False, max_length=8)
    examples = EntityExamples(["a b c d e f g h i", "a"], [[Entity(0, 1, "PER")], []])
    data = task.rows(examples, examples.entities, np.array([2.0, 3.0], np.float32)).data
    assert data.weights.tolist() == [2.0] * (len(data.rows) - 1) + [3.0]


def test_answers_that_hang_on_a_hair_are_equal():
    task = make_task()
    answer = {
        "entity": np.array([b"ab", b"c"], object), "label": np.array([b"PER", b"LOC"], object),
        "score": np.array([0.9, 0.5], np.float32),
        **{name: np.array([0, 3]) for name in ("start", "start_character")},
        **{name: np.array([2, 4]) for name in ("end", "end_character")},
    }  # fmt: skip
    without = {name: value[:1] for name, value in answer.items()}
    assert task.answer_difference(answer, without, 1e-3) == 0
    surer = answer | {"score": np.array([0.9, 0.6], np.float32)}
    assert task.answer_difference(surer, without, 1e-3) is None
    assert task.answer_difference(answer, surer, 1e-3) == pytest.approx(0.1)
    moved = answer | {"start_character": np.array([0, 2])}
    assert task.answer_difference(answer, moved, 1e-3) is None


@as_graphs()
def test_long_texts_are_answered_with_fewer_at_once():
    task = make_task()
    texts = ["ab card", "xy " * 3000, "", "the end " * 200, "cd"] * 2
    answers = task.answer_rows(texts)
    assert check_cuts(texts, answers) > 1000
    for index in (0, 4):
        alone = task.answer_rows([texts[index]])
        width = alone["label"].shape[1]
        np.testing.assert_array_equal(answers["entity"][index][:width], alone["entity"][0])
        assert not answers["label"][index][width:].any()
    np.testing.assert_array_equal(answers["start"][1], answers["start"][6])

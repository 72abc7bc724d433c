"""An exported collection: a question in, spans of documents out."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.export import signatures
from keras_bert_zoo.export.verify import compare_answers, hostile_rows
from tests.helpers import eagerly
from tests.tasks.collection import (
    QUESTIONS,
    check_places,
    make_collection,
    make_models,
)


@pytest.fixture(scope="module")
def task():
    return make_collection(make_models())


def test_the_export_answers_as_python_does(task, tmp_path):
    task.top_k, task.retriever_weight = 2, 5.0
    export = task.export(tmp_path / "library", attention_groups=2)
    # `export` checks it in another process: with single questions, batches and no questions.
    assert export.texts == len(hostile_rows(task))
    assert export.frozen
    loaded = tf.saved_model.load(str(export.path)).signatures
    questions = [
        text if isinstance(text, bytes) else text.encode() for (text,) in hostile_rows(task)
    ]
    questions = (questions * 5)[:64]

    def ask(chosen):
        texts = tf.constant(chosen, tf.string, shape=[len(chosen)])
        return {
            name: value.numpy() for name, value in loaded["serving_default"](question=texts).items()
        }

    answers = ask(questions)
    assert answers["answer"].shape == (64, 2)
    assert answers["no_answer"].shape == (64,)
    check_places(task, answers)
    assert compare_answers(task, "64", task.answer_rows(questions), answers, 1e-5) < 1e-5
    alone = [ask([question]) for question in questions[::7]]
    joined = {name: np.concatenate([row[name] for row in alone]) for name in answers}
    some = {name: values[::7] for name, values in answers.items()}
    assert compare_answers(task, "one by one", some, joined, 1e-5) < 1e-5
    assert ask([])["answer"].shape == (0, 2)
    ids, _ = task.encode_texts(tf.constant(questions[:3]))
    passages = loaded["tokens"](**ids)
    with eagerly():
        numbers, _ = task.find_passages(questions[:3], top_passages=3)
    np.testing.assert_array_equal(passages["document_id"], task.passages.document_id[numbers])


@pytest.mark.parametrize("freeze", [True, False])
def test_both_models_are_in_the_graph_the_reader_in_bfloat16(task, freeze):
    task.top_k, task.retriever_weight = 1, 50.0
    stages = [
        signatures._Stage(stage, dtype="bfloat16", freeze=freeze, attention_groups=1)
        for stage in task.stages()
    ]
    retriever, reader = (
        {variable.dtype for variable in stage.weights.variables.values()} for stage in stages
    )
    # Frozen models read nothing but the table of tokens from outside their graphs.
    assert retriever == {tf.float32}
    assert reader == ({tf.float32} if freeze else {tf.float32, tf.bfloat16})
    for stage in stages:
        captured = stage._concrete.captured_inputs
        assert {tensor.dtype for tensor in captured} == {tf.resource}
        assert len(captured) == len(stage.weights.variables)
        assert len(captured) == 1 or not freeze
    gc.collect()
    runs = [stage.run for stage in stages]
    outputs = task.answer_with(runs, tf.constant(QUESTIONS), options=task.options)
    answers = {name: value.numpy() for name, value in outputs.items()}
    with eagerly():
        expected = task.answer_rows(QUESTIONS)
    compare_answers(task, "bfloat16", expected, answers, 0.05)

"""An exported question answerer: strings in, spans of them out."""

import numpy as np
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.export.verify import hostile_rows
from tests.helpers import ASSETS


def test_the_export_answers_as_python_does(tmp_path):
    task = kbz.QuestionAnswerer.load(
        ASSETS / "question_answering", top_k=2, max_length=40, stride=8, null_threshold=0.1
    )
    # It asks the export hostile texts in an interpreter without the package.
    export = task.export(tmp_path / "model", attention_groups=2)
    serve = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    rows = hostile_rows(task) * 5
    questions, contexts = (
        [text if isinstance(text, bytes) else text.encode() for text in column]
        for column in zip(*rows, strict=True)
    )
    outputs = {
        name: value.numpy()
        for name, value in serve(
            question=tf.constant(questions), context=tf.constant(contexts)
        ).items()
    }
    assert outputs["answer"].shape == (75, 2)
    assert {name: values.dtype.name for name, values in outputs.items()} == {
        "answer": "object", "score": "float32", "start": "int32", "end": "int32",
        "start_character": "int32", "end_character": "int32", "no_answer": "float32",
    }  # fmt: skip
    expected = task.answer_rows(questions, contexts)
    for index, context in enumerate(contexts):
        ours, theirs = (
            {name: values[index] for name, values in answers.items()}
            for answers in (expected, outputs)
        )
        assert task.answer_difference(ours, theirs, 1e-5) < 1e-5
        for start, end, answer in zip(
            *(np.ravel(theirs[name]) for name in ("start", "end", "answer")), strict=True
        ):
            assert context[start:end] == answer

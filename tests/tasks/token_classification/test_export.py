"""An exported tagger, asked without the task."""

import numpy as np
import tensorflow as tf

from tests.helpers import as_graphs
from tests.tasks.taggers import check_cuts, hostile, make_task


@as_graphs()
def test_export_answers_as_the_task(tmp_path):
    task = make_task(crf=True, scheme="IOBES")
    export = task.export(tmp_path / "model")
    loaded = tf.saved_model.load(str(export.path))
    ask = loaded.signatures["serving_default"]
    rows = hostile(task)
    texts = [*rows, *[text for text in rows if len(text) < 1000] * 4][:64]
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    answers = {name: value.numpy() for name, value in ask(text=tf.constant(raw)).items()}
    assert check_cuts(texts, answers) > 100
    expected = task.answer_rows(texts)
    np.testing.assert_array_equal(answers["entity"], expected["entity"])
    np.testing.assert_array_equal(answers["start"], expected["start"])
    empty = ask(text=tf.zeros([0], tf.string))
    assert all(value.shape[0] == 0 for value in empty.values())

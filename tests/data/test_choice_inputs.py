"""Labels of choices in the forms that users have."""

import numpy as np
import pytest

from keras_bert_zoo.data.choice_inputs import choice_labels
from keras_bert_zoo.data.choices import ChoiceExamples
from keras_bert_zoo.errors import DataError

EXAMPLES = ChoiceExamples(["a", "b"], [["x", "y", "z"]] * 2)


@pytest.mark.parametrize(
    "labels", [[2, 0], [2.0, np.float32(0)], np.eye(3)[[2, 0]], ([0, 0, 1], 0)]
)
def test_labels_are_indices_or_one_hot_rows(labels):
    indices = choice_labels(EXAMPLES, list(labels))
    assert (indices.tolist(), indices.dtype) == ([2, 0], np.int32)


@pytest.mark.parametrize(
    "label", [3, -1, 0.5, np.nan, np.inf, "0", None, [1, 1, 0], [0, 0, 2], [1]]
)
def test_other_labels_are_refused(label):
    with pytest.raises(DataError, match="example 2: expected the label"):
        choice_labels(EXAMPLES, [0, label])

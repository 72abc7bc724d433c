"""Questions with contexts: splits, slices and lengths."""

import numpy as np
import pytest

from keras_bert_zoo.data.questions import QuestionExamples
from keras_bert_zoo.errors import ConfigError, DataError


def test_contexts_stay_together_when_examples_are_split():
    contexts = [f"text {i // 5}" for i in range(100)]
    examples = QuestionExamples([str(i) for i in range(100)], contexts, [[]] * 100)
    rest, held_out = examples.split(0.2, seed=3)
    assert len(held_out) == 20
    assert not set(rest.contexts) & set(held_out.contexts)
    assert sorted(rest.rows + held_out.rows) == list(range(1, 101))
    assert rest.rows == sorted(rest.rows)
    again, _ = examples.split(0.2, seed=3)
    other, _ = examples.split(0.2, seed=4)
    assert again.rows == rest.rows != other.rows
    assert examples[3:5].questions == ["3", "4"]
    assert len(examples.subset(np.array([], int))) == 0
    with pytest.raises(DataError, match="one part would be empty"):
        examples[:5].split(0.5, seed=0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        examples.split(1.0, seed=0)
    with pytest.raises(TypeError, match="take a slice"):
        examples[3]


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(DataError, match="expected 1 contexts, one per question, received 0"):
        QuestionExamples(["a"], [])

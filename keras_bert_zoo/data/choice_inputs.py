"""The forms in which MultipleChoice accepts texts, choices and labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_bert_zoo.data.choices import ChoiceExamples
from keras_bert_zoo.data.columns import form_of, listed
from keras_bert_zoo.errors import DataError

__all__ = ["as_choice_examples", "choice_labels"]


def as_choice_examples(x: Any, num_choices: int) -> ChoiceExamples:
    """Converts texts with choices from the forms that `fit` and `predict` accept.

    Args:
        x: ChoiceExamples; or a tuple of a list of texts and a list of lists of choices.
        num_choices: int. The expected number of choices per text.

    Returns:
        ChoiceExamples.

    Raises:
        DataError: another form, another number of choices, or values that are not text.

    Example:
        >>> as_choice_examples((["a text"], [["yes", "no"]]), 2).choices
        [['yes', 'no']]
    """
    if isinstance(x, ChoiceExamples):
        examples = x
    elif isinstance(x, tuple) and len(x) == 2:
        rows = listed(x[1], "choices")
        choices: list[Any] = [row if isinstance(row, str | bytes) else list(row) for row in rows]
        examples = ChoiceExamples(listed(x[0]), choices)
    else:
        raise DataError(
            "Expected ChoiceExamples, or a tuple of a list of texts and a list of lists of "
            f"choices; received {form_of(x)}."
        )
    if examples.num_choices not in (None, num_choices):
        raise DataError(
            f"{examples.where(0)}: expected {num_choices} choices per text, as the model has, "
            f"received {examples.num_choices}."
        )
    for index, (text, row) in enumerate(zip(examples.texts, examples.choices, strict=True)):
        for value in (text, *row):
            if not isinstance(value, str | bytes):
                raise DataError(
                    f"{examples.where(index)}: expected texts and choices as str, received "
                    f"{type(value).__name__}."
                )
    return examples


def choice_labels(examples: ChoiceExamples, labels: list[Any]) -> np.ndarray:
    """Converts labels to the indices of the right choices.

    Args:
        examples: ChoiceExamples.
        labels: one per example: an index, as an integer or a float, or a one-hot row.

    Returns:
        int32 (examples,).

    Raises:
        DataError: a label that is not the index of a choice.

    Example:
        >>> examples = ChoiceExamples(["a text"], [["yes", "no"]])
        >>> choice_labels(examples, [1.0]), choice_labels(examples, [[0, 1]])
        (array([1], dtype=int32), array([1], dtype=int32))
    """
    indices = [_choice_index(label, examples.num_choices) for label in labels]
    return np.asarray(dataclasses.replace(examples, labels=indices).labels, np.int32)


def _choice_index(label: Any, count: int | None) -> Any:
    """Returns the index of a choice; a label that has none is returned unchanged."""
    if isinstance(label, float | np.floating) and np.isfinite(label) and label == np.floor(label):
        return int(label)
    if isinstance(label, list | tuple | np.ndarray) and len(label) == count:
        places = [place for place, value in enumerate(label) if value]
        if len(places) == 1 and label[places[0]] == 1:
            return places[0]
    return label

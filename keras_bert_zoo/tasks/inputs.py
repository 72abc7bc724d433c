"""The forms in which tasks accept text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_bert_zoo.data.columns import is_missing, listed, shown_places
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pipeline import prefetched_map
from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer


def as_examples(x: Any) -> Examples:
    """Takes texts in the forms that `fit` and `predict` accept.

    Args:
        x: list of str or bytes, or another column of them: a NumPy array, a pandas Series, a
            string tensor; a tuple of two such for pairs; or Examples.

    Returns:
        Examples; without labels, unless `x` has some.

    Raises:
        DataError: `x` is something else. The message names it and says what to pass instead.
    """
    if isinstance(x, Examples):
        return x
    pairs = None
    if isinstance(x, tuple):
        if len(x) != 2 or all(isinstance(part, str | bytes) for part in x):
            strings = x and isinstance(x[0], str | bytes)
            raise DataError(
                f"A tuple holds the two lists of a pair, got {len(x)} "
                f"{'strings: put texts in a list' if strings else 'elements'}."
            )
        x, pairs = x
    texts = as_texts(x)
    return Examples(texts, None if pairs is None else as_texts(pairs))


def as_texts(x: Any) -> list[Any]:
    """Takes one column of texts; see `as_examples`.

    Returns:
        list of str or bytes.

    Raises:
        DataError: `x` is no column, or some of it is not text.
    """
    texts = listed(x, flatten=True)
    missing = [f"text {index}" for index, text in enumerate(texts) if is_missing(text)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(texts)} texts are missing (None or NaN): "
            f"{shown_places(missing)}; leave these rows out, or make them empty strings."
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str | bytes):
            paired = isinstance(text, tuple | list) and len(text) == 2
            hint = "; pairs are a tuple of two lists, not a list of pairs" if paired else ""
            raise DataError(f"Text {index} is of type {type(text).__name__}; expected str{hint}.")
    return texts


def document_texts(documents: Any) -> list[Any]:
    """The texts of a collection: of Examples or other examples with `texts`, or one column."""
    if dataclasses.is_dataclass(documents) and hasattr(documents, "texts"):
        return list(documents.texts)
    return as_examples(documents).texts


def tokenized_dataset(
    dataset: tf.data.Dataset,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    targets: Callable[[Any], tf.Tensor] | None,
) -> tf.data.Dataset:
    """Maps a dataset of batches of strings to what the model takes, in TensorFlow ops.

    Args:
        dataset: with labels, of batches `(x, y)` or `(x, y, sample_weight)`; without, of `x`. `x`
            is string (B,), a tuple of two such for pairs, or already a dict of token inputs.
        tokenizer: Tokenizer.
        max_length: int, tokens.
        targets: what makes of a batch's `y` what a loss takes; None: there are no labels.

    Returns:
        a dataset of the same batches, tokenized, with targets.

    Raises:
        DataError: the dataset's elements are something else.
    """
    spec = dataset.element_spec
    labelled = targets is not None
    if labelled and not (isinstance(spec, tuple) and len(spec) in (2, 3)):
        raise DataError(f"Expected a dataset of (texts, labels) batches, got {_spec_of(spec)}.")
    first = spec[0] if labelled else spec
    tokens = isinstance(first, dict) and set(first) == set(INPUT_NAMES)
    segments = first if isinstance(first, tuple) else (first,)
    for segment in () if tokens else segments:
        if not isinstance(segment, tf.TensorSpec) or segment.dtype != tf.string:
            raise DataError(
                "Expected a dataset of batches of strings, of pairs of them, or of "
                f"{', '.join(INPUT_NAMES)}; got {_spec_of(segment)}."
            )
        if segment.shape.rank != 1:
            raise DataError(f"Expected batches of strings, shape (B,), got {segment}: batch it.")

    def convert(*element: Any) -> Any:
        if targets is None:
            x = element if len(segments) == 2 else element[0]
            return (tokenizer(x, max_length=max_length),)
        x, y, *rest = element
        x = x if tokens else tokenizer(x, max_length=max_length)
        return (x, targets(y), *rest)

    if tokens and not labelled:
        return dataset
    if targets is not None:  # here, for tf.data would wrap what is raised in an error of its own
        tf.function(targets, autograph=False).get_concrete_function(spec[1])
    return prefetched_map(dataset, convert)


def _spec_of(spec: Any) -> str:
    """An element spec for a message; of a dict, how to make batches of it."""
    if not isinstance(spec, dict) or not spec:
        return str(spec)
    names = list(spec)
    one = f"row[{names[0]!r}]"
    rest = f", row[{names[-1]!r}]" if len(names) > 1 else ""
    return f"a dict of {', '.join(map(repr, names))}: map it, for example to ({one}{rest})"

"""The forms in which tasks accept text."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pipeline import prefetched_map
from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer


def as_examples(x: Any) -> Examples:
    """Takes texts in the forms that `fit` and `predict` accept.

    Args:
        x: list of str, a tuple of two lists for pairs, or Examples.

    Returns:
        Examples; without labels, unless `x` has some.

    Raises:
        DataError: `x` is something else.
    """
    if isinstance(x, Examples):
        return x
    pairs = None
    if isinstance(x, tuple):
        if len(x) != 2:
            raise DataError(f"A tuple holds the two lists of a pair, got {len(x)} elements.")
        x, pairs = x
    if isinstance(x, str | bytes) or isinstance(pairs, str | bytes):
        raise DataError("Expected a list of texts, got one string. Put it in a list.")
    texts = _as_list(x)
    return Examples(texts, None if pairs is None else _as_list(pairs))


def _as_list(x: Any) -> list[Any]:
    if tf.is_tensor(x):
        x = x.numpy()
    texts = x.tolist() if isinstance(x, np.ndarray) else list(x)
    for index, text in enumerate(texts):
        if not isinstance(text, str | bytes):
            raise DataError(f"Text {index} is of type {type(text).__name__}; expected str.")
    return texts


def tokenized_dataset(
    dataset: tf.data.Dataset,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    label_names: list[str] | None,
) -> tf.data.Dataset:
    """Maps a dataset of batches of strings to what the model takes, in TensorFlow ops.

    Args:
        dataset: with labels, of batches `(x, y)` or `(x, y, sample_weight)`; without, of `x`. `x`
            is string (B,), a tuple of two such for pairs, or already a dict of token inputs; `y`
            may be label names, string (B,).
        tokenizer: Tokenizer.
        max_length: int, tokens.
        label_names: label names in the order of their ids, for `y` of names; None: no labels.

    Returns:
        a dataset of the same batches, tokenized, with label ids.

    Raises:
        DataError: the dataset's elements are something else.
    """
    spec = dataset.element_spec
    labelled = label_names is not None
    if labelled and not (isinstance(spec, tuple) and len(spec) in (2, 3)):
        raise DataError(f"Expected a dataset of (texts, labels) batches, got {spec}.")
    first = spec[0] if labelled else spec
    if isinstance(first, dict) and set(first) == set(INPUT_NAMES):
        return dataset
    segments = first if isinstance(first, tuple) else (first,)
    for segment in segments:
        if not isinstance(segment, tf.TensorSpec) or segment.dtype != tf.string:
            raise DataError(
                "Expected a dataset of batches of strings, of pairs of them, or of "
                f"{', '.join(INPUT_NAMES)}; got {segment}."
            )
        if segment.shape.rank != 1:
            raise DataError(f"Expected batches of strings, shape (B,), got {segment}: batch it.")

    def to_ids(y: tf.Tensor) -> tf.Tensor:
        if y.dtype != tf.string:
            return y
        matches = y[:, tf.newaxis] == tf.constant(label_names, tf.string)  # (B, labels)
        known = tf.reduce_any(matches, axis=1)
        unknown = tf.boolean_mask(y, tf.logical_not(known))
        check = tf.debugging.Assert(tf.reduce_all(known), ["Unknown labels:", unknown])
        with tf.control_dependencies([check]):
            return tf.argmax(matches, axis=1, output_type=tf.int32)

    def convert(*element: Any) -> Any:
        if not labelled:
            x = element if len(segments) == 2 else element[0]
            return (tokenizer(x, max_length=max_length),)
        x, y, *rest = element
        return (tokenizer(x, max_length=max_length), to_ids(y), *rest)

    return prefetched_map(dataset, convert)

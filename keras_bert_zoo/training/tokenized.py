"""Tokenization of tf.data datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_bert_zoo.data.pipeline import prefetched_map
from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["tokenized_dataset"]


def tokenized_dataset(
    dataset: tf.data.Dataset,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    targets: Callable[[Any], tf.Tensor] | None,
) -> tf.data.Dataset:
    """Tokenizes a dataset of batches of strings, in TensorFlow ops.

    Args:
        dataset: batches `(x, y)` or `(x, y, sample_weight)`; without labels, batches `x`. `x` is
            string (B,), a tuple of two of these for pairs, or a dict of token inputs.
        tokenizer: Tokenizer.
        max_length: int, tokens.
        targets: converts a batch's `y` to targets; None: there are no labels.

    Returns:
        a dataset of the same batches, tokenized, with targets.

    Raises:
        DataError: the elements of the dataset have another form.
    """
    spec = dataset.element_spec
    labelled = targets is not None
    if labelled and not (isinstance(spec, tuple) and len(spec) in (2, 3)):
        raise DataError(
            f"Expected a dataset of (texts, labels) batches, received {_spec_of(spec)}."
        )
    first = spec[0] if labelled else spec
    tokens = isinstance(first, dict) and set(first) == set(INPUT_NAMES)
    segments = first if isinstance(first, tuple) else (first,)
    for segment in () if tokens else segments:
        if not isinstance(segment, tf.TensorSpec) or segment.dtype != tf.string:
            raise DataError(
                "Expected a dataset of batches of strings, of pairs of them, or of "
                f"{', '.join(INPUT_NAMES)}; received {_spec_of(segment)}."
            )
        if segment.shape.rank != 1:
            raise DataError(
                f"Expected batches of strings, shape (B,), received {segment}: batch it."
            )

    def convert(*element: Any) -> Any:
        if targets is None:
            x = element if len(segments) == 2 else element[0]
            return (tokenizer(x, max_length=max_length),)
        x, y, *rest = element
        x = x if tokens else tokenizer(x, max_length=max_length)
        return (x, targets(y), *rest)

    if tokens and not labelled:
        return dataset
    if targets is not None:  # checked here, because tf.data wraps errors in its own classes
        tf.function(targets, autograph=False).get_concrete_function(spec[1])
    return prefetched_map(dataset, convert)


def _spec_of(spec: Any) -> str:
    """Describes an element spec; for a dict, also how to convert it to batches."""
    if not isinstance(spec, dict) or not spec:
        return str(spec)
    names = list(spec)
    one = f"row[{names[0]!r}]"
    rest = f", row[{names[-1]!r}]" if len(names) > 1 else ""
    return f"a dict of {', '.join(map(repr, names))}: map it, for example to ({one}{rest})"

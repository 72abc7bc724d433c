"""Comparison of the result of a conversion with its source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.names import FamilyNames, names_of
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorSource
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.presets.convert.models import Model

# Shape of the random batch. Half of the second row, and single tokens elsewhere, are masked.
_ROWS, _TOKENS = 3, 24


def compare_tensors(
    tensors: TensorSource, written: Path, encoder: Encoder
) -> tuple[int, list[str], list[str]]:
    """Returns the number of equal tensors, and the names of differing and of missing ones."""
    family = names_of(encoder.config)
    same, differing, left_out = 0, [], []
    with open_checkpoint(written) as result:
        theirs = family.prefix_of(result.names())
        ours = family.prefix_of(tensors.names())
        for name in tensors.names():
            if tensors.dtype(name) not in FLOAT_DTYPES or _is_buffer(family, name):
                continue
            other = _in_prefix(family, name, ours, theirs)
            if other not in result or result.shape(other) != tensors.shape(name):
                left_out.append(name)
            elif np.array_equal(
                tensors.read(name).astype(np.float32),
                result.read(other).astype(np.float32),
                equal_nan=True,
            ):
                same += 1
            else:
                differing.append(name)
    return same, differing, left_out


def _is_buffer(family: FamilyNames, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in family.ignored)


def _in_prefix(family: FamilyNames, name: str, ours: str, theirs: str) -> str:
    if ours == theirs:
        return name
    if ours:  # the result is a bare encoder, whose names have no prefix
        return name.removeprefix(ours)
    return theirs + name


def compare_outputs(one: Model, other: Model) -> dict[str, float]:
    """Returns the largest absolute difference of each common output, on random tokens."""
    config = one.encoder.config
    random = np.random.default_rng(0)
    shape = (_ROWS, min(_TOKENS, config.max_tokens))
    mask = random.random(shape) < 0.8
    mask[1, shape[1] // 2 :] = False
    mask[:, 0] = True
    inputs = {
        "token_ids": random.integers(0, config.vocabulary_size, shape).astype(np.int32),
        "segment_ids": random.integers(0, max(1, config.num_segments), shape).astype(np.int32),
        "padding_mask": mask.astype(np.int32),
    }
    # Some formats only have one segment.
    if other.encoder.config.num_segments != config.num_segments:
        inputs["segment_ids"][:] = 0
    ours, theirs = ({**_outputs(model, inputs)} for model in (one, other))
    differences = {}
    for name in ours.keys() & theirs.keys():
        left, right = (np.asarray(side[name], np.float64) for side in (ours, theirs))
        if left.shape[:2] == shape:  # outputs at padding are undefined
            left, right = left[mask], right[mask]
        differences[name] = difference(left, right)
    return dict(sorted(differences.items()))


def difference(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the largest absolute difference of two arrays of one shape.

    NaN equals NaN, and an infinity equals itself. If only one value is NaN, the difference is
    infinite.

    >>> difference(np.array([1.0, np.nan]), np.array([1.5, np.nan]))
    0.5
    >>> difference(np.array([1.0]), np.array([np.nan]))
    inf
    """
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0.0, np.abs(left - right))
    return float(np.max(np.where(np.isnan(differences), np.inf, differences), initial=0.0))


def largest(differences: Mapping[str, float]) -> float:
    """Returns the largest difference. NaN if one of them is NaN.

    >>> largest({"a": 1.0, "b": 2.0}), largest({})
    (2.0, 0.0)
    """
    return float(np.max([*differences.values()], initial=0.0))


def _outputs(model: Model, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    outputs = dict(model.encoder(inputs))
    if model.heads:
        outputs |= model.call(inputs)
    return outputs

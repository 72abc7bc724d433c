"""The folds of a cross-validation."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["make_folds"]

_logger = logging.getLogger(__name__)

_SHOWN = 5  # labels in a message


def make_folds(
    count: int,
    folds: int,
    seed: int,
    *,
    labels: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> list[np.ndarray]:
    """Divides examples into folds at random.

    Args:
        count: int. The number of examples.
        folds: int, at least 2.
        seed: int. The same seed gives the same folds.
        labels: one per example: each fold has about the same share of each label. None: the folds
            have about the same size.
        groups: one per example: examples of one group are in one fold. None: there are no groups.

    Returns:
        list of int64 arrays: the examples of each fold, rising. Each example is in one fold.

    Raises:
        ConfigError: `folds` is below 2.
        DataError: there are fewer examples or groups than folds.

    Example:
        >>> folds = make_folds(4, 2, seed=0, labels=["a", "b", "a", "b"])
        >>> len(folds), sorted(int(number) for fold in folds for number in fold)
        (2, [0, 1, 2, 3])
    """
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    if folds < 2:
        raise ConfigError(f"expected at least 2 folds, received {folds}")
    units = count if groups is None else len(set(groups))
    if units < folds:
        noun = "examples" if groups is None else "groups of examples that stay together"
        raise DataError(
            f"expected at least {folds} {noun} for {folds} folds, received {units}; give more data "
            "or fewer folds"
        )
    options: dict[str, Any] = {"n_splits": folds, "shuffle": True, "random_state": seed}
    strata = np.zeros(count, np.int64)
    if labels is not None and max(Counter(labels).values()) >= folds:
        _warn_of_rare(labels, folds)
        numbers: dict[Hashable, int] = {}
        strata = np.array([numbers.setdefault(label, len(numbers)) for label in labels])
    with warnings.catch_warnings():  # of rare labels
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        if groups is not None:
            ids: dict[Hashable, int] = {}
            numbered = [ids.setdefault(group, len(ids)) for group in groups]
            splits = StratifiedGroupKFold(**options).split(strata, strata, numbered)
        elif strata.any():
            splits = StratifiedKFold(**options).split(strata, strata)
        else:
            splits = KFold(**options).split(strata)
        parts = [np.sort(held_out) for _, held_out in splits]
    if not all(map(len, parts)):
        raise DataError(
            f"expected groups that fill {folds} folds, received {units} groups of very different "
            "sizes; give more data or fewer folds"
        )
    return parts


def _warn_of_rare(labels: Sequence[Hashable], folds: int) -> None:
    rare = [(label, n) for label, n in Counter(labels).items() if n < folds]
    if rare:
        shown = ", ".join(f"{clipped(str(label))!r} ({n})" for label, n in rare[:_SHOWN])
        more = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
        _logger.warning(
            "%s labels have fewer examples than folds and are missing in some: %s%s",
            len(rare),
            shown,
            more,
        )

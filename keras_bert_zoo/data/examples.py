"""Texts with their labels and their origin in a file."""

import difflib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["Examples", "LabelKind", "Labels", "clipped", "closest"]

# Limits of the names that `closest` compares.
_COMPARED_NAMES = 1_000
_COMPARED_CHARACTERS = 100

LabelKind = Literal["single", "multi", "float"]
Labels = list[str] | list[list[str]] | list[float]


@dataclass(frozen=True)
class Examples:
    """Texts or pairs of texts, with optional labels.

    Args:
        texts: list of str.
        text_pairs: list of str or None. The second text of each pair.
        labels: one per text: str (single-label), list of str (multi-label) or float (regression).
            None without labels, as for prediction.
        rows: list of int. The first line of each example in `path`, from 1. Empty means 1, 2, ...
        path: str. The file's name for messages; empty for examples without a file.

    Raises:
        DataError: the lists differ in length.
    """

    texts: list[str]
    text_pairs: list[str] | None = None
    labels: Labels | None = None
    rows: list[int] = field(default_factory=list)
    path: str = ""

    def __post_init__(self) -> None:
        """Checks the lengths and fills in `rows`."""
        if not self.rows:
            object.__setattr__(self, "rows", list(range(1, len(self.texts) + 1)))
        for name in ("text_pairs", "labels", "rows"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.texts):
                raise DataError(
                    f"expected {len(self.texts)} {name}, one per text, received {len(values)}"
                )

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.texts)

    @property
    def columns(self) -> tuple[Sequence[str], ...]:
        """The model's text inputs, one column each."""
        return (self.texts,) if self.text_pairs is None else (self.texts, self.text_pairs)

    def __getitem__(self, rows: slice) -> "Examples":
        """Takes a slice, such as `examples[:100]`."""
        if not isinstance(rows, slice):
            raise TypeError(f"Examples take a slice, received {type(rows).__name__}; see subset()")
        return self.subset(range(len(self))[rows])

    @property
    def label_kind(self) -> LabelKind | None:
        """The kind of the first label: single, multi or float; None without labels."""
        if not self.labels:
            return None
        first = self.labels[0]
        if isinstance(first, str):
            return "single"
        return "multi" if isinstance(first, list) else "float"

    def where(self, index: int) -> str:
        """Returns an example's origin: `file:line`, or its number without a file."""
        return f"{self.path}:{self.rows[index]}" if self.path else f"example {self.rows[index]}"

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """Returns the examples at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        if not chosen:  # `__post_init__` fills in empty `rows`, by the number of texts
            return Examples([], _pick(self.text_pairs, []), _pick(self.labels, []), [], self.path)
        return Examples(
            [self.texts[index] for index in chosen],
            _pick(self.text_pairs, chosen),
            _pick(self.labels, chosen),
            [self.rows[index] for index in chosen],
            self.path,
        )

    def split(
        self, fraction: float, seed: int, stratify: bool = True
    ) -> tuple["Examples", "Examples"]:
        """Splits the examples in two at random, for example to hold out a development set.

        Both parts keep the order of the file. The same seed gives the same parts.

        Args:
            fraction: float in (0, 1). The held-out share, rounded to whole examples.
            seed: int.
            stratify: bool. Whether to keep the label distribution of single-label examples. The
                first part keeps at least one example of every label. Multi-label and float
                labels are never stratified.

        Returns:
            Two `Examples`: the remaining and the held-out examples.

        Raises:
            ConfigError: `fraction` is outside (0, 1).
            DataError: one of the parts would be empty.
        """
        if not 0.0 < fraction < 1.0:
            raise ConfigError(
                f"expected a fraction between 0 and 1 to hold out, received {fraction}"
            )
        size = math.floor(fraction * len(self) + 0.5)
        if not 0 < size < len(self):
            raise DataError(
                f"cannot hold out {fraction:g} of {len(self)} examples: one part would be empty; "
                "give more examples or another `fraction`"
            )
        random = np.random.default_rng(seed)
        if stratify and self.label_kind == "single":
            held_out = _stratified(self.labels, size, fraction, random)  # type: ignore[arg-type]
            if held_out.size == 0:
                raise DataError(
                    f"cannot hold out {fraction:g} of {len(self)} examples by label: every label "
                    "has a single example; give more examples, or use `stratify=False`"
                )
        else:
            held_out = random.permutation(len(self))[:size]
        rest = np.setdiff1d(np.arange(len(self)), held_out)
        return self.subset(rest), self.subset(np.sort(held_out))


def clipped(text: str) -> str:
    """Shortens a long text for a message."""
    return text if len(text) <= 60 else text[:57] + "..."


def _pick(values: list | None, chosen: list[int]) -> list | None:  # type: ignore[type-arg]
    return None if values is None else [values[index] for index in chosen]


def _stratified(
    labels: list[str], size: int, fraction: float, random: np.random.Generator
) -> np.ndarray:
    """Chooses `size` indices (fewer with rare labels) by the largest remainder method."""
    names, label_ids = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    counts = np.bincount(label_ids, minlength=len(names))
    share = fraction * counts
    quota = np.floor(share).astype(int)
    # Ties in the remainder are broken at random; otherwise labels early in the alphabet would win.
    by_remainder = np.lexsort((random.permutation(len(names)), quota - share))
    for label in by_remainder[: max(0, size - int(quota.sum()))]:
        quota[label] += 1
    quota = np.minimum(quota, counts - 1)
    chosen = [
        random.permutation(np.flatnonzero(label_ids == label))[: quota[label]]
        for label in range(len(names))
    ]
    return np.concatenate(chosen)


def closest(name: str, names: Iterable[str]) -> str | None:
    """Returns the most similar name for a hint; None without a similar one.

    The cost of a comparison is the product of both lengths. So long names are skipped or
    truncated, and only the first `_COMPARED_NAMES` names are compared.

    >>> closest("lable", ["text", "Label"])
    'Label'

    Args:
        name: str.
        names: the known names.
    """
    by_lower: dict[str, str] = {}
    for known in itertools.islice(names, _COMPARED_NAMES):
        if len(known) <= _COMPARED_CHARACTERS:
            by_lower.setdefault(known.lower(), known)
    matches = difflib.get_close_matches(name[:_COMPARED_CHARACTERS].lower(), list(by_lower), n=1)
    return by_lower[matches[0]] if matches else None

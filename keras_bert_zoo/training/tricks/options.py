"""The options of regularization, and the tasks that they fit. It does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypedDict

from keras_bert_zoo.errors import ConfigError

__all__ = [
    "ADVERSARIAL",
    "CRF_OR_NESTED",
    "TRICKS",
    "TrickOptions",
    "Tricks",
    "check_tricks",
    "tricks_of",
]

ADVERSARIAL = ("fgm", "freelb", "smart")
"""The values of `adversarial`."""

_ON_EMBEDDINGS = ("fgm", "freelb")
_ON_LABELS = ("label_smoothing", "focal_loss")
_ALL = ("r_drop", "fgm", "freelb", "smart", *_ON_LABELS, "mixup")

CRF_OR_NESTED = "token-classification with a CRF or nested entities"

TRICKS: dict[str, tuple[str, ...]] = {
    "classification": _ALL,
    "multi-label": _ALL,
    "next-sentence": _ALL,
    "regression": ("r_drop", "fgm", "freelb", "smart", "mixup"),
    "multiple-choice": _ALL[:-1],
    "relations": _ALL[:-1],
    "token-classification": _ALL[:-1],
    CRF_OR_NESTED: _ON_EMBEDDINGS,
    "question-answering": _ON_EMBEDDINGS,
    "embedding": _ON_EMBEDDINGS,
    "translation": ("r_drop", "label_smoothing"),
    "masked-lm": (),
}
"""Task -> the tricks that it can be trained with: options, or values of `adversarial`.

R-Drop and SMART compare two distributions of labels. Label smoothing and the focal loss change the
cross-entropy of labels. Mixup needs one vector and one label per text.
"""


class TrickOptions(TypedDict, total=False):
    """Options of `fit` for regularization. By default, none is used.

    `r_drop`, `adversarial` and `mixup` change the training step only. The label smoothing and the
    focal loss are the loss of the task, for validation and `evaluate` too. Not all fit every task;
    see "Regularization" in docs/training.md.

    Args:
        r_drop: float of at least 0. The weight of the divergence between the outputs of two passes
            with different dropout (arXiv 2106.14448).
        adversarial: perturbs the word embeddings of each text in the direction that changes the
            loss most: "fgm" (arXiv 1605.07725) or "freelb" (arXiv 1909.11764); or the outputs most,
            and penalizes that change: "smart" (arXiv 1911.03437).
        adversarial_epsilon: float above 0. The L2 norm of the perturbation of a text; by default
            0.1 for "fgm" and "freelb", and 1 for "smart".
        label_smoothing: float in [0, 1). The share of the target probability that is uniform over
            all labels (arXiv 1512.00567).
        focal_loss: float of at least 0. The exponent, gamma, of the focal loss, which gives
            examples that are right already a small weight (arXiv 1708.02002).
        mixup: float of at least 0. Interpolates the pooled outputs and the labels of two texts; the
            share of one text is drawn from Beta(mixup, mixup) (arXiv 2010.02394).

    Example: `task.fit(texts, labels, r_drop=1.0, label_smoothing=0.1)`
    """

    r_drop: float
    adversarial: str | None
    adversarial_epsilon: float | None
    label_smoothing: float
    focal_loss: float
    mixup: float


@dataclass(frozen=True, kw_only=True)
class Tricks:
    """Values of `TrickOptions`, which are checked by `training.arguments.check_arguments`."""

    r_drop: float = 0.0
    adversarial: str | None = None
    adversarial_epsilon: float | None = None
    label_smoothing: float = 0.0
    focal_loss: float = 0.0
    mixup: float = 0.0

    @property
    def used(self) -> tuple[str, ...]:
        """The tricks in use, under the names in `TRICKS`."""
        values = asdict(self)
        names = [name for name in _ALL if values.get(name)]
        return (*names, *([self.adversarial] if self.adversarial else []))

    @property
    def changes_step(self) -> bool:
        """Whether a trick needs another training step, not only another loss."""
        return bool(set(self.used) - set(_ON_LABELS))

    @property
    def changes_loss(self) -> bool:
        """Whether a trick is another loss of labels."""
        return bool(set(self.used) & set(_ON_LABELS))

    @property
    def passes(self) -> int:
        """How often a training step computes the model with its gradients."""
        passes = 2 if self.r_drop else 1
        return {"fgm": 2 * passes, "freelb": 3 * passes, "smart": passes + 2}.get(
            self.adversarial or "", passes
        )

    @property
    def stored_passes(self) -> int:
        """How many passes a training step stores at the same time, for their gradients."""
        return (2 if self.r_drop else 1) + (self.adversarial == "smart")

    @property
    def stored_gradients(self) -> int:
        """How many gradients of all weights a training step stores at the same time."""
        return {"fgm": 2, "freelb": 3}.get(self.adversarial or "", 1)


def tricks_of(options: Mapping[str, Any]) -> Tricks:
    """Makes Tricks of keyword arguments.

    Args:
        options: see `TrickOptions`.

    Returns:
        Tricks.

    Raises:
        TypeError: another argument.

    Example:
        >>> tricks_of({"r_drop": 1.0, "adversarial": "fgm"}).used
        ('r_drop', 'fgm')
    """
    names = [field.name for field in fields(Tricks)]
    for name in options:
        if name not in names:
            raise TypeError(f"`fit` got an unexpected keyword argument {name!r}.")
    return Tricks(**options)


def check_tricks(tricks: Tricks, task: str, *, flags: bool = False) -> None:
    """Checks that tricks fit a task and each other.

    >>> check_tricks(Tricks(r_drop=1.0), "classification")

    Args:
        tricks: Tricks, with valid values.
        task: str. A key of `TRICKS`. Other tasks have no tricks.
        flags: bool. Whether messages name the flags of the command line.

    Raises:
        ConfigError: tricks do not fit the task, or contradict each other.
    """

    def shown(name: str) -> str:
        if name in ADVERSARIAL:
            return f"--adversarial {name}" if flags else f'`adversarial="{name}"`'
        return f"--{name.replace('_', '-')}" if flags else f"`{name}`"

    allowed = TRICKS.get(task, ())
    wrong = [name for name in tricks.used if name not in allowed]
    if wrong:
        expected = ", ".join(map(shown, allowed)) or "no regularization"
        raise ConfigError(
            f"Expected for {task}: {expected}; received {', '.join(map(shown, wrong))}."
        )
    if tricks.adversarial_epsilon is not None and tricks.adversarial is None:
        raise ConfigError(
            f"{shown('adversarial_epsilon')} needs {shown('fgm')}, {shown('freelb')} or "
            f"{shown('smart')}, received none of them."
        )
    for other in ("r_drop", "smart"):
        if tricks.mixup and other in tricks.used:
            raise ConfigError(
                f"Expected {shown('mixup')} or {shown(other)}, received both: mixed texts have no "
                "outputs to compare."
            )

"""The training step of a combination of tricks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.replicas import Regularizer
from keras_bert_zoo.training.tricks.adversarial import fgm, freelb, smart
from keras_bert_zoo.training.tricks.options import CRF_OR_NESTED, Tricks, check_tricks
from keras_bert_zoo.training.tricks.passes import Mixup, Passes, plain, r_drop, unperturbed

__all__ = ["check_task", "kind_of", "make_regularizer"]

_EPSILONS: Mapping[str, float] = {"fgm": 0.1, "freelb": 0.1, "smart": 1.0}
"""The L2 norm of the perturbation of a text, if none is given.

A token of a BERT has an embedding of the norm 1 to 1.5, so 0.1 is 1 to 3 % of the norm of a text of
10 to 60 tokens. In arXiv 1605.07725 it is 2 %: 5, where 240 tokens have unit variance in 256
dimensions. Ten times more lowered the accuracy of docs/training.md with FGM and FreeLB: they train
on the labels of perturbed texts. SMART only smooths the outputs between texts.
"""


def check_task(tricks: Tricks, task: Any, outputs: Outputs) -> None:
    """Raises ConfigError if tricks do not fit a task, or each other; see `check_tricks`.

    Args:
        tricks: Tricks.
        task: Task.
        outputs: Outputs of the task.
    """
    check_tricks(tricks, kind_of(task, outputs))


def kind_of(task: Any, outputs: Outputs) -> str:
    """Returns the name of a task in `TRICKS`; see `check_task` for the arguments."""
    name: str = task.spec.name
    if name == "token-classification" and outputs.kind == "other":
        return CRF_OR_NESTED
    return name


def make_regularizer(tricks: Tricks, outputs: Outputs, seed: int) -> Regularizer | None:
    """Makes the function that computes the loss and the gradients of a training step.

    R-Drop and mixup change the loss. Adversarial training computes this loss for perturbed texts.

    Args:
        tricks: Tricks that fit the task; see `check_tricks`.
        outputs: Outputs of the task.
        seed: int. Of random numbers other than dropout.

    Returns:
        function, for `replicas.train_step`; None: the tricks do not change the step.

    Example:
        >>> make_regularizer(Tricks(label_smoothing=0.1), Outputs("label", "TextClassifier"), 0)
    """
    if not tricks.changes_step:
        return None
    seed %= 2**31  # generators take no negative numbers
    passes: Passes = plain
    if tricks.r_drop:
        passes = functools.partial(r_drop, weight=tricks.r_drop, outputs=outputs)
    elif tricks.mixup:
        passes = Mixup(tricks.mixup, seed)
    epsilon = tricks.adversarial_epsilon or _EPSILONS.get(tricks.adversarial or "", 0.0)
    if tricks.adversarial == "fgm":
        return functools.partial(fgm, passes=passes, epsilon=epsilon)
    if tricks.adversarial == "freelb":
        return functools.partial(freelb, passes=passes, epsilon=epsilon, seed=seed)
    if tricks.adversarial == "smart":
        return functools.partial(smart, passes=passes, epsilon=epsilon, seed=seed, outputs=outputs)
    return functools.partial(unperturbed, passes=passes)

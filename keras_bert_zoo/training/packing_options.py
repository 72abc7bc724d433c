"""The tasks and options that examples can be packed for. It does not import TensorFlow."""

from __future__ import annotations

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.tricks.options import Tricks

__all__ = ["PACKED_TASKS", "check_packing"]

PACKED_TASKS = (
    "classification",
    "multi-label",
    "regression",
    "next-sentence",
    "token-classification",
    "masked-lm",
)
"""The tasks with one row of tokens per example, and one loss per row or per token."""


def check_packing(
    task: str,
    tricks: Tricks,
    *,
    probe_epochs: int = 0,
    shuffle: bool = True,
    weights: bool = False,
    flags: bool = False,
) -> None:
    """Raises ConfigError if a run cannot pack examples.

    Args:
        task: the name of the task, or `tricks.options.CRF_OR_NESTED`.
        tricks: Tricks. Only those that change the loss alone are possible.
        probe_epochs: int. See `Task.fit`.
        shuffle: bool. See `Task.fit`.
        weights: bool. Whether the examples have weights.
        flags: bool. Whether the message names options of the command line.

    Example:
        >>> check_packing("classification", Tricks(label_smoothing=0.1))
        >>> check_packing("embedding", Tricks())
        Traceback (most recent call last):
        ...
        keras_bert_zoo.errors.ConfigError: `pack_examples` is not possible for embedding, whose \
head or loss needs whole rows: leave it out, or train classification, multi-label, regression, \
next-sentence, token-classification, masked-lm.
    """

    def shown(name: str) -> str:
        return f"--{name.replace('_', '-')}" if flags else f"`{name}`"

    pack = shown("pack_examples")
    if task not in PACKED_TASKS:
        raise ConfigError(
            f"{pack} is not possible for {task}, whose head or loss needs whole rows: leave it "
            f"out, or train {', '.join(PACKED_TASKS)}."
        )
    step = [name for name in tricks.used if name not in ("label_smoothing", "focal_loss")]
    names = [shown("adversarial") if n == tricks.adversarial else shown(n) for n in step]
    if probe_epochs:
        names.append(shown("probe_epochs"))
    if names:
        raise ConfigError(f"{pack} is not possible with {' and '.join(names)}: leave one out.")
    if not shuffle:
        raise ConfigError(
            f"{pack} does not keep the order of examples, received `shuffle=False`: leave one out."
        )
    if weights and task == "token-classification":
        raise ConfigError(
            f"{pack} gives all tokens of a batch the same weight, received `sample_weight` for "
            f"{task}: leave one out."
        )

"""The objectives of pretraining, and the heads that families have for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_bert_zoo.checkpoints.names import names_of
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.validation import is_number

__all__ = [
    "DEFAULT_WEIGHTS",
    "OBJECTIVES",
    "PAIR_OBJECTIVES",
    "check_objectives",
    "checked_weights",
    "head_kinds",
    "pair_objective",
]

OBJECTIVES = ("masked_lm", "next_sentence", "sentence_order", "replaced_token_detection")
"""The objectives of `Pretrainer`."""

PAIR_OBJECTIVES = ("next_sentence", "sentence_order")
"""The objectives that need pairs of texts."""

DEFAULT_WEIGHTS = {"replaced_token_detection": 50.0}
"""The weights of losses that are not 1 (arXiv 2003.10555, section 2)."""


def check_objectives(objectives: Sequence[str]) -> None:
    """Checks objectives, without an encoder.

    Raises:
        ConfigError: an unknown objective, one that is given twice, masked_lm is missing, or two
            objectives of pairs.

    Example:
        >>> check_objectives(["masked_lm", "next_sentence"])
    """
    unknown = [name for name in objectives if name not in OBJECTIVES]
    if unknown or "masked_lm" not in objectives or len(set(objectives)) != len(objectives):
        raise ConfigError(
            "Expected the objectives to be masked_lm, alone or with one of "
            f"{', '.join(OBJECTIVES[1:])}, received {', '.join(map(str, objectives))}."
        )
    if set(PAIR_OBJECTIVES) <= set(objectives):
        raise ConfigError(
            "Expected one objective of pairs, received next_sentence and sentence_order: a pair "
            "has one label."
        )


def pair_objective(objectives: Sequence[str]) -> str | None:
    """Returns the objective that needs pairs of texts, or None."""
    return next((name for name in objectives if name in PAIR_OBJECTIVES), None)


def head_kinds(config: str | EncoderConfig, objectives: Sequence[str]) -> dict[str, str]:
    """Returns the kind of head of each objective, for an encoder's family.

    BERT's class for pretraining has a head of two logits that is named after the next sentence, and
    ALBERT's has one that is named after the order of sentences. Either serves both objectives. With
    replaced token detection, the head of masked_lm is that of the generator, another model.

    Args:
        config: EncoderConfig, or the name of a family.
        objectives: names in `OBJECTIVES`.

    Returns:
        dict, objective -> kind in `heads.kinds.HEADS`.

    Raises:
        ConfigError: see `check_objectives`; or transformers has no class with these heads, so that
            they could not be saved.

    Example:
        >>> from keras_bert_zoo import EncoderConfig
        >>> head_kinds(EncoderConfig(), ["masked_lm", "sentence_order"])
        {'masked_lm': 'masked_lm', 'sentence_order': 'next_sentence'}
    """
    check_objectives(objectives)
    architectures = names_of(config).architectures
    if set(objectives) == {"masked_lm", "replaced_token_detection"} <= set(architectures):
        return {name: name for name in objectives}
    for pair_kind in PAIR_OBJECTIVES:
        kinds = {name: pair_kind if name in PAIR_OBJECTIVES else name for name in objectives}
        if "+".join(sorted(kinds.values())) in architectures:
            return kinds
    known = [
        key.split("+")
        for key in architectures
        if "masked_lm" in key.split("+") and set(key.split("+")) <= set(OBJECTIVES)
    ]
    if "replaced_token_detection" in architectures:
        known.append(["masked_lm", "replaced_token_detection"])
    family = config if isinstance(config, str) else config.family
    choices = "; ".join(" and ".join(names) for names in known) or "none"
    raise ConfigError(
        f"Expected objectives that {family} has a class for in transformers, received "
        f"{' and '.join(objectives)}. {family} has: {choices}."
    )


def checked_weights(
    objectives: Sequence[str], weights: Mapping[str, float] | None
) -> dict[str, float]:
    """Returns the weight of each objective's loss; see `DEFAULT_WEIGHTS` if it is not given.

    Raises:
        ConfigError: a weight is not a number of at least 0, or has no objective.
    """
    given = dict(weights or {})
    wrong = [
        name
        for name, weight in given.items()
        if name not in objectives or not is_number(weight) or weight < 0
    ]
    if wrong:
        raise ConfigError(
            f"Expected `objective_weights` of at least 0 for {', '.join(objectives)}, received "
            f"{given!r}."
        )
    return {name: float(given.get(name, DEFAULT_WEIGHTS.get(name, 1.0))) for name in objectives}

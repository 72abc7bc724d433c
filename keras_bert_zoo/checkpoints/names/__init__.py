"""Tables that map the variables of this package to the tensors of Hugging Face's checkpoints.

All other formats are first translated to Hugging Face's names. So no other tables contain the
names of variables. Loading and saving use the same tables. Hugging Face stores the matrix of a
dense layer as (output, input), so variables named `kernel` are transposed.
"""

from __future__ import annotations

from collections.abc import Callable

from keras_bert_zoo.checkpoints.names import (
    albert,
    bert,
    camembert,
    deberta_v2,
    distilbert,
    electra,
    ernie,
    mobilebert,
    modernbert,
    mpnet,
    roberta,
    roformer,
    xlm_roberta,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames, is_transposed
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.errors import ConfigError

__all__ = ["FamilyNames", "is_transposed", "names_of", "register_names"]

_FAMILIES: dict[str, FamilyNames] = {
    "albert": albert.NAMES,
    "bert": bert.NAMES,
    "camembert": camembert.NAMES,
    "deberta-v2": deberta_v2.NAMES,
    "distilbert": distilbert.NAMES,
    "electra": electra.NAMES,
    "ernie": ernie.NAMES,
    "mobilebert": mobilebert.NAMES,
    "modernbert": modernbert.NAMES,
    "mpnet": mpnet.NAMES,
    "roberta": roberta.NAMES,
    "roformer": roformer.NAMES,
    "xlm-roberta": xlm_roberta.NAMES,
}
# Families whose names depend on the configuration.
_BY_CONFIG: dict[str, Callable[[EncoderConfig], FamilyNames]] = {
    "deberta-v2": deberta_v2.names_for,
}


def register_names(family: str, names: FamilyNames) -> None:
    """Adds the names of a family; see `encoders.registry.register_family`."""
    _FAMILIES[family] = names


def names_of(family: str | EncoderConfig) -> FamilyNames:
    """Returns the names of a family.

    Args:
        family: str, one of `encoders.registry.families()`; or an EncoderConfig, for names that
            depend on the configuration (DeBERTa has two masked-language-model heads).

    Returns:
        FamilyNames.

    Raises:
        ConfigError: unknown family.

    Example:
        >>> names_of("roberta").prefix
        'roberta.'
    """
    name = family if isinstance(family, str) else family.family
    if name not in _FAMILIES:
        raise ConfigError(f"Expected one of {', '.join(_FAMILIES)}, received {name!r}.")
    if isinstance(family, EncoderConfig) and name in _BY_CONFIG:
        return _BY_CONFIG[name](family)
    return _FAMILIES[name]

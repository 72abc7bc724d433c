"""The encoder families, by the model_type of their config.json."""

from __future__ import annotations

import importlib
from typing import Any

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError

# model_type -> module and class. Modules are imported when a family is first used.
_FAMILIES = {
    "albert": "keras_bert_zoo.encoders.albert:AlbertEncoder",
    "bert": "keras_bert_zoo.encoders.bert:BertEncoder",
    "camembert": "keras_bert_zoo.encoders.roberta:CamembertEncoder",
    "deberta-v2": "keras_bert_zoo.encoders.deberta_v2:DebertaV2Encoder",
    "distilbert": "keras_bert_zoo.encoders.distilbert:DistilBertEncoder",
    "electra": "keras_bert_zoo.encoders.electra:ElectraEncoder",
    "ernie": "keras_bert_zoo.encoders.ernie:ErnieEncoder",
    "mobilebert": "keras_bert_zoo.encoders.mobilebert:MobileBertEncoder",
    "modernbert": "keras_bert_zoo.encoders.modernbert:ModernBertEncoder",
    "mpnet": "keras_bert_zoo.encoders.mpnet:MPNetEncoder",
    "roberta": "keras_bert_zoo.encoders.roberta:RobertaEncoder",
    "roformer": "keras_bert_zoo.encoders.roformer:RoFormerEncoder",
    "xlm-roberta": "keras_bert_zoo.encoders.roberta:XLMRobertaEncoder",
}


def families() -> list[str]:
    """Returns the names of the families, which are the model types of config.json."""
    return sorted(_FAMILIES)


def encoder_class(family: str) -> type[Encoder]:
    """Returns a family's encoder class.

    Args:
        family: one of `families()`.

    Raises:
        ConfigError: unknown family.
    """
    if family not in _FAMILIES:
        raise ConfigError(
            f"Encoder family {family!r} is unknown. Expected one of: {', '.join(families())}."
        )
    module, name = _FAMILIES[family].split(":")
    found: type[Encoder] = getattr(importlib.import_module(module), name)
    return found


def build_encoder(config: EncoderConfig, **kwargs: Any) -> Encoder:
    """Builds an encoder with fresh weights, of the family that its config names.

    Args:
        config: EncoderConfig.
        **kwargs: options of `Encoder`.

    Returns:
        Encoder.

    Raises:
        ConfigError: unknown family.
    """
    return encoder_class(config.family)(config, **kwargs)

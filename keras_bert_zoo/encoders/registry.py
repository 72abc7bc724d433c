"""The encoder families, by the model_type of their config.json."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.checkpoints.names import FamilyNames, register_names
from keras_bert_zoo.config import EncoderConfig as EncoderConfig
from keras_bert_zoo.config import register_config_classes
from keras_bert_zoo.encoders.albert import AlbertEncoder
from keras_bert_zoo.encoders.bert import BertEncoder
from keras_bert_zoo.encoders.deberta_v2 import DebertaV2Encoder
from keras_bert_zoo.encoders.distilbert import DistilBertEncoder
from keras_bert_zoo.encoders.electra import ElectraEncoder
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.ernie import ErnieEncoder
from keras_bert_zoo.encoders.mobilebert import MobileBertEncoder
from keras_bert_zoo.encoders.modernbert import ModernBertEncoder
from keras_bert_zoo.encoders.mpnet import MPNetEncoder
from keras_bert_zoo.encoders.roberta import CamembertEncoder, RobertaEncoder, XLMRobertaEncoder
from keras_bert_zoo.encoders.roformer import RoFormerEncoder
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.errors import ConfigError

# One row per family. The key is the family of the class's configuration.
_FAMILIES: dict[str, type[Encoder]] = {
    encoder.config_class.family: encoder
    for encoder in (
        AlbertEncoder,
        BertEncoder,
        CamembertEncoder,
        DebertaV2Encoder,
        DistilBertEncoder,
        ElectraEncoder,
        ErnieEncoder,
        MobileBertEncoder,
        ModernBertEncoder,
        MPNetEncoder,
        RobertaEncoder,
        RoFormerEncoder,
        XLMRobertaEncoder,
    )
}
register_config_classes({name: _FAMILIES[name].config_class for name in sorted(_FAMILIES)})
for _family in _FAMILIES.values():  # config.py does not import Keras
    keras.saving.register_keras_serializable("keras_bert_zoo")(_family.config_class)


def register_family(encoder: type[Encoder], names: FamilyNames) -> None:
    """Adds a family, so that its checkpoints are loaded, trained, saved and exported.

    Args:
        encoder: subclass of Encoder. The `family` of its `config_class` is the `model_type` of
            config.json.
        names: FamilyNames. The names of its tensors in a checkpoint.

    Example:
        >>> from keras_bert_zoo.checkpoints.names import names_of
        >>> from keras_bert_zoo.encoders.registry import encoder_class
        >>> register_family(encoder_class("bert"), names_of("bert"))  # replaces the same row
    """
    config = encoder.config_class
    _FAMILIES[config.family] = encoder
    register_config_classes({config.family: config})
    register_names(config.family, names)
    keras.saving.register_keras_serializable("keras_bert_zoo")(config)  # config.py lacks Keras


def families() -> list[str]:
    """Returns the names of the families, the model types of config.json.

    Example:
        >>> families()[:3]
        ['albert', 'bert', 'camembert']
    """
    return sorted(_FAMILIES)


def encoder_class(family: str) -> type[Encoder]:
    """Returns the encoder class of a family.

    Args:
        family: str. One of `families()`.

    Returns:
        subclass of Encoder.

    Raises:
        ConfigError: unknown family.

    Example:
        >>> encoder_class("bert").__name__
        'BertEncoder'
    """
    if family not in _FAMILIES:
        raise ConfigError(
            f"Expected the family to be one of {', '.join(families())}, received {family!r}."
        )
    return _FAMILIES[family]


def build_encoder(config: EncoderConfig, **kwargs: Any) -> Encoder:
    """Builds an encoder with random weights.

    Args:
        config: EncoderConfig. Its class determines the family.
        **kwargs: options of `Encoder`.

    Returns:
        Encoder.

    Raises:
        ConfigError: unknown family.

    Example:
        >>> from keras_bert_zoo import EncoderConfig
        >>> config = EncoderConfig(
        ...     vocabulary_size=9, hidden_dim=8, num_heads=2, num_layers=1, intermediate_dim=8
        ... )
        >>> build_encoder(config).count_params()
        4736
    """
    return encoder_class(config.family)(config, **kwargs)


def encoder_shapes(config: EncoderConfig) -> Shapes:
    """Returns the shapes of the variables of an encoder without its pooler.

    Args:
        config: EncoderConfig of any family.

    Returns:
        dict, variable path -> shape.

    Example:
        >>> encoder_shapes(EncoderConfig(num_layers=1))["block_0/attention/query/kernel"]
        (768, 768)
    """
    return encoder_class(config.family).weight_shapes(config)


def pooler_shapes(config: EncoderConfig, pooled_for: str = "") -> Shapes:
    """Returns the shapes of the variables of an encoder's pooler.

    Args:
        config: EncoderConfig of any family.
        pooled_for: str. See `Encoder`.

    Returns:
        dict, variable path -> shape. Empty: the pooler has no variables.

    Example:
        >>> pooler_shapes(EncoderConfig())
        {'pooler/dense/kernel': (768, 768), 'pooler/dense/bias': (768,)}
    """
    return encoder_class(config.family).pooler_shapes(config, pooled_for)

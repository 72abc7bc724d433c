"""Encoder configuration: a validated, frozen dataclass that is read from config.json."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from keras_bert_zoo.config_keys import NEUTRAL_KEYS, REFUSED_KEYS, is_refused, list_unread
from keras_bert_zoo.config_values import MOST as MOST
from keras_bert_zoo.config_values import MOST_LAYERS as MOST_LAYERS
from keras_bert_zoo.config_values import check_flags as check_flags
from keras_bert_zoo.config_values import check_integers as check_integers
from keras_bert_zoo.config_values import check_positive as check_positive
from keras_bert_zoo.config_values import check_rates as check_rates
from keras_bert_zoo.config_values import check_strings as check_strings
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.validation import is_integer, is_number, show

_logger = logging.getLogger(__name__)

# Why an option of some checkpoints is not supported.
_REASONS = {
    "position_embedding_type": "transformers 5 removed relative positions from BERT models",
    "adapters": "merge them into the weights",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Configuration of a BERT encoder, and the base class for other families.

    Defaults are BERT-base's (arXiv 1810.04805, section 3). `layer_norm_epsilon`,
    `initializer_range` and the dropouts are the defaults of Hugging Face's BertConfig, which
    are Google's. The class of another family adds fields and has the defaults of its Hugging
    Face config class. Defaults apply to keys that a config.json does not have.

    Args:
        vocabulary_size: int. Rows of the token embedding.
        hidden_dim: int. Width of the hidden states; `num_heads` must divide it.
        num_layers: int. Encoder blocks.
        num_heads: int. Attention heads.
        intermediate_dim: int. Width inside the feed-forward part.
        activation: str. Hugging Face's name of the feed-forward activation.
        dropout: float in [0, 1). After embeddings, attention output and feed-forward output.
        attention_dropout: float in [0, 1). On attention probabilities.
        classifier_dropout: float in [0, 1) or None. Before a classification head; None: `dropout`.
        max_sequence_length: int, tokens. Rows of the position embedding.
        num_segments: int. Rows of the segment embedding.
        layer_norm_epsilon: float.
        initializer_range: float. Standard deviation of the truncated normal initializer.
        pad_token_id: int. The id that marks padding.
        tie_word_embeddings: bool. Use the token embedding as the last kernel of a masked language
            model head.
        family: str. The encoder family.

    Raises:
        ConfigError: a value is out of range; the message names the field.
    """

    vocabulary_size: int = 30522
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None
    max_sequence_length: int = 512
    num_segments: int = 2
    layer_norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    family: str = "bert"

    # The supported keys of config.json. A subclass replaces or extends these.
    names: ClassVar[Mapping[str, str]] = {
        "vocab_size": "vocabulary_size",
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "intermediate_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "max_position_embeddings": "max_sequence_length",
        "type_vocab_size": "num_segments",
        "layer_norm_eps": "layer_norm_epsilon",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
        "classifier_dropout": "classifier_dropout",
        "tie_word_embeddings": "tie_word_embeddings",
    }
    """Hugging Face's key -> field, for all keys that change the results or the training."""

    aliases: ClassVar[Mapping[str, str]] = {}
    """Another name of a key -> the key in `names`. The other name wins, as in the `attribute_map`
    of transformers."""

    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "is_encoder_decoder": (False,),
        "add_cross_attention": (False,),
        "cross_attention_hidden_size": (None,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
        # Google's converter writes these to the Chinese and multilingual configs. They describe
        # the pooler of every BERT (dense and tanh on the first token).
        "directionality": ("bidi",),
        "pooler_type": ("first_token_transform",),
    }
    """Key -> its supported values; other values raise an error that names the key. These keys win
    over `config_keys.REFUSED_KEYS`, which apply to families that do not list the key."""

    least_segments: ClassVar[int] = 1
    """The smallest `num_segments`; 0 for a family that works without segment embeddings."""

    neutral: ClassVar[frozenset[str]] = frozenset()
    """Keys of this family that do not change the results, in addition to `NEUTRAL_KEYS`."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if hasattr(value, "item"):  # a NumPy number, which JSON cannot hold
                object.__setattr__(self, name, value.item())
        problems = self.problems()
        if problems:
            raise ConfigError("Invalid encoder configuration: " + "; ".join(problems) + ".")

    def problems(self) -> list[str]:
        """Returns a description of each invalid value; a subclass adds its own checks."""
        problems = [
            *check_integers(
                self,
                "vocabulary_size",
                "hidden_dim",
                "num_heads",
                "intermediate_dim",
                "max_sequence_length",
            ),
            *check_integers(self, "num_layers", most=MOST_LAYERS),
            *check_integers(self, "num_segments", least=self.least_segments),
            *check_rates(self, "dropout", "attention_dropout"),
        ]
        if self.classifier_dropout is not None:
            problems += check_rates(self, "classifier_dropout")
        for name in ("layer_norm_epsilon", "initializer_range"):
            value = getattr(self, name)
            if not is_number(value) or not 0 < value < 1:
                problems.append(f"`{name}` must be a number in (0, 1), received {show(value)}")
        problems += check_strings(self, "activation")
        problems += check_flags(self, "tie_word_embeddings")
        pad = self.pad_token_id
        if not is_integer(pad):
            problems.append(f"`pad_token_id` must be an integer, received {show(pad)}")
        elif not problems and not 0 <= pad < self.vocabulary_size:
            problems.append(
                f"`pad_token_id` must be in [0, {self.vocabulary_size}), received {pad}"
            )
        if not problems:
            problems += self.head_problems()
        return problems

    @property
    def attention_dim(self) -> int:
        """Width of all attention heads together."""
        return self.hidden_dim

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.attention_dim // self.num_heads

    @property
    def max_tokens(self) -> int:
        """The longest input, in tokens."""
        return self.max_sequence_length

    def with_positions(self, positions: int) -> Self:
        """Returns the same configuration with a longer table of absolute positions.

        Relative positions do not change, even if they depend on the length of the table.

        Args:
            positions: int. The new `max_sequence_length`.
        """
        return dataclasses.replace(self, max_sequence_length=positions)

    def head_problems(self) -> list[str]:
        """Describes an invalid width of the attention heads, if all other values are valid."""
        if self.hidden_dim % self.num_heads:
            return [
                f"`num_heads` must divide `hidden_dim`: {self.hidden_dim} % {self.num_heads} != 0"
            ]
        return []

    def pooler_is_learned(self, pooled_for: str = "") -> bool:
        """Returns whether the pooler has weights. A pooler without weights needs no checkpoint.

        Args:
            pooled_for: str. See `Encoder`.
        """
        return True

    def get_config(self) -> dict[str, Any]:
        """Returns `to_huggingface()`, for layers in Keras' files."""
        return self.to_huggingface()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EncoderConfig:
        """Builds the configuration from `get_config`."""
        return cls.from_huggingface(config)

    @classmethod
    def from_huggingface(
        cls, config: Mapping[str, Any], *, ignore: Iterable[str] = ()
    ) -> EncoderConfig:
        """Reads the contents of a Hugging Face config.json.

        An unsupported key that changes the results raises an error. Other unknown keys are ignored
        and listed in one warning.

        Args:
            config: dict. The parsed JSON.
            ignore: keys to ignore, even if they are unsupported.

        Returns:
            EncoderConfig, of the class of the family in `model_type`. A subclass reads only its
            own family.

        Raises:
            ConfigError: an option has an unsupported value; the message names the option.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"Expected a JSON object in config.json, received {type(config).__name__}."
            )
        ignored = frozenset(ignore)
        family = config.get("model_type")
        if cls is EncoderConfig and isinstance(family, str) and family != cls.family:
            return config_class(family).from_huggingface(config, ignore=ignored)
        problems = []
        if family is None and "model_type" not in ignored:
            fitting = fitting_families(config) if cls is EncoderConfig else [cls.family]
            raise ConfigError(
                "Expected `model_type` in config.json, received none. Add "
                + " or ".join(f'`"model_type": "{name}"`' for name in fitting)
                + ("." if len(fitting) == 1 else ", the family of the model.")
            )
        elif family not in (None, cls.family) and "model_type" not in ignored:
            problems.append(_unsupported("model_type", family, (cls.family,)))
        values: dict[str, Any] = {}
        unknown: list[str] = []
        for key, value in cls.with_own_names(config, ignore=ignored).items():
            if key == "model_type":
                continue
            if key in cls.names:
                values[cls.names[key]] = value
            elif key in cls.fixed:
                # transformers reads null as the default, for the keys with None in `REFUSED_KEYS`.
                allowed = (*cls.fixed[key], *REFUSED_KEYS.get(key, ()))
                if value not in cls.fixed[key] and not (value is None and None in allowed):
                    problems.append(_unsupported(key, value, cls.fixed[key]))
            elif key in cls.neutral or key in NEUTRAL_KEYS:
                continue
            elif is_refused(key, value):
                problems.append(_unsupported(key, value, REFUSED_KEYS.get(key, (None,))))
            elif key not in REFUSED_KEYS and key != "adapters":
                unknown.append(key)
        if values.get("pad_token_id", 0) is None:
            values["pad_token_id"] = 0  # null is allowed; the id does not change the results
        problems += cls.adapt(values)
        if problems:
            raise ConfigError(
                f"config.json has options that a {cls.family} encoder does not support: "
                + "; ".join(problems)
                + ". If a key does not matter for your checkpoint, name it in "
                "`ignore_config_keys`."
            )
        if unknown:
            _warn_of_unknown(cls.family, unknown, config)
        return cls(**values)

    @classmethod
    def with_own_names(
        cls, config: Mapping[str, Any], *, ignore: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Replaces the aliases in a config.json by the keys of `names`.

        Args:
            config: dict. The parsed JSON.
            ignore: keys to leave out.

        Returns:
            dict, with the keys of `names` instead of those of `aliases`.
        """
        ignored = frozenset(ignore)
        values = {key: value for key, value in config.items() if key not in ignored}
        named = {key: value for key, value in values.items() if key not in cls.aliases}
        return named | {cls.aliases[key]: values[key] for key in values if key in cls.aliases}

    @classmethod
    def adapt(cls, values: dict[str, Any]) -> list[str]:
        """Converts values from Hugging Face's form to the form of the fields, in place.

        Args:
            values: dict of field to the value in config.json.

        Returns:
            list of str, a description of each unsupported value.
        """
        return []

    def to_huggingface(self) -> dict[str, Any]:
        """Returns the encoder's part of a Hugging Face config.json as a dict."""
        config: dict[str, Any] = {"model_type": self.family}
        for key, field in self.names.items():
            config[key] = getattr(self, field)
        if "position_embedding_type" in self.fixed:
            config["position_embedding_type"] = "absolute"
        return config


_classes: dict[str, type[EncoderConfig]] = {}


def register_config_classes(classes: Mapping[str, type[EncoderConfig]]) -> None:
    """Registers the configuration classes of families, for `EncoderConfig.from_huggingface`.

    `encoders.registry` calls this function for all families.

    Args:
        classes: dict, family -> class.
    """
    _classes.update(classes)


def config_class(family: str) -> type[EncoderConfig]:
    """Returns the configuration class of a family.

    Args:
        family: str. The `model_type` of config.json.

    Returns:
        subclass of EncoderConfig.

    Raises:
        ConfigError: unknown family.

    Example:
        >>> from keras_bert_zoo import EncoderConfig
        >>> config_class("albert").__name__
        'AlbertConfig'
    """
    if family not in _classes:
        raise ConfigError(
            f"Encoder family {family!r} is unknown. Expected one of: {', '.join(sorted(_classes))}."
        )
    return _classes[family]


def _unsupported(key: str, value: Any, allowed: Iterable[Any]) -> str:
    expected = " or ".join(repr(v) for v in allowed)
    reason = f"; {_REASONS[key]}" if key in _REASONS else ""
    return f"`{key}` = {show(value)} is not supported (expected {expected}{reason})"


def _warn_of_unknown(family: str, keys: list[str], config: Mapping[str, Any]) -> None:
    """Warns of ignored keys, once for the same keys."""
    classes = config.get("auto_map")
    has_code = isinstance(classes, Mapping) and any(
        str(name).startswith("AutoModel") for name in classes
    )
    warn_once(
        _logger,
        f"config.json of a {family} model: unknown keys are ignored: {list_unread(keys)}. "
        + (
            "The model has its own code (`auto_map`), which is not run and may read them. "
            "Compare a result with the original model's."
            if has_code
            else "transformers ignores them, too."
        ),
    )


def fitting_families(config: Mapping[str, Any]) -> list[str]:
    """Returns the possible families of a config.json without `model_type`, BERT first.

    Args:
        config: dict. The parsed JSON.

    Returns:
        list of str, not empty: the family whose name begins the class in `architectures`;
        otherwise the families that know all keys, with the largest number of them as fields.
    """
    classes = config.get("architectures")
    first = str(classes[0]).lower() if isinstance(classes, list) and classes else ""
    prefixes = [name for name in _classes if first.startswith(name.replace("-", ""))]
    if prefixes:
        return [max(prefixes, key=len)]
    counts = {name: len(config.keys() & kind.names.keys()) for name, kind in _classes.items()}
    candidates = [
        name
        for name, kind in _classes.items()
        if config.keys()
        <= {
            *kind.names,
            *kind.aliases,
            *kind.fixed,
            *kind.neutral,
            *NEUTRAL_KEYS,
            *REFUSED_KEYS,
            "adapters",
        }
    ]
    most = max((counts[name] for name in candidates), default=0)
    fitting = [name for name in candidates if counts[name] == most]
    return sorted(fitting, key=lambda name: name != "bert") or ["bert"]


def is_regression(config: Mapping[str, Any]) -> bool:
    """Returns whether a config.json belongs to a regression model, as in transformers.

    Args:
        config: dict. The parsed JSON.

    Returns:
        bool. `problem_type` is regression; or it is missing and the model has a single label.
    """
    problem = config.get("problem_type")
    names = config.get("id2label")
    count = len(names) if isinstance(names, Mapping) and names else config.get("num_labels", 2)
    return bool(problem == "regression" or (problem is None and count == 1))

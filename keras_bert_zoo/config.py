"""Encoder configuration: one validated, frozen record, read from and written to config.json."""

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
from keras_bert_zoo.config_values import is_integer as is_integer
from keras_bert_zoo.config_values import is_number as is_number
from keras_bert_zoo.config_values import short as short
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once

_logger = logging.getLogger(__name__)

# Why an option that some checkpoints have is not here.
_REASONS = {
    "position_embedding_type": "transformers 5 dropped the relative positions of BERT's relatives",
    "adapters": "merge them into the weights",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What an encoder is made of; BERT's configuration, and the base of the other families'.

    Defaults are BERT-base's (arXiv 1810.04805, section 3); `layer_norm_epsilon`,
    `initializer_range` and the dropouts are Hugging Face's BertConfig defaults, which are
    Google's. Another family's class adds fields, and changes defaults to those of its Hugging
    Face config class: they hold where a config.json leaves a key out.

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
        tie_word_embeddings: bool. Whether a masked-language-model head's last kernel is the token
            embedding.
        family: str. The encoder family.

    Raises:
        ConfigError: a value outside its range; the message names the field.
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

    # What a family's config.json may say. A subclass replaces or extends these.
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
    """Hugging Face's key -> field, for all that changes what is computed or how it trains."""

    aliases: ClassVar[Mapping[str, str]] = {}
    """Another name that transformers reads -> the key of `names`, over which it wins: transformers'
    `attribute_map`."""

    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "is_encoder_decoder": (False,),
        "add_cross_attention": (False,),
        "cross_attention_hidden_size": (None,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
        # Written by Google's converter into the Chinese and multilingual configs: the pooler they
        # describe is the one that every BERT has (dense + tanh on the first token).
        "directionality": ("bidi",),
        "pooler_type": ("first_token_transform",),
    }
    """Keys with supported values alone: any other is refused by name, never ignored. They win over
    `config_keys.REFUSED_KEYS`, which hold for every family that does not name the key."""

    least_segments: ClassVar[int] = 1
    """The least `num_segments`: 0 where a family can do without segment embeddings."""

    neutral: ClassVar[frozenset[str]] = frozenset()
    """Further keys, besides those that all families share, that change nothing here."""

    def __post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise ConfigError("Invalid encoder configuration: " + "; ".join(problems) + ".")

    def problems(self) -> list[str]:
        """Says what is wrong with the values, a clause each; a family adds its own."""
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
                problems.append(f"`{name}` must be a number in (0, 1), received {short(value)}")
        problems += check_strings(self, "activation")
        problems += check_flags(self, "tie_word_embeddings")
        pad = self.pad_token_id
        if not is_integer(pad):
            problems.append(f"`pad_token_id` must be an integer, received {short(pad)}")
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
        """The same configuration with a longer table of absolute positions.

        A family whose relative positions hang on the table's length keeps them as they are.

        Args:
            positions: int. The new `max_sequence_length`.
        """
        return dataclasses.replace(self, max_sequence_length=positions)

    def head_problems(self) -> list[str]:
        """Says what is wrong with the attention heads' width, where all else is right."""
        if self.hidden_dim % self.num_heads:
            return [
                f"`num_heads` must divide `hidden_dim`: {self.hidden_dim} % {self.num_heads} != 0"
            ]
        return []

    def pooler_is_learned(self, pooled_for: str = "") -> bool:
        """Whether the pooler has weights. If not, every checkpoint has a pooled output.

        Args:
            pooled_for: str. See `Encoder`.
        """
        return True

    @classmethod
    def from_huggingface(
        cls, config: Mapping[str, Any], *, ignore: Iterable[str] = ()
    ) -> EncoderConfig:
        """Reads the contents of a Hugging Face config.json.

        Args:
            config: dict. The parsed JSON.
            ignore: names of keys to leave unread although they are unknown or unsupported.

        A key that is known to change what is computed and is not supported is refused. Keys that
        nobody knows are left unread, and listed in one warning.

        Returns:
            EncoderConfig, of the class of the family that `model_type` names. A subclass reads
            its own family alone.

        Raises:
            ConfigError: an option that has an unsupported value, by name.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"config.json must hold a JSON object, received {type(config).__name__}."
            )
        ignored = frozenset(ignore)
        family = config.get("model_type")
        if cls is EncoderConfig and isinstance(family, str) and family != cls.family:
            return config_class(family).from_huggingface(config, ignore=ignored)
        problems = []
        if family is None and "model_type" not in ignored:
            fitting = fitting_families(config) if cls is EncoderConfig else [cls.family]
            raise ConfigError(
                "config.json does not say which family the model is of: `model_type` is missing. "
                "Add "
                + " or ".join(f'`"model_type": "{name}"`' for name in fitting)
                + (" to it." if len(fitting) == 1 else " to it, whichever the model is.")
            )
        elif family not in (None, cls.family) and "model_type" not in ignored:
            problems.append(f"`model_type` = {short(family)} is not {cls.family!r}")
        values: dict[str, Any] = {}
        unknown: list[str] = []
        for key, value in cls.with_own_names(config, ignore=ignored).items():
            if key == "model_type":
                continue
            if key in cls.names:
                values[cls.names[key]] = value
            elif key in cls.fixed:
                # null is a default of transformers', where `REFUSED_KEYS` says so.
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
            values["pad_token_id"] = 0  # may be null; the id is unused in arithmetic
        problems += cls.adapt(values)
        if problems:
            raise ConfigError(
                f"This config.json asks for something that a {cls.family} encoder here does not "
                "do: "
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
        """Renames the keys of a config.json that have another name in this family.

        Args:
            config: dict. The parsed JSON.
            ignore: names of keys to leave out.

        Returns:
            dict, with the keys of `names` in the place of those of `aliases`.
        """
        ignored = frozenset(ignore)
        read = {key: value for key, value in config.items() if key not in ignored}
        own = {key: value for key, value in read.items() if key not in cls.aliases}
        return own | {cls.aliases[key]: read[key] for key in read if key in cls.aliases}

    @classmethod
    def adapt(cls, values: dict[str, Any]) -> list[str]:
        """Turns values as Hugging Face writes them into the fields', in place.

        Args:
            values: dict, field -> value as it stands in config.json.

        Returns:
            list of what is not supported, a clause each.
        """
        return []

    def to_huggingface(self) -> dict[str, Any]:
        """Returns the encoder's part of a Hugging Face config.json as a dict."""
        config: dict[str, Any] = {"model_type": self.family}
        for theirs, ours in self.names.items():
            config[theirs] = getattr(self, ours)
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
    return f"`{key}` = {short(value)} is not supported (expected {expected}{reason})"


def _warn_of_unknown(family: str, keys: list[str], config: Mapping[str, Any]) -> None:
    """Lists the keys that were left unread, once for the same keys."""
    classes = config.get("auto_map")
    own = isinstance(classes, Mapping) and any(
        str(name).startswith("AutoModel") for name in classes
    )
    warn_once(
        _logger,
        f"config.json of a {family} model: unknown keys were left unread: {list_unread(keys)}. "
        + (
            "The model has code of its own (`auto_map`), which is not run and may read them: "
            "compare an answer with the original's."
            if own
            else "transformers leaves them unread, too."
        ),
    )


def fitting_families(config: Mapping[str, Any]) -> list[str]:
    """The families that a config.json without `model_type` may be of, the likeliest first.

    Args:
        config: dict. The parsed JSON.

    Returns:
        list of str, not empty: the one whose name `architectures` begins with; or those that know
        all keys and say at least as many of them as any other.
    """
    named = config.get("architectures")
    first = str(named[0]).lower() if isinstance(named, list) and named else ""
    begins = [name for name in _classes if first.startswith(name.replace("-", ""))]
    if begins:
        return [max(begins, key=len)]
    said = {name: len(config.keys() & kind.names.keys()) for name, kind in _classes.items()}
    known = [
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
    fitting = [name for name in known if said[name] == max(said[other] for other in known)]
    return sorted(fitting, key=lambda name: name != "bert") or ["bert"]


def is_regression(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a model that regresses: as transformers decides.

    Args:
        config: dict. The parsed JSON.

    Returns:
        bool. `problem_type` is regression; or it is not given and there is a single label.
    """
    problem = config.get("problem_type")
    names = config.get("id2label")
    count = len(names) if isinstance(names, Mapping) and names else config.get("num_labels", 2)
    return bool(problem == "regression" or (problem is None and count == 1))

"""Encoder configuration: one validated, frozen record, read from and written to config.json."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from keras_bert_zoo.errors import ConfigError

# Hugging Face's name -> ours. Everything here changes what the encoder computes or how it trains.
_BERT_NAMES = {
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
}

# Options with one supported value: any other value is refused by name, never ignored.
_BERT_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
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

# Keys that say nothing about the encoder's arithmetic; they are for other software, for heads
# (which read them from the same file) or for the record. Kept out of EncoderConfig on purpose.
_NEUTRAL_KEYS = frozenset(
    """_name_or_path _attn_implementation architectures attn_implementation bos_token_id
    eos_token_id sep_token_id cls_token_id mask_token_id unk_token_id
    chunk_size_feed_forward custom_pipelines auto_map dtype torch_dtype finetuning_task
    gradient_checkpointing id2label label2id num_labels _num_labels language license name
    output_attentions output_hidden_states output_past problem_type return_dict
    return_dict_in_generate task_specific_params tie_word_embeddings tie_encoder_decoder
    tokenizer_class torchscript transformers_version use_cache use_bfloat16 adapters
    prefix model_max_length sentence_transformers pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
    decoder_start_token_id max_length min_length do_sample early_stopping num_beams
    num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
    length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores forced_bos_token_id forced_eos_token_id
    remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens tf_legacy_loss""".split()
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What an encoder is made of.

    Defaults are BERT-base's (arXiv 1810.04805, section 3); `layer_norm_epsilon`,
    `initializer_range` and the dropouts are Hugging Face's BertConfig defaults, which are
    Google's.

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
        pad_token_id: int. The id that marks padding; it does not change the arithmetic.
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
    family: str = "bert"

    def __post_init__(self) -> None:
        problems = []
        for name in (
            "vocabulary_size",
            "hidden_dim",
            "num_layers",
            "num_heads",
            "intermediate_dim",
            "max_sequence_length",
            "num_segments",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                problems.append(f"`{name}` must be a positive integer, got {value!r}")
        for name in ("dropout", "attention_dropout", "classifier_dropout"):
            value = getattr(self, name)
            if value is None and name == "classifier_dropout":
                continue
            if not _is_number(value) or not 0 <= value < 1:
                problems.append(f"`{name}` must be a number in [0, 1), got {value!r}")
        for name in ("layer_norm_epsilon", "initializer_range"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < 1:
                problems.append(f"`{name}` must be a number in (0, 1), got {value!r}")
        if not isinstance(self.activation, str):
            problems.append(f"`activation` must be a string, got {self.activation!r}")
        pad = self.pad_token_id
        if isinstance(pad, bool) or not isinstance(pad, int):
            problems.append(f"`pad_token_id` must be an integer, got {pad!r}")
        elif not problems and not 0 <= pad < self.vocabulary_size:
            problems.append(f"`pad_token_id` must be in [0, {self.vocabulary_size}), got {pad}")
        if not problems and self.hidden_dim % self.num_heads:
            problems.append(
                f"`num_heads` must divide `hidden_dim`: {self.hidden_dim} % {self.num_heads} != 0"
            )
        if problems:
            raise ConfigError("Invalid encoder configuration: " + "; ".join(problems) + ".")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_dim // self.num_heads

    @classmethod
    def from_huggingface(
        cls, config: Mapping[str, Any], *, ignore: Iterable[str] = ()
    ) -> EncoderConfig:
        """Reads the contents of a Hugging Face config.json.

        Args:
            config: dict. The parsed JSON.
            ignore: names of keys to leave unread although they are unknown or unsupported.

        Returns:
            EncoderConfig.

        Raises:
            ConfigError: an option that is unknown or has an unsupported value, by name.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(f"config.json must hold a JSON object, got {type(config).__name__}.")
        ignored = frozenset(ignore)
        problems = []
        if "model_type" not in config and "model_type" not in ignored:
            problems.append("`model_type` is missing (expected 'bert')")
        values: dict[str, Any] = {}
        for key, value in config.items():
            if key in ignored:
                continue
            if key in _BERT_NAMES:
                values[_BERT_NAMES[key]] = value
            elif key in _BERT_FIXED:
                if value not in _BERT_FIXED[key]:
                    expected = " or ".join(repr(v) for v in _BERT_FIXED[key])
                    problems.append(f"`{key}` = {value!r} is not supported (expected {expected})")
            elif key not in _NEUTRAL_KEYS:
                problems.append(f"`{key}` = {value!r} is unknown")
        if values.get("pad_token_id", 0) is None:
            values["pad_token_id"] = 0  # BertConfig allows null; the id is unused in arithmetic.
        if problems:
            raise ConfigError(
                "This config.json asks for something that a BERT encoder here does not do: "
                + "; ".join(problems)
                + ". If a key does not matter for your checkpoint, name it in "
                "`ignore_config_keys`."
            )
        return cls(**values)

    def to_huggingface(self) -> dict[str, Any]:
        """Returns the encoder's part of a Hugging Face config.json as a dict."""
        config: dict[str, Any] = {"model_type": self.family}
        for theirs, ours in _BERT_NAMES.items():
            config[theirs] = getattr(self, ours)
        config["position_embedding_type"] = "absolute"
        return config


def read_config_json(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads `directory`/config.json.

    Args:
        directory: path of a Hugging Face directory.

    Returns:
        dict, the parsed JSON object.

    Raises:
        ConfigError: the file is missing, unreadable or not a JSON object.
    """
    path = os.path.join(directory, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except FileNotFoundError:
        raise ConfigError(
            f"No config.json in {os.fspath(directory)!r}. A preset directory holds config.json, "
            "model.safetensors and vocab.txt."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(config).__name__}.")
    return config


def is_regression(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a model that regresses: as transformers decides.

    Args:
        config: dict. The parsed JSON.

    Returns:
        bool. `problem_type` is regression; or it is not given and there is a single label.
    """
    problem = config.get("problem_type")
    count = len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)
    return bool(problem == "regression" or (problem is None and count == 1))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

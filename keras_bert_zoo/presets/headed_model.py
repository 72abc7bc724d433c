"""An encoder with heads, from token ids to logits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import keras

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.encoders.encoder import Encoder, encoder_inputs
from keras_bert_zoo.encoders.freezing import freeze_paths, frozen_paths
from keras_bert_zoo.encoders.keras_file import (
    check_config,
    encoder_config,
    is_keras_file,
    save_keras_file,
    usable_config,
)
from keras_bert_zoo.encoders.registry import encoder_class
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.kinds import head_kind, make_head
from keras_bert_zoo.heads.serialization import head_config, head_from_config
from keras_bert_zoo.presets.load import load
from keras_bert_zoo.presets.resolve import Source
from keras_bert_zoo.presets.save import save
from keras_bert_zoo.text.serialization import tokenizer_config, tokenizer_from_config
from keras_bert_zoo.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable("keras_bert_zoo")
class HeadedModel(keras.Model):
    """An encoder with one or several heads: a functional Keras model.

    Use it for checkpoints with any head, and for custom training loops. It takes token ids. Tasks
    (`TextClassifier`, ...) take text.

    Args:
        encoder: Encoder.
        heads: dict, kind -> layer, or the kind of a single new head. If the layer is None, a new
            head is made (for kinds without labels). See `make_head`.
        token_layout: "packed" or "padded". None: the encoder's.
        attention_groups: int. Only for "packed"; see `TokenLayout`. None: the encoder's.
        config: dict. The keys of config.json that do not describe the encoder: labels, ids of
            special tokens, ...
        tokenizer: Tokenizer or None. Only used by `save`. None: the encoder's tokenizer, if any.

    Call arguments:
        inputs: dict of int32 (B, S): `token_ids`, `segment_ids`, `padding_mask` (1 = attend).

    Returns:
        dict, kind -> float32 logits:

        - classification (B, labels); multiple_choice (B, 1), one row per choice; next_sentence and
          sentence_order (B, 2);
        - token_classification (B, S, labels); question_answering (B, S, 2): start and end;
          replaced_token_detection (B, S); masked_lm (B, S, V). With the packed layout, outputs at
          padding are zeros.

    Raises:
        ConfigError: there are no heads, a kind is unknown, or the encoder lacks a head's input.

    Attributes:
        encoder: Encoder.
        heads: dict, kind -> layer.
        token_layout, attention_groups: the values in use.
        tokenizer: Tokenizer or None.
        other_config: dict. The argument `config`.
    """

    encoder: Encoder
    heads: dict[str, keras.layers.Layer]

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, keras.layers.Layer | None] | str,
        *,
        token_layout: str | None = None,
        attention_groups: int | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: Tokenizer | None = None,
        **kwargs: Any,
    ) -> None:
        given = {heads: None} if isinstance(heads, str) else dict(heads)
        if not given:
            raise ConfigError("Expected at least one head, received none; see `heads.kinds.HEADS`.")
        kinds = {kind: head_kind(kind) for kind in given}
        layers = {
            kind: make_head(kind, encoder) if layer is None else layer
            for kind, layer in given.items()
        }
        token_layout = token_layout or encoder.token_layout
        if attention_groups is None:
            attention_groups = encoder.attention_groups
        options: dict[str, Any] = {
            "token_layout": token_layout,
            "attention_groups": attention_groups,
        }
        outputs: dict[str, Any] = {}
        x = layout = pooled = None
        if all(kind.pooled for kind in kinds.values()):
            inputs = encoder_inputs()
            pooled = encoder.pooled_outputs(inputs, **options)
        else:
            inputs, x, layout = encoder.token_outputs(**options)
            if encoder.pooler is not None and any(kind.pooled for kind in kinds.values()):
                pooled = encoder.pooler(x, layout)
        for kind, layer in layers.items():
            outputs[kind] = layer(pooled) if kinds[kind].pooled else layer(x, layout)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.encoder = encoder
        self.heads = layers
        self.token_layout = token_layout
        self.attention_groups = attention_groups
        self._tokenizer = tokenizer
        self.other_config: dict[str, Any] = dict(config or {})

    @classmethod
    def from_preset(
        cls,
        preset: Source,
        head: str | Sequence[str] | None = None,
        *,
        labels: Sequence[str] | None = None,
        new_head: bool | None = None,
        token_layout: str = "packed",
        attention_groups: int = 1,
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds the model of a preset and loads its weights, strictly.

        Args:
            preset: name in the catalogue (see `list_presets`), or a directory with a checkpoint.
            head: kind or kinds of heads. None: the heads of the checkpoint, by the `architectures`
                of its config.json, else by the names of its tensors.
            labels: names of the labels of a new head.
            new_head: bool. Whether the head starts from random weights. None: if `labels` is given.
            token_layout: "packed" or "padded"; see `Encoder`.
            attention_groups: int. Only for "packed"; see `TokenLayout`.
            dtype: Keras dtype policy of the encoder, such as "mixed_bfloat16".
            allow_pickle: bool. See `open_checkpoint`.
            ignore_config_keys: keys of config.json to ignore if they are unknown or unsupported.

        Returns:
            HeadedModel.

        Raises:
            ConfigError: the config or an option is not supported.
            CheckpointError: the preset does not exist, its head is missing or unclear, or its
                tensors do not fit the model.
        """
        encoder, layers, config = load(
            preset,
            (head,) if isinstance(head, str) else head,
            labels=labels,
            new_head=labels is not None if new_head is None else new_head,
            token_layout=token_layout,
            attention_groups=attention_groups,
            dtype=dtype,
            allow_pickle=allow_pickle,
            ignore_config_keys=ignore_config_keys,
        )
        return cls(encoder, layers, config=config)

    def with_parts(self, encoder: Encoder, heads: dict[str, keras.layers.Layer]) -> Self:
        """Returns a model with another encoder and other heads, but the same options.

        Args:
            encoder: Encoder.
            heads: dict, kind -> layer.

        Returns:
            HeadedModel.
        """
        return type(self)(
            encoder,
            heads,
            token_layout=self.token_layout,
            attention_groups=self.attention_groups,
            config=self.other_config,
            tokenizer=self._tokenizer,
        )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that `save` writes; see the class."""
        return self.encoder.tokenizer if self._tokenizer is None else self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Saves a Hugging Face directory, which transformers and `from_preset` read.

        It has config.json, model.safetensors (float32), and the files of the tokenizer, if any. An
        earlier save stays complete until the new one is.

        Args:
            directory: path of a missing directory, an empty one, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            ConfigError: the family has no transformers class with these heads.
            CheckpointError: the directory cannot be written, or it exists and may not be replaced.
        """
        if is_keras_file(directory):
            save_keras_file(self, directory, overwrite=overwrite)
            return
        with merged_lora(self.encoder):
            save(
                directory,
                self.encoder,
                self.heads,
                config=self.other_config,
                tokenizer=self.tokenizer,
                overwrite=overwrite,
            )

    def get_config(self) -> dict[str, Any]:
        """Returns everything but the weights."""
        encoder = self.encoder
        config = {
            "family": encoder.config.family,
            "encoder": encoder_config(encoder, tokenizer=False),
            "heads": {kind: head_config(head) for kind, head in self.heads.items()},
            "token_layout": self.token_layout,
            "attention_groups": self.attention_groups,
            "config": dict(self.other_config),
            "tokenizer": None if self.tokenizer is None else tokenizer_config(self.tokenizer),
            "frozen": frozen_paths(self),
            "name": self.name,
        }
        plain: dict[str, Any] = json.loads(json.dumps(config))  # lists in the place of tuples
        return plain

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Builds a model with random weights from `get_config`.

        Raises:
            ConfigError: a key is missing, or a value is not supported.
        """
        with usable_config(cls.__name__):
            return cls._from_config(config)

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> Self:
        check_config(config, _CONFIG_KEYS, cls.__name__)
        encoder = encoder_class(config["family"]).from_config(config["encoder"])
        heads = {kind: head_from_config(head, encoder) for kind, head in config["heads"].items()}
        tokenizer = config["tokenizer"]
        model = cls(
            encoder,
            heads,
            tokenizer=None if tokenizer is None else tokenizer_from_config(tokenizer),
            **{key: config[key] for key in ("token_layout", "attention_groups", "config", "name")},
        )
        freeze_paths(model, config["frozen"])
        return model


_CONFIG_KEYS = (
    "family",
    "encoder",
    "heads",
    "token_layout",
    "attention_groups",
    "config",
    "tokenizer",
    "frozen",
    "name",
)

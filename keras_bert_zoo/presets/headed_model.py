"""An encoder with its heads, from token ids to logits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import keras

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.encoders.encoder import Encoder, encoder_inputs
from keras_bert_zoo.encoders.no_keras_files import refuse_keras_files
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.kinds import head_kind, make_head
from keras_bert_zoo.presets.load import load
from keras_bert_zoo.presets.resolve import Source
from keras_bert_zoo.presets.save import save
from keras_bert_zoo.text.tokenizer import Tokenizer


@refuse_keras_files("from_preset")
class HeadedModel(keras.Model):
    """An encoder with one head or several: a functional Keras model.

    For checkpoints with any head, and for training loops of your own. Tasks (`TextClassifier`, ...)
    take text; this takes ids.

    Args:
        encoder: Encoder.
        heads: dict, kind -> layer, or None for a new one of this kind (for kinds without labels);
            or the kind of a single new head. See `make_head`.
        token_layout: "packed" or "padded"; None: the encoder's own.
        attention_groups: int. Packed only; see `TokenLayout`. None: the encoder's own.
        config: dict. What `save` writes into config.json beside the encoder's part: labels, ids of
            special tokens, ...
        tokenizer: Tokenizer or None. Only saved with the model. None: the encoder's, if it has one.

    Call arguments:
        inputs: dict of int32 (B, S): `token_ids`, `segment_ids`, `padding_mask` (1 = attend).

    Returns:
        dict, kind -> float32 logits:

        - classification (B, labels); multiple_choice (B, 1), a row being a choice; next_sentence
          and sentence_order (B, 2);
        - token_classification (B, S, labels); question_answering (B, S, 2): start and end;
          replaced_token_detection (B, S); masked_lm (B, S, V). The packed layout leaves zeros at
          padding.

    Raises:
        ConfigError: no heads, an unknown kind, or an encoder that lacks what a head reads.

    Attributes:
        encoder: Encoder.
        heads: dict, kind -> layer.
        token_layout, attention_groups: what was chosen.
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
        wanted = {heads: None} if isinstance(heads, str) else dict(heads)
        if not wanted:
            raise ConfigError("A HeadedModel needs at least one head; see `heads.kinds.HEADS`.")
        kinds = {kind: head_kind(kind) for kind in wanted}
        layers = {
            kind: make_head(kind, encoder) if layer is None else layer
            for kind, layer in wanted.items()
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
            head: kind of head, or kinds; None: what the checkpoint has, by the `architectures` of
                its config.json or else by the names of its tensors.
            labels: names for a new head, to be trained.
            new_head: bool. True starts a new `head` of fresh weights; None: if `labels` are given.
            token_layout: "packed" or "padded"; see `Encoder`.
            attention_groups: int. Packed only; see `TokenLayout`.
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. See `open_checkpoint`.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            HeadedModel.

        Raises:
            ConfigError: the config or an option is not supported.
            CheckpointError: the preset is not there, lacks the head, does not say which head it
                has, or has tensors that do not fit.
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
        """Returns a model with this one's options on another encoder and other heads.

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
        """Writes a Hugging Face directory, which transformers and `from_preset` read.

        config.json, model.safetensors (float32) and, if there is a tokenizer, its files. Written
        aside and renamed: an earlier save stays whole until the new one is.

        Args:
            directory: path; missing, empty, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            ConfigError: the family has no transformers class with these heads.
            CheckpointError: it cannot be written, or is there and not to be replaced.
        """
        with merged_lora(self.encoder):
            save(
                directory,
                self.encoder,
                self.heads,
                config=self.other_config,
                tokenizer=self.tokenizer,
                overwrite=overwrite,
            )

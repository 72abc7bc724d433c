"""What every encoder family shares: its inputs, its outputs and how a preset is loaded."""

from __future__ import annotations

import os
from typing import Any

import keras

from keras_bert_zoo.config import EncoderConfig

INPUT_NAMES = ("token_ids", "segment_ids", "padding_mask")


def encoder_inputs() -> dict[str, keras.KerasTensor]:
    """Returns the three symbolic inputs of an encoder, int32 (B, S) each."""
    return {name: keras.Input(shape=(None,), dtype="int32", name=name) for name in INPUT_NAMES}


class Encoder(keras.Model):
    """Base of the encoder families.

    A functional Keras model from `{"token_ids", "segment_ids", "padding_mask"}`, int32 (B, S), to
    `{"sequence_output": (B, S, H), "pooled_output": (B, H)}`, compute dtype.

    Attributes:
        config: EncoderConfig.
        has_pooler: bool. Whether there is a `pooled_output`.
    """

    config: EncoderConfig
    has_pooler: bool

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> Encoder:
        """Builds the encoder of a preset and loads its weights.

        Args:
            preset: name in the catalogue (see `list_presets`), or a Hugging Face directory.
            **kwargs: options of the family's constructor, `token_layout` and `dtype` among them.

        Returns:
            Encoder, of the family that the preset's config.json names.

        Raises:
            ConfigError: the config asks for something unsupported.
            CheckpointError: the preset is not there, or its tensors do not fit the model.
        """
        # The registry imports the families, which import this module.
        from keras_bert_zoo.presets.io import load_encoder

        return load_encoder(preset, **kwargs)

    def pooled_outputs(
        self,
        inputs: dict[str, keras.KerasTensor],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> keras.KerasTensor:
        """Connects this encoder's layers to `inputs`, computing the pooled output alone.

        Equal to `self(inputs)["pooled_output"]`, without the part of the last block that only
        other tokens' outputs need.

        Args:
            inputs: what `encoder_inputs` returned.
            token_layout: "padded" or "packed".
            attention_groups: int. See `TokenLayout`.

        Returns:
            float (B, H), symbolic.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `pooled_outputs`.")

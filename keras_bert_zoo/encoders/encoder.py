"""`Encoder`: the base of the encoder families."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.dtypes import check_dtype as check_dtype
from keras_bert_zoo.encoders.freezing import freeze_blocks
from keras_bert_zoo.encoders.head_options import bert_head_options
from keras_bert_zoo.encoders.keras_file import (
    encoder_config,
    encoder_from_config,
    is_keras_file,
    save_keras_file,
)
from keras_bert_zoo.encoders.parts import INPUT_NAMES as INPUT_NAMES
from keras_bert_zoo.encoders.parts import Parts as Parts
from keras_bert_zoo.encoders.parts import encoder_inputs as encoder_inputs
from keras_bert_zoo.encoders.parts import run
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.scopes import root_scope
from keras_bert_zoo.layers.token_layout import Layout, TokenLayout, TokensToBatch

if TYPE_CHECKING:
    from keras_bert_zoo.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Encoder(keras.Model):
    """Base of the encoder families: a functional Keras model.

    A family defines its layers in `make_parts`, and its configuration in `config_class`.

    Args:
        config: EncoderConfig, of the family's own class.
        token_layout: "packed" drops padding, so shapes depend on the data. "padded" keeps static
            shapes, for TPU and XLA. Weights and outputs are equal, but "packed" returns zeros at
            padding.
        attention_groups: int. Packed only; see `TokenLayout`.
        pooler: bool. Whether to build the family's pooler.
        pooled_for: str. The head that reads the pooled output, see `options_for_head`. "" means
            no particular head. In some families the pooler depends on the head.
        hidden_states: bool. Also return `hidden_states`, a list of `num_layers + 1` float
            (B, S, H): the embeddings' output and every block's.
        attention_scores: bool. Also return `attention_scores`, a list of `num_layers` float
            (B, N, S, S): the probabilities after the softmax. Needs the padded layout.
        dtype: Keras dtype policy; "mixed_bfloat16" computes in bfloat16 on float32 weights.

    Call arguments:
        inputs: dict of int32 (B, S): `token_ids`, `segment_ids`, `padding_mask` (1 = attend).

    Returns:
        dict: `sequence_output` (B, S, H) and, with a pooler, `pooled_output` (B, H), in the
        compute dtype. Also `hidden_states` and `attention_scores`, if requested.

    Raises:
        ConfigError: another family's config, unknown activation, layout or dtype, or attention
            scores of the packed layout.

    Attributes:
        config: EncoderConfig.
        has_pooler: bool. Whether there is a `pooled_output`.
        token_layout, attention_groups: the constructor's.
        pooled_for: str. The argument.
        embeddings, blocks, pooler: the layers, see `Parts`.
        other_config: dict. Other keys of the checkpoint's config.json, such as ids of special
            tokens. `save` writes them again.
        build_options: dict. The constructor's options.
        tokenizer: Tokenizer or None. `save` writes it with the weights. `from_preset` loads it
            from the preset on first access.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> encoder = kbz.Encoder.from_preset("tests/assets/bert_gelu")
        >>> inputs = encoder.tokenizer(["Hello world"], max_length=8)
        >>> encoder(inputs)["sequence_output"].shape[2]
        16
    """

    config_class: ClassVar[type[EncoderConfig]] = EncoderConfig

    config: EncoderConfig
    has_pooler: bool
    pooled_for: str

    def __init__(
        self,
        config: EncoderConfig,
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
        pooler: bool = True,
        pooled_for: str = "",
        hidden_states: bool = False,
        attention_scores: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - {"name", "trainable"})
        if unknown:
            raise ConfigError(
                f"Expected the options of {type(self).__name__}: token_layout, attention_groups, "
                "pooler, pooled_for, hidden_states, attention_scores, dtype, name, trainable; "
                f"received {', '.join(map(repr, unknown))}."
            )
        if type(config) is not self.config_class:
            raise ConfigError(
                f"Expected a {self.config_class.__name__} for {type(self).__name__}, received a "
                f"{type(config).__name__} of the family {config.family!r}."
            )
        if attention_scores and token_layout != "padded":
            raise ConfigError(
                'Expected `token_layout="padded"` with `attention_scores=True`, received '
                f"{token_layout!r}: other layouts do not compute (B, N, S, S) scores."
            )
        check_dtype(dtype)
        self.config = config
        self.has_pooler = pooler
        self.pooled_for = pooled_for
        self.other_config: dict[str, Any] = {}
        self.build_options: dict[str, Any] = {
            "token_layout": token_layout,
            "attention_groups": attention_groups,
            "pooler": pooler,
            "pooled_for": pooled_for,
            "hidden_states": hidden_states,
            "attention_scores": attention_scores,
            "dtype": dtype,
        }
        with root_scope():
            # === Layers ===
            parts = self.make_parts(config, pooler=pooler, dtype=dtype)
            # === Functional model ===
            inputs = encoder_inputs()
            layout = self.lay_out(inputs, token_layout, attention_groups)
            to_batch = TokensToBatch(dtype=dtype, name="sequence_output")
            x, states, scores = run(parts, layout)
            outputs: dict[str, Any] = {"sequence_output": to_batch(x, layout)}
            if parts.pooler is not None:
                outputs["pooled_output"] = parts.pooler(x, layout)
        if hidden_states:
            # With a final norm, the last state is the output of the norm.
            outputs["hidden_states"] = [to_batch(state, layout) for state in (*states[:-1], x)]
        if attention_scores:
            outputs["attention_scores"] = [probabilities[0] for probabilities in scores]
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.parts = parts
        self.embeddings = parts.embeddings
        self.blocks = list(parts.blocks)
        self.pooler = parts.pooler
        self.token_layout = token_layout
        self.attention_groups = attention_groups
        self.frozen_before_lora: tuple[str, ...] = ()  # see `adaptation.lora`
        self._tokenizer: Tokenizer | None = None
        self._find_tokenizer: Callable[[], Tokenizer | None] | None = None
        # A function, because Keras would wrap the dicts.
        self._tokens = lambda: (inputs, x, layout)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> Encoder:
        """Builds the encoder of a preset and loads its weights.

        Args:
            preset: name in the catalogue (see `list_presets`), or a Hugging Face directory.
            **kwargs: options of the family's constructor, `token_layout` and `dtype` among them.

        Returns:
            Encoder, of the family that the preset's config.json names.

        Raises:
            ConfigError: the config has an unsupported value.
            CheckpointError: the preset does not exist, or its tensors do not fit the model.
        """
        encoder: Encoder = _presets().load_encoder(preset, **kwargs)
        return encoder

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a Hugging Face directory, or a .keras file for `keras.models.load_model`.

        transformers and `from_preset` read the directory: config.json, model.safetensors (float32,
        names of the family's bare model) and the tokenizer's files. It is written under another
        name and then renamed.

        Args:
            directory: path; missing, empty, or an earlier save. Or a path that ends in .keras.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: the directory cannot be written, or may not be replaced.
        """
        if is_keras_file(directory):
            save_keras_file(self, directory, overwrite=overwrite)
            return
        _presets().save_encoder(self, directory, overwrite=overwrite)

    def get_config(self) -> dict[str, Any]:
        """Returns everything but the weights: configuration, options, tokenizer and LoRA."""
        return encoder_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Builds an encoder with random weights from `get_config`."""
        return encoder_from_config(cls, config)

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that `save` writes."""
        if self._find_tokenizer is not None:
            self._tokenizer, self._find_tokenizer = self._find_tokenizer(), None
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer, self._find_tokenizer = tokenizer, None

    def tokenize_with(self, find: Callable[[], Tokenizer | None] | None) -> None:
        """Sets the function that loads the tokenizer on first access. None: no tokenizer."""
        self._tokenizer, self._find_tokenizer = None, find

    def take_tokenizer_of(self, other: Encoder) -> None:
        """Shares another encoder's tokenizer, without loading it."""
        self._tokenizer, self._find_tokenizer = other._tokenizer, other._find_tokenizer

    def weights_without_pooler(self) -> list[keras.Variable]:
        """Returns the encoder's variables without those of its pooler."""
        own = {id(variable) for variable in (self.pooler.weights if self.pooler else ())}
        return [variable for variable in self.weights if id(variable) not in own]

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the family's layers; called once, by the constructor.

        Args:
            config: the constructor's.
            pooler: bool. Whether to build a pooler.
            dtype: Keras dtype policy, for every layer.

        Returns:
            Parts.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `make_parts`.")

    def layout_options(self) -> dict[str, Any]:
        """Returns the family's options of `TokenLayout`."""
        return {}

    def head_options(self, kind: str) -> dict[str, Any]:
        """Returns the options of a head on this encoder; see `options_for_head`.

        Args:
            kind: str. The head.
        """
        return self.options_for_head(self.config, kind)

    @classmethod
    def options_for_head(cls, config: Any, kind: str) -> dict[str, Any]:
        """Returns the options of a head; see `encoders.head_options.bert_head_options`.

        A family overrides the options that differ from BERT's.
        """
        return bert_head_options(config, kind)

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables, without the pooler's.

        Loading compares them with the checkpoint before it builds the encoder. They are BERT's; a
        family with other variables overrides this method.

        Args:
            config: EncoderConfig, of the family.

        Returns:
            dict, variable path -> shape.
        """
        blocks = shapes.blocks(shapes.numbered(config), shapes.post_norm_block(config))
        return shapes.embeddings(config) | blocks

    @classmethod
    def pooler_shapes(cls, config: Any, pooled_for: str = "") -> Shapes:
        """Returns the shapes of the variables of the pooler.

        Args:
            config: EncoderConfig, of the family.
            pooled_for: str. See `Encoder`.

        Returns:
            dict, variable path -> shape. Empty: the pooler has no variables.
        """
        if not config.pooler_is_learned(pooled_for):
            return {}
        return shapes.dense("pooler/dense", config.hidden_dim, config.hidden_dim)

    def pooled_outputs(
        self,
        inputs: dict[str, keras.KerasTensor],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> keras.KerasTensor:
        """Computes only the pooled output.

        Equal to `self(inputs)["pooled_output"]`, but faster: the last block only computes the
        first token.

        Args:
            inputs: see `encoder_inputs`.
            token_layout: "padded" or "packed".
            attention_groups: int. See `TokenLayout`.

        Returns:
            float (B, H), symbolic.

        Raises:
            ConfigError: the encoder has no pooler.
        """
        if self.pooler is None:
            raise ConfigError(
                "Expected an encoder with a pooler, received one built with `pooler=False`."
            )
        layout = self.lay_out(inputs, token_layout, attention_groups)
        if not self.pooler.reads_first_token:
            x, _, _ = run(self.parts, layout)
            return self.pooler(x, layout)
        first, _, _ = run(self.parts, layout, first_token_only=True)
        return self.pooler(first)

    def token_outputs(
        self, *, token_layout: str | None = None, attention_groups: int | None = None
    ) -> tuple[dict[str, keras.KerasTensor], keras.KerasTensor, Layout]:
        """Returns the last states with one row per token, the input of heads on tokens.

        Args:
            token_layout: "padded" or "packed". None: this encoder's layout.
            attention_groups: int. See `TokenLayout`. None: this encoder's number.

        Returns:
            inputs, see `encoder_inputs`; float (T, H), symbolic; and the layout.
        """
        token_layout = token_layout or self.token_layout
        if attention_groups is None:
            attention_groups = self.attention_groups
        if (token_layout, attention_groups) == (self.token_layout, self.attention_groups):
            return self._tokens()  # reuses the graph
        inputs = encoder_inputs()
        x, layout = self.token_states(
            inputs, token_layout=token_layout, attention_groups=attention_groups
        )
        return inputs, x, layout

    def token_states(
        self,
        inputs: dict[str, Any],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
        first_token_only: bool = False,
    ) -> tuple[Any, Layout]:
        """Computes the last states.

        Args:
            inputs: see `encoder_inputs`, or tensors.
            token_layout: "padded" or "packed".
            attention_groups: int. See `TokenLayout`.
            first_token_only: bool. Whether the last block only computes the first token.

        Returns:
            float (T, H), one row per token, or (B, H), the first tokens; and the layout.
        """
        layout = self.lay_out(inputs, token_layout, attention_groups)
        x, _, _ = run(self.parts, layout, first_token_only=first_token_only)
        return x, layout

    def layer_states(
        self, inputs: dict[str, Any], *, token_layout: str = "packed", attention_groups: int = 1
    ) -> tuple[list[Any], Layout]:
        """Computes the states of all layers, for heads that read several of them.

        Args: see `token_states`.

        Returns:
            list of `num_layers + 1` float (T, H), one row per token: the outputs of the embeddings
            and of all blocks; and the layout.
        """
        layout = self.lay_out(inputs, token_layout, attention_groups)
        x, states, _ = run(self.parts, layout)
        return [*states[:-1], x], layout

    def freeze(self, blocks: int | None = None, *, embeddings: bool = True) -> None:
        """Freezes the lower part of the encoder. Call it before the model is compiled.

        Frozen layers still apply dropout.

        Args:
            blocks: int. Number of frozen blocks, from the bottom. None: the whole encoder with its
                pooler.
            embeddings: bool. Whether the embeddings are frozen.

        Raises:
            ConfigError: `blocks` is out of range, or a frozen block shares weights with a trained
                one (ALBERT).
        """
        freeze_blocks(self.parts, blocks, embeddings=embeddings)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether training stores only the inputs of blocks (bool), and computes blocks again.

        A step then needs less memory and more time (1.2 to 1.5 times, for BERT base), and has the
        same gradients, dropout included. Set it before a training function is traced; `Task.fit`
        has an argument for it. Attention scores have no gradient.

        Example: `encoder.gradient_checkpointing = True`
        """
        return any(block.gradient_checkpointing for block in self.blocks)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        for block in self.blocks:
            block.gradient_checkpointing = value

    def lay_out(self, inputs: dict[str, Any], token_layout: str, attention_groups: int) -> Layout:
        """Applies the family's `TokenLayout` to a batch of inputs."""
        layer = TokenLayout(
            token_layout, attention_groups=attention_groups, **self.layout_options()
        )
        layout: Layout = layer(**inputs)
        return layout


def _presets() -> ModuleType:
    """Imports the functions that load and save encoders, late: their module imports this one."""
    from keras_bert_zoo.presets import encoder_files

    return encoder_files

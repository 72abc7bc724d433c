"""What every encoder family shares: inputs, outputs, the way through the layers, presets."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras

from keras_bert_zoo.config import EncoderConfig, short
from keras_bert_zoo.encoders.no_keras_files import no_keras_file, refuse_keras_files
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.layers.scopes import root_scope
from keras_bert_zoo.layers.token_layout import Layout, TokenLayout, TokensToBatch

if TYPE_CHECKING:
    from keras_bert_zoo.text.tokenizer import Tokenizer

INPUT_NAMES = ("token_ids", "segment_ids", "padding_mask")


def encoder_inputs() -> dict[str, keras.KerasTensor]:
    """Returns the three symbolic inputs of an encoder, int32 (B, S) each."""
    return {name: keras.Input(shape=(None,), dtype="int32", name=name) for name in INPUT_NAMES}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The layers of an encoder, in the order in which tokens go through them.

    Attributes:
        embeddings: layout -> float (T, H).
        blocks: `(x, layout, first_token_only=False)` -> (x, attention probabilities); see
            `EncoderBlock`. One layer may stand here several times, sharing its weights.
        context: None, or layout -> dict of what all blocks share (rotary tables, relative
            positions, ...); the blocks find it in their layout.
        final: None, or float (T, H) -> float (T, H), behind the last block.
        pooler: None, or `(x, layout)` -> float (B, H); see `Pooler`.
    """

    embeddings: keras.layers.Layer
    blocks: Sequence[keras.layers.Layer]
    context: keras.layers.Layer | None = None
    final: keras.layers.Layer | None = None
    pooler: keras.layers.Layer | None = None


@refuse_keras_files("from_preset")
class Encoder(keras.Model):
    """Base of the encoder families: a functional Keras model.

    A family says in `make_parts` which layers it is made of, and in `config_class` what its
    config.json may say; everything else is here.

    Args:
        config: EncoderConfig, of the family's own class.
        token_layout: "packed" drops the padding before computing (shapes depend on the data);
            "padded" keeps static shapes, for TPU and XLA. Same weights, equal outputs, except
            that the packed layout returns zeros at padding.
        attention_groups: int. Packed only; see `TokenLayout`.
        pooler: bool. Whether to build the family's pooler.
        pooled_for: str. The head that the pooled output is for, see `head_options`; "" is none in
            particular. Some families pool otherwise for some heads.
        hidden_states: bool. Also return `hidden_states`, a list of `num_layers + 1` float
            (B, S, H): the embeddings' output and every block's.
        attention_scores: bool. Also return `attention_scores`, a list of `num_layers` float
            (B, N, S, S): the probabilities after the softmax. Needs the padded layout.
        dtype: Keras dtype policy; "mixed_bfloat16" computes in bfloat16 on float32 weights.

    Call arguments:
        inputs: dict of int32 (B, S): `token_ids`, `segment_ids`, `padding_mask` (1 = attend).

    Returns:
        dict: `sequence_output` (B, S, H) and, with a pooler, `pooled_output` (B, H), in the
        compute dtype; and what was asked for above.

    Raises:
        ConfigError: another family's config, unknown activation, layout or dtype, or attention
            scores of the packed layout.

    Attributes:
        config: EncoderConfig.
        has_pooler: bool. Whether there is a `pooled_output`.
        token_layout, attention_groups: the constructor's.
        pooled_for: str. The argument.
        embeddings, blocks, pooler: the layers, see `Parts`.
        other_config: dict. What the checkpoint's config.json said beyond the encoder, ids of
            special tokens for one. `save` writes it again.
        build_options: dict. The constructor's options, to build another like this.
        tokenizer: Tokenizer or None. What `save` writes beside the weights. `from_preset` keeps the
            preset's, loaded when it is first asked for.
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
                f"{type(self).__name__} has no option {', '.join(map(repr, unknown))}. It has "
                "token_layout, attention_groups, pooler, pooled_for, hidden_states, "
                "attention_scores, dtype, name and trainable."
            )
        if type(config) is not self.config_class:
            raise ConfigError(
                f"{type(self).__name__} expects a {self.config_class.__name__}, got a "
                f"{type(config).__name__} of the family {config.family!r}."
            )
        if attention_scores and token_layout != "padded":
            raise ConfigError(
                '`attention_scores=True` needs `token_layout="padded"`: the packed layout never '
                "forms the (B, N, S, S) scores."
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
            layout = self._lay_out(inputs, token_layout, attention_groups)
            to_batch = TokensToBatch(dtype=dtype, name="sequence_output")
            x, states, scores = _run(parts, layout)
            outputs: dict[str, Any] = {"sequence_output": to_batch(x, layout)}
            if parts.pooler is not None:
                outputs["pooled_output"] = parts.pooler(x, layout)
        if hidden_states:
            # Behind a final norm, the last state is what the norm gives.
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
        self._tokenizer: Tokenizer | None = None
        self._find_tokenizer: Callable[[], Tokenizer | None] | None = None
        # A function, for Keras would put wrappers of its own around the dicts.
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
            ConfigError: the config asks for something unsupported.
            CheckpointError: the preset is not there, or its tensors do not fit the model.
        """
        # The registry imports the families, which import this module.
        from keras_bert_zoo.presets.io import load_encoder

        return load_encoder(preset, **kwargs)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a Hugging Face directory, which transformers and `from_preset` read.

        config.json and model.safetensors (float32), under the names of the family's bare model,
        and, if there is a tokenizer, its files. Written aside and renamed: an earlier save stays
        whole until the new one is.

        Args:
            directory: path; missing, empty, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: it cannot be written, or is there and not to be replaced.
        """
        from keras_bert_zoo.adaptation.lora import merged_lora
        from keras_bert_zoo.presets.headed import save_headed

        # Models with heads take such names: Keras' ModelCheckpoint gives no others.
        if os.path.splitext(directory)[1] in (".keras", ".h5", ".hdf5"):
            raise CheckpointError(
                f"{os.fspath(directory)!r} is a name of Keras' own files. "
                + no_keras_file(type(self).__name__)
            )
        with merged_lora(self):
            save_headed(
                directory,
                self,
                {},
                config=self.other_config,
                tokenizer=self.tokenizer,
                overwrite=overwrite,
            )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that `save` writes; see the class."""
        if self._find_tokenizer is not None:
            self._tokenizer, self._find_tokenizer = self._find_tokenizer(), None
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer, self._find_tokenizer = tokenizer, None

    def tokenize_with(self, find: Callable[[], Tokenizer | None] | None) -> None:
        """Says where the tokenizer is found when it is first asked for.

        Args:
            find: a function without arguments; None: there is no tokenizer.
        """
        self._tokenizer, self._find_tokenizer = None, find

    def take_tokenizer_of(self, other: Encoder) -> None:
        """Shares another encoder's tokenizer, without loading it."""
        self._tokenizer, self._find_tokenizer = other._tokenizer, other._find_tokenizer

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
        """Options of `TokenLayout` that the family needs."""
        return {}

    def head_options(self, kind: str) -> dict[str, Any]:
        """What a head on this encoder is made of; a family overrides what differs from BERT.

        Args:
            kind: str. The head: "classification", "token_classification", "question_answering",
                "multiple_choice", "next_sentence", "sentence_order", "masked_lm" or
                "replaced_token_detection".

        Returns:
            dict, arguments of the head's layer. Of all heads:

            - `dropout`: float, before the last linear layer;
            - `transform_units`: int or None, width of the dense layer before that one (None: there
              is none), with `transform_activation`: str and `transform_bias`: bool;
            - `norm_epsilon`: float or None, of a LayerNorm behind it (None: there is none), with
              `norm_bias`: bool;
            - `initializer_range`: float.

            Of masked_lm also

            - `tied`: bool, whether the last kernel is the token embedding, whose width is then
              `transform_units` less `extra_units`;
            - `extra_units`: int or None, by how much the last kernel is wider than the token
              embedding (MobileBERT's);
            - `decoder_bias`: bool, whether a bias is added to the logits.

        Source: Hugging Face's modeling_bert.py: BertLMPredictionHead and the Bert...For... classes.
        """
        config = self.config
        rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        has_dropout = kind in ("classification", "token_classification", "multiple_choice")
        options: dict[str, Any] = {
            "dropout": rate if has_dropout else 0.0,
            "transform_units": None,
            "transform_activation": config.activation,
            "transform_bias": True,
            "norm_epsilon": None,
            "norm_bias": True,
            "initializer_range": config.initializer_range,
        }
        if kind == "replaced_token_detection":
            options["transform_units"] = config.hidden_dim
        if kind == "masked_lm":
            options |= {
                "transform_units": config.hidden_dim,
                "norm_epsilon": config.layer_norm_epsilon,
                "tied": config.tie_word_embeddings,
                "extra_units": None,
                "decoder_bias": True,
            }
        return options

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

        Raises:
            ConfigError: the encoder has no pooler.
        """
        if self.pooler is None:
            raise ConfigError(
                "This encoder was built with `pooler=False`: it has no pooled output."
            )
        layout = self._lay_out(inputs, token_layout, attention_groups)
        if not self.pooler.reads_first_token:
            x, _, _ = _run(self.parts, layout)
            return self.pooler(x, layout)
        first, _, _ = _run(self.parts, layout, first_token_only=True)
        return self.pooler(first)

    def token_outputs(
        self, *, token_layout: str | None = None, attention_groups: int | None = None
    ) -> tuple[dict[str, keras.KerasTensor], keras.KerasTensor, Layout]:
        """The last states one row a token, as heads on tokens take them.

        Args:
            token_layout: "padded" or "packed"; None: this encoder's own.
            attention_groups: int. See `TokenLayout`. None: this encoder's own.

        Returns:
            inputs, as `encoder_inputs` returns them; float (T, H), symbolic; and the layout that
            leads back to the batch.
        """
        own = (self.token_layout, self.attention_groups)
        wanted = (token_layout or own[0], own[1] if attention_groups is None else attention_groups)
        if wanted == own:
            return self._tokens()  # which saves building the graph again
        inputs = encoder_inputs()
        x, layout = self.token_states(inputs, token_layout=wanted[0], attention_groups=wanted[1])
        return inputs, x, layout

    def token_states(
        self,
        inputs: dict[str, Any],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
        first_token_only: bool = False,
    ) -> tuple[Any, Layout]:
        """Connects this encoder's layers to `inputs`, up to the last states.

        Args:
            inputs: what `encoder_inputs` returned, or tensors like it.
            token_layout: "padded" or "packed".
            attention_groups: int. See `TokenLayout`.
            first_token_only: bool. Whether to leave out of the last block what only other tokens'
                states need.

        Returns:
            float (T, H), one row a token, or (B, H), the first tokens; and the layout that leads
            back to the batch.
        """
        layout = self._lay_out(inputs, token_layout, attention_groups)
        x, _, _ = _run(self.parts, layout, first_token_only=first_token_only)
        return x, layout

    def layer_states(
        self, inputs: dict[str, Any], *, token_layout: str = "packed", attention_groups: int = 1
    ) -> tuple[list[Any], Layout]:
        """Connects this encoder's layers to `inputs`, for heads that read several of them.

        Args: as `token_states`.

        Returns:
            list of `num_layers + 1` float (T, H), one row a token: the embeddings' output and
            every block's, as `hidden_states`; and the layout that leads back to the batch.
        """
        layout = self._lay_out(inputs, token_layout, attention_groups)
        x, states, _ = _run(self.parts, layout)
        return [*states[:-1], x], layout

    def freeze(self, blocks: int | None = None, *, embeddings: bool = True) -> None:
        """Keeps the lower part of the encoder as it is in training; the rest is trained.

        Call it before the model is compiled. Dropout acts in frozen layers, too.

        Args:
            blocks: int. How many blocks are frozen, from the bottom; 0: none. None: the whole
                encoder, its pooler included.
            embeddings: bool. Whether the embeddings are frozen.

        Raises:
            ConfigError: more blocks than there are, or some that share their weights with a block
                that is to be trained (ALBERT).
        """
        count = len(self.blocks)
        whole = blocks is None
        frozen = count if blocks is None else blocks
        if isinstance(frozen, bool) or not isinstance(frozen, int) or not 0 <= frozen <= count:
            raise ConfigError(f"`blocks` must be between 0 and {count} or None, got {blocks!r}.")
        lower = {id(block) for block in self.blocks[:frozen]}
        if any(id(block) in lower for block in self.blocks[frozen:]):
            raise ConfigError(
                f"The first {frozen} blocks share weights with later ones: this encoder can be "
                "frozen as a whole (`freeze()`) or not at all."
            )
        for block in self.blocks:
            block.trainable = id(block) not in lower
        self.embeddings.trainable = not embeddings
        rest = (self.parts.context, self.parts.final, self.pooler)
        for layer in rest:
            if layer is not None:
                layer.trainable = not whole

    def _lay_out(self, inputs: dict[str, Any], token_layout: str, attention_groups: int) -> Layout:
        layer = TokenLayout(
            token_layout, attention_groups=attention_groups, **self.layout_options()
        )
        layout: Layout = layer(**inputs)
        return layout


def check_dtype(dtype: Any) -> None:
    """Refuses what is no dtype policy of Keras.

    Raises:
        ConfigError: it is none.
    """
    try:
        policy = keras.dtype_policies.get(dtype)
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            '`dtype` must be a dtype policy of Keras, "float32" or "mixed_bfloat16" for one, '
            f"got {short(dtype)}."
        ) from None
    # Updates of fine-tuning are lost in 16-bit weights, and masks in float16, which ends at 65504.
    if "float16" in (policy.variable_dtype, policy.compute_dtype) or (
        policy.variable_dtype == "bfloat16"
    ):
        raise ConfigError(
            f"`dtype` {policy.name!r} is not supported: models do not train in it. Pass "
            '"mixed_bfloat16", which computes in bfloat16 on float32 weights, or "float32".'
        )


def check_is_encoder(value: Any) -> None:
    """Refuses what is no encoder, a model around one in particular.

    Raises:
        ConfigError: it is none; the message says what to pass.
    """
    if isinstance(value, Encoder):
        return
    hint = ""
    if isinstance(getattr(value, "encoder", None), Encoder):
        hint = " Pass the encoder inside it: `x.encoder`."
    raise ConfigError(f"Expected an Encoder, got a {type(value).__name__}.{hint}")


class SharedContext(keras.layers.Layer):
    """Calls a context layer again, with another number of attention groups.

    A layer of its own each time: Keras takes the number of a layer's outputs from its first call.
    (Its class has a plain name because Keras makes the layer's from it, and TensorFlow refuses
    scopes that start with an underscore.)
    """

    def __init__(self, context: keras.layers.Layer) -> None:
        super().__init__(autocast=False, dtype=context.dtype_policy)
        self.context = context
        self.built = True

    def call(self, layout: Layout) -> Any:
        """Computes the context."""
        return self.context(layout)


def _run(
    parts: Parts, layout: Layout, *, first_token_only: bool = False
) -> tuple[Any, list[Any], list[Any]]:
    """Sends tokens through the layers: the last state, all states, all probabilities.

    With `first_token_only` the last block, and what is behind it, computes (B, H).
    """
    x = parts.embeddings(layout)
    if parts.context is not None:
        context = SharedContext(parts.context) if parts.context.built else parts.context
        layout = layout | context(layout)
    states, scores = [x], []
    last = len(parts.blocks) - 1
    for i, block in enumerate(parts.blocks):
        if first_token_only and i == last:
            x, probabilities = block(x, layout, first_token_only=True)
        else:
            x, probabilities = block(x, layout)
        states.append(x)
        scores.append(probabilities)
    if parts.final is not None:
        x = parts.final(x)
    return x, states, scores

"""BERT: absolute positions, segment embeddings, post-LayerNorm (arXiv 1810.04805)."""

from __future__ import annotations

from typing import Any

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.encoder import Encoder, encoder_inputs
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.pooler import Pooler
from keras_bert_zoo.layers.token_layout import Layout, TokenLayout, TokensToBatch


class BertEncoder(Encoder):
    """A BERT encoder as a functional Keras model.

    Args:
        config: EncoderConfig.
        token_layout: "packed" drops the padding before computing (shapes depend on the data);
            "padded" keeps static shapes, for TPU and XLA. Same weights, equal outputs, except
            that the packed layout returns zeros at padding.
        attention_groups: int. Packed only; see `TokenLayout`.
        pooler: bool. Whether to build BERT's pooler.
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
        ConfigError: unknown activation or layout, or attention scores of the packed layout.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
        pooler: bool = True,
        hidden_states: bool = False,
        attention_scores: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        if attention_scores and token_layout != "padded":
            raise ConfigError(
                '`attention_scores=True` needs `token_layout="padded"`: the packed layout never '
                "forms the (B, N, S, S) scores."
            )
        # === Layers ===
        embeddings = Embeddings(config, dtype=dtype, name="embeddings")
        blocks = [
            EncoderBlock(config, dtype=dtype, name=f"block_{i}") for i in range(config.num_layers)
        ]
        self.config = config
        self.has_pooler = pooler
        # === Functional model ===
        inputs = encoder_inputs()
        layout = TokenLayout(token_layout, attention_groups=attention_groups, name="layout")(
            **inputs
        )
        to_batch = TokensToBatch(dtype=dtype, name="sequence_output")
        x = embeddings(layout)
        states, scores = [x], []
        for block in blocks:
            x, probabilities = block(x, layout)
            states.append(x)
            scores.append(probabilities[0])
        outputs: dict[str, Any] = {"sequence_output": to_batch(x, layout)}
        pooler_layer = None
        if pooler:
            pooler_layer = Pooler(
                config.hidden_dim,
                initializer_range=config.initializer_range,
                dtype=dtype,
                name="pooler",
            )
            outputs["pooled_output"] = pooler_layer(x, layout)
        if hidden_states:
            outputs["hidden_states"] = [to_batch(state, layout) for state in states]
        if attention_scores:
            outputs["attention_scores"] = scores
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.embeddings = embeddings
        self.blocks = blocks
        self.pooler = pooler_layer

    def pooled_outputs(
        self,
        inputs: dict[str, keras.KerasTensor],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> keras.KerasTensor:
        """Connects the layers to `inputs`; see `Encoder.pooled_outputs`."""
        if self.pooler is None:
            raise ConfigError(
                "This encoder was built with `pooler=False`: it has no pooled output."
            )
        layout: Layout = TokenLayout(token_layout, attention_groups=attention_groups)(**inputs)
        x = self.embeddings(layout)
        for block in self.blocks[:-1]:
            x, _ = block(x, layout)
        first, _ = self.blocks[-1](x, layout, first_token_only=True)
        return self.pooler(first)

"""Models with heads, and with a larger vocabulary than in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar, runtime_checkable

import keras

from keras_bert_zoo.adaptation.resize import extend_rows, extend_token_table
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.text.tokenizer import Tokenizer

# Variables of a masked-language-model head that have an entry per token -> the axis of tokens.
_TOKEN_AXES = {"masked_lm/decoder/kernel": 1, "masked_lm/extra_table": 1, "masked_lm/bias": 0}


@runtime_checkable
class WithHeads(Protocol):
    """An encoder with heads; `presets.headed_model.HeadedModel` is one."""

    encoder: Encoder
    heads: dict[str, keras.layers.Layer]
    tokenizer: Tokenizer | None

    def with_parts(self, encoder: Encoder, heads: dict[str, keras.layers.Layer]) -> Self:
        """Returns a model with the same options on another encoder and heads."""
        ...


Model = TypeVar("Model", bound=WithHeads)


def extend_headed_model(
    model: Model, pieces: Sequence[Sequence[int]], *, first_id: int | None = None
) -> Model:
    """Returns a copy of a model with heads whose encoder has rows for new tokens.

    A masked-language-model head, tied or not, is extended too. The last kernel and the bias of a
    new token start as the mean of its pieces', as its embedding does. Before training, its logit
    is the mean of its pieces' logits. Other heads do not change.

    Args:
        model: a model with heads.
        pieces: see `extend_token_table`.
        first_id: see `extend_token_table`.

    Returns:
        a model of the same class with the old tokenizer, which does not know the new tokens.

    Raises:
        ConfigError: no new token, or an id outside the table.
    """
    encoder = extend_token_table(model.encoder, pieces, first_id=first_id)
    first = model.encoder.config.vocabulary_size if first_id is None else first_id
    heads = {}
    for kind, head in model.heads.items():
        units = getattr(head, "units", None)
        heads[kind] = make_head(kind, encoder, units)
        _copy(head, heads[kind], pieces, first)
    return model.with_parts(encoder, heads)


def _copy(
    old: keras.layers.Layer, new: keras.layers.Layer, pieces: Sequence[Sequence[int]], first: int
) -> None:
    values = {variable.path: variable.numpy() for variable in old.weights}
    for variable in new.weights:
        value = values[variable.path]
        if variable.path in _TOKEN_AXES:
            axis = _TOKEN_AXES[variable.path]
            value = extend_rows(value.swapaxes(0, axis), pieces, first).swapaxes(0, axis)
        variable.assign(value)

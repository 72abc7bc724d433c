"""Models with heads whose vocabulary is larger than they were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar, runtime_checkable

import keras

from keras_bert_zoo.adaptation.resize import extend_rows, extend_token_table
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.text.tokenizer import Tokenizer

# Of a masked-language-model head: what has an entry a token, and along which axis.
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

    A masked-language-model head grows with it, tied or not: the last kernel and the bias of a new
    token start, as its embedding does, as the mean of those of its pieces. Its logit is thus the
    mean of its pieces' logits before training. All other heads stay as they are.

    Args:
        model: a model with heads.
        pieces: see `extend_token_table`.
        first_id: see `extend_token_table`.

    Returns:
        a model like it, with the old one's tokenizer, which does not know the new tokens.

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

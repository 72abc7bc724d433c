"""Models with heads whose vocabulary is larger than they were trained with."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_bert_zoo.adaptation.resize import extend_rows, extend_token_table
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.presets.headed_model import HeadedModel

# Of a masked-language-model head: what has an entry a token, and along which axis.
_TOKEN_AXES = {"masked_lm/decoder/kernel": 1, "masked_lm/extra_table": 1, "masked_lm/bias": 0}


def extend_headed_model(
    model: HeadedModel, pieces: Sequence[Sequence[int]], *, first_id: int | None = None
) -> HeadedModel:
    """Returns a copy of a model with heads whose encoder has rows for new tokens.

    A masked-language-model head grows with it, tied or not: the last kernel and the bias of a new
    token start, as its embedding does, as the mean of those of its pieces. Its logit is thus the
    mean of its pieces' logits before training. All other heads stay as they are.

    Args:
        model: HeadedModel.
        pieces: see `extend_token_table`.
        first_id: see `extend_token_table`.

    Returns:
        HeadedModel, with the old one's tokenizer, which does not know the new tokens.

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
    return HeadedModel(
        encoder,
        heads,
        token_layout=model.token_layout,
        attention_groups=model.attention_groups,
        config=model.other_config,
        tokenizer=model._tokenizer,
    )


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

"""Models with a smaller vocabulary than in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.adaptation.rebuild import AnyModel, encoder_of, rebuilt
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.text.serialization import tokenizer_config
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.validation import check_integer

_TEXTS_AT_ONCE = 1_024


def trim_vocabulary(
    model: AnyModel, tokenizer: Tokenizer, texts: Sequence[str], *, min_frequency: int = 1
) -> tuple[AnyModel, Tokenizer]:
    """Returns copies of a model and its tokenizer with only the tokens that occur in texts.

    Most of a multilingual model is its token table: 192 of the 278 million weights of
    XLM-RoBERTa-base. If all tokens of a text remain, it has the same tokens and the same outputs.
    The special tokens, the added tokens and the single characters of all remaining tokens stay, so
    other texts are split into shorter tokens.

    Args:
        model: Encoder, HeadedModel, or a task with one encoder. Its updates and its LoRA are
            copied.
        tokenizer: its Tokenizer.
        texts: list of str, like the texts of the application: the more, the better.
        min_frequency: int. Tokens that occur less often are removed.

    Returns:
        (a model of the same class, Tokenizer). The model is saved with the new tokenizer.

    Raises:
        ConfigError: a model without one encoder, or a vocabulary larger than the encoder's.
        DataError: no texts.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> encoder = kbz.Encoder.from_preset("tests/assets/bert_gelu")
        >>> smaller, tokenizer = kbz.trim_vocabulary(
        ...     encoder, encoder.tokenizer, ["the cat sat on the mat"])
        >>> encoder.config.vocabulary_size > smaller.config.vocabulary_size
        True

    Source: arXiv 2010.05609.
    """
    encoder = encoder_of(model)
    check_integer("min_frequency", min_frequency, minimum=1)
    if isinstance(texts, str) or not len(texts):
        raise DataError("Expected a list of texts, received one text or none.")
    size = encoder.config.vocabulary_size
    if tokenizer.vocabulary_size > size:
        raise ConfigError(
            f"Expected a tokenizer of at most {size:,} tokens, the rows of the encoder's table, "
            f"received {tokenizer.vocabulary_size:,}."
        )
    remaining = set(np.flatnonzero(_token_counts(tokenizer, texts) >= min_frequency).tolist())
    remaining |= _fixed_ids(encoder, tokenizer)
    smaller = tokenizer.subset(remaining)
    ids = {token: i for i, token in enumerate(tokenizer.vocabulary)}
    rows = [ids[token] for token in smaller.vocabulary]
    return _with_rows(model, encoder, smaller, rows), smaller


def _token_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """int64 (V,). How often each token occurs in the texts."""
    counts = np.zeros(tokenizer.vocabulary_size, np.int64)
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        ids = tokenizer.tokenize(list(texts[begin : begin + _TEXTS_AT_ONCE]))
        counts += np.bincount(ids.flat_values.numpy(), minlength=len(counts))
    return counts


def _fixed_ids(encoder: Encoder, tokenizer: Tokenizer) -> set[int]:
    """Ids to keep besides those of the texts: of padding, and the lower ones if they matter."""
    # RoBERTa's positions are counted from the id of padding, so this id must not change.
    counted = encoder.layout_options().get("padding_id")
    first = range(0 if counted is None else counted + 1)
    fixed = {*first, encoder.config.pad_token_id}
    return {i for i in fixed if i < tokenizer.vocabulary_size}


def _with_rows(
    model: AnyModel, encoder: Encoder, tokenizer: Tokenizer, rows: list[int]
) -> AnyModel:
    """Returns a copy of a model whose token tables have some of the rows."""
    new_ids = {old: new for new, old in enumerate(rows)}
    size = encoder.config.vocabulary_size
    values = {variable.path: variable for variable in model.weights}

    def edit(plain: dict[str, Any], of_encoder: dict[str, Any]) -> None:
        plain["tokenizer"] = tokenizer_config(tokenizer)
        others = [(of_encoder, "other_config")]
        if plain is not of_encoder:
            others += [(plain, name) for name in ("config", "source_config") if name in plain]
        for holder, name in others:
            holder[name] = _renumbered(holder[name], new_ids)
        heads = [plain["head"]] if "head" in plain else list(plain.get("heads", {}).values())
        for arguments in (head["config"] for head in heads):
            if "vocabulary_size" in arguments:
                arguments["vocabulary_size"] = len(rows)
            if "marker_ids" in arguments:
                arguments["marker_ids"] = [new_ids[i] for i in arguments["marker_ids"]]

    def value(path: str, shape: tuple[int, ...]) -> np.ndarray:
        table: np.ndarray = values[path].numpy()
        # In a table of tokens, and in the last layer of a masked-language-model head.
        for axis, (old, new) in enumerate(zip(table.shape, shape, strict=True)):
            if old == size != new:
                table = table.take(rows, axis)
        return table

    config = dataclasses.replace(
        encoder.config,
        vocabulary_size=len(rows),
        pad_token_id=new_ids.get(encoder.config.pad_token_id, tokenizer.pad_token_id),
    )
    return rebuilt(model, config, edit, value)


def _renumbered(config: dict[str, Any], new_ids: dict[int, int]) -> dict[str, Any]:
    """Returns Hugging Face's config with the new ids of tokens, without those that are gone."""
    changed = dict(config)
    for key, value in config.items():
        if key.endswith("_token_id") and isinstance(value, int):
            if value in new_ids:
                changed[key] = new_ids[value]
            else:
                del changed[key]
    return changed

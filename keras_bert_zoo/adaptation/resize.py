"""Encoders with more positions or a larger vocabulary than in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.adaptation.checks import check_is_encoder
from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.initializers import untouched_weights

INITIALIZATIONS = ("repeat", "interpolate")


def extend_positions(
    encoder: Encoder, positions: int, *, initialization: str = "repeat"
) -> Encoder:
    """Returns a copy of an encoder whose position table has more rows.

    Relative positions (DeBERTa) do not change: distances beyond the largest are treated as the
    largest. LoRA is merged into the copy, which is trainable. The encoder keeps its updates.

    Args:
        encoder: Encoder with a table of absolute positions.
        positions: int. Rows of the new table (`max_sequence_length`).
        initialization: how to compute the rows. "repeat": keep the old rows and append them again,
            starting with the first position of text (arXiv 2004.05150, section 5).
            "interpolate": stretch the old rows over the new length, with linear interpolation;
            this also changes the outputs of short texts.

    Returns:
        Encoder, of the same family, built with the same options.

    Raises:
        ConfigError: the encoder has no such table, `positions` is not more than its rows, or an
            unknown initialization.
    """
    check_is_encoder(encoder)
    if initialization not in INITIALIZATIONS:
        known = " or ".join(INITIALIZATIONS)
        raise ConfigError(f"Expected `initialization` to be {known}, received {initialization!r}.")
    config = encoder.config
    old = config.max_sequence_length
    if getattr(encoder.embeddings, "position_table", None) is None:
        raise ConfigError(
            f"Expected an encoder with absolute positions, received a {config.family} encoder."
        )
    if isinstance(positions, bool) or not isinstance(positions, int) or positions <= old:
        raise ConfigError(f"Expected integer `positions` above {old}, received {positions!r}.")
    first = old - config.max_tokens  # rows before the first position of text (RoBERTa's 2)

    def extend(table: np.ndarray) -> np.ndarray:
        head, body = table[:first], table[first:]
        if initialization == "repeat":
            again = np.arange(positions - first) % len(body)
            return np.concatenate([head, body[again]])
        places = np.linspace(0, len(body) - 1, positions - first)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, len(body) - 1)
        share = (places - low)[:, np.newaxis]
        return np.concatenate([head, body[low] * (1 - share) + body[high] * share])

    larger = config.with_positions(positions)
    return _rebuilt(encoder, larger, {"position_table": extend})


def extend_token_table(
    encoder: Encoder, pieces: Sequence[Sequence[int]], *, first_id: int | None = None
) -> Encoder:
    """Returns a copy of an encoder with rows for new tokens in its token table.

    A new row is the mean of the rows of its pieces, the tokens into which the old vocabulary splits
    the new token (arXiv 1911.03894 initializes new words in the same way). A token without pieces
    gets the mean of all rows. LoRA is merged into the copy, which is trainable; the encoder keeps
    its updates.

    Args:
        encoder: Encoder.
        pieces: ids of the old vocabulary, a sequence for each new token.
        first_id: int or None. Id of the first new token. A value below the table's number of rows
            reuses the last rows, which must not belong to tokens. None: the number of rows.

    Returns:
        Encoder, of the same family, built with the same options.

    Raises:
        ConfigError: no new token, or an id outside the table.
    """
    check_is_encoder(encoder)
    size = encoder.config.vocabulary_size
    first = size if first_id is None else first_id
    if not 0 < first <= size:
        raise ConfigError(f"Expected `first_id` to be from 1 to {size}, received {first_id!r}.")
    if not pieces:
        raise ConfigError("Expected `pieces` of at least one new token, received none.")
    outside = [i for ids in pieces for i in ids if not 0 <= i < size]
    if outside:
        raise ConfigError(f"Expected `pieces` of ids from 0 to {size - 1}, received {outside[0]}.")

    def extend(table: np.ndarray) -> np.ndarray:
        return extend_rows(table, pieces, first)

    rows = max(size, first + len(pieces))
    larger = dataclasses.replace(encoder.config, vocabulary_size=rows)
    return _rebuilt(encoder, larger, {"token_table": extend})


def extend_rows(table: np.ndarray, pieces: Sequence[Sequence[int]], first: int) -> np.ndarray:
    """Returns a table with rows for new tokens: each row is the mean of its pieces' rows.

    Args:
        table: array (V, ...), one row per token.
        pieces: see `extend_token_table`.
        first: int. The new tokens' first id, at most V.

    Returns:
        array (at least V, ...) of the same dtype.
    """
    rows = [table[list(ids)].mean(0) if len(ids) else table.mean(0) for ids in pieces]
    extended = [table[:first], np.stack(rows), table[first + len(rows) :]]
    return np.concatenate(extended).astype(table.dtype)


def _rebuilt(
    encoder: Encoder, config: Any, tables: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> Encoder:
    """Returns an encoder of another config with the old weights, and changes some tables."""
    with untouched_weights():  # all of them are assigned below
        rebuilt = type(encoder)(config, **encoder.build_options)
    rebuilt.other_config = dict(encoder.other_config)
    rebuilt.take_tokenizer_of(encoder)
    with merged_lora(encoder):
        old = {variable.path: variable for variable in encoder.weights}
        for variable in rebuilt.weights:
            value = old[variable.path].numpy()
            change = tables.get(variable.path.removeprefix("embeddings/"))
            variable.assign(value if change is None else change(value).astype(value.dtype))
    return rebuilt

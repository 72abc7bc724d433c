"""New tokens for a tokenizer and its encoder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from keras_bert_zoo.adaptation.checks import check_is_encoder
from keras_bert_zoo.adaptation.resize import extend_token_table
from keras_bert_zoo.adaptation.resize_heads import Model, WithHeads, extend_headed_model
from keras_bert_zoo.config import short
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import write_json
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer


@overload
def extend_vocabulary(
    encoder: Model, tokenizer: Tokenizer, tokens: Sequence[str], *, special: bool = False
) -> tuple[Model, Tokenizer]: ...


@overload
def extend_vocabulary(
    encoder: Encoder, tokenizer: Tokenizer, tokens: Sequence[str], *, special: bool = False
) -> tuple[Encoder, Tokenizer]: ...


def extend_vocabulary(
    encoder: Any,
    tokenizer: Tokenizer,
    tokens: Sequence[str],
    *,
    special: bool = False,
) -> tuple[Any, Tokenizer]:
    """Returns copies of an encoder and its tokenizer that know more tokens.

    A new token stays whole wherever it stands in a text, as after transformers' `add_tokens`. Its
    embedding starts as the mean of those of the pieces into which the tokenizer cut it before. So
    do, in a HeadedModel, kernel and bias of a masked-language-model head, tied or not: the logit
    of a new token starts as the mean of its pieces'. Other heads stay as they are.

    Args:
        encoder: Encoder, or a HeadedModel.
        tokenizer: its Tokenizer.
        tokens: new tokens, which get the ids behind the tokenizer's last, in this order.
        special: bool. Whether they are special: found in the raw text, by exact case, and left
            out by `detokenize(..., skip_special_tokens=True)`. Others are found in the
            normalized text.

    Returns:
        (Encoder or HeadedModel, Tokenizer). The model is saved with the new tokenizer.

    Raises:
        ConfigError: no tokens, one that is there already or twice, or one that this tokenizer
            cannot find exactly: two that it normalizes to the same text, for one.
    """
    if not isinstance(encoder, WithHeads):
        check_is_encoder(encoder)
    _check_tokens(tokens)
    known = sorted(set(tokens) & set(tokenizer.vocabulary))
    if known:
        raise ConfigError(f"The vocabulary has {', '.join(map(repr, known[:3]))} already.")
    first = tokenizer.vocabulary_size
    pieces = tokenizer.tokenize(list(tokens)).to_list()
    new = {
        first + i: AddedToken(token, normalized=not special, special=special)
        for i, token in enumerate(tokens)
    }
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        tokenizer.save(folder)
        _add_to_files(Path(folder), new)
        larger = load_tokenizer_directory(folder)
    _check_found(larger, tokens, first)
    if not isinstance(encoder, WithHeads):
        extended = extend_token_table(encoder, pieces, first_id=first)
        extended.tokenizer = larger
        return extended, larger
    model = extend_headed_model(encoder, pieces, first_id=first)
    model.encoder.tokenizer = model.tokenizer = larger
    return model, larger


def _check_tokens(tokens: Sequence[str]) -> None:
    listed = isinstance(tokens, list | tuple) and tokens
    if not listed or not all(isinstance(token, str) and token for token in tokens):
        raise ConfigError(f"`tokens` must be a list of non-empty strings, got {short(tokens)}.")
    if len(set(tokens)) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if token in tokens[:i])
        raise ConfigError(f"`tokens` must be different from each other, got {twice!r} twice.")
    for token in tokens:
        if any("\ud800" <= character <= "\udfff" for character in token):
            raise ConfigError(f"`tokens` must be text, got the half of a character: {token!r}.")


def _check_found(larger: Tokenizer, tokens: Sequence[str], first: int) -> None:
    """Raises ConfigError unless the tokenizer finds every new token as itself."""
    for i, ids in enumerate(larger.tokenize(list(tokens)).to_list()):
        if ids == [first + i]:
            continue
        others = [tokens[found - first] for found in ids if found >= first and found != first + i]
        reason = f", as it reads {others[0]!r}" if len(ids) == 1 and others else ""
        raise ConfigError(
            f"`tokens`: {tokens[i]!r} would never be found: the tokenizer reads it as the ids "
            f"{short(ids)}{reason}, not as {first + i}. Leave it out, or write it as the tokenizer "
            "normalizes it."
        )


def _add_to_files(folder: Path, new: dict[int, AddedToken]) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    decoder = config.setdefault("added_tokens_decoder", {})
    decoder |= {str(token_id): token.to_json() for token_id, token in new.items()}
    write_json(path, config)
    path = folder / "tokenizer.json"
    if path.is_file():
        fast = json.loads(path.read_text("utf-8"))
        fast.setdefault("added_tokens", []).extend(
            {"id": token_id, **token.to_json()} for token_id, token in new.items()
        )
        write_json(path, fast)

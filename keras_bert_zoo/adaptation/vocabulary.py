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
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import write_json
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.validation import show


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
    """Returns copies of an encoder and its tokenizer with more tokens.

    The tokenizer no longer splits a new token, as after transformers' `add_tokens`. The embedding
    of a new token starts as the mean of its pieces' embeddings. In a HeadedModel, so do the kernel
    and bias of a masked-language-model head, tied or not: the logit of a new token starts as the
    mean of its pieces' logits. Other heads do not change.

    Args:
        encoder: Encoder, or a HeadedModel.
        tokenizer: its Tokenizer.
        tokens: new tokens. They get the next ids, in this order.
        special: bool. Whether they are special tokens: matched in the raw text, case-sensitive,
            and removed by `detokenize(..., skip_special_tokens=True)`. Other tokens are matched
            in the normalized text.

    Returns:
        (Encoder or HeadedModel, Tokenizer). The model is saved with the new tokenizer.

    Raises:
        ConfigError: no tokens, a known or repeated token, or a token that the tokenizer cannot
            match, such as one of two that it normalizes to the same text.
    """
    if not isinstance(encoder, WithHeads):
        check_is_encoder(encoder)
    _check_tokens(tokens)
    known = sorted(set(tokens) & set(tokenizer.vocabulary))
    if known:
        received = ", ".join(map(repr, known[:3]))
        raise ConfigError(f"Expected new `tokens`, received {received} from the vocabulary.")
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
        expected = "a list of non-empty strings"
        raise ConfigError(f"Expected `tokens` to be {expected}, received {show(tokens)}.")
    if len(set(tokens)) != len(tokens):
        repeated = next(token for i, token in enumerate(tokens) if token in tokens[:i])
        raise ConfigError(f"Expected different `tokens`, received {repeated!r} twice.")
    for token in tokens:
        if any("\ud800" <= character <= "\udfff" for character in token):
            raise ConfigError(f"Expected `tokens` without surrogates, received {token!r}.")


def _check_found(larger: Tokenizer, tokens: Sequence[str], first: int) -> None:
    """Raises ConfigError unless the tokenizer maps every new token to its id."""
    for i, ids in enumerate(larger.tokenize(list(tokens)).to_list()):
        if ids == [first + i]:
            continue
        others = [tokens[j - first] for j in ids if j >= first and j != first + i]
        reason = f", the id of {others[0]!r}" if len(ids) == 1 and others else ""
        raise ConfigError(
            f"Expected the id {first + i} for {tokens[i]!r} of `tokens`, received {show(ids)} "
            f"from the tokenizer{reason}. Leave the token out, or write it as the tokenizer "
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

"""New tokens for a tokenizer and its encoder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.resize import extend_token_table
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import write_json
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer


def extend_vocabulary(
    encoder: Encoder, tokenizer: Tokenizer, tokens: Sequence[str], *, special: bool = False
) -> tuple[Encoder, Tokenizer]:
    """Returns copies of an encoder and its tokenizer that know more tokens.

    A new token stays whole wherever it stands in a text, as after transformers' `add_tokens`. Its
    embedding starts as the mean of those of the pieces into which the tokenizer cut it before.
    Heads are not extended: give the results to a new task, to be trained.

    Args:
        encoder: Encoder.
        tokenizer: its Tokenizer.
        tokens: new tokens, which get the ids behind the tokenizer's last, in this order.
        special: bool. Whether they are special: found in the raw text, by exact case, and left
            out by `detokenize(..., skip_special_tokens=True)`. Others are found in the
            normalized text.

    Returns:
        (Encoder, Tokenizer).

    Raises:
        ConfigError: no tokens, one that is there already or twice, or one that this tokenizer
            cannot find exactly.
    """
    if isinstance(tokens, str) or not tokens or len(set(tokens)) != len(tokens):
        raise ConfigError(f"`tokens` must be a list of different strings, got {tokens!r:.80}.")
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
    return extend_token_table(encoder, pieces, first_id=first), larger


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

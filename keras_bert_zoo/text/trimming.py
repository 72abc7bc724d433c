"""Removes from a vocabulary the tokens that given texts do not need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.strings import chunks
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer


def trimmed_tokenizer(tokenizer: Tokenizer, texts: Sequence[str]) -> WordPieceTokenizer:
    """Returns a tokenizer with the same result on some texts and only the tokens in it.

    Args:
        tokenizer: WordPieceTokenizer.
        texts: list of str or bytes.

    Returns:
        WordPieceTokenizer, with all added tokens. Tokens keep their order.

    Raises:
        ConfigError: the tokenizer is of another kind, or `texts` is one string.

    Example:
        >>> tokenizer = WordPieceTokenizer(
        ...     ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog"])
        >>> trimmed_tokenizer(tokenizer, ["a dog"]).vocabulary
        ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'dog']
    """
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise ConfigError(
            f"Expected a WordPieceTokenizer, received a {type(tokenizer).__name__}. Without some "
            "of its pieces, it would split texts differently."
        )
    if isinstance(texts, str | bytes):
        raise ConfigError("Expected a list of texts, received one string. Put it in a list.")
    used: set[int] = set()
    for _, chunk in chunks(texts):
        used.update(np.unique(tokenizer.tokenize(chunk).values.numpy()).tolist())
    added = {token.content for token in tokenizer.added_tokens}
    pieces = [
        piece for index, piece in enumerate(tokenizer.pieces) if index in used or piece in added
    ]
    tokens = [dataclasses.replace(token, id=None) for token in tokenizer.added_tokens]
    return WordPieceTokenizer(pieces, dataclasses.replace(tokenizer.options, added_tokens=tokens))

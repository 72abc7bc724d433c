"""Vocabularies without the tokens that some texts do not need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

_AT_ONCE = 4096  # texts


def trimmed_tokenizer(tokenizer: Tokenizer, texts: Sequence[str]) -> WordPieceTokenizer:
    """A tokenizer that reads some texts as another does, with the tokens alone that these take.

    Args:
        tokenizer: WordPieceTokenizer.
        texts: list of str or bytes.

    Returns:
        WordPieceTokenizer. Its tokens are in the order of the old ones, added tokens among them.

    Raises:
        ConfigError: a tokenizer of another kind, or one string instead of a list.
    """
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise ConfigError(
            f"Only a WordPiece vocabulary can be trimmed, got a {type(tokenizer).__name__}: its "
            "merges or scores would no longer cut texts alike."
        )
    if isinstance(texts, str | bytes):
        raise ConfigError("Expected a list of texts, got one string. Put it in a list.")
    used: set[int] = set()
    for begin in range(0, len(texts), _AT_ONCE):
        ids = tokenizer.tokenize(list(texts[begin : begin + _AT_ONCE])).values.numpy()
        used.update(np.unique(ids).tolist())
    added = {token.content for token in tokenizer.added_tokens}
    pieces = [
        piece for index, piece in enumerate(tokenizer.pieces) if index in used or piece in added
    ]
    return WordPieceTokenizer(
        pieces,
        lowercase=tokenizer.lowercase,
        strip_accents=tokenizer.strip_accents,
        handle_chinese_chars=tokenizer.handle_chinese_chars,
        unk_token=tokenizer.unk_token,
        cls_token=tokenizer.cls_token,
        sep_token=tokenizer.sep_token,
        pad_token=tokenizer.pad_token,
        mask_token=tokenizer.mask_token,
        additional_special_tokens=tokenizer.additional_special_tokens,
        added_tokens=[dataclasses.replace(token, id=None) for token in tokenizer.added_tokens],
        max_characters_per_word=tokenizer.max_characters_per_word,
        max_length=tokenizer.max_length,
        separators_between=tokenizer.separators_between,
        second_segment_id=tokenizer.second_segment_id,
        cls_segment_id=tokenizer.cls_segment_id,
        trim_offsets=tokenizer.trim_offsets,
        tokenizer_class=tokenizer.tokenizer_class,
    )

"""Words of languages that do not separate them: by jieba, or by spaces in the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.extras import check_package

__all__ = ["WORD_BOUNDARIES", "WordFinder", "word_begin_flags", "word_finder"]

WORD_BOUNDARIES = ("vocabulary", "spaces", "jieba")
"""Where words begin: at tokens that the vocabulary marks, after spaces, or where jieba says."""

WordFinder = Callable[[str], Sequence[str]]
"""Splits a text into words whose concatenation is the text."""


def word_finder(name: str) -> WordFinder | None:
    """Returns the function that finds words; None for "vocabulary".

    Args:
        name: str. One of `WORD_BOUNDARIES`.

    Raises:
        ConfigError: an unknown name, or the package jieba is not installed.

    Example:
        >>> word_finder("spaces")("a bc")
        ['a', ' bc']
    """
    if name not in WORD_BOUNDARIES:
        raise ConfigError(
            f"expected `word_boundaries` to be one of {', '.join(WORD_BOUNDARIES)}, received "
            f"{name!r}"
        )
    if name == "vocabulary":
        return None
    if name == "spaces":
        return _by_spaces
    check_package("jieba", "`word_boundaries='jieba'`", extra="chinese")
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    return lambda text: list(jieba.cut(text))


def _by_spaces(text: str) -> list[str]:
    words, begin = [], 0
    for place in range(1, len(text)):
        if text[place].isspace() and not text[place - 1].isspace():
            words.append(text[begin:place])
            begin = place
    return [*words, text[begin:]] if text else []


def word_begin_flags(texts: Sequence[str], starts: Any, find_words: WordFinder) -> np.ndarray:
    """Marks the tokens at which words begin.

    A token begins a word if a word begins after the start of the token before it, and not after
    its own start.

    Args:
        texts: list of B str.
        starts: int RaggedTensor (B, tokens), the byte offsets of the tokens in the texts.
        find_words: WordFinder.

    Returns:
        bool (T,), for the tokens of all texts.
    """
    flags = []
    for text, row in zip(texts, _rows(starts), strict=True):
        sizes = [len(word.encode("utf-8", "surrogatepass")) for word in find_words(text)]
        begins = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, np.int64)
        word = np.searchsorted(begins, row, side="right")
        flags.append(np.diff(word, prepend=-1) != 0)
    return np.concatenate([np.zeros(0, bool), *flags])


def _rows(starts: Any) -> list[np.ndarray]:
    values, splits = starts.values.numpy(), starts.row_splits.numpy()
    return np.split(values, splits[1:-1]) if len(splits) > 1 else []

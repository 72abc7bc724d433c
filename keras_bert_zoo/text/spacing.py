"""Removes the spaces that written text does not have from detokenized text."""

from __future__ import annotations

import tensorflow as tf

# Scripts that are written without spaces, and their punctuation.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\x{3000}-\x{303F}\x{FF00}-\x{FFEF}]"
# Pattern -> replacement, in the order of application. The last ones are those of
# `clean_up_tokenization_spaces` in transformers.
_RULES = (
    (rf"({_UNSPACED}) +", r"\1"),
    (rf" +({_UNSPACED})", r"\1"),
    (r"([\x{2014}\x{2026}]) +([\x{2014}\x{2026}])", r"\1\2"),  # pairs of dashes and of ellipses
    (r" ([.?!,])", r"\1"),
    (r" ' ", "'"),
    (r" (n't|'m|'s|'ve|'re)", r"\1"),
    (r" \x{2019} (s|t|m|d|ve|re|ll)\b", "\u2019\\1"),
)


def natural_spacing(texts: tf.Tensor) -> tf.Tensor:
    """Removes spaces between pieces that written text does not have.

    Removes the spaces next to Chinese characters, kana and their punctuation. Also removes those
    before . ? ! and , and around apostrophes, as transformers does.

    Args:
        texts: string (B,), the result of `Tokenizer.detokenize` of WordPiece.

    Returns:
        string (B,).

    >>> natural_spacing(tf.constant(["我 在 用 python 。", "it ' s here , too ."])).numpy()[1]
    b"it's here, too."
    """
    for pattern, replacement in _RULES:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts

"""Spaces where a reader expects them, in text joined from pieces of words."""

from __future__ import annotations

import tensorflow as tf

# Scripts written without spaces, and the punctuation that goes with them.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\x{3000}-\x{303F}\x{FF00}-\x{FFEF}]"
# Pattern -> replacement, applied in this order. The latter ones are transformers'
# `clean_up_tokenization_spaces`.
_RULES = (
    (rf"({_UNSPACED}) +", r"\1"),
    (rf" +({_UNSPACED})", r"\1"),
    (r"([\x{2014}\x{2026}]) +([\x{2014}\x{2026}])", r"\1\2"),  # dashes and dots come in pairs
    (r" ([.?!,])", r"\1"),
    (r" ' ", "'"),
    (r" (n't|'m|'s|'ve|'re)", r"\1"),
    (r" \x{2019} (s|t|m|d|ve|re|ll)\b", "\u2019\\1"),
)


def natural_spacing(texts: tf.Tensor) -> tf.Tensor:
    """Takes spaces away that stand between pieces, but not between words as they are written.

    Those beside Chinese characters, kana and their punctuation; before . ? ! and , and around
    apostrophes, as transformers does.

    Args:
        texts: string (B,), what `Tokenizer.detokenize` of WordPiece gave.

    Returns:
        string (B,).

    >>> natural_spacing(tf.constant(["我 在 用 python 。", "it ' s here , too ."])).numpy()[1]
    b"it's here, too."
    """
    for pattern, replacement in _RULES:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts

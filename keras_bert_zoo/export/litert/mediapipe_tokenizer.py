"""The tokenizer of MediaPipe's text tasks, to compare it with BERT's."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

_LONGEST_WORD = 100  # bytes
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


@dataclass(frozen=True)
class Differences:
    """The texts that MediaPipe tokenizes differently.

    Attributes:
        texts: int. All texts.
        different: int. Those with other token ids.
        reasons: reason -> number of these texts that it explains. A text may have several.
    """

    texts: int
    different: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        """Returns one line."""
        if not self.different:
            return f"MediaPipe tokenizes all {self.texts} texts as the model does"
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.items())
        return f"MediaPipe tokenizes {self.different} of {self.texts} texts differently: {reasons}"


class MediaPipeTokenizer:
    """Tokenizes texts as MediaPipe's BertTokenizer does with a vocabulary.

    Args:
        tokenizer: WordPieceTokenizer, which has the vocabulary.

    Call arguments:
        text: str.

    Returns:
        list of int, the token ids without special tokens around them.

    Example:
        >>> from keras_bert_zoo import WordPieceTokenizer
        >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able", "!"]
        >>> MediaPipeTokenizer(WordPieceTokenizer(tokens))("Unable! É")
        [5, 6, 7, 1]

    Source: mediapipe/tasks/cc/text/tokenizers/bert_tokenizer.h and tf.text's WordPiece kernel.
    """

    def __init__(self, tokenizer: WordPieceTokenizer) -> None:
        self._ids = {piece: index for index, piece in enumerate(tokenizer.pieces)}
        self._unknown = tokenizer.unk_token_id

    def __call__(self, text: str) -> list[int]:
        """Tokenizes a text; see the class."""
        words = _delimiters().split(text.translate(_ASCII_LOWER))
        return [token for word in words if word for token in self._pieces(word)]

    def _pieces(self, word: str) -> list[int]:
        """Splits a word into the longest pieces of the vocabulary, from left to right."""
        if len(word.encode("utf-8", "replace")) > _LONGEST_WORD:
            return [self._unknown]
        ids: list[int] = []
        begin = 0
        while begin < len(word):
            sign = "##" if begin else ""
            ends = range(len(word), begin, -1)
            end = next((end for end in ends if sign + word[begin:end] in self._ids), None)
            if end is None:
                return [self._unknown]
            ids.append(self._ids[sign + word[begin:end]])
            begin = end
        return ids


def compare_tokenization(
    tokenizer: WordPieceTokenizer, texts: Sequence[str | bytes]
) -> Differences:
    """Counts the texts that MediaPipe tokenizes differently, and explains them.

    Args:
        tokenizer: WordPieceTokenizer.
        texts: list of str or bytes.

    Returns:
        Differences.

    Example:
        >>> from keras_bert_zoo import WordPieceTokenizer
        >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "bar"]
        >>> print(compare_tokenization(WordPieceTokenizer(tokens), ["Bar cafe", "café"]))
        MediaPipe tokenizes 1 of 2 texts differently: accents 1
    """
    ours = tokenizer.tokenize(list(texts)).to_list()
    theirs = MediaPipeTokenizer(tokenizer)
    reasons: Counter[str] = Counter()
    different = 0
    for text, ids in zip(texts, ours, strict=True):
        decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
        if theirs(decoded) != ids:
            different += 1
            reasons.update(_reasons(tokenizer, decoded))
    return Differences(len(ours), different, dict(reasons.most_common()))


@functools.cache
def _delimiters() -> re.Pattern[str]:
    """Matches spaces, and the characters that are words: punctuation and ideographs."""
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "P"]
    symbols = "".join(map(chr, [*range(0x21, 0x30), *range(0x3A, 0x41), *range(0x5B, 0x61)]))
    symbols += "".join(map(chr, range(0x7B, 0x7F)))
    ranges = "".join(f"{chr(first)}-{chr(last)}" for first, last in _IDEOGRAPHS)
    return re.compile(f"[ \t\n\f\r]+|([{re.escape(symbols + ''.join(marks))}{ranges}])")


def _reasons(tokenizer: WordPieceTokenizer, text: str) -> list[str]:
    """Returns the properties of a text that MediaPipe's tokenizer treats differently."""
    decomposed = unicodedata.normalize("NFD", text)
    checks = {
        "accents": any(unicodedata.category(c) == "Mn" for c in decomposed),
        "upper case beyond ASCII": any(not c.isascii() and c != c.lower() for c in text),
        "special tokens": any(token in text for token in tokenizer.special_tokens),
        "control characters": any(
            unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn") and c not in "\t\n\r" for c in text
        )
        or "\ufffd" in text,
        "other spaces": any(c.isspace() and c not in " \t\n\f\r" for c in text),
        "long words": any(len(word.encode("utf-8", "replace")) > 100 for word in text.split()),
    }
    return [reason for reason, applies in checks.items() if applies] or ["other reasons"]

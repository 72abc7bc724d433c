"""BERT's character rules as a buffer for TensorFlow Text's FastBertNormalizer op.

The op replaces each code point by a table from a constant. Its default table differs from BERT: it
folds compatibility characters, and puts spaces where BERT deletes. The table of this module follows
Hugging Face's fast BERT tokenizer. It deletes a code point, replaces it by a space, decomposes it
and removes the accents, lowercases it, or puts spaces around it.

The WordPiece op runs next. It splits words at punctuation and ideographs of the Unicode version it
was compiled with. If BERT splits and the op may not, the table puts spaces. If the op may split and
BERT does not, the table puts a stand-in from the private use planes. BERT deletes these characters,
so texts do not need them.

Bytes that are not UTF-8 are deleted. BERT reads them as U+FFFD and deletes it.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_bert_zoo.text.sentencepiece import double_array

_HANGUL_FIRST, _HANGUL_LAST = 0xAC00, 0xD7A3
_STAND_IN_FIRST, _STAND_IN_LAST = 0xF0000, 0xFFFFD


@dataclass(frozen=True)
class UnicodeRules:
    """The rules of `unicode_rules.json` (written by tools/make_unicode_tables.py)."""

    deleted: frozenset[int]
    spaces: frozenset[int]
    ideographs: frozenset[int]
    punctuation: frozenset[int]
    stripped: dict[int, str]
    lowered: dict[int, str]
    op_splits: frozenset[int]
    op_may_split: frozenset[int]


@functools.cache
def unicode_rules() -> UnicodeRules:
    """Returns the rules, and reads their file only once."""
    source = importlib.resources.files(__package__).joinpath("unicode_rules.json")
    data = json.loads(source.read_text("utf-8"))

    def characters(key: str) -> frozenset[int]:
        return frozenset(c for first, last in data[key] for c in range(first, last + 1))

    def mapping(key: str) -> dict[int, str]:
        return {int(c, 16): text for c, text in data[key].items()}

    return UnicodeRules(
        deleted=characters("deleted"),
        spaces=characters("spaces"),
        ideographs=characters("ideographs"),
        punctuation=characters("punctuation"),
        stripped=mapping("stripped"),
        lowered=mapping("lowered"),
        op_splits=characters("op_splits"),
        op_may_split=characters("op_may_split"),
    )


class BertNormalizer:
    """BERT's rules for code points, with the stand-ins that the WordPiece op needs.

    Args:
        lowercase: bool. Lowercase every character.
        strip_accents: bool. Decompose (NFD) and remove nonspacing marks.
        handle_chinese_chars: bool. Put spaces around every CJK ideograph.
        vocabulary_characters: the characters of the vocabulary. If only the op would split at one,
            it gets a separate stand-in. All other characters share one stand-in, because a word
            with such a character is unknown.

    Source: `BertNormalizer` and `BertPreTokenizer` of Hugging Face tokenizers.
    """

    def __init__(
        self,
        *,
        lowercase: bool,
        strip_accents: bool,
        handle_chinese_chars: bool,
        vocabulary_characters: Iterable[str] = (),
    ) -> None:
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.handle_chinese_chars = handle_chinese_chars
        rules = unicode_rules()
        split = set(rules.punctuation)
        if handle_chinese_chars:
            split |= rules.ideographs
        # BERT and every version of the op split at these characters.
        self._split_by_op = split & rules.op_splits
        self._split_by_spaces = split - rules.op_splits
        self._not_split = rules.op_may_split - split - rules.spaces - rules.deleted
        self._shared_stand_in = chr(_STAND_IN_FIRST)
        known = sorted({ord(c) for c in vocabulary_characters} & self._not_split)
        self._stand_ins = {
            c: chr(stand_in)
            for c, stand_in in zip(
                known, range(_STAND_IN_FIRST + 1, _STAND_IN_LAST + 1), strict=False
            )
        }
        self._rules = rules

    def stand_in(self, char: str) -> str:
        """Returns the character that replaces a normalized character for the WordPiece op."""
        if ord(char) in self._not_split:
            return self._stand_ins.get(ord(char), self._shared_stand_in)
        return char

    def never_in_word(self, char: str) -> bool:
        """Returns whether BERT deletes the character or replaces it by a space."""
        return ord(char) in self._rules.deleted or ord(char) in self._rules.spaces

    def map_character(self, c: int) -> str:
        """Returns the text of the code point `c` for the WordPiece op."""
        rules = self._rules
        if c in rules.deleted:
            return ""
        if c in rules.spaces:
            return " "
        text = chr(c)
        if self.strip_accents:
            if _HANGUL_FIRST <= c <= _HANGUL_LAST:
                text = _decompose_hangul(c)
            else:
                text = rules.stripped.get(c, text)
        if self.lowercase:
            text = "".join(rules.lowered.get(ord(char), char) for char in text)
        text = "".join(
            f" {char} " if ord(char) in self._split_by_spaces else self.stand_in(char)
            for char in text
        )
        if not self.handle_chinese_chars or c not in rules.ideographs:
            return text
        apart = all(ord(char) in self._split_by_op for char in text)
        return text if apart else f" {text} "

    def changed_characters(self) -> dict[int, str]:
        """Returns the code points that change and their texts, without deleted ones."""
        rules = self._rules
        candidates = set(rules.spaces) | self._split_by_spaces | self._not_split
        if self.lowercase:
            candidates.update(rules.lowered)
        if self.strip_accents:
            candidates.update(rules.stripped)
            candidates.update(range(_HANGUL_FIRST, _HANGUL_LAST + 1))
        if self.handle_chinese_chars:
            # Only ideographs that decompose, or that the op does not split, can need spaces.
            candidates.update(
                c
                for c in rules.ideographs
                if c not in self._split_by_op or (self.strip_accents and c in rules.stripped)
            )
        candidates -= rules.deleted
        changed = {c: self.map_character(c) for c in candidates}
        return {c: text for c, text in changed.items() if text != chr(c)}

    def buffer(self) -> np.ndarray:
        """Returns the table as the flatbuffer of the FastBertNormalizer op: uint8 (bytes,)."""
        return _buffer(
            self.lowercase,
            self.strip_accents,
            self.handle_chinese_chars,
            "".join(map(chr, self._stand_ins)),
        )


@functools.lru_cache(maxsize=8)  # tokenizers with equal rules share it: it takes 0.4 s
def _buffer(
    lowercase: bool, strip_accents: bool, handle_chinese_chars: bool, own_stand_ins: str
) -> np.ndarray:
    normalizer = BertNormalizer(
        lowercase=lowercase,
        strip_accents=strip_accents,
        handle_chinese_chars=handle_chinese_chars,
        vocabulary_characters=own_stand_ins,
    )
    deleted = unicode_rules().deleted
    return double_array.build_normalizer_buffer(normalizer.changed_characters(), deleted)


def _decompose_hangul(c: int) -> str:
    """Returns the decomposition of a Hangul syllable (The Unicode Standard, section 3.12)."""
    index = c - _HANGUL_FIRST
    lead, vowel, tail = index // 588, index % 588 // 28, index % 28
    text = chr(0x1100 + lead) + chr(0x1161 + vowel)
    return text + chr(0x11A7 + tail) if tail else text

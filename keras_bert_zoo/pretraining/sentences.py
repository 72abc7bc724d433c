"""Sentence splitting: by lines, by a stated rule, or with the user's own function."""

from __future__ import annotations

import os
import pkgutil
import re
import sys
from collections.abc import Callable

from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["SentenceSplitter", "sentence_splitter", "split_by_rules", "split_lines"]

SentenceSplitter = Callable[[str], list[str]]

_CLOSERS = "\"'”’»›)\\]}」』】》〉〕）］｝"
_OPENERS = "\"'“‘„‚«‹([{¿¡「『【《〈〔（［｛"

# Ends of sentences that need no white space after them: Chinese and Japanese, then Arabic,
# Urdu, Devanagari, Armenian, Ethiopic, Khmer and Burmese.
_FULL_STOPS = "。！？｡؟۔।॥։።។။"
_CJK = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"

_LATIN_STOPS = ".!?…"
_STOPS = f"[{_FULL_STOPS}．{_LATIN_STOPS}⋯]"

# A pattern that begins with a set of characters is much faster than one that begins with a choice.
# The possessive quantifiers, and the lookbehind for the first of several signs, keep the time
# linear, also for a line of dots.
_END = re.compile(
    rf"""
    {_STOPS}
    (?:
      (?: (?<=[{_FULL_STOPS}]) | (?<=．)(?!\d) | (?<=[{_CJK}][…⋯]) ) {_STOPS}*+ [{_CLOSERS}]*+
      |
      (?<=[{_LATIN_STOPS}]) (?<![{_LATIN_STOPS}]{{2}}) (?P<more> [{_LATIN_STOPS}]*+ [{_CLOSERS}]*+ )
      (?=\s)
    )
    """,
    re.VERBOSE,
)
_NEXT = re.compile(rf"\s*+[{re.escape(_OPENERS)}]*+(.)?", re.DOTALL)
_WORD_CHARACTERS = 24  # a longer word is no abbreviation

# Words before a period that ends no sentence: titles, references, and abbreviations that a name, a
# number or a further word follows. In lower case.
_ABBREVIATIONS = frozenset(
    # English
    "mr mrs ms messrs dr prof rev hon gen col capt lt maj sgt cmdr adm gov sen rep pres st mt ft "
    "vs cf viz approx dept est "
    # German
    "hr fr bzw ca evtl ggf sog vgl inkl exkl zzgl geb abb "
    # French, Spanish, Italian, Portuguese, Dutch
    "mme mlle mm sr sra srta dra ud uds sig dott dhr mevr "
    # English and other languages, months
    "jan feb mar apr jun jul aug sep sept oct nov dec okt dez".split()
)
# Words before a period that ends no sentence if a number follows.
_BEFORE_NUMBERS = frozenset(
    "no nos nr fig figs sec sect ch chap vol vols p pp art eq eqs ref refs tab par abs bd s "
    "núm n tel ext".split()
)
# One letter ("J. Smith"), and letters with a period after each ("e.g.", "U.S.", "z.B.").
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
# Numbers of a list, and ordinal numbers as German and others write them ("3. Oktober").
_ORDINAL = re.compile(r"\d{1,2}")


def sentence_splitter(name: str) -> SentenceSplitter:
    """Returns the function of a way to split text into sentences.

    Args:
        name: str. One of:
            "lines": each line is a sentence; see `split_lines`.
            "rules": a rule for Latin, Chinese and Japanese scripts; see `split_by_rules`.
            "MODULE:FUNCTION": a function of your own, from a string to a list of strings, such as
            "my_package.sentences:split". The module is imported, which runs its code. It may be an
            installed one or a file in the current folder.

    Returns:
        function from a string to a list of strings.

    Raises:
        ConfigError: an unknown name, the module cannot be imported, or it has no such function.
        DataError: from the returned function, if the user's function returns something else than a
            list of strings.

    >>> sentence_splitter("rules")("It works. Does it? 是的。好！")
    ['It works.', 'Does it?', '是的。', '好！']
    """
    if name == "lines":
        return split_lines
    if name == "rules":
        return split_by_rules
    module, colon, function = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not (module and colon and function):
        raise ConfigError(
            'expected sentences to be "lines", "rules" or "MODULE:FUNCTION", a function of your '
            f"own, received {name!r}"
        )
    return _Checked(name, _imported(name))


def split_lines(text: str) -> list[str]:
    r"""Splits a text at line feeds; leaves out blank lines and white space around lines.

    >>> split_lines(" One line. Still it.\n\nAnother")
    ['One line. Still it.', 'Another']
    """
    return [line for line in map(str.strip, text.split("\n")) if line]


def split_by_rules(text: str) -> list[str]:
    """Splits a text into sentences by a rule for Latin, Chinese and Japanese scripts.

    A sentence ends
    - at a line feed;
    - after one or more of `。！？｡` and the full stops of some other scripts (`؟۔।॥։።។။`), after
      `．` without a digit after it, and after `…` or `⋯` that follows a Chinese or Japanese
      character. Closing quotes and brackets after them belong to the sentence;
    - after one or more of `.!?…`, and closing quotes and brackets, if white space follows, unless
      a lower-case letter or another of these signs comes next.

    A single period ends no sentence
    - after an abbreviation such as Mr, Dr, Prof, vs, bzw, Mme or a short month ("Dec. 24");
    - after No, Fig, p, Nr and the like, if a number follows;
    - after a single letter ("J. Smith") and letters with periods ("e.g.", "U.S.");
    - after a number of one or two digits ("3. Oktober").

    So two sentences can stay one, such as after "the U.S." The rule does not know languages. The
    time is linear in the length of the text.

    Args:
        text: str.

    Returns:
        list of str, without white space around them; together they have all other characters of
        the text.

    >>> split_by_rules('Dr. Li said: "Stop!" She left at 3.15. 她说：“好的。”然后走了。')
    ['Dr. Li said: "Stop!"', 'She left at 3.15.', '她说：“好的。”', '然后走了。']
    """
    sentences: list[str] = []
    for line in text.split("\n"):
        begin = 0
        for match in _END.finditer(line):
            more = match[1]
            if more is None or _is_end(line, begin, match, more):
                end = match.end()
                sentences.append(line[begin:end].strip())
                begin = end
        if rest := line[begin:].strip():
            sentences.append(rest)
    return sentences


def _is_end(line: str, begin: int, match: re.Match[str], more: str) -> bool:
    """Returns whether a sign that white space follows ends a sentence.

    Args:
        line: str.
        begin: int. The start of the sentence.
        match: a match of `_END`.
        more: str. The characters of the match after the first.
    """
    at, end = match.span()
    following = line[end + 1 : end + 2]
    if not following.isalnum():
        after = _NEXT.match(line, end)
        following = (after[1] if after else None) or ""
    if following.islower() or (following and following in _LATIN_STOPS):
        return False
    if more or line[at] != ".":
        return True
    before = line[max(begin, at - _WORD_CHARACTERS) : at].split()
    if not before or line[at - 1].isspace():
        return True
    word = before[-1].lstrip(_OPENERS)
    if _INITIALS.fullmatch(word) or _ORDINAL.fullmatch(word):
        return False
    word = word.lower()
    return not (word in _ABBREVIATIONS or (word in _BEFORE_NUMBERS and following.isdecimal()))


class _Checked:
    """A user's function with a check of its results."""

    def __init__(self, name: str, function: Callable[[str], object]) -> None:
        self._name = name
        self._function = function

    def __call__(self, text: str) -> list[str]:
        sentences = self._function(text)
        if not isinstance(sentences, list) or not all(isinstance(item, str) for item in sentences):
            raise DataError(
                f"expected a list of strings from {self._name}, received "
                f"{type(sentences).__name__}: {str(sentences)[:100]!r}"
            )
        return sentences


def _imported(name: str) -> Callable[[str], object]:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        function = pkgutil.resolve_name(name)
    except Exception as error:  # the user's module may raise anything
        raise ConfigError(
            f"expected a function MODULE:FUNCTION, but {name!r} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(function):
        raise ConfigError(
            f"expected a function MODULE:FUNCTION, but {name!r} is of type "
            f"{type(function).__name__}"
        )
    return function

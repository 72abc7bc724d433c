"""Tags of words and the entities they encode: IOB1, IOB2, IOBES, IO, and one label per word.

The schemes, for an entity of two words followed by an entity of one word:

    IOB1    I-PER I-PER B-PER      B- only between two entities of one type
    IOB2    B-PER I-PER B-PER
    IOBES   B-PER E-PER S-PER      also written BILOU and BMES: L is E, U is S, M is I
    IO      PER   PER   PER        adjacent words of one type form one entity, here a single one
    words   NOUN  VERB  NOUN       each word has its label, for example its part of speech

Source: Ramshaw and Marcus 1995 (IOB1), Ratnaparkhi 1998 (IOB2); chunks as in seqeval.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from keras_bert_zoo.errors import ConfigError

__all__ = [
    "MODEL_SCHEMES",
    "OUTSIDE",
    "SCHEMES",
    "UnclearTag",
    "check_scheme",
    "chunks",
    "fault",
    "plain_tags",
    "split_tag",
]

SCHEMES = ("IOB1", "IOB2", "IOBES", "IO", "words")
"""The schemes of files."""
MODEL_SCHEMES = ("IOB2", "IOBES", "IO", "words")
"""The schemes of models; IOB1 is converted to IOB2."""
OUTSIDE = "O"
UNNAMED = "ENTITY"
"""The type of entities in a file with only the tags B, I and O."""

_PREFIXED = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
_SAME = {"L": "E", "U": "S", "M": "I"}
# Other ways to write a prefix: B_PER, PER-B, PER_B. W is the S of BMEWO.
_WRITTEN_BEFORE = re.compile(r"(?P<prefix>[BIESLUMW])[-_](?P<kind>.+)", re.DOTALL)
_WRITTEN_AFTER = re.compile(r"(?P<kind>.+)[-_](?P<prefix>[BIESLUMW])", re.DOTALL)
_ALLOWED = {"IOB1": "IB", "IOB2": "BI", "IOBES": "BIES"}

# The prefixes that may follow each prefix within an entity.
_CONTINUATIONS = {"B": "IE", "I": "IE", "E": "", "S": "", "O": ""}


def check_scheme(scheme: str, known: Sequence[str] = SCHEMES) -> str:
    """Returns a scheme by name, in any case; BIOES, BILOU and BMES are names of IOBES.

    Returns:
        str, one of `known`.

    Raises:
        ConfigError: the scheme is not one of `known`.
    """
    names = {name.lower(): name for name in known} | {"bio": "IOB2", "iob": "IOB1"}
    if "IOBES" in known:
        names |= dict.fromkeys(("bioes", "bilou", "bmes", "bmeso", "ioblu"), "IOBES")
    match = names.get(str(scheme).lower(), "")
    if match not in known:
        raise ConfigError(f"expected a scheme of {', '.join(known)}, received {scheme!r}")
    return match


def split_tag(tag: str, scheme: str) -> tuple[str, str]:
    """Splits a tag into its prefix and its type.

    Args:
        tag: str.
        scheme: str, one of `SCHEMES`.

    Returns:
        (prefix, type) such as ("B", "PER"); ("O", "") outside; ("", tag) without a prefix.
    """
    if tag == OUTSIDE:
        return ("O", "")
    if scheme in ("IO", "words"):
        return ("", tag)
    match = _PREFIXED.fullmatch(tag)
    if match is None:
        return ("", tag)
    return (_SAME.get(match[1], match[1]), match[2])


def guess_scheme(tags: Iterable[str]) -> str:
    """Guesses the scheme of tags; returns IOB2 also for IOB1, which has the same tags.

    Args:
        tags: the tags that occur.

    Returns:
        str, one of `MODEL_SCHEMES`.
    """
    seen = set(tags)
    prefixes = {match[1] for tag in seen if (match := _PREFIXED.fullmatch(tag))}
    if not prefixes:
        return "IO" if OUTSIDE in seen else "words"
    return "IOBES" if prefixes & set("ESLUM") else "IOB2"


class UnclearTag(ConfigError):
    """A tag is ambiguous.

    Args:
        message: str.
        tag: str. The ambiguous tag.
    """

    def __init__(self, message: str, tag: str) -> None:
        super().__init__(message)
        self.tag = tag


def plain_tags(tags: Iterable[str], *, prefixed: bool = False) -> dict[str, str]:
    """Maps tags such as B_PER, PER-B, PER_B and b-per to the form B-PER.

    Tags without a type (B, I and O) get the type `UNNAMED`.

    All tags except O must have one of these forms, and some type must occur with both B and I (or
    another inside prefix). Otherwise the tags are type names.

    >>> plain_tags(["O", "PER_B", "PER_I"])
    {'PER_B': 'B-PER', 'PER_I': 'I-PER'}
    >>> plain_tags(["O", "B_cell", "T_cell"])
    {}
    >>> plain_tags(["B", "I", "O"])
    {'B': 'B-ENTITY', 'I': 'I-ENTITY'}

    Args:
        tags: the tags that occur.
        prefixed: bool. Whether the tags are known to have prefixes.

    Returns:
        dict that maps the tags that change to their new form.

    Raises:
        UnclearTag: only some tags have one of these forms, or the form may be accidental.
    """
    seen = set(tags)
    lower = OUTSIDE not in seen and OUTSIDE.lower() in seen
    outside = OUTSIDE.lower() if lower else OUTSIDE
    named = sorted(seen - {outside})
    letters = {tag.upper() if lower else tag for tag in named}
    if "B" in letters and letters & set("IMEL") and letters <= set("BIESLUMW"):
        # There is a single type, without a name.
        names = {tag: tag.upper().replace("W", "S") for tag in named}
        changed = {tag: f"{name}-{UNNAMED}" for tag, name in names.items()}
        return changed | ({outside: OUTSIDE} if lower else {})
    if not named or (not lower and all(_PREFIXED.fullmatch(tag) for tag in named)):
        return {}
    for pattern in (_WRITTEN_BEFORE, _WRITTEN_AFTER):
        parts: dict[str, tuple[str, str]] = {}
        of_kind: dict[str, set[str]] = {}
        for tag in named:
            match = pattern.fullmatch(_upper_prefix(tag, pattern) if lower else tag)
            if match:
                parts[tag] = (match["prefix"], match["kind"])
                of_kind.setdefault(match["kind"], set()).add(match["prefix"])
        # A type name may end in -B by chance, but not if the same name also occurs with -I.
        sure = prefixed or any("B" in one and one & set("IMEL") for one in of_kind.values())
        whole = len(parts) == len(named)
        if whole and sure:
            names = {
                tag: f"{'S' if prefix == 'W' else prefix}-{kind}"
                for tag, (prefix, kind) in parts.items()
            }
            changed = {tag: name for tag, name in names.items() if tag != name}
            return changed | ({outside: OUTSIDE} if lower else {})
        if whole and outside in seen:
            raise UnclearTag(
                "expected a type or a tag with a prefix, "
                f"received {named[0]!r}, which may be both; "
                "give `scheme=IO` or `scheme=IOB2`",
                named[0],
            )
        if sure and parts and any(not _PREFIXED.fullmatch(tag) for tag in parts):
            other = next(tag for tag in named if tag not in parts)
            raise UnclearTag(
                f"expected all tags with a prefix or none, received {min(parts)!r} and {other!r}; "
                "correct the tags, or give `scheme=IO` if they are types",
                other,
            )
    return {}


def _upper_prefix(tag: str, pattern: re.Pattern[str]) -> str:
    if pattern is _WRITTEN_BEFORE:
        return tag[:1].upper() + tag[1:]
    return tag[:-1] + tag[-1:].upper()


def fault(tags: Sequence[str], scheme: str) -> tuple[int, str] | None:
    """Finds the first tag of a sentence that breaks a scheme.

    Args:
        tags: the tags of a sentence's words.
        scheme: str, one of `SCHEMES`.

    Returns:
        the index of the tag and the error; None for valid tags.
    """
    if scheme in ("IO", "words"):
        return None
    before, type_before = "O", ""
    for index, tag in enumerate(tags):
        prefix, kind = split_tag(tag, scheme)
        if prefix != "O" and prefix not in _ALLOWED[scheme]:
            expected = ", ".join(f"{letter}-TYPE" for letter in _ALLOWED[scheme])
            return index, f"expected a tag of {scheme} ({expected} or {OUTSIDE}), received {tag!r}"
        if prefix == "":
            return index, f"expected a tag with a prefix of {scheme}, received {tag!r}"
        previous = repr(tags[index - 1]) if index else "the start of the sentence"
        received = f"received {tag!r} after {previous}"
        same = kind == type_before
        may_follow = same and prefix in _CONTINUATIONS[before]
        if scheme == "IOB1":
            if prefix == "B" and not (same and before in "BI"):
                return index, f"expected B- only between two entities of one type, {received}"
        elif prefix in "IE" and not may_follow:
            return index, f"expected {prefix}- only within an entity of its type, {received}"
        elif scheme == "IOBES" and before in "BI" and not may_follow:
            return index, f"expected the end of an entity, {received}"
        before, type_before = prefix, kind
    if scheme == "IOBES" and before in "BI":
        last = f"received {tags[-1]!r} as the last tag"
        return len(tags) - 1, f"expected the end of an entity, {last}"
    return None


def chunks(tags: Sequence[str], scheme: str) -> list[tuple[int, int, str]]:
    """Finds the entities that tags encode, also for tags that break the scheme.

    Invalid tags are read as seqeval and conlleval do: I-X begins an entity if the previous word is
    not in an entity of type X.

    >>> chunks(["B-PER", "I-PER", "O", "I-LOC"], "IOB2")
    [(0, 2, 'PER'), (3, 4, 'LOC')]

    Args:
        tags: the tags of a sentence's words.
        scheme: str, one of `SCHEMES`.

    Returns:
        list of (first word, last word + 1, type).
    """
    entities: list[tuple[int, int, str]] = []
    before, type_before, begin = "O", "", 0
    for index, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = split_tag(tag, scheme)
        starts = prefix != "O" and (
            scheme == "words" or prefix in ("B", "S") or before in ("E", "S", "O")
            or kind != type_before
        )  # fmt: skip
        if before != "O" and (starts or prefix == "O"):
            entities.append((begin, index, type_before))
        if starts:
            begin = index
        before, type_before = prefix, kind
    return entities

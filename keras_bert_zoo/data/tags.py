"""Tags of words, and the entities that they spell: IOB1, IOB2, IOBES, IO, and a label a word.

Schemes, for an entity of two words and one of one word behind it:

    IOB1    I-PER I-PER B-PER      B- only where an entity follows one of its own type
    IOB2    B-PER I-PER B-PER
    IOBES   B-PER E-PER S-PER      also written BILOU and BMES: L is E, U is S, M is I
    IO      PER   PER   PER        neighbours of one type are one entity: here a single one
    words   NOUN  VERB  NOUN       every word for itself: parts of speech, for one

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
"""What a file may be written in."""
MODEL_SCHEMES = ("IOB2", "IOBES", "IO", "words")
"""What a model may be trained in; IOB1 says the same as IOB2."""
OUTSIDE = "O"
UNNAMED = "ENTITY"
"""The type of entities in a file whose tags are B, I and O alone."""

_PREFIXED = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
_SAME = {"L": "E", "U": "S", "M": "I"}
# Other ways to write a prefix: B_PER, PER-B, PER_B. W is the S of BMEWO.
_WRITTEN_BEFORE = re.compile(r"(?P<prefix>[BIESLUMW])[-_](?P<kind>.+)", re.DOTALL)
_WRITTEN_AFTER = re.compile(r"(?P<kind>.+)[-_](?P<prefix>[BIESLUMW])", re.DOTALL)
_ALLOWED = {"IOB1": "IB", "IOB2": "BI", "IOBES": "BIES"}

# Which prefixes may stand behind one another within an entity, and between entities.
_GOES_ON = {"B": "IE", "I": "IE", "E": "", "S": "", "O": ""}


def check_scheme(scheme: str, known: Sequence[str] = SCHEMES) -> str:
    """Takes a scheme by name, in whatever case; IOBES also as BIOES, BILOU and BMES.

    Returns:
        str, one of `known`.

    Raises:
        ConfigError: it is none of them.
    """
    names = {name.lower(): name for name in known} | {"bio": "IOB2", "iob": "IOB1"}
    if "IOBES" in known:
        names |= dict.fromkeys(("bioes", "bilou", "bmes", "bmeso", "ioblu"), "IOBES")
    found = names.get(str(scheme).lower(), "")
    if found not in known:
        raise ConfigError(f"expected a scheme of {', '.join(known)}, got {scheme!r}")
    return found


def split_tag(tag: str, scheme: str) -> tuple[str, str]:
    """Parts a tag into its prefix and its type.

    Args:
        tag: str.
        scheme: str, one of `SCHEMES`.

    Returns:
        ("B", "PER") and the like; ("O", "") outside; ("", tag) where the scheme has no prefixes.
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
    """Tells by the tags alone what they are written in; IOB2 stands for IOB1, too.

    Args:
        tags: every tag that occurs.

    Returns:
        str, one of `MODEL_SCHEMES`.
    """
    seen = set(tags)
    prefixes = {match[1] for tag in seen if (match := _PREFIXED.fullmatch(tag))}
    if not prefixes:
        return "IO" if OUTSIDE in seen else "words"
    return "IOBES" if prefixes & set("ESLUM") else "IOB2"


class UnclearTag(ConfigError):
    """Tags of which it is not clear what they say.

    Args:
        message: str.
        tag: str, the one.
    """

    def __init__(self, message: str, tag: str) -> None:
        super().__init__(message)
        self.tag = tag


def plain_tags(tags: Iterable[str], *, prefixed: bool = False) -> dict[str, str]:
    """Finds how B_PER, PER-B, PER_B and b-per are written as B-PER.

    Tags that are B, I and O alone are of the type `UNNAMED`.

    All tags but O must be written in one of these ways, and a type must have both a B and an I (or
    what else goes on): else they are types of their own.

    >>> plain_tags(["O", "PER_B", "PER_I"])
    {'PER_B': 'B-PER', 'PER_I': 'I-PER'}
    >>> plain_tags(["O", "B_cell", "T_cell"])
    {}
    >>> plain_tags(["B", "I", "O"])
    {'B': 'B-ENTITY', 'I': 'I-ENTITY'}

    Args:
        tags: every tag that occurs.
        prefixed: bool. Whether it is known that tags say where entities begin.

    Returns:
        dict from the tags that change to what they are.

    Raises:
        UnclearTag: only some tags are written so, or it may be by chance.
    """
    seen = set(tags)
    lower = OUTSIDE not in seen and OUTSIDE.lower() in seen
    outside = OUTSIDE.lower() if lower else OUTSIDE
    named = sorted(seen - {outside})
    letters = {tag.upper() if lower else tag for tag in named}
    if "B" in letters and letters & set("IMEL") and letters <= set("BIESLUMW"):
        # Of a single type, whose name is left out.
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
        # Types may end in -B by chance, but not next to one of the same name with -I.
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
                f"expected to know whether {named[0]!r} is a type, or says where an entity begins; "
                "give `scheme=IO` or `scheme=IOB2`",
                named[0],
            )
        if sure and parts and any(not _PREFIXED.fullmatch(tag) for tag in parts):
            other = next(tag for tag in named if tag not in parts)
            raise UnclearTag(
                f"expected every tag to say where an entity begins, as {min(parts)!r} does, or no "
                f"tag, got {other!r}, too; correct the tags, or give `scheme=IO` "
                "if they are types",
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
        tags: of the words of a sentence.
        scheme: str, one of `SCHEMES`.

    Returns:
        None where there is none; else its place, and what is wrong with it.
    """
    if scheme in ("IO", "words"):
        return None
    before, type_before = "O", ""
    for place, tag in enumerate(tags):
        prefix, kind = split_tag(tag, scheme)
        if prefix != "O" and prefix not in _ALLOWED[scheme]:
            expected = ", ".join(f"{letter}-TYPE" for letter in _ALLOWED[scheme])
            return place, f"tag {tag!r} is not of {scheme} ({expected} or {OUTSIDE})"
        if prefix == "":
            return place, f"tag {tag!r} has no prefix, as those of {scheme} have"
        previous = repr(tags[place - 1]) if place else "the start of the sentence"
        same = kind == type_before
        if scheme == "IOB1":
            if prefix == "B" and not (same and before in "BI"):
                return place, f"tag {tag!r} follows {previous}: in IOB1, B- parts two of one type"
        elif prefix in "IE" and not (same and prefix in _GOES_ON[before]):
            return place, f"tag {tag!r} follows {previous}: no entity of that type goes on there"
        elif scheme == "IOBES" and before in "BI" and not (same and prefix in _GOES_ON[before]):
            return place, f"tag {tag!r} follows {previous}, whose entity has not ended"
        before, type_before = prefix, kind
    if scheme == "IOBES" and before in "BI":
        return len(tags) - 1, f"tag {tags[-1]!r} ends the sentence, but not its entity"
    return None


def chunks(tags: Sequence[str], scheme: str) -> list[tuple[int, int, str]]:
    """Finds the entities that tags spell, whether or not they keep to the scheme.

    Where they break it, as seqeval and conlleval do: I-X begins an entity where none of its type
    goes on.

    >>> chunks(["B-PER", "I-PER", "O", "I-LOC"], "IOB2")
    [(0, 2, 'PER'), (3, 4, 'LOC')]

    Args:
        tags: of the words of a sentence.
        scheme: str, one of `SCHEMES`.

    Returns:
        list of (first word, last word + 1, type).
    """
    found: list[tuple[int, int, str]] = []
    before, type_before, begin = "O", "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = split_tag(tag, scheme)
        starts = prefix != "O" and (
            scheme == "words" or prefix in ("B", "S") or before in ("E", "S", "O")
            or kind != type_before
        )  # fmt: skip
        if before != "O" and (starts or prefix == "O"):
            found.append((begin, place, type_before))
        if starts:
            begin = place
        before, type_before = prefix, kind
    return found

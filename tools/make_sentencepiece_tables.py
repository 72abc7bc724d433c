"""Writes text/unicode/character_tables.json: the rules of `tokenizers` for each character.

Hugging Face's fast tokenizers contain Unicode data, of a different version in each library. So the
tables do not come from Python's data. They come from `tokenizers`, applied to every code point: its
decomposition, composition, order and lower case, its accents and spaces, and the boundaries of
grapheme clusters. Only the Precompiled normalizer shows the boundaries: with a map of characters to
"X", a cluster of at most five bytes becomes one X, and a longer one becomes one X per character.

Example:
    python tools/make_sentencepiece_tables.py
"""

from __future__ import annotations

import itertools
import json
import pathlib
import struct
import unicodedata
from collections.abc import Callable, Iterable

import numpy as np
import tokenizers
from tokenizers import normalizers

TARGET = (
    pathlib.Path(__file__).parents[1]
    / "keras_bert_zoo"
    / "text"
    / "unicode"
    / "character_tables.json"
)
ACUTE = "\u0301"  # Extend, 2 bytes
GRAVE = "\u0300"
ZWJ = "\u200d"
HANGUL = range(0xAC00, 0xD7A4)
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def everything_to_x() -> bytes:
    """A charsmap that maps every code point to "X": trie size, trie, texts."""
    nodes: dict[bytes, int] = {b"": 0}
    for point in POINTS:
        encoded = chr(point).encode()
        for end in range(1, len(encoded)):
            nodes.setdefault(encoded[:end], len(nodes))
    # The children of node n are in the 256 units from 256 * (n + 1); the value is the last unit.
    value_at = 256 * (len(nodes) + 1)
    units = np.zeros(value_at + 256, np.uint32)
    units[0] = 256 << 10
    units[value_at] = 1 << 31
    for point in POINTS[1:]:
        encoded = chr(point).encode()
        place = 256 * (nodes[encoded[:-1]] + 1) ^ encoded[-1]
        units[place] = _offset(place ^ value_at) | 1 << 8 | encoded[-1]
    for prefix, node in nodes.items():
        if prefix:
            place = 256 * (nodes[prefix[:-1]] + 1) ^ prefix[-1]
            units[place] = _offset(place ^ 256 * (node + 1)) | prefix[-1]
    return struct.pack("<I", units.nbytes) + units.tobytes() + b"X\0"


def _offset(distance: int) -> int:
    """Encodes a distance of up to 29 bits as Darts-clone does."""
    return distance << 10 if distance < 1 << 21 else (distance >> 8) << 10 | 1 << 9


def ranges(points: Iterable[int]) -> list[list[int]]:
    """[1, 2, 3, 5] -> [[1, 3], [5, 5]]."""
    result: list[list[int]] = []
    for point in sorted(points):
        if result and result[-1][1] == point - 1:
            result[-1][1] = point
        else:
            result.append([point, point])
    return result


def mapping(change: Callable[[str], str]) -> dict[str, str]:
    """Characters that change, with their new texts, without Hangul syllables."""
    return {f"{c:X}": new for c in POINTS if c not in HANGUL and (new := change(chr(c))) != chr(c)}


def combining_classes() -> dict[str, list[list[int]]]:
    """Canonical combining classes other than 0."""
    nfd = normalizers.NFD().normalize_str
    highest, high = "\u0345", "\u0301"  # classes 240 and 230

    def swaps(first: str, second: str) -> bool:
        return first != second and nfd(first + second) == second + first

    marks = [
        chr(c)
        for c in POINTS
        if c not in HANGUL
        and nfd(chr(c)) == chr(c)
        and (swaps(highest, chr(c)) or swaps(chr(c), high))
    ]
    marks.append(highest)
    known: dict[int, str] = {}
    for mark in marks:
        known.setdefault(unicodedata.combining(mark), mark)
    known.pop(0, None)
    classes: dict[str, list[int]] = {}
    for mark in set(marks):
        # A mark is not swapped with marks of the same class.
        fits = [
            value
            for value, other in known.items()
            if not swaps(mark, other) and not swaps(other, mark)
        ]
        if len(fits) != 1:
            raise SystemExit(f"expected one class of {mark!a}, received {fits}")
        classes.setdefault(str(fits[0]), []).append(ord(mark))
    return {value: ranges(classes[value]) for value in sorted(classes, key=int)}


def compositions() -> list[list[int]]:
    """[first, second, composite], without Hangul syllables."""
    nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    triples = []
    for c in POINTS:
        parts = nfd(chr(c))
        if c in HANGUL or len(parts) < 2:
            continue
        first, second = nfc(parts[:-1]), parts[-1]
        if len(first) == 1 and nfc(first + second) == chr(c):
            triples.append([ord(first), ord(second), c])
    return triples


def check_hangul() -> None:
    """Checks Hangul syllables against the Unicode Standard, section 3.12."""
    nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    for c in HANGUL:
        if nfd(chr(c)) != unicodedata.normalize("NFD", chr(c)) or nfc(nfd(chr(c))) != chr(c):
            raise SystemExit(f"U+{c:04X} is not decomposed as a Hangul syllable")


def graphemes() -> dict[str, list[list[int]]]:
    """The classes that determine the boundaries of clusters of at most five bytes."""
    normalize = normalizers.Precompiled(everything_to_x()).normalize_str

    def pieces(text: str) -> int:
        return len(normalize(text))

    classes: dict[str, list[int]] = {
        name: []
        for name in (
            "joins_previous", "prepend", "control", "pictograph", "extend",
            "consonant", "linker", "conjunct_extend", "hangul_l", "hangul_v", "hangul_t",
            "hangul_lv", "hangul_lvt",
        )
    }  # fmt: skip
    for c in POINTS:
        char = chr(c)
        size = len(char.encode())
        joins = pieces("a" + char) == 1
        if joins:
            classes["joins_previous"].append(c)
        prepend = pieces(f"{char}b{ACUTE}") == (1 if size == 2 else 3)
        if prepend and not joins and size > 1:
            classes["prepend"].append(c)
        # Two marks are needed beyond five bytes, and for NUL, which no map changes.
        marks = ACUTE if c > 0 and size < 4 else ACUTE + GRAVE
        separate = pieces(char + marks) == 2
        if separate:
            classes["control"].append(c)
        if pieces(f"{char}{ZWJ}\u2122{ACUTE}") == 4:
            classes["pictograph"].append(c)
        if joins and pieces(f"\U0001f469{char}{ZWJ}\u2122{ACUTE}") == 5:
            classes["extend"].append(c)
        if pieces(f"{char}\u094d\u0915{ACUTE}") == 4:
            classes["consonant"].append(c)
        if joins and pieces(f"\u0915{char}\u0915{ACUTE}") == 4:
            classes["linker"].append(c)
        if joins and pieces(f"\u0915{char}\u094d\u0915{ACUTE}") == 5:
            classes["conjunct_extend"].append(c)
        if size < 3:
            continue
        to_v = pieces(f"{char}\u1161{ACUTE}") == 3
        to_t = pieces(f"{char}\u11a8{ACUTE}") == 3
        if to_v and not to_t:
            classes["hangul_l"].append(c)
        elif to_v and to_t:
            classes["hangul_lv" if c in HANGUL else "hangul_v"].append(c)
        elif to_t:
            classes["hangul_lvt" if c in HANGUL else "hangul_t"].append(c)
    # A character that joins all others is not tested for Hangul or emoji.
    joined = set(classes["prepend"])
    for name in ("hangul_l", "hangul_v", "hangul_t", "consonant", "pictograph"):
        classes[name] = [c for c in classes[name] if c not in joined]
    return {name: ranges(points) for name, points in classes.items()}


def main() -> None:
    """Reads the tables and writes them."""
    check_hangul()
    strip = normalizers.StripAccents().normalize_str
    space = normalizers.Replace(tokenizers.Regex(r"\s"), "").normalize_str
    tables = {
        "made_by": f"tools/make_sentencepiece_tables.py, tokenizers {tokenizers.__version__}",
        "lowercase": mapping(normalizers.Lowercase().normalize_str),
        "nfd": mapping(normalizers.NFD().normalize_str),
        "nfkd": mapping(normalizers.NFKD().normalize_str),
        "combining_classes": combining_classes(),
        "compositions": list(itertools.chain.from_iterable(compositions())),
        "accents": ranges(c for c in POINTS if not strip(chr(c))),
        "regex_spaces": ranges(c for c in POINTS if not space(chr(c))),
        "graphemes": graphemes(),
    }
    TARGET.write_text(json.dumps(tables, ensure_ascii=True, separators=(",", ":")) + "\n", "utf-8")
    print(TARGET.name, TARGET.stat().st_size, "bytes")
    for name, points in tables["graphemes"].items():
        print(name, sum(b - a + 1 for a, b in points), str(points)[:200])
    print("classes", {k: len(v) for k, v in tables["combining_classes"].items()})
    print("compositions", len(tables["compositions"]) // 3, "spaces", tables["regex_spaces"])


if __name__ == "__main__":
    main()

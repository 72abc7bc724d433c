"""Write text/unicode/character_tables.json: what `tokenizers` does with each character.

Hugging Face's fast tokenizers bring Unicode data of their own, each library another version. So the
tables are not made from Python's data but by asking `tokenizers` about every code point: how it
decomposes, composes, orders and lower-cases, which characters are accents and spaces, and where
the borders of grapheme clusters are. The last is asked through the Precompiled normalizer, the
only thing that shows them: with a map that turns every character into "X", a cluster of at most
five bytes becomes one X, and a longer one an X for each of its characters.

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
    """A charsmap that maps every single code point to "X": trie size, trie, texts."""
    nodes: dict[bytes, int] = {b"": 0}
    for point in POINTS:
        encoded = chr(point).encode()
        for end in range(1, len(encoded)):
            nodes.setdefault(encoded[:end], len(nodes))
    # Node n has its children in the 256 units from 256 * (n + 1); the value's unit is the last.
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


def _offset(way: int) -> int:
    """A way of up to 29 bits, as Darts-clone writes it."""
    return way << 10 if way < 1 << 21 else (way >> 8) << 10 | 1 << 9


def ranges(points: Iterable[int]) -> list[list[int]]:
    """[1, 2, 3, 5] -> [[1, 3], [5, 5]]."""
    found: list[list[int]] = []
    for point in sorted(points):
        if found and found[-1][1] == point - 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return found


def mapping(change: Callable[[str], str]) -> dict[str, str]:
    """Every character that becomes another text, Hangul syllables left out."""
    return {f"{c:X}": new for c in POINTS if c not in HANGUL and (new := change(chr(c))) != chr(c)}


def combining_classes() -> dict[str, list[list[int]]]:
    """Canonical combining classes that are not 0."""
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
        # Between those that come after it and those that come before it.
        fits = [
            value
            for value, other in known.items()
            if not swaps(mark, other) and not swaps(other, mark)
        ]
        if len(fits) != 1:
            raise SystemExit(f"no class for {mark!a}: {fits}")
        classes.setdefault(str(fits[0]), []).append(ord(mark))
    return {value: ranges(classes[value]) for value in sorted(classes, key=int)}


def compositions() -> list[list[int]]:
    """[first, second, composite], Hangul syllables left out."""
    nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    found = []
    for c in POINTS:
        parts = nfd(chr(c))
        if c in HANGUL or len(parts) < 2:
            continue
        first, second = nfc(parts[:-1]), parts[-1]
        if len(first) == 1 and nfc(first + second) == chr(c):
            found.append([ord(first), ord(second), c])
    return found


def check_hangul() -> None:
    """Syllables must be as the Unicode Standard, section 3.12, has them."""
    nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    for c in HANGUL:
        if nfd(chr(c)) != unicodedata.normalize("NFD", chr(c)) or nfc(nfd(chr(c))) != chr(c):
            raise SystemExit(f"U+{c:04X} is not decomposed as a Hangul syllable")


def graphemes() -> dict[str, list[list[int]]]:
    """The classes that decide where clusters of at most five bytes begin and end."""
    normalize = normalizers.Precompiled(everything_to_x()).normalize_str

    def pieces(text: str) -> int:
        return len(normalize(text))

    found: dict[str, list[int]] = {
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
            found["joins_previous"].append(c)
        prepend = pieces(f"{char}b{ACUTE}") == (1 if size == 2 else 3)
        if prepend and not joins and size > 1:
            found["prepend"].append(c)
        # With two marks where one leaves it open: beyond five bytes, and for NUL, which no map
        # changes.
        marks = ACUTE if c > 0 and size < 4 else ACUTE + GRAVE
        separate = pieces(char + marks) == 2
        if separate:
            found["control"].append(c)
        if pieces(f"{char}{ZWJ}\u2122{ACUTE}") == 4:
            found["pictograph"].append(c)
        if joins and pieces(f"\U0001f469{char}{ZWJ}\u2122{ACUTE}") == 5:
            found["extend"].append(c)
        if pieces(f"{char}\u094d\u0915{ACUTE}") == 4:
            found["consonant"].append(c)
        if joins and pieces(f"\u0915{char}\u0915{ACUTE}") == 4:
            found["linker"].append(c)
        if joins and pieces(f"\u0915{char}\u094d\u0915{ACUTE}") == 5:
            found["conjunct_extend"].append(c)
        if size < 3:
            continue
        to_v = pieces(f"{char}\u1161{ACUTE}") == 3
        to_t = pieces(f"{char}\u11a8{ACUTE}") == 3
        if to_v and not to_t:
            found["hangul_l"].append(c)
        elif to_v and to_t:
            found["hangul_lv" if c in HANGUL else "hangul_v"].append(c)
        elif to_t:
            found["hangul_lvt" if c in HANGUL else "hangul_t"].append(c)
    # What joins anything says nothing about Hangul or emoji.
    joined = set(found["prepend"])
    for name in ("hangul_l", "hangul_v", "hangul_t", "consonant", "pictograph"):
        found[name] = [c for c in found[name] if c not in joined]
    return {name: ranges(points) for name, points in found.items()}


def main() -> None:
    """Ask and write."""
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

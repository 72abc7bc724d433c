"""Writes text/unicode/unicode_rules.json, the rules of BERT's tokenizer per character.

The rules must not depend on the Unicode version of Python. They come from Hugging Face's
`tokenizers` (its changes to each code point) and from TensorFlow Text's WordPiece op (the code
points at which it splits). Both are applied to every code point.

Example:
    python tools/make_unicode_tables.py --output keras_bert_zoo/text/unicode/unicode_rules.json

For another version of TensorFlow Text, whose op may use another Unicode version, run it with
`--merge`. `op_may_split` then has the code points at which any of the versions splits, `op_splits`
those at which all versions split. The other rules do not change.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import unicodedata
from collections.abc import Iterable

LAST = 0x10FFFF
HANGUL = range(0xAC00, 0xD7A4)


def code_points() -> list[int]:
    """Every code point of UTF-8 text."""
    return [c for c in range(LAST + 1) if not 0xD800 <= c <= 0xDFFF]


def to_ranges(values: Iterable[int]) -> list[list[int]]:
    """[1, 2, 3, 7] -> [[1, 3], [7, 7]]."""
    ranges: list[list[int]] = []
    for value in sorted(values):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1][1] = value
        else:
            ranges.append([value, value])
    return ranges


def from_ranges(ranges: list[list[int]]) -> set[int]:
    """The inverse of `to_ranges`."""
    return {c for first, last in ranges for c in range(first, last + 1)}


def probe_tokenizers() -> dict[str, object]:
    """The rules of `tokenizers` for each code point."""
    import tokenizers
    from tokenizers import normalizers, pre_tokenizers

    off = {
        "clean_text": False,
        "handle_chinese_chars": False,
        "strip_accents": False,
        "lowercase": False,
    }
    clean = normalizers.BertNormalizer(**{**off, "clean_text": True})
    chinese = normalizers.BertNormalizer(**{**off, "handle_chinese_chars": True})
    strip = normalizers.BertNormalizer(**{**off, "strip_accents": True})
    lower = normalizers.BertNormalizer(**{**off, "lowercase": True})
    split = pre_tokenizers.BertPreTokenizer()

    deleted, spaces, ideographs, punctuation = set(), set(), set(), set()
    stripped, lowered = {}, {}
    for c in code_points():
        char = chr(c)
        cleaned = clean.normalize_str(f"a{char}b")
        if cleaned == "ab":
            deleted.add(c)
            continue
        if cleaned == "a b":
            spaces.add(c)
            continue
        if cleaned != f"a{char}b":
            raise SystemExit(f"expected clean_text to keep U+{c:04X}, received {cleaned!r}")
        if chinese.normalize_str(char) == f" {char} ":
            ideographs.add(c)
        pieces = len(split.pre_tokenize_str(f"a{char}b"))
        if pieces == 3:
            punctuation.add(c)
        elif pieces == 2:
            raise SystemExit(f"expected the pre-tokenizer to keep U+{c:04X}, but it drops it")
        if c not in HANGUL and strip.normalize_str(char) != char:
            stripped[f"{c:X}"] = strip.normalize_str(char)
        if lower.normalize_str(char) != char:
            lowered[f"{c:X}"] = lower.normalize_str(char)
    # Hangul syllables are decomposed by arithmetic, so they are only checked here.
    for c in HANGUL:
        if strip.normalize_str(chr(c)) != unicodedata.normalize("NFD", chr(c)):
            raise SystemExit(f"expected the NFD of Hangul syllable U+{c:04X}")
    return {
        "source": f"tokenizers {tokenizers.__version__}",
        "deleted": to_ranges(deleted),
        "spaces": to_ranges(spaces),
        "ideographs": to_ranges(ideographs),
        "punctuation": to_ranges(punctuation),
        "stripped": stripped,
        "lowered": lowered,
    }


def probe_op() -> set[int]:
    """Code points at which TensorFlow Text's WordPiece op splits."""
    import tensorflow_text as tf_text

    op = tf_text.FastWordpieceTokenizer(["[UNK]", "a", "b"])
    chars = code_points()
    split_at = set()
    for first in range(0, len(chars), 65536):
        part = chars[first : first + 65536]
        rows = op.tokenize([f"a{chr(c)}b".encode() for c in part]).row_lengths().numpy()
        split_at.update(c for c, pieces in zip(part, rows, strict=True) if pieces > 1)
    return split_at - set(b"ab")


def main() -> None:
    """Reads the rules, merges and writes them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--merge", action="store_true", help="merge only the rules of the op")
    arguments = parser.parse_args()

    op = probe_op()
    # A later ICU may split at any punctuation of a Unicode version.
    may = op | {c for c in code_points() if unicodedata.category(chr(c)).startswith("P")}
    if arguments.merge:
        rules = json.loads(arguments.output.read_text("utf-8"))
        op &= from_ranges(rules["op_splits"])
        may |= from_ranges(rules["op_may_split"])
    else:
        rules = probe_tokenizers()
    rules["op_splits"] = to_ranges(op)
    rules["op_may_split"] = to_ranges(may)
    text = ",\n".join(
        f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}"
        for key, value in rules.items()
    )
    arguments.output.write_text("{\n" + text + "\n}\n", "utf-8")
    print(f"wrote {arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

"""Writes keras_bert_zoo/text/unicode/byte_bpe_rules.json, the character rules of byte-level BPE.

The rules must not depend on the Unicode version of Python, RE2 or ICU. They come from
`tokenizers`: the code points that its byte-level pre-tokenizer treats as letters, numbers and
spaces. (The tables of NFC are in character_tables.json.)

Example:
    python tools/make_byte_bpe_tables.py --output keras_bert_zoo/text/unicode/byte_bpe_rules.json
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Iterable

import tokenizers
from tokenizers import pre_tokenizers

LAST = 0x10FFFF


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


def probe_classes() -> dict[str, object]:
    """The class of each code point: the class of the characters that it is joined with."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    classes: dict[str, list[int]] = {"a": [], "1": [], "!": [], "\n": []}
    for c in code_points():
        joined = [first for first in classes if len(split.pre_tokenize_str(first + chr(c))) == 1]
        if len(joined) != 1:
            raise SystemExit(f"expected U+{c:04X} in one class, received {joined!r}")
        classes[joined[0]].append(c)
    return {
        "letters": to_ranges(classes["a"]),
        "numbers": to_ranges(classes["1"]),
        "spaces": to_ranges(classes["\n"]),
    }


def main() -> None:
    """Reads the rules and writes them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    rules = {
        "source": f"tokenizers {tokenizers.__version__}",
        **probe_classes(),
    }
    text = ",\n".join(
        f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}"
        for key, value in rules.items()
    )
    arguments.output.write_text("{\n" + text + "\n}\n", "utf-8")
    print(f"wrote {arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

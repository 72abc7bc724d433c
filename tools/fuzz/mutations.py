"""Mutations of files: of bytes, and of the structure of JSON, safetensors and tables."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

LARGE = 8_000_000  # bytes; below the limit of JSON files
SPARSE = 3_000_000_000  # bytes of a sparse file

NUMBERS = [
    0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
    2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 0.5, -0.0, 1e308, 1e-320,
]  # fmt: skip
TEXTS = [
    "", " ", "\n", "\t", "\x00", "\x1b[31mred\x1b[0m", "\ufeff", "\u2028", "\u202e", "é", "e\u0301",
    "\ud800", "🏳️‍🌈", "天气", "x" * 300, "x" * 70_000, "../../etc/passwd", "/etc/passwd",
    "/dev/zero", "a/b", ".", "..", "model.safetensors", "NaN", "null", "true",
    "__class__", "%s{0}", "[MASK]",
]  # fmt: skip
RAW_JSON = [
    "NaN", "-Infinity", "1e999", "-0", "00", "1" * 5000, "[" * 5000, "{", "}", '"\\ud800"', '"\\x"',
    "nul", "'x'", "//", "",
]  # fmt: skip
BYTES = [
    b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b'"', b"'", b",",
    b"\t", b";", b"\\", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\xc3", b"\x1b[2J", b"|", b"<e1>",
    b"</e1>", b"B-", b"{", b"[", b"]", b"}", b":", b"0" * 400,
    b"version https://git-lfs.github.com/spec/v1\n",
    b"<!DOCTYPE html>", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x02", b"\x1f\x8b\x08\x00",
]  # fmt: skip


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Applies one to three mutations to the content of a file."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        ways = [_bytes]
        if data[:1] in b"{[" or data[:1].isspace():
            ways += [_json, _json, _json]
        if len(data) > 9 and data[8:9] == b"{":
            ways += [_safetensors, _safetensors]
        if b"\n" in data[:2000]:
            ways += [_lines]
        data = chance.choice(ways)(data, chance)
    return data


# === Bytes ===


def _bytes(data: bytes, chance: random.Random) -> bytes:
    return chance.choices(_BYTE_WAYS, _BYTE_WEIGHTS)[0](data, chance)


def _place(data: bytes, chance: random.Random) -> int:
    """A random offset; half of them are near the start or the end, where formats have headers."""
    where = chance.random()
    if where < 0.35:
        return chance.randrange(min(len(data), 512) + 1)
    if where < 0.5:
        return max(0, len(data) - chance.randrange(min(len(data), 512) + 1))
    return chance.randrange(len(data) + 1)


def _flip(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 32))):
        if out:
            out[min(_place(data, chance), len(out) - 1)] ^= 1 << chance.randrange(8)
    return bytes(out)


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)]


def _insert(data: bytes, chance: random.Random) -> bytes:
    place = _place(data, chance)
    new = chance.choice(BYTES) if chance.random() < 0.7 else chance.randbytes(chance.randrange(64))
    return data[:place] + new + data[place:]


def _delete(data: bytes, chance: random.Random) -> bytes:
    place = _place(data, chance)
    return data[:place] + data[place + chance.choice((1, 2, 4, 8, 64, 1024)) :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start = _place(data, chance)
    block = data[start : start + chance.choice((1, 8, 64, 512, 4096))]
    return data[:start] + block * chance.choice((2, 3, 20)) + data[start + len(block) :]


def _number(data: bytes, chance: random.Random) -> bytes:
    size = chance.choice((1, 2, 4, 8))
    start = _place(data, chance)
    value = int(chance.choice(NUMBERS)) % (1 << 8 * size)
    return (
        data[:start] + value.to_bytes(size, chance.choice(("little", "big"))) + data[start + size :]
    )


def _fill(data: bytes, chance: random.Random) -> bytes:
    start, size = _place(data, chance), chance.choice((4, 16, 256))
    return data[:start] + chance.choice((b"\x00", b"\xff")) * size + data[start + size :]


def _enlarge(data: bytes, chance: random.Random) -> bytes:
    start = _place(data, chance)
    block = data[start : start + chance.choice((1, 2, 16))] or b"[],"
    block = chance.choice((block, b"[],", b"a", b"\n", b"0,"))
    return data[:start] + block * (LARGE // len(block)) + data[start:]


_BYTE_WAYS: list[Callable[[bytes, random.Random], bytes]] = [
    _flip, _truncate, _insert, _delete, _repeat, _number, _fill, _enlarge
]  # fmt: skip
_BYTE_WEIGHTS = [6, 3, 4, 3, 2, 5, 1, 0.04]


# === Lines ===


def _lines(data: bytes, chance: random.Random) -> bytes:
    """Moves, repeats, empties or joins lines, or changes a field."""
    lines = data.split(b"\n")
    i = chance.randrange(len(lines))
    way = chance.randrange(6)
    if way == 0:
        lines.insert(chance.randrange(len(lines) + 1), lines[i])
    elif way == 1:
        lines[i] = chance.choice((b"", b" ", b"\t", b"\r"))
    elif way == 2:
        lines[i : i + 2] = [b"".join(lines[i : i + 2])]
    elif way == 3:
        lines[i] = _json(lines[i], chance) if lines[i][:1] in b"{[" else _insert(lines[i], chance)
    else:
        mark = chance.choice((b",", b"\t", b" "))
        fields = lines[i].split(mark)
        new = [chance.choice(TEXTS), str(chance.choice(NUMBERS)), "nan", "inf", "-1"]
        fields[chance.randrange(len(fields))] = chance.choice(new).encode("utf-8", "surrogatepass")
        if way == 5:
            fields *= chance.choice((2, 40))
        lines[i] = mark.join(fields)
    return b"\n".join(lines)


# === JSON ===


class _Raw:
    """A placeholder in a parsed value for text that is written unquoted."""

    def __init__(self, text: str) -> None:
        self.text = text


def _json(data: bytes, chance: random.Random) -> bytes:
    """Changes values and keys of a JSON file, or of one line of a JSON Lines file."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        if b"\n" in data.strip():
            return _lines(data, chance)
        return _bytes(data, chance)
    holder = [value]
    for _ in range(chance.choice((1, 1, 2, 5))):
        _change(holder, chance)
    try:
        return _dump(holder[0], chance).encode("utf-8", "surrogatepass")
    except RecursionError:
        return data


def _change(holder: list[Any], chance: random.Random) -> None:
    """Changes one node of a tree, at any depth with equal probability."""
    places: list[tuple[Any, Any]] = []
    level: list[Any] = [holder]
    while level and len(places) < 5000:
        node = level.pop()
        keys: Any = node if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                level.append(node[key])
    node, key = chance.choice(places)
    way = chance.randrange(9)
    if way < 5:
        node[key] = _other(node[key], chance)
    elif way == 5 and isinstance(node, dict):
        node[chance.choice([*TEXTS, f"{key}x", str(key).upper()])] = node.pop(key)
    elif way == 6:
        del node[key]
        if node is holder:
            node.append({})
    elif way == 7 and isinstance(node, dict):
        node[_Twice(key)] = node[key]
    elif isinstance(node[key], list) and node[key]:
        node[key] *= chance.choice((0, 2, 100))
    else:
        node[key] = _other(node[key], chance)


class _Twice(str):
    """A key that is written twice."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def _other(value: Any, chance: random.Random) -> Any:
    way = chance.randrange(10)
    if way == 0:
        return None
    if way == 1:
        return chance.choice((True, False))
    if way in (2, 3):
        return chance.choice(NUMBERS)
    if way in (4, 5):
        return chance.choice(TEXTS)
    if way == 6:
        return chance.choice(([], {}, [value], {"x": value}, [[]], [None], [1, "a"], {"": {}}))
    if way == 7:
        return _Raw(chance.choice(RAW_JSON))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        real = float(value) if abs(value) < 1e300 else 0.5
        return chance.choice((-value, value + 1, value - 1, value * 1000, str(value), real))
    if isinstance(value, str):
        return chance.choice((value + " ", value[:-1], value.upper(), value * 2, [value]))
    if isinstance(value, list):
        return chance.choice((dict(enumerate(value)), value[::-1], value[:-1], str(value)[:100]))
    return list(value.items()) if isinstance(value, dict) else [value]


def _dump(value: Any, chance: random.Random) -> str:
    if isinstance(value, _Raw):
        return value.text
    if isinstance(value, dict):
        pairs = (f"{json.dumps(str(k))}: {_dump(v, chance)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_dump(item, chance) for item in value) + "]"
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)


def _safetensors(data: bytes, chance: random.Random) -> bytes:
    """Changes the header of a safetensors file, mostly with its correct length."""
    size = int.from_bytes(data[:8], "little")
    header = _json(data[8 : 8 + size], chance)
    length = len(header) if chance.random() < 0.9 else int(chance.choice(NUMBERS)) % 2**64
    return length.to_bytes(8, "little") + header + data[8 + size :]

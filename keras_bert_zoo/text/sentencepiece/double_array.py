"""Writes the constant that TensorFlow Text's FastBertNormalizer op reads.

The constant is a flatbuffer with a double array (in Darts-clone's layout) and a pool of texts. The
double array maps the UTF-8 bytes of single code points to their new texts. Equal branches are
stored once, because each unit has the offset of its children. This reduces BERT's tables from
1.3 MB to about 200 kB.

Layout of a unit (32 bits): 0-7 label, 8 "has a value", 10-31 offset. The base of the children is
position XOR offset. The child for byte b is at base XOR b. The value is at base, with bit 31 set.
Layout of a value: bit 30 "changed", bits 6-29 index in the pool, bits 0-5 length in bytes.

Source: tensorflow_text/core/kernels/fast_bert_normalizer.h, darts_clone_trie_wrapper.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import flatbuffers
import numpy as np

_CHANGED = 1 << 30
_IS_VALUE = 1 << 31
_HAS_VALUE = 1 << 8
_MAXIMUM_TEXT_BYTES = 63
_MAXIMUM_UNITS = 1 << 21  # an offset of 21 bits needs no escape
_BLOCK = 64  # continuation bytes 0x80 to 0xBF
_PAGE = 256
_DELETED = _CHANGED  # length 0
_NO_NODE = -1


def build_normalizer_buffer(changed: Mapping[int, str], deleted: Iterable[int]) -> np.ndarray:
    """Builds the op's constant for a mapping of code points to texts.

    Other code points are unchanged. Bytes that are not UTF-8 are deleted.

    Args:
        changed: dict of code point to text, of at most 63 bytes in UTF-8.
        deleted: code points to delete.

    Returns:
        uint8 (bytes,).

    Raises:
        ValueError: a text is too long for the op.
    """
    values, pool = _pool_texts(changed)
    values[np.fromiter(deleted, np.int64)] = _DELETED
    units = _build_units(values)
    builder = flatbuffers.Builder(units.nbytes + len(pool) + 256)
    pool_at = builder.CreateByteVector(pool)
    units_at = builder.CreateNumpyVector(units)
    # Fields of FastBertNormalizerModel in order: lower_case_nfd_strip_accents,
    # trie_array, data_for_codepoint_zero, normalized_string_pool.
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, pool_at, 0)
    builder.PrependInt32Slot(2, int(values[0]), 0)
    builder.PrependUOffsetTRelativeSlot(1, units_at, 0)
    builder.Finish(builder.EndObject())
    return np.frombuffer(bytes(builder.Output()), np.uint8)


def _pool_texts(changed: Mapping[int, str]) -> tuple[np.ndarray, bytes]:
    """Returns an encoded value for each code point (0 = unchanged), and the pool of texts."""
    values = np.zeros(0x110000, np.uint32)
    encoded = {c: text.encode("utf-8") for c, text in changed.items()}
    pool = bytearray()
    places: dict[bytes, int] = {b"": 0}
    # Longest texts first, to reuse their prefixes: "LVT" contains "LV".
    for text in sorted(set(encoded.values()), key=lambda text: (-len(text), text)):
        if len(text) > _MAXIMUM_TEXT_BYTES:
            raise ValueError(
                f"Expected texts of at most {_MAXIMUM_TEXT_BYTES} bytes, received {text!r}."
            )
        if text not in places:
            place = len(pool)
            pool += text
            for end in range(1, len(text) + 1):
                places.setdefault(text[:end], place)
    for c, text in encoded.items():
        values[c] = _CHANGED | places[text] << 6 | len(text)
    return values, bytes(pool) or b"\0"


def _distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct rows, and the index of each row in them; faster than np.unique."""
    places: dict[bytes, int] = {}
    which = [places.setdefault(row.tobytes(), len(places)) for row in rows]
    first = np.unique(which, return_index=True)[1]
    return rows[first], np.array(which, np.int64)


def _build_units(values: np.ndarray) -> np.ndarray:
    """Builds the double array of the values of all code points."""
    # Level by level from the last byte to the first: distinct rows of 64 children.
    leaves, leaf_of = _distinct_rows(values.reshape(-1, _BLOCK))  # by code point >> 6
    surrogates = slice(0xD800 >> 6, 0xE000 >> 6)

    three_bytes = leaf_of[: 0x10000 >> 6].copy()
    three_bytes[surrogates] = _NO_NODE
    three_bytes[: 0x800 >> 6] = _NO_NODE  # E0 80..9F: overlong
    four_bytes = leaf_of[0x10000 >> 6 :]
    inner, inner_of = _distinct_rows(np.concatenate([three_bytes, four_bytes]).reshape(-1, _BLOCK))
    # F0..F4 have 64 second bytes each. Those outside U+10000..U+10FFFF have no node.
    planes = np.full((5, _BLOCK), _NO_NODE, np.int64)
    planes.reshape(-1)[16 : 16 + 256] = inner_of[16:]

    # Two blocks in each page of 256 units: bases at 0 and 64, their children at 128 and 192.
    count = len(leaves) + len(inner) + len(planes)

    def base(block: int | np.ndarray) -> int | np.ndarray:
        return 2 * _PAGE + block // 2 * _PAGE + block % 2 * _BLOCK

    distinct = np.unique(np.append(values, _DELETED))
    distinct = distinct[distinct != 0]
    first_value = 2 * _PAGE + (count + 1) // 2 * _PAGE
    units = np.zeros(first_value + len(distinct), np.uint32)
    if len(units) > _MAXIMUM_UNITS:
        raise ValueError(f"Expected at most {_MAXIMUM_UNITS} units, received {len(units)}.")
    units[first_value:] = distinct | np.uint32(_IS_VALUE)
    deleted_at = first_value + int(np.searchsorted(distinct, _DELETED))

    def put_value(places: np.ndarray, labels: np.ndarray, row: np.ndarray) -> None:
        """Writes nodes with a value and no children."""
        exists = row != 0
        targets = first_value + np.searchsorted(distinct, row[exists])
        units[places[exists]] = (places[exists] ^ targets) << 10 | _HAS_VALUE | labels[exists]

    def put_children(places: np.ndarray, labels: np.ndarray, blocks: np.ndarray) -> None:
        """Writes nodes with children. A character that ends here is not UTF-8 and is deleted."""
        exists = blocks != _NO_NODE
        targets = base(blocks[exists])
        units[places[exists]] = (places[exists] ^ targets) << 10 | _HAS_VALUE | labels[exists]

    labels = np.arange(0x80, 0xC0)
    for block in range(count):
        places = base(block) ^ labels
        units[base(block)] = _DELETED | _IS_VALUE
        if block < len(leaves):
            put_value(places, labels, leaves[block])
        elif block < len(leaves) + len(inner):
            put_children(places, labels, inner[block - len(leaves)])
        else:
            row = planes[block - len(leaves) - len(inner)]
            put_children(places, labels, np.where(row < 0, row, row + len(leaves)))

    units[0] = _PAGE << 10
    first_bytes = np.arange(256)
    places = _PAGE ^ first_bytes
    put_value(places[1:128], first_bytes[1:128], values[1:128])
    lone = first_bytes[128:]
    units[places[128:]] = (places[128:] ^ deleted_at) << 10 | _HAS_VALUE | lone
    two = np.arange(0xC2, 0xE0)
    put_children(_PAGE ^ two, two, leaf_of[two & 0x1F])
    three = np.arange(0xE0, 0xF0)
    put_children(_PAGE ^ three, three, inner_of[:16] + len(leaves))
    four = np.arange(0xF0, 0xF5)
    put_children(_PAGE ^ four, four, np.arange(5) + len(leaves) + len(inner))
    return units

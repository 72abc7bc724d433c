"""Reads the zip files of torch.save, which have uncompressed records.

`zipfile` is not used: it reads directories of any size into memory, and it accepts compressed and
overlapping records, which torch never writes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from keras_bert_zoo.checkpoints.raw import RawFile

MAGIC = b"PK\x03\x04"
# A state dict has one record per storage, with about 100 bytes in the directory.
_DIRECTORY_LIMIT_BYTES = 16_000_000
_END = struct.Struct("<4s4H2LH")  # end of central directory
_LOCATOR = struct.Struct("<4sLQL")  # of the zip64 end of central directory
_END_64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # one record's entry in the directory
_LOCAL = struct.Struct("<4s5H3L2H")  # the local header before a record's data
_ENCRYPTED = 1
_UNKNOWN_32 = 0xFFFFFFFF


class ArchiveError(Exception):
    """The reason why a file is not a torch archive."""


class Record(NamedTuple):
    """The position of a record's data.

    Args:
        start: int, in bytes.
        size: int, in bytes.
    """

    start: int
    size: int


def read_records(file: RawFile) -> dict[str, Record]:
    """Reads an archive's directory. Checks that the records are in the file and do not overlap.

    Args:
        file: the open file.

    Returns:
        dict, name -> Record. The names are not checked; do not use them as paths.

    Raises:
        ArchiveError: the archive is truncated, malformed, or different from torch's archives.
    """
    start, size, count = _find_directory(file)
    directory = file.read_bytes(start, size)
    records: dict[str, Record] = {}
    position = 0
    for _ in range(count):
        name, header, record_size, position = _read_entry(directory, position)
        if name in records:
            raise ArchiveError(f"it has the record {name[:200]!a} twice")
        records[name] = Record(_data_start(file, header, name), record_size)
    if position != size:
        raise ArchiveError("its directory has the wrong size")
    end, last = 0, ""
    for name, record in sorted(records.items(), key=lambda item: item[1]):
        if record.start < end:
            raise ArchiveError(f"its records {last[:200]!a} and {name[:200]!a} overlap")
        end, last = record.start + record.size, name
    if end > start:
        raise ArchiveError(f"its record {last[:200]!a} ends after the data")
    return records


def _find_directory(file: RawFile) -> tuple[int, int, int]:
    """Returns the start, the size and the number of entries of the directory."""
    if file.size < _END.size:
        raise ArchiveError("it has no directory at its end")
    end_start = file.size - _END.size
    end = _END.unpack(file.read_bytes(end_start, _END.size))
    if end[0] != b"PK\x05\x06" or end[7]:
        raise ArchiveError("it has no directory at its end")
    count, size, start = end[4], end[5], end[6]
    stop = end_start
    if end_start >= _LOCATOR.size + _END_64.size:
        locator_start = end_start - _LOCATOR.size
        locator = _LOCATOR.unpack(file.read_bytes(locator_start, _LOCATOR.size))
        if locator[0] == b"PK\x06\x07":
            stop = locator_start - _END_64.size
            end_64 = _END_64.unpack(file.read_bytes(stop, _END_64.size))
            if end_64[0] != b"PK\x06\x06" or locator[2] != stop:
                raise ArchiveError("its zip64 directory is misplaced")
            count, size, start = end_64[7], end_64[8], end_64[9]
    if size > _DIRECTORY_LIMIT_BYTES:
        raise ArchiveError(
            f"expected a directory of at most {_DIRECTORY_LIMIT_BYTES:,} bytes, received {size:,}"
        )
    if start + size != stop or count * _CENTRAL.size > size:
        raise ArchiveError("its directory is misplaced")
    return start, size, count


def _read_entry(directory: bytes, position: int) -> tuple[str, int, int, int]:
    """Returns a record's name, the position of its local header, its size, and the next entry."""
    if position + _CENTRAL.size > len(directory):
        raise ArchiveError("its directory is truncated")
    entry = _CENTRAL.unpack_from(directory, position)
    signature, flags, method = entry[0], entry[3], entry[4]
    compressed, size, name_size, extra_size, comment_size = entry[8:13]
    header = entry[16]
    position += _CENTRAL.size
    following = position + name_size + extra_size + comment_size
    if signature != b"PK\x01\x02" or following > len(directory):
        raise ArchiveError("its directory is malformed")
    name = directory[position : position + name_size].decode("utf-8", "backslashreplace")
    extra = directory[position + name_size : position + name_size + extra_size]
    wide = _zip64_values(extra)
    # The values that do not fit into 32 bits are in this order.
    if size == _UNKNOWN_32:
        size = _next(wide)
    if compressed == _UNKNOWN_32:
        compressed = _next(wide)
    if header == _UNKNOWN_32:
        header = _next(wide)
    if method or flags & _ENCRYPTED or compressed != size:
        raise ArchiveError(f"its record {name[:200]!a} is compressed or encrypted")
    return name, header, size, following


def _zip64_values(extra: bytes) -> list[int]:
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        position += 4
        if kind == 1:
            size = min(size, len(extra) - position)
            return list(struct.unpack_from(f"<{size // 8}Q", extra, position))
        position += size
    return []


def _next(values: list[int]) -> int:
    if not values:
        raise ArchiveError("its directory is malformed")
    return values.pop(0)


def _data_start(file: RawFile, header_start: int, name: str) -> int:
    if header_start + _LOCAL.size > file.size:
        raise ArchiveError(f"its record {name[:200]!a} starts after the end of the file")
    header = _LOCAL.unpack(file.read_bytes(header_start, _LOCAL.size))
    if header[0] != MAGIC:
        raise ArchiveError(f"its record {name[:200]!a} is misplaced")
    return int(header_start + _LOCAL.size + header[9] + header[10])

"""RawFiles: what can be read of RocksDB's own files when RocksDB cannot: for salvage only.

A write-ahead log is read record by record; a damaged one costs the rest of its block of 32 KiB
and no more, where RocksDB drops all that follows. A blob file is read from its beginning to the
first damage; its values are known by their digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# The write-ahead log (RocksDB's db/log_format.h).
_BLOCK_BYTES = 32 << 10
_HEADER_BYTES, _RECYCLED_BYTES = 7, 4
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_RECYCLED = 4  # added to the four above
_BATCH_HEADER_BYTES = 12
# Tags of a write batch (db/dbformat.h), and whether a family, a key, a value follow.
_TAGS = {
    0x0: (False, True, False), 0x1: (False, True, True), 0x4: (True, True, False),
    0x5: (True, True, True), 0xD: (False, False, False), 0xE: (True, True, True),
    0xF: (False, True, True),
}  # fmt: skip
_PUTS = (0x1, 0x5)

# A blob file (RocksDB's db/blob/blob_log_format.h).
_BLOB_MAGIC = 2395959
_BLOB_HEADER_BYTES, _BLOB_RECORD_BYTES, _BLOB_FOOTER_BYTES = 30, 32, 32
_LZ4 = 4

_CRC_POLYNOMIAL = 0x82F63B78  # CRC-32C
_CRC_MASK = 0xA282EAD8


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (_CRC_POLYNOMIAL if number & 1 else 0)
        table.append(number)
    return tuple(table)


_CRC_TABLE = _crc_table()


def log_puts(file: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of everything that a write-ahead log puts, in whatever family."""
    octets = file.read_bytes()
    for batch in _log_records(octets):
        yield from _puts(batch)


def _log_records(octets: bytes) -> Iterator[bytes]:
    """Yield the whole records of a log; one that is damaged is passed."""
    gathered: list[bytes] | None = None
    position = 0
    while position + _HEADER_BYTES <= len(octets):
        block_end = (position // _BLOCK_BYTES + 1) * _BLOCK_BYTES
        if block_end - position < _HEADER_BYTES:
            position = block_end
            continue
        size = int.from_bytes(octets[position + 4 : position + 6], "little")
        kind = octets[position + 6]
        header = _HEADER_BYTES + (_RECYCLED_BYTES if kind > _LAST else 0)
        end = position + header + size
        if not 1 <= kind <= _LAST + _RECYCLED or end > min(block_end, len(octets)):
            gathered, position = None, block_end
            continue
        stored = int.from_bytes(octets[position : position + 4], "little")
        if _masked_crc(octets[position + 6 : end]) != stored:
            gathered, position = None, block_end
            continue
        piece = octets[position + header : end]
        position = end
        match kind - _RECYCLED if kind > _LAST else kind:
            case 1:
                gathered = None
                yield piece
            case 2:
                gathered = [piece]
            case 3 if gathered is not None:
                gathered.append(piece)
            case 4 if gathered is not None:
                yield b"".join((*gathered, piece))
                gathered = None


def _masked_crc(octets: bytes) -> int:
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ octet) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _CRC_MASK) & 0xFFFFFFFF


def _puts(batch: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = _BATCH_HEADER_BYTES
    while position < len(batch):
        tag = batch[position]
        shape = _TAGS.get(tag)
        if shape is None:
            return  # Of a newer RocksDB: nothing behind it can be told apart.
        position += 1
        has_family, has_key, has_value = shape
        if has_family:
            _, position = _varint(batch, position)
        key, position = _string(batch, position) if has_key else (b"", position)
        value, position = _string(batch, position) if has_value else (b"", position)
        if tag in _PUTS:
            yield key, value


def _varint(octets: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(octets):
        octet = octets[position]
        position += 1
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            break
        shift += 7
    return number, position


def _string(octets: bytes, position: int) -> tuple[bytes, int]:
    size, position = _varint(octets, position)
    return octets[position : position + size], position + size


def blob_values(file: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of what a blob file holds; it ends early where it is damaged."""
    octets = file.read_bytes()
    if int.from_bytes(octets[:4], "little") != _BLOB_MAGIC:
        return
    compression = octets[13]
    position = _BLOB_HEADER_BYTES
    while position + _BLOB_RECORD_BYTES + _BLOB_FOOTER_BYTES <= len(octets):
        key_bytes = int.from_bytes(octets[position : position + 8], "little")
        value_bytes = int.from_bytes(octets[position + 8 : position + 16], "little")
        position += _BLOB_RECORD_BYTES
        end = position + key_bytes + value_bytes
        if end > len(octets):
            return
        value = octets[position + key_bytes : end]
        if compression == _LZ4:
            value = _lz4(value)
        yield octets[position : position + key_bytes], value
        position = end


def _lz4(octets: bytes) -> bytes:
    """Return what an LZ4 block holds; b"" when it is damaged."""
    size, position = _varint(octets, 0)
    found = bytearray()
    try:
        while position < len(octets):
            token = octets[position]
            length, position = _lz4_length(octets, position + 1, token >> 4)
            found += octets[position : position + length]
            position += length
            if position >= len(octets):
                break
            distance = int.from_bytes(octets[position : position + 2], "little")
            length, position = _lz4_length(octets, position + 2, token & 15)
            start = len(found) - distance
            if distance == 0 or start < 0:
                return b""
            length += 4
            piece = bytes(found[start:])
            found += (piece * (length // len(piece) + 1))[:length]
    except IndexError:
        return b""
    return bytes(found) if len(found) == size else b""


def _lz4_length(octets: bytes, position: int, nibble: int) -> tuple[int, int]:
    length = nibble
    if nibble == 15:
        while True:
            octet = octets[position]
            position += 1
            length += octet
            if octet != 255:
                break
    return length, position

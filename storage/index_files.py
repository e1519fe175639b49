"""IndexFiles: the files of a Tantivy index, checked against the checksums that they carry."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

VERIFY_CHUNK_BYTES = 1 << 20
_FOOTER_MAGIC = 1337


class MetaUnreadable(Exception):
    """The list of an index's files cannot be read."""


def damaged_files(path: Path) -> Iterator[Path]:
    """Yield the committed files of an index that their checksums refuse.

    Reads all of it; it may be written to meanwhile. Raises MetaUnreadable.
    """
    for file in _committed_files(path):
        with suppress(FileNotFoundError):  # Merged into another since it was listed.
            if not _checksum_agrees(file):
                yield file


def _checksum_agrees(file: Path) -> bool:
    """Say whether the CRC-32 in the footer of one of Tantivy's files is that of its content.

    The footer is JSON, its length and a magic number (both u32, little-endian).
    """
    with file.open("rb") as octets:
        end = octets.seek(0, io.SEEK_END) - 8
        if end < 0:
            return False
        octets.seek(end)
        footer_bytes, magic = struct.unpack("<II", octets.read(8))
        content_bytes = end - footer_bytes
        if magic != _FOOTER_MAGIC or content_bytes < 0:
            return False
        octets.seek(content_bytes)
        try:
            expected = json.loads(octets.read(footer_bytes))["crc"]
        except (ValueError, KeyError, TypeError):
            return False
        octets.seek(0)
        checksum, left = 0, content_bytes
        while left and (chunk := octets.read(min(left, VERIFY_CHUNK_BYTES))):
            checksum = zlib.crc32(chunk, checksum)
            left -= len(chunk)
        return bool(checksum == expected)


def _committed_files(tantivy_path: Path) -> Iterator[Path]:
    """Yield the files of the last commit; others beside them are still being written."""
    try:
        segments = json.loads((tantivy_path / "meta.json").read_bytes())["segments"]
        committed = {
            segment["segment_id"].replace("-", ""): (segment["deletes"] or {}).get("opstamp")
            for segment in segments
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetaUnreadable(str(error)) from None
    for file in sorted(tantivy_path.iterdir()):
        # Named <segment>.<part>, or <segment>.<opstamp>.del.
        segment, *middle, part = file.name.split(".")
        if segment in committed and (part != "del" or middle == [str(committed[segment])]):
            yield file


def has_deletes(path: Path) -> bool:
    """Say whether a segment of the last commit still has documents that were removed."""
    try:
        segments = json.loads((path / "meta.json").read_bytes())["segments"]
        return any(segment["deletes"] is not None for segment in segments)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True  # Not known: as if there were some.

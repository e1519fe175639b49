"""Blobs: the octets of messages and uploads, named by their SHA-256, in chunks (R7)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from storage import keys
from storage.database import Database, Family


class ShardBlobs:
    """The blobs of a shard, in chunks by SHA-256."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def size(self, digest: bytes) -> int | None:
        """Return the size in octets, or None when there is no such blob."""
        last = None
        end = keys.after(digest)
        for key, value in self._database.scan(Family.BLOB, digest, end, reverse=True):
            last = int.from_bytes(key[len(digest) :], "big") * keys.BLOB_CHUNK_BYTES + len(value)
            break
        return last

    def read(self, digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
        """Return octets of a blob. Raises KeyError when there is no such blob."""
        chunk, skip = divmod(offset, keys.BLOB_CHUNK_BYTES)
        pieces: list[bytes] = []
        wanted = None if length is None else skip + length
        while wanted is None or wanted > 0:
            value = self._database.get(Family.BLOB, keys.blob_chunk(digest, chunk))
            if value is None:
                break
            pieces.append(value if wanted is None else value[:wanted])
            wanted = None if wanted is None else wanted - len(value)
            chunk += 1
        if not pieces and self.size(digest) is None:
            raise KeyError(digest.hex())
        return b"".join(pieces)[skip:] if skip else b"".join(pieces)


def blob_chunks(digest: bytes, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values that hold a blob; an empty one has one empty chunk."""
    size = keys.BLOB_CHUNK_BYTES
    for chunk in range(max(1, -(-len(data) // size))):
        yield keys.blob_chunk(digest, chunk), data[chunk * size : (chunk + 1) * size]


def digest_of(data: bytes) -> bytes:
    """Return the name of a blob: the SHA-256 of its octets."""
    return hashlib.sha256(data).digest()

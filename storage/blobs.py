"""Blobs: the octets of messages and uploads, named by their SHA-256, in chunks (R7)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mail.errors import BlobDamaged
from storage import keys
from storage.database import Database, Family
from storage.records import Damaged


class ShardBlobs:
    """The blobs of a shard, in chunks by SHA-256.

    One that cannot be read is BlobDamaged and counted; it says nothing of any other record.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.unreadable = 0  # reads that failed

    def size(self, digest: bytes) -> int | None:
        """Return the size in octets, or None when there is no such blob. Raises BlobDamaged."""
        last = None
        end = keys.after(digest)
        with self._reading():
            for key, value in self._database.scan(Family.BLOB, digest, end, reverse=True):
                chunk = int.from_bytes(key[len(digest) :], "big")
                last = chunk * keys.BLOB_CHUNK_BYTES + len(value)
                break
        return last

    def read(self, digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
        """Return octets of a blob. Raises KeyError when there is no such blob; BlobDamaged."""
        with self._reading():
            return self._read(digest, offset, length)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Damaged:
            self.unreadable += 1
            raise BlobDamaged from None

    def _read(self, digest: bytes, offset: int, length: int | None) -> bytes:
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


class OnTheirWay:
    """The blobs of turns that wait or are being committed: nothing refers to them yet."""

    def __init__(self) -> None:
        self._turns: dict[bytes, int] = {}  # how many bring each

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._turns

    def begin(self, digests: Iterable[bytes]) -> None:
        """Note that a turn brings these."""
        for digest in digests:
            self._turns[digest] = self._turns.get(digest, 0) + 1

    def end(self, digests: Iterable[bytes]) -> None:
        """Note that the turn is over, whatever became of it."""
        for digest in digests:
            self._turns[digest] -= 1
            if not self._turns[digest]:
                del self._turns[digest]


def blob_chunks(digest: bytes, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values that hold a blob; an empty one has one empty chunk."""
    size = keys.BLOB_CHUNK_BYTES
    for chunk in range(max(1, -(-len(data) // size))):
        yield keys.blob_chunk(digest, chunk), data[chunk * size : (chunk + 1) * size]


def digest_of(data: bytes) -> bytes:
    """Return the name of a blob: the SHA-256 of its octets."""
    return hashlib.sha256(data).digest()

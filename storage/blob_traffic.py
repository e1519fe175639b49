"""BlobTraffic: which blobs go along with which append, and which are known to be here.

A follower acknowledges an entry only when every blob that it names is present (R7). Small ones
travel with the append, large ones in parts ahead of it. What a follower was sent is remembered
for a while and not sent again; where that was wrong it says what it lacks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mail.errors import BlobDamaged
from storage import keys
from storage.blobs import ShardBlobs, blob_chunks, digest_of
from storage.database import Batch, Family
from storage.records import Entry
from storage.replication.frames import Part
from storage.replication.messages import ReplicaId

INLINE_BYTES_MAX = 64 << 10  # larger blobs go in parts
TRAVELLING_BYTES_MAX = 4 << 20  # blobs in one append; beyond, these go in parts, too
KNOWN_MAX = 4096  # blobs remembered as sent to a follower, or as present here


class Recent:
    """The newest KNOWN_MAX of the digests that were added."""

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        self._digests[digest] = None
        if len(self._digests) > KNOWN_MAX:
            self._digests.popitem(last=False)

    def discard(self, digest: bytes) -> None:
        self._digests.pop(digest, None)


@dataclass(slots=True)
class Travelling:
    """What goes with an append."""

    blobs: list[tuple[bytes, bytes]] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    parts: list[tuple[bytes, bytes]] = field(default_factory=list)  # to be sent in parts before


class BlobTraffic:
    """The blobs between one replica and the others."""

    def __init__(self, blobs: ShardBlobs) -> None:
        self._blobs = blobs
        self._sent: dict[ReplicaId, Recent] = {}
        self._present = Recent()
        self._arriving: dict[bytes, int] = {}  # the part that comes next

    # The primary's side

    def note_sent(self, follower: ReplicaId, digest: bytes) -> None:
        self._sent.setdefault(follower, Recent()).add(digest)

    def note_lacking(self, follower: ReplicaId, digests: Iterable[bytes]) -> None:
        """Take a follower's word for what is not there."""
        sent = self._sent.setdefault(follower, Recent())
        for digest in digests:
            sent.discard(digest)

    def travelling(
        self,
        follower: ReplicaId,
        entries: Iterable[Entry],
        fresh: Mapping[bytes, bytes],
        committed_index: int,
    ) -> Travelling:
        """Return what has to go with these entries. `fresh` holds blobs that are at hand.

        An entry that is committed goes also without a blob: a later one has dropped it, or it
        cannot be read here any more, and one rotten body must not keep a set from growing.
        Raises BlobDamaged for a blob that is needed for an entry to commit.
        """
        found = Travelling()
        sent = self._sent.setdefault(follower, Recent())
        size = 0
        for entry in entries:
            for digest in entry.blobs:
                if digest in sent:
                    continue
                data = fresh.get(digest)
                if data is None:
                    try:
                        data = self._blobs.read(digest)
                    except (KeyError, BlobDamaged):
                        if entry.index > committed_index:
                            raise BlobDamaged from None
                        found.gone.append(digest)
                        continue
                sent.add(digest)
                size += len(data)
                if len(data) <= INLINE_BYTES_MAX and size <= TRAVELLING_BYTES_MAX:
                    found.blobs.append((digest, data))
                else:
                    found.parts.append((digest, data))
        return found

    def _read(self, digest: bytes) -> bytes | None:
        """Return a blob; None when it is not there, or not to be read any more."""
        try:
            return self._blobs.read(digest)
        except (KeyError, BlobDamaged):
            return None

    # The follower's side

    def lacking(
        self, entries: Iterable[Entry], brought: Mapping[bytes, bytes], gone: frozenset[bytes]
    ) -> tuple[bytes, ...]:
        """Return the blobs that these entries name and that are not here whole."""
        return tuple(
            digest
            for entry in entries
            for digest in entry.blobs
            if digest not in brought and digest not in gone and not self._is_present(digest)
        )

    def _is_present(self, digest: bytes) -> bool:
        if digest in self._present:
            return True
        data = self._read(digest)
        if data is None or digest_of(data) != digest:
            return False
        self._present.add(digest)
        return True

    def put(self, batch: Batch, blobs: Mapping[bytes, bytes]) -> None:
        """Have these blobs written with a batch, which follows before anything else happens."""
        for digest, data in blobs.items():
            for key, value in blob_chunks(digest, data):
                batch.put(Family.BLOB, key, value)
            self._present.add(digest)

    def note_dropped(self, digest: bytes) -> None:
        self._present.discard(digest)
        self._arriving.pop(digest, None)

    def arrived(self, part: Part) -> Batch | None:
        """Return what to write of a part; None for one that does not follow on the last."""
        if part.chunk == 0:
            if len(self._arriving) >= KNOWN_MAX:
                self._arriving.clear()  # Abandoned ones; who lacks something says so.
            self._arriving[part.digest] = 0
        if self._arriving.get(part.digest) != part.chunk:
            return None
        self._arriving[part.digest] += 1
        if part.chunk + 1 == part.chunks:
            del self._arriving[part.digest]
            self._present.add(part.digest)  # The write follows before anything else happens.
        batch = Batch()
        batch.put(Family.BLOB, keys.blob_chunk(part.digest, part.chunk), part.octets)
        return batch


def parts_of(to: ReplicaId, sender: ReplicaId, digest: bytes, data: bytes) -> Iterator[Part]:
    """Yield the parts of a blob for one replica."""
    size = keys.BLOB_CHUNK_BYTES
    chunks = max(1, -(-len(data) // size))
    for chunk in range(chunks):
        yield Part(to, sender, digest, chunk, chunks, data[chunk * size : (chunk + 1) * size])

"""Collector: deletes the blobs that nothing refers to any more, and what is left of them (R7).

Finds them by reading all blobs and asking every mailbox for an owner; an upload that nobody
used in its day is given up first. The deletion is an entry of the log, planned when no turn
can be in between: a message with the same octets that comes meanwhile keeps its blob. Then
the log is cut and the files are rewritten, so that a destroyed message is on the disk no more.

On failure  what was dropped is dropped; the rest is found again by the next run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from storage import keys, records
from storage.database import Family
from storage.mailbox_reader import MailboxReader, mailboxes
from storage.records import BlobOwner, Damaged
from storage.shard import Planned, Shard
from storage.transaction import Overlay, State

# Blobs whose owners are looked for in one go: bounds memory, and a seek a mailbox is little.
CHECKED_AT_ONCE = 1000
# Owners that one turn asks for before it drops blobs: some 10 ms.
ASKED_AT_ONCE = 4000
UPLOADS_AT_ONCE = 200
_DIGEST_BYTES = 32

Pause = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Collected:
    """What one run found, and did unless it was dry."""

    blobs: int = 0  # in the shard
    size_bytes: int = 0
    unused_blobs: int = 0
    unused_bytes: int = 0
    expired_uploads: int = 0
    unreadable_blobs: int = 0  # while there are any, no file of bodies is rewritten
    dropped_blobs: int = 0
    rewritten: bool = False


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: bytes
    size_bytes: int


class Collector:
    """One run over one shard."""

    def __init__(self, shard: Shard, *, pause: Pause, dry_run: bool) -> None:
        self._shard = shard
        self._pause = pause
        self._dry_run = dry_run
        self.found = Collected()

    async def run(self) -> Collected:
        """Drop what nothing refers to. Raises Unavailable and its kind; Damaged."""
        await self._give_up_uploads()
        after: bytes | None = b""
        while after is not None:
            blobs, after = await self._some_blobs(after)
            unused = self._without_owner(blobs)
            self.found.unused_blobs += len(unused)
            self.found.unused_bytes += sum(blob.size_bytes for blob in unused)
            if not self._dry_run:
                await self._drop([blob.digest for blob in unused])
        return self.found

    async def rewrite(self) -> None:
        """Take what was deleted off the disk; call it when the search index is made anew."""
        if not self._dry_run:
            self._shard.replica.cut_log()
            await self._shard.database.rewrite(blobs=not self.found.unreadable_blobs)
            self.found.rewritten = not self.found.unreadable_blobs

    # Uploads

    async def _give_up_uploads(self) -> None:
        now_ms = self._shard.clock_ms()
        for mailbox in list(mailboxes(self._shard.state)):
            after = b""
            while True:
                prefix = keys.kind(mailbox, b"b")
                scan = self._shard.state.scan(prefix + after + b"\0", keys.after(prefix))
                page = list(islice(scan, CHECKED_AT_ONCE))
                if not page:
                    break
                after = page[-1][0][len(prefix) :]
                expired = [key[len(prefix) :] for key, octets in page if _expired(octets, now_ms)]
                self.found.expired_uploads += len(expired)
                for first in range(0, len(expired), UPLOADS_AT_ONCE):
                    if not self._dry_run:
                        some = expired[first : first + UPLOADS_AT_ONCE]
                        await self._shard.run(mailbox, b"", _give_up(mailbox, some))
                await self._pause()

    # Blobs

    async def _some_blobs(self, after: bytes) -> tuple[list[_Blob], bytes | None]:
        """Return blobs after a key, and the key to go on from; None at the end.

        Every octet is read, so that none is found unreadable when its file is rewritten.
        """
        blobs: list[_Blob] = []
        while len(blobs) < CHECKED_AT_ONCE:
            digest = self._next_digest(after)
            if digest is None:
                return blobs, None
            blobs.append(_Blob(digest, await self._read_through(digest)))
            after = keys.after(digest)
        return blobs, after

    def _next_digest(self, start: bytes) -> bytes | None:
        """Return the first blob from a key on; one that cannot be read is counted and passed."""
        while True:
            try:
                scan = self._shard.database.scan(Family.BLOB, start, b"\xff" * 40)
                found = next(scan, None)
                return None if found is None else found[0][:_DIGEST_BYTES]
            except Damaged:
                self.found.unreadable_blobs += 1
                following = first_readable(self._shard, start)
                if following is None:
                    return None
                start = following

    async def _read_through(self, digest: bytes) -> int:
        size, chunk = 0, 0
        while True:
            try:
                octets = self._shard.database.get(Family.BLOB, keys.blob_chunk(digest, chunk))
            except Damaged:
                self.found.unreadable_blobs += 1
                break
            if octets is None:
                break
            size, chunk = size + len(octets), chunk + 1
            await self._pause()
        self.found.blobs += 1
        self.found.size_bytes += size
        return size

    def _without_owner(self, blobs: Sequence[_Blob]) -> list[_Blob]:
        """Return those that no mailbox refers to now; those that are on their way are left out."""
        if not blobs:
            return []
        owned: set[bytes] = set()
        for mailbox in mailboxes(self._shard.state):
            first = keys.blob_owner(mailbox, blobs[0].digest)
            last = keys.after(keys.blob_owner(mailbox, blobs[-1].digest))
            owned.update(key[-_DIGEST_BYTES:] for key, _ in self._shard.state.scan(first, last))
        now_ms = self._shard.clock_ms()
        expired = self._only_expired(owned, now_ms) if self._dry_run else set()
        return [
            blob
            for blob in blobs
            if (blob.digest not in owned or blob.digest in expired)
            and not self._shard.brings(blob.digest)
        ]

    def _only_expired(self, digests: Iterable[bytes], now_ms: int) -> set[bytes]:
        """Return the blobs that only expired uploads refer to, which a dry run does not give up."""
        every = list(mailboxes(self._shard.state))
        return {
            digest
            for digest in digests
            if all(
                octets is None or _expired(octets, now_ms)
                for octets in (self._shard.state.get(keys.blob_owner(m, digest)) for m in every)
            )
        }

    async def _drop(self, digests: Sequence[bytes]) -> None:
        every = list(mailboxes(self._shard.state))
        at_once = max(1, ASKED_AT_ONCE // max(1, len(every)))
        for first in range(0, len(digests), at_once):
            some = digests[first : first + at_once]
            octets = await self._shard.run(0, b"", drop_plan(self._shard, some))
            self.found.dropped_blobs += int.from_bytes(octets, "big")
            await self._pause()


def drop_plan(shard: Shard, digests: Sequence[bytes]) -> Callable[[Overlay, int], Planned]:
    """Return the plan that drops those blobs that nothing refers to, nor any turn brings.

    It is planned between turns: what earlier ones wrote is in the overlay, what later ones
    bring is known to the shard. Its reply is how many are dropped.
    """

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        every = list(mailboxes(overlay))
        dropped = tuple(
            digest
            for digest in digests
            if not shard.brings(digest) and not _is_owned(overlay, every, digest)
        )
        return Planned(keys.u32(len(dropped)), dropped=dropped)

    return plan


def first_readable(shard: Shard, start: bytes) -> bytes | None:
    """Return where a scan of the blobs can go on behind a block that cannot be read."""
    low, high = int.from_bytes(start[:_DIGEST_BYTES].ljust(_DIGEST_BYTES, b"\0"), "big"), 1 << 256
    while high - low > 1:
        middle = (low + high) // 2
        try:
            scan = shard.database.scan(Family.BLOB, middle.to_bytes(32, "big"), b"\xff" * 40)
            next(scan, None)
            high = middle
        except Damaged:
            low = middle
    return None if high >> 256 else high.to_bytes(_DIGEST_BYTES, "big")


def _is_owned(state: State, every: Sequence[int], digest: bytes) -> bool:
    return any(state.get(keys.blob_owner(mailbox, digest)) is not None for mailbox in every)


def _expired(octets: bytes, now_ms: int) -> bool:
    try:
        owner = records.decode(octets, BlobOwner)
    except Damaged:
        return False
    return not owner.emails and owner.upload_expires_ms <= now_ms


def _give_up(mailbox: int, digests: Sequence[bytes]) -> Callable[[Overlay, int], Planned]:
    def plan(overlay: Overlay, now_ms: int) -> Planned:
        reader = MailboxReader(mailbox, overlay)
        for digest in digests:
            name = keys.blob_owner(mailbox, digest)
            octets = overlay.get(name)
            if octets is not None and _expired(octets, now_ms) and reader.exists:
                overlay.delete(name)
        return Planned(b"")

    return plan

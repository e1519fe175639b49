"""Log: the entries of a shard's replicated log, as they lie on disk; reading all at a start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from storage import keys, records
from storage.database import Batch, Database, Family
from storage.records import Applied, Damaged, Entry, MembersRecord, Number
from storage.replication.effects import Fetch, Fetched
from storage.replication.messages import Position
from storage.transaction import Overlay, State

FETCHED_BYTES_MAX = 1 << 20  # of entries that are read for a follower at once
FETCHED_ENTRIES_MAX = 256
READ_AT_ONCE = 4096  # keys that are read before others have their turn: some milliseconds


def read_log(database: Database) -> list[Entry]:
    """Return all entries, which must follow one another. Raises Damaged."""
    entries: list[Entry] = []
    for key, value in database.scan(Family.LOG, b"", b"\xff" * 9):
        entry = records.decode(value, Entry)
        if keys.log(entry.index) != key or (entries and entry.index != entries[-1].index + 1):
            raise Damaged(f"log: entry {entry.index} is out of order")
        entries.append(entry)
    return entries


@dataclass(frozen=True, slots=True)
class FoundOnDisk:
    """What a replica's database holds of it, at a start."""

    log: list[Entry]
    tail: list[Entry]  # of the log: what is not applied yet
    applied: Applied
    indexed_index: int
    members: MembersRecord | None  # None: of a release that had no replica sets


def read_replica(database: Database) -> FoundOnDisk:
    """Return what a replica's database holds of it. Raises Damaged."""
    log = read_log(database)
    octets = database.get(Family.CTL, keys.APPLIED)
    applied = Applied(0, 0) if octets is None else records.decode(octets, Applied)
    octets = database.get(Family.CTL, keys.INDEXED)
    indexed_index = 0 if octets is None else records.decode(octets, Number).value
    octets = database.get(Family.CTL, keys.MEMBERS)
    members = None if octets is None else records.decode(octets, MembersRecord)
    tail = [entry for entry in log if entry.index > applied.index]
    if tail and tail[0].index != applied.index + 1:
        raise Damaged(f"log: entry {applied.index + 1} is missing")
    return FoundOnDisk(log, tail, applied, indexed_index, members)


async def read_through(database: Database, family: Family) -> None:
    """Read every block of a family once: damage is found now, not by a reader later."""
    for number, _ in enumerate(database.scan(family, b"", b"\xff" * 16)):
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)


class ReplicaLog:
    """The log on disk, but for its writing: that goes together with blobs and effects."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.first = 1  # index of the oldest entry that is still there

    def between(self, first: int, last: int) -> Iterator[Entry]:
        """Yield the entries from index `first` to `last`. Raises Damaged."""
        for _, value in self._database.scan(Family.LOG, keys.log(first), keys.log(last + 1)):
            yield records.decode(value, Entry)

    def fetched(self, fetch: Fetch, last_index: int) -> Fetched:
        """Return the log behind an index for a follower that lags. Raises Damaged."""
        previous = self._position(fetch.after_index)
        if previous is None:
            return Fetched(fetch.follower, None)
        entries: list[Entry] = []
        size = 0
        for entry in self.between(fetch.after_index + 1, last_index):
            entries.append(entry)
            size += sum(len(key) + len(value) for key, value in entry.puts)
            if size >= FETCHED_BYTES_MAX or len(entries) >= FETCHED_ENTRIES_MAX:
                break
        return Fetched(fetch.follower, previous, tuple(entries))

    def _position(self, index: int) -> Position | None:
        """Return the position of an entry, None when it, or what follows on it, was cut off."""
        if index + 1 < self.first:
            return None
        if index == 0:
            return Position(0, 0)
        octets = self._database.get(Family.LOG, keys.log(index))
        return None if octets is None else Position(records.decode(octets, Entry).epoch, index)

    def truncate(self, batch: Batch, needed_from: int, *, slack: int) -> None:
        """Cut off what lies before `needed_from`, if that is `slack` entries or more."""
        if needed_from - self.first >= slack:
            batch.delete_range(Family.LOG, keys.log(self.first), keys.log(needed_from))
            self.first = needed_from


def state_after(state: State, entries: Iterable[Entry]) -> State:
    """Return `state` as it will be once these entries are applied."""
    overlay = Overlay(state)
    for entry in entries:
        overlay.written.update(entry.puts)
        overlay.written.update(dict.fromkeys(entry.deletes))
    return overlay

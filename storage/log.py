"""Log: the entries of a shard's replicated log, as they lie on disk; reading all at a start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from storage import keys, records
from storage.database import Database, Family
from storage.records import Damaged, Entry
from storage.transaction import Overlay, State

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


async def read_through(database: Database, family: Family) -> None:
    """Read every block of a family once: damage is found now, not by a reader later."""
    for number, _ in enumerate(database.scan(family, b"", b"\xff" * 16)):
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)


def entries_between(database: Database, first: int, last: int) -> Iterator[Entry]:
    """Yield the entries from index `first` to `last`. Raises Damaged."""
    for _, value in database.scan(Family.LOG, keys.log(first), keys.log(last + 1)):
        yield records.decode(value, Entry)


def state_after(state: State, entries: Iterable[Entry]) -> State:
    """Return `state` as it will be once these entries are applied."""
    overlay = Overlay(state)
    for entry in entries:
        overlay.written.update(entry.puts)
        overlay.written.update(dict.fromkeys(entry.deletes))
    return overlay

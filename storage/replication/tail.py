"""Tail: the end of a replica's log, in memory: what is not committed, and a little before it.

Followers are mostly served from here. `base` is the position before the first entry that is
held; what lies before is on disk alone. The replica set in force is the latest one in the
log, committed or not, so it is kept here too: cutting the log brings the older one back.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.records import Entry, Members
from storage.replication.messages import Position

KEPT_ENTRIES = 256  # committed ones that stay for a follower that lags a little


class Tail:
    """Entries that follow one another, each after `base`."""

    def __init__(self, committed: Position, *, members: Members, members_index: int) -> None:
        self.base = committed
        self.committed = committed
        self._entries: list[Entry] = []
        self._configurations = [(members_index, members)]

    @property
    def last(self) -> Position:
        """Return where the log ends, flushed or not."""
        if not self._entries:
            return self.base
        entry = self._entries[-1]
        return Position(entry.epoch, entry.index)

    @property
    def members(self) -> Members:
        return self._configurations[-1][1]

    @property
    def members_index(self) -> int:
        """Return the index of the entry that brought the replica set in force."""
        return self._configurations[-1][0]

    def epoch_at(self, index: int) -> int | None:
        """Return the epoch of the entry at `index`; None when it is not known here."""
        if index == self.base.index:
            return self.base.epoch
        place = index - self.base.index - 1
        return self._entries[place].epoch if 0 <= place < len(self._entries) else None

    def extend(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.last.index + 1, "a log has no holes"
            assert entry.epoch >= self.last.epoch, "epochs never decrease along the log"
            self._entries.append(entry)
            if entry.members is not None:
                self._configurations.append((entry.index, entry.members))

    def between(self, after: int, upto: int) -> tuple[Entry, ...]:
        """Return the entries with after < index ≤ upto, which must be held."""
        start = after - self.base.index
        assert start >= 0
        return tuple(self._entries[start : upto - self.base.index])

    @property
    def uncommitted(self) -> tuple[Entry, ...]:
        return self.between(self.committed.index, self.last.index)

    def cut(self, first: int) -> None:
        """Forget the entries from index `first` on, none of which was committed (R13)."""
        assert first > self.committed.index
        del self._entries[first - self.base.index - 1 :]
        while self._configurations[-1][0] >= first:
            self._configurations.pop()

    def commit(self, index: int) -> tuple[Entry, ...]:
        """Return the entries that are committed now, up to `index`."""
        entries = self.between(self.committed.index, index)
        self.committed = Position(entries[-1].epoch, index)
        while len(self._configurations) > 1 and self._configurations[1][0] <= index:
            del self._configurations[0]
        self._trim()
        return entries

    def _trim(self) -> None:
        alone = len(self.members.voters) + len(self.members.learners) == 1
        kept = 0 if alone else KEPT_ENTRIES
        count = self.committed.index - self.base.index - kept
        if count > kept:  # Not one by one: a list is moved as a whole.
            entry = self._entries[count - 1]
            self.base = Position(entry.epoch, entry.index)
            del self._entries[:count]

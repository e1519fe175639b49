"""The disk of one replica in the core's simulator: log, applied state, and the hard state beside.

Writes are in order and durable up to the last flush; when the power fails, an end of what was
written since is lost. The hard state is another file: its promise is durable when kept, the
high-water mark may fall back to what was synced last.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage.records import Entry, Members
from storage.replication.messages import Position, Promise, ReplicaId

NOWHERE = Position(0, 0)


class Crashed(Exception):
    """The process is gone."""


class Refused(Exception):
    """The disk is full: the write did not happen, and the process ends."""


@dataclass
class Contents:
    """What lies in the database: entries after `base`, and the state of the applied ones."""

    members: Members
    members_index: int = 0
    base: Position = NOWHERE
    applied: Position = NOWHERE
    last: int = 0
    log: dict[int, Entry] = field(default_factory=dict)
    values: dict[bytes, bytes] = field(default_factory=dict)

    def write(self, cut_from: int, entries: Sequence[Entry]) -> None:
        if cut_from:
            for index in range(cut_from, self.last + 1):
                del self.log[index]
            self.last = cut_from - 1
        for entry in entries:
            assert entry.index == self.last + 1, "a log has no holes"
            self.log[entry.index] = entry
            self.last = entry.index

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied.index + 1, "entries are applied in order"
            self.values.update(entry.puts)
            if entry.members is not None:
                self.members, self.members_index = entry.members, entry.index
            self.applied = Position(entry.epoch, entry.index)

    def truncate(self, upto: int) -> None:
        """Forget the log up to `upto`, all of it applied."""
        assert upto <= self.applied.index
        if upto > self.base.index:
            base = Position(self.log[upto].epoch, upto)
            for index in range(self.base.index + 1, upto + 1):
                del self.log[index]
            self.base = base

    def epoch_at(self, index: int) -> int | None:
        if index == self.base.index:
            return self.base.epoch
        entry = self.log.get(index)
        return None if entry is None else entry.epoch

    def holds(self, entry: Entry) -> bool:
        return self.applied.index >= entry.index or self.epoch_at(entry.index) == entry.epoch

    def newest_members(self) -> Members:
        """Return the replica set in force here: the latest in the log, applied or not."""
        for index in range(self.last, self.applied.index, -1):
            members = self.log[index].members
            if members is not None:
                return members
        return self.members

    def copy(self) -> Contents:
        log, values = dict(self.log), dict(self.values)
        base, applied = self.base, self.applied
        return Contents(self.members, self.members_index, base, applied, self.last, log, values)

    def snapshot(self) -> Contents:
        """Return the applied state alone, as it is sent to a follower."""
        applied, values = self.applied, dict(self.values)
        return Contents(
            self.members, self.members_index, applied, applied, applied.index, {}, values
        )


_Write = tuple[int, Sequence[Entry]]  # cut from, entries
_Operation = tuple[str, object]


class Disk:
    """One replica's directory."""

    def __init__(self, replica: ReplicaId, members: Members, rng: random.Random) -> None:
        self.rng = rng
        self.live = Contents(members)
        self.durable = Contents(members)
        self.pending: list[_Operation] = []  # written, not flushed
        self.written = 0  # operations ever
        self.promise = Promise(0, replica)
        self.high_water = 0
        self.high_water_synced = 0
        self.acknowledged = 0  # the high-water mark as it should be
        self.full = False
        self.crash_in: int | None = None  # operations until the process dies
        self.backup: Contents | None = None  # an old copy, to which the database may roll back
        self.lost = False  # flushed entries were lost here once

    def operation(self, *, writes: bool = True) -> None:
        """Count one operation; the process may die at any of them."""
        if writes and self.full:
            raise Refused
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash_in = None
                raise Crashed

    def _do(self, kind: str, argument: object) -> None:
        self.operation()
        _apply_to(self.live, kind, argument)
        self.pending.append((kind, argument))
        self.written += 1

    def write(self, cut_from: int, entries: Sequence[Entry]) -> None:
        self._do("write", (cut_from, entries))

    def apply(self, entries: Sequence[Entry]) -> None:
        self._do("apply", entries)

    def truncate(self, upto: int) -> None:
        self._do("truncate", upto)

    def flush(self, upto: int) -> None:
        """Make durable what was written up to operation number `upto`."""
        self.operation(writes=False)
        self._settle(upto - (self.written - len(self.pending)))

    def _settle(self, count: int) -> None:
        if count > 0:
            for kind, argument in self.pending[:count]:
                _apply_to(self.durable, kind, argument)
            del self.pending[:count]

    def set_high_water(self, index: int) -> None:
        self.operation(writes=False)
        if index < self.high_water:
            self.high_water_synced = index  # Else the cut could outlive it: a false suspicion.
        self.high_water = self.acknowledged = index

    def keep_promise(self, promise: Promise) -> None:
        self.operation(writes=False)  # The file is preallocated: it can be written when full.
        self.promise = promise
        self.high_water_synced = self.high_water
        self.operation(writes=False)

    def settle_all(self) -> None:
        """Flush everything: what a process does before it trusts what it finds."""
        self._settle(len(self.pending))
        self.high_water_synced = self.high_water

    def lose_power(self) -> None:
        keep = self.rng.randint(0, len(self.pending))
        self._settle(keep)
        self.written -= len(self.pending)
        self.pending.clear()
        self.live = self.durable.copy()
        self.high_water = self.rng.choice((self.high_water, self.high_water_synced))
        self.high_water_synced = self.high_water

    def install(self, contents: Contents) -> None:
        """Replace the database, at once and durably."""
        self.pending.clear()
        self.durable, self.live = contents.copy(), contents.copy()

    def install_snapshot(self, contents: Contents, *, suspect: bool) -> None:
        """Replace the state by a later one; what the log holds beyond stays, if it follows on.

        If it does not, it was never committed, and its acknowledgements are void. Else a
        replica would be suspect that has lost nothing.
        """
        live, at = self.live, contents.applied
        contents = contents.copy()
        if live.epoch_at(at.index) == at.epoch:
            contents.log = {i: live.log[i] for i in range(at.index + 1, live.last + 1)}
            contents.last = live.last
        elif not suspect and self.high_water > at.index:
            self.set_high_water(at.index)
        self.install(contents)


def _apply_to(contents: Contents, kind: str, argument: object) -> None:
    if kind == "write":
        contents.write(*argument)  # type: ignore[misc]
    elif kind == "apply":
        contents.apply(argument)  # type: ignore[arg-type]
    else:
        contents.truncate(argument)  # type: ignore[arg-type]

"""A simulated disk: it keeps what was flushed, and after a power failure some of what was not."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from storage import keys, records
from storage.database import Batch, DiskWentFull, Family
from storage.hard_state import HardRecord
from storage.records import Applied, Damaged, Members, MembersRecord
from storage.replication.messages import Promise, ReplicaId

Undo = list[tuple[Family, bytes, bytes | None]]


class Crashed(BaseException):
    """The process is gone. Nothing in it may handle this."""


class Families:
    """Ordered keys in memory."""

    def __init__(self) -> None:
        self.values: dict[Family, dict[bytes, bytes]] = {family: {} for family in Family}
        self.keys: dict[Family, list[bytes]] = {family: [] for family in Family}
        self.rotten: set[tuple[Family, bytes]] = set()  # a bit has flipped in these

    def copy(self) -> Families:
        copied = Families()
        copied.values = {family: dict(values) for family, values in self.values.items()}
        copied.keys = {family: list(sorted_keys) for family, sorted_keys in self.keys.items()}
        copied.rotten = set(self.rotten)
        return copied

    def set(self, family: Family, key: bytes, value: bytes | None) -> None:
        values = self.values[family]
        if value is None:
            if values.pop(key, None) is not None:
                sorted_keys = self.keys[family]
                del sorted_keys[bisect_left(sorted_keys, key)]
        else:
            if key not in values:
                insort(self.keys[family], key)
            values[key] = value
        if self.rotten:
            self.rotten.discard((family, key))

    def apply(self, batch: Batch) -> Undo:
        """Write a batch; return what undoes it, the newest first."""
        undo: Undo = []
        for family, start, end in batch.ranges:
            values = self.values[family]
            for key in self.between(family, start, end):
                undo.append((family, key, values[key]))
                self.set(family, key, None)
        for family, key, value in batch.operations:
            undo.append((family, key, self.values[family].get(key)))
            self.set(family, key, value)
        undo.reverse()
        return undo

    def undo(self, undo: Undo) -> None:
        for family, key, value in undo:
            self.set(family, key, value)

    def between(self, family: Family, start: bytes, end: bytes) -> list[bytes]:
        sorted_keys = self.keys[family]
        return sorted_keys[bisect_left(sorted_keys, start) : bisect_left(sorted_keys, end)]


class Disk:
    """One replica's directory: what outlives a process."""

    def __init__(self, rng: random.Random, replica: ReplicaId, *, founds: bool) -> None:
        self.rng = rng
        self.replica = replica
        self.families = Families()
        members = MembersRecord(0, Members((replica,) if founds else ()))
        self.families.set(Family.CTL, keys.MEMBERS, records.encode(members))
        self.written = 0  # batches ever
        self._unflushed: list[Undo] = []  # of the last of them
        self.hard = HardRecord(1, "sim", 2, "mailbox", replica, 0, replica, 0)
        self.hard_flushed = self.hard
        self.arriving: dict[str, bytes] = {}  # files of a snapshot
        self.arriving_from: bytes = b""
        self.crash_in: int | None = None  # operations until the process dies
        self.full = False
        self.mark_fell_back = False  # the high-water mark, when the power failed once
        self.lost = False  # what it held is gone, or will be found to be
        self.slow_s = 0.005  # a flush takes up to so long
        self.on_applied: Callable[[Disk, int], None] = lambda _, __: None

    def operation(self) -> None:
        """Count one disk operation; the process may die at any of them."""
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash_in = None
                raise Crashed

    @property
    def applied_index(self) -> int:
        octets = self.families.values[Family.CTL].get(keys.APPLIED)
        return 0 if octets is None else records.decode(octets, Applied).index

    def write(self, batch: Batch) -> None:
        if batch.operations and batch.operations[-1][1] == keys.APPLIED:
            octets = batch.operations[-1][2]
            assert octets is not None
            self.on_applied(self, records.decode(octets, Applied).index)
        self._unflushed.append(self.families.apply(batch))
        self.written += 1

    def flush(self, upto: int) -> None:
        """Make durable all batches before number `upto`."""
        kept = max(0, self.written - upto)
        del self._unflushed[: max(0, len(self._unflushed) - kept)]

    def lose_power(self) -> None:
        """Forget an end of what was not flushed: a write-ahead log is cut, never holed."""
        for _ in range(self.rng.randint(0, len(self._unflushed))):
            self.families.undo(self._unflushed.pop())
        self._unflushed.clear()
        newest = self.hard
        self.hard = self.rng.choice((self.hard, self.hard_flushed))
        self.mark_fell_back |= self.hard is not newest
        self.hard_flushed = self.hard
        for name, octets in self.arriving.items():
            self.arriving[name] = octets[: self.rng.randint(0, len(octets))]

    def swap(self, families: Families) -> None:
        """Put other contents in the place of the database, durably."""
        self.families = families
        self.lost = False
        self._unflushed.clear()
        self.arriving.clear()


class SimDatabase:
    """`storage.database.Database` over a simulated disk, as one process has it open."""

    def __init__(self, disk: Disk, operation: Callable[[], None]) -> None:
        self.disk = disk
        self._operation = operation
        self._families = disk.families
        self._failed = False
        self.closed = False

    def get(self, family: Family, key: bytes) -> bytes | None:
        if self.closed:
            raise Damaged("closed")
        families = self._families
        if families.rotten and (family, key) in families.rotten:
            raise Damaged(f"{family.value}: a flipped bit")
        return families.values[family].get(key)

    def scan(
        self, family: Family, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if self.closed:
            raise Damaged("closed")
        families = self._families
        values = families.values[family]
        found = [(key, values[key]) for key in families.between(family, start, end)]
        if reverse:
            found.reverse()
        if families.rotten:
            return _until_damage(family, found, families.rotten)
        return iter(found)

    def write(self, batch: Batch) -> None:
        self._operation()
        if self.disk.full or self._failed:
            self._failed = True
            raise DiskWentFull("No space left on device")
        self.disk.write(batch)
        self._operation()

    async def flush(self) -> None:
        upto = self.disk.written
        await asyncio.sleep(self.disk.rng.random() * self.disk.slow_s)
        self._operation()
        if self.disk.full or self._failed:
            self._failed = True
            raise DiskWentFull("No space left on device")
        self.disk.flush(upto)

    def view(self) -> SimView:
        return SimView(dict(self._families.values[Family.STATE]))

    async def write_out(self) -> None:
        await self.flush()

    async def rewrite(self, *, blobs: bool) -> None:
        await self.flush()

    async def checkpoint(self, path: Path) -> None:
        raise NotImplementedError("the simulator's snapshots take `contents`")

    def contents(self) -> Families:
        """Return a copy of all that is written."""
        return self._families.copy()

    def counts(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        self.closed = True


def _until_damage(
    family: Family, found: list[tuple[bytes, bytes]], rotten: set[tuple[Family, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    for key, value in found:
        if (family, key) in rotten:
            raise Damaged(f"{family.value}: a flipped bit")
        yield key, value


class SimView:
    """The state at one moment."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self._values = values

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted((k for k in self._values if start <= k < end), reverse=reverse):
            yield key, self._values[key]

    def close(self) -> None:
        return


class SimHardState:
    """`storage.hard_state.HardState` over a simulated disk."""

    def __init__(self, disk: Disk, operation: Callable[[], None]) -> None:
        self._disk = disk
        self._operation = operation

    @property
    def record(self) -> HardRecord:
        return self._disk.hard

    def keep_promise(self, promise: Promise) -> None:
        self._operation()
        self._disk.hard = replace(
            self.record, promised_epoch=promise.epoch, promised_candidate=promise.candidate
        )
        self._disk.hard_flushed = self._disk.hard
        self._operation()

    def set_high_water(self, index: int) -> None:
        self._operation()
        lowered = index < self.record.high_water
        self._disk.hard = replace(self.record, high_water=index)
        if lowered:  # A cut must not outlive it: else the replica would seem to have lost it.
            self._disk.hard_flushed = self._disk.hard
        self._operation()

    def close(self) -> None:
        return

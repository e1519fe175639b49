"""A simulated disk: it keeps what was flushed, and at a crash some of what was not."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, insort
from collections.abc import Iterator

from msgspec.structs import replace

from storage.database import Batch, Family
from storage.hard_state import HardRecord
from storage.replication.core import Promise


class Crashed(BaseException):
    """The process is gone. Nothing in it may handle this."""


class Families:
    """Ordered keys in memory."""

    def __init__(self) -> None:
        self.values: dict[Family, dict[bytes, bytes]] = {family: {} for family in Family}
        self.keys: dict[Family, list[bytes]] = {family: [] for family in Family}

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        if key not in self.values[family]:
            insort(self.keys[family], key)
        self.values[family][key] = value

    def delete(self, family: Family, key: bytes) -> None:
        if self.values[family].pop(key, None) is not None:
            keys = self.keys[family]
            del keys[bisect_left(keys, key)]

    def apply(self, batch: Batch) -> None:
        for family, start, end in batch.ranges:
            for key in self.between(family, start, end):
                self.delete(family, key)
        for family, key, value in batch.operations:
            if value is None:
                self.delete(family, key)
            else:
                self.put(family, key, value)

    def between(self, family: Family, start: bytes, end: bytes) -> list[bytes]:
        keys = self.keys[family]
        return keys[bisect_left(keys, start) : bisect_left(keys, end)]


class Disk:
    """What outlives a process: batches in the order they were written, some of them flushed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.written: list[Batch] = []
        self.flushed = 0  # so many of `written` are durable
        self.hard = HardRecord(1, "sim", 2, "mailbox", b"r" * 16, 0, b"r" * 16, 0)
        self.hard_flushed = self.hard
        self.crash_at: int | None = None  # operations until the next crash

    def operation(self) -> None:
        """Count one disk operation; the process may die at any of them."""
        if self.crash_at is not None:
            self.crash_at -= 1
            if self.crash_at <= 0:
                raise Crashed

    def lose_power(self) -> None:
        """Forget an end of what was not flushed: a write-ahead log is cut, never holed."""
        keep = self.rng.randint(self.flushed, len(self.written))
        del self.written[keep:]
        self.flushed = keep
        self.hard = self.rng.choice((self.hard, self.hard_flushed))
        self.hard_flushed = self.hard
        self.crash_at = None


class SimDatabase:
    """`storage.database.Database` over a simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._families = Families()
        for batch in disk.written:
            self._families.apply(batch)

    def get(self, family: Family, key: bytes) -> bytes | None:
        return self._families.values[family].get(key)

    def scan(
        self, family: Family, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        values = self._families.values[family]
        found = [(key, values[key]) for key in self._families.between(family, start, end)]
        yield from reversed(found) if reverse else found

    def write(self, batch: Batch) -> None:
        self._disk.operation()
        self._disk.written.append(batch)
        self._families.apply(batch)

    async def flush(self) -> None:
        upto = len(self._disk.written)
        for _ in range(self._disk.rng.randint(0, 5)):
            await asyncio.sleep(0)
        self._disk.operation()
        self._disk.flushed = max(self._disk.flushed, upto)

    def view(self) -> SimView:
        return SimView(dict(self._families.values[Family.STATE]))

    async def rewrite(self, *, blobs: bool) -> None:
        await self.flush()

    def counts(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        return


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

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def record(self) -> HardRecord:
        return self._disk.hard

    def keep_promise(self, promise: Promise) -> None:
        self._disk.operation()
        self._disk.hard = replace(
            self.record, promised_epoch=promise.epoch, promised_candidate=promise.candidate
        )
        self._disk.hard_flushed = self._disk.hard

    def raise_high_water(self, index: int) -> None:
        self._disk.operation()
        self._disk.hard = replace(self.record, high_water=index)

    def close(self) -> None:
        return

"""Planted bugs: each is found by a checker, within few seeds, or the checker is worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from storage import keys, records
from storage.blob_traffic import BlobTraffic, Travelling
from storage.collector import Collector
from storage.database import Batch, Family
from storage.records import Entry, FolderRecord
from storage.replica import Replica
from storage.replication import frames
from storage.replication.effects import Effects, RenewLease
from storage.replication.messages import Promise, ReplicaId
from storage.replication.reign import Reign
from storage.shard import Shard
from storage.snapshots import SnapshotReceiver
from tests.sim.disk import SimHardState
from tests.sim.simulator import Classes

Put = tuple[Family, bytes, bytes | None]


async def _nothing() -> None:
    return


class AcksBeforeTheFlush(Replica):
    def start(self) -> None:
        self.database.flush = _nothing  # type: ignore[method-assign]
        super().start()


class ForgetsBlobs(Replica):
    def _append(self, effects: Effects, brought: Mapping[bytes, bytes] | None) -> None:
        super()._append(effects, {} if brought is None else brought)


class _ChangesWrites(Replica):
    @staticmethod
    def changed_put(put: Put) -> Iterator[Put]:
        raise NotImplementedError

    def write(self, batch: Batch) -> None:
        batch.operations = [
            changed
            for put in batch.operations
            for changed in (self.changed_put(put) if put[0] is Family.STATE else (put,))
        ]
        super().write(batch)


class ForgetsRequestIds(_ChangesWrites):
    @staticmethod
    def changed_put(put: Put) -> Iterator[Put]:
        if put[1][8:9] != b"q":
            yield put


class ForgetsCounters(_ChangesWrites):
    @staticmethod
    def changed_put(put: Put) -> Iterator[Put]:
        if put[1][8:9] != b"n" or not put[2] or put[2][-1] % 2 == 0:
            yield put


class ReusesUids(_ChangesWrites):
    @staticmethod
    def changed_put(put: Put) -> Iterator[Put]:
        family, key, value = put
        if key[8:9] == b"f" and value:
            folder = records.decode(value, FolderRecord)
            value = records.encode(replace(folder, uid_next=min(folder.uid_next, 4)))
        yield family, key, value


class AppliesLessThanOthers(Replica):
    def _apply(self, entries: Sequence[Entry]) -> None:
        if self.core.reign is None and len(entries) > 1:
            entries = [*entries[:-1], replace(entries[-1], puts=entries[-1].puts[1:])]
        super()._apply(entries)


class WritesAnotherEntryThanOthers(Replica):
    def _append(self, effects: Effects, brought: Mapping[bytes, bytes] | None) -> None:
        super()._append(effects, brought)
        for entry in effects.append:
            if self.core.reign is None and entry.index % 16 == 0:
                batch = Batch()
                other = replace(entry, recorded_at_ms=entry.recorded_at_ms + 1)
                batch.put(Family.LOG, keys.log(entry.index), records.encode(other))
                self.write(batch)


class ReadsWithoutALease(Replica):
    async def confirm_lease(self, reign: Reign | None) -> None:
        return


class LeadsWithAFullDisk(Shard):
    """A primary that cannot write any more goes on telling its followers that it leads."""

    @property
    def leads(self) -> bool:
        return self.core.serving


class RenewsWithAFullDisk(Replica):
    async def confirm_lease(self, reign: Reign | None) -> None:
        if self.failed is not None and self.core.serving:
            self.step(RenewLease())
        await super().confirm_lease(reign)


class CountsWhatWasSentAsThere(BlobTraffic):
    def lacking(
        self, entries: Iterable[Entry], brought: Mapping[bytes, bytes], gone: frozenset[bytes]
    ) -> tuple[bytes, ...]:
        return ()

    def travelling(
        self, follower: ReplicaId, entries: Iterable[Entry], fresh: Mapping[bytes, bytes]
    ) -> Travelling:
        found = super().travelling(follower, entries, fresh)
        return Travelling(found.blobs[:1], found.gone, found.parts)


class DropsWhatIsReferredTo(Collector):
    def _without_owner(self, blobs: Sequence[object]) -> list[object]:  # type: ignore[override]
        return list(blobs)[:1]

    async def _drop(self, digests: Sequence[bytes]) -> None:
        from storage.shard import Planned

        dropped = tuple(digests)
        await self._shard.run(0, b"", lambda _, __: Planned(b"", dropped=dropped))


class DropsWhatIsOnItsWay(Shard):
    def brings(self, digest: bytes) -> bool:
        return False


class BreaksPromises(SimHardState):
    def keep_promise(self, promise: Promise) -> None:
        before = self._disk.hard
        super().keep_promise(promise)
        self._disk.hard = self._disk.hard_flushed = before


class InstallsNothing(SnapshotReceiver):
    def offered(self, sender: ReplicaId, offer: frames.Offer) -> None:
        return


BUGS: dict[str, Callable[[], Classes]] = {
    "acks before the flush": lambda: Classes(replica=AcksBeforeTheFlush),
    "forgets blobs": lambda: Classes(replica=ForgetsBlobs),
    "forgets request ids": lambda: Classes(replica=ForgetsRequestIds),
    "forgets counters": lambda: Classes(replica=ForgetsCounters),
    "reuses UIDs": lambda: Classes(replica=ReusesUids),
    "applies less than others": lambda: Classes(replica=AppliesLessThanOthers),
    "writes another entry than others": lambda: Classes(replica=WritesAnotherEntryThanOthers),
    "reads without a lease": lambda: Classes(replica=ReadsWithoutALease),
    "renews the lease with a full disk": lambda: Classes(
        shard=LeadsWithAFullDisk, replica=RenewsWithAFullDisk
    ),
    "installs nothing": lambda: Classes(receiver=InstallsNothing),
    "counts what was sent as there": lambda: Classes(traffic=CountsWhatWasSentAsThere),
    "drops what is referred to": lambda: Classes(collector=DropsWhatIsReferredTo),
    "drops what is on its way": lambda: Classes(shard=DropsWhatIsOnItsWay),
    "breaks promises": lambda: Classes(hard_state=BreaksPromises),
}

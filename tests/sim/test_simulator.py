"""Many seeds through the simulator; and one planted bug per checker, which it must find."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from storage import records
from storage.database import Batch, Family
from storage.records import Damaged, Entry, FolderRecord
from storage.shard import Shard
from tests.sim.simulator import Simulator

SEEDS = int(os.environ.get("HELIO_TEST_SEEDS", "300"))
ONE_SEED = os.environ.get("HELIO_SIM_SEED")


@pytest.mark.parametrize("seed", [int(ONE_SEED)] if ONE_SEED else range(SEEDS))
def test_acknowledged_mail_survives(seed: int) -> None:
    problems = Simulator(seed).run()
    assert not problems, f"make sim SEED={seed}: {problems[:5]}"


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = Simulator(7), Simulator(7)
    one.run()
    other.run()
    assert one.mail == other.mail


def _found(shard_class: type[Shard]) -> bool:
    for seed in range(40):
        simulator = Simulator(seed)
        simulator.shard_class = shard_class
        try:
            if simulator.run():
                return True
        except (AssertionError, Damaged):
            return True  # The product's own checks may be first.
    return False


class AnswersBeforeTheFlush(Shard):
    async def _append(self, entries: Sequence[Entry], blobs: Mapping[bytes, bytes]) -> None:
        flush, self.database.flush = self.database.flush, _nothing  # type: ignore[method-assign]
        await super()._append(entries, blobs)
        self.database.flush = flush  # type: ignore[method-assign]


class ForgetsBlobs(Shard):
    async def _append(self, entries: Sequence[Entry], blobs: Mapping[bytes, bytes]) -> None:
        await super()._append(entries, {})


class ForgetsRequestIds(Shard):
    def _write(self, batch: Batch) -> None:
        batch.operations = [
            (family, key, value)
            for family, key, value in batch.operations
            if not (family is Family.STATE and key[8:9] == b"q")
        ]
        super()._write(batch)


class ForgetsCounters(Shard):
    def _write(self, batch: Batch) -> None:
        batch.operations = [
            (family, key, value)
            for family, key, value in batch.operations
            if not (family is Family.STATE and key[8:9] == b"n" and value and value[-1] % 2)
        ]
        super()._write(batch)


class ReusesUids(Shard):
    def _write(self, batch: Batch) -> None:
        batch.operations = [
            (
                (family, key, _with_old_uid_next(value))
                if family is Family.STATE and key[8:9] == b"f" and value
                else (family, key, value)
            )
            for family, key, value in batch.operations
        ]
        super()._write(batch)


def _with_old_uid_next(octets: bytes) -> bytes:
    folder = records.decode(octets, FolderRecord)
    return records.encode(replace(folder, uid_next=min(folder.uid_next, 4)))


async def _nothing() -> None:
    return


@pytest.mark.parametrize(
    "bug",
    [AnswersBeforeTheFlush, ForgetsBlobs, ForgetsRequestIds, ForgetsCounters, ReusesUids],
)
def test_a_planted_bug_is_found(bug: type[Shard]) -> None:
    assert _found(bug)

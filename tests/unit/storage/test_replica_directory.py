"""Opening what is there: nothing is taken for empty, nothing is destroyed by looking at it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from actors.request_ids import new_request_id
from storage import replica_directory
from storage.database import CannotOpen, RocksDatabase
from storage.hard_state import SLOT_BYTES, HardState
from storage.mailbox_reader import MailboxReader
from storage.records import Damaged
from storage.replica_directory import ReplicaDirectory
from storage.replication.messages import Promise
from tests.unit.storage.shard_fixture import NAME, deliver, letter, open_shard, opened


async def test_a_database_in_use_is_not_damaged(tmp_path: Path) -> None:
    async with opened(tmp_path / "s"):
        with pytest.raises(CannotOpen):
            ReplicaDirectory(tmp_path / "s").open(NAME)
    async with opened(tmp_path / "s"):
        pass


async def test_a_full_disk_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "s"):
        pass

    def full(*args: object, **options: object) -> object:
        raise Exception("IO error: No space left on device: While appending to file")

    with monkeypatch.context() as patch:
        patch.setattr("storage.database.Rdict", full)
        with pytest.raises(CannotOpen):
            ReplicaDirectory(tmp_path / "s").open(NAME)
    async with opened(tmp_path / "s"):
        pass


async def test_a_used_database_without_its_hard_state_is_not_made_anew(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await deliver(shard, letter())
    directory = ReplicaDirectory(tmp_path / "s")
    hard_state = directory.hard_state.read_bytes()
    directory.hard_state.unlink()
    with pytest.raises(Damaged):
        await directory.make(NAME, new_request_id)
    directory.hard_state.write_bytes(hard_state)
    async with opened(tmp_path / "s") as shard:
        assert MailboxReader(1, shard.state).info.emails == 1


async def test_making_is_repeatable_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(replica_directory.HardState, "create", lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await ReplicaDirectory(tmp_path / "s").make(NAME, new_request_id)
    async with opened(tmp_path / "s") as shard:
        await deliver(shard, letter())


async def test_opening_a_damaged_log_leaves_all_of_it_to_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "s"
    shard = await open_shard(path)
    for _ in range(20):
        await deliver(shard, letter())
    shutil.copytree(path, tmp_path / "killed")
    await shard.close()
    log = max((tmp_path / "killed" / "db").glob("*.log"), key=lambda file: file.stat().st_size)
    octets = bytearray(log.read_bytes())
    octets[len(octets) // 2] ^= 0x40
    log.write_bytes(octets)
    directory = ReplicaDirectory(tmp_path / "killed")
    for _ in range(2):
        with pytest.raises(Damaged):
            await open_shard(tmp_path / "killed")
        assert (directory.found / log.name).read_bytes() == octets
    directory.forget_log()
    assert not directory.found.exists()


def test_a_block_torn_by_the_disk_leaves_the_other_with_the_promise(tmp_path: Path) -> None:
    path, mine = tmp_path / "hard_state", new_request_id()
    HardState.create(path, cluster="c", shard=2, kind="mailbox", replica=mine)  # type: ignore[arg-type]
    hard = HardState(path)
    hard.keep_promise(Promise(3, mine))  # type: ignore[arg-type]
    hard.set_high_water(9)
    hard.close()
    assert path.stat().st_size == 2 * SLOT_BYTES
    assert SLOT_BYTES % os.sysconf("SC_PAGE_SIZE") == 0
    whole = path.read_bytes()
    for torn in (0, SLOT_BYTES):
        path.write_bytes(whole[:torn] + os.urandom(SLOT_BYTES) + whole[torn + SLOT_BYTES :])
        hard = HardState(path)
        assert hard.record.promised_epoch == 3
        hard.close()


async def test_a_database_that_is_gone_is_damage(tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        RocksDatabase(tmp_path / "nothing", create=False)

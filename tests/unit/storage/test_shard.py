"""The shard on a real disk: durable, once, in order; damage is found, not served."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from actors import mailbox_turns
from actors.commands import Done
from actors.request_ids import new_request_id, request_id_from
from mail.errors import DiskFull, Overloaded, RequestExpired, Unavailable
from storage import replica as replica_module
from storage import shard as shard_module
from storage.blobs import digest_of
from storage.hard_state import SLOT_BYTES
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.records import Damaged
from storage.replica_directory import ReplicaDirectory, ReplicaName
from storage.shard import REPLIES_KEPT_MS, Planned, Shard
from tests.unit.storage.shard_fixture import NAME, deliver, letter, now_ms, open_shard, opened


async def test_what_was_answered_is_there_after_reopening(tmp_path: Path) -> None:
    bodies = [b"", b"x", os.urandom(70_000), os.urandom(3_000_000)]
    letters = [letter(body=body) for body in bodies]
    async with opened(tmp_path / "s") as shard:
        replies = await asyncio.gather(*(deliver(shard, command) for command in letters))
        epoch = shard.core.epoch
    async with opened(tmp_path / "s") as shard:
        assert shard.core.epoch > epoch
        reader = MailboxReader(1, shard.state)
        for command, reply in zip(letters, replies, strict=True):
            record = reader.email(reply.email_id)
            assert record is not None
            assert shard.blobs.read(record.digest) == command.raw
            assert shard.blobs.size(record.digest) == len(command.raw)


async def test_blob_ranges(tmp_path: Path) -> None:
    data = os.urandom(700_000)
    async with opened(tmp_path / "s") as shard:
        plan = mailbox_turns.mailbox_plan(1, mailbox_turns.put_blob(digest_of(data), 9, "G"))
        await shard.run(1, new_request_id(), plan, blobs={digest_of(data): data})
        for offset, length in ((0, 10), (262_140, 10), (262_144, 1), (699_999, 10), (0, None)):
            end = None if length is None else offset + length
            assert shard.blobs.read(digest_of(data), offset, length) == data[offset:end]
        with pytest.raises(KeyError):
            shard.blobs.read(digest_of(b"another"))


async def test_a_repeated_request_has_one_effect(tmp_path: Path) -> None:
    command = letter()
    async with opened(tmp_path / "s") as shard:
        first, second = await asyncio.gather(deliver(shard, command), deliver(shard, command))
        assert first == second
    async with opened(tmp_path / "s") as shard:
        assert await deliver(shard, command) == first
        assert MailboxReader(1, shard.state).info.emails == 1


async def test_a_request_older_than_the_remembered_ones_is_refused(tmp_path: Path) -> None:
    old = request_id_from(now_ms=now_ms() - REPLIES_KEPT_MS - 1000, random=os.urandom(10))
    async with opened(tmp_path / "s") as shard:
        with pytest.raises(RequestExpired):
            await shard.run(1, old, lambda _, __: Planned(b""))


async def test_a_request_that_grows_too_old_while_it_waits_is_not_run(tmp_path: Path) -> None:
    command = letter()
    now = now_ms()
    async with opened(tmp_path / "s", clock_ms=lambda: now) as shard:
        await deliver(shard, command)
        now += REPLIES_KEPT_MS - 1000  # Its reply is still remembered, and it is let in.
        prunes = request_id_from(now_ms=now, random=bytes(10))
        plan = mailbox_turns.mailbox_plan(1, _another_folder)
        first = asyncio.create_task(shard.run(1, prunes, plan))
        second = asyncio.create_task(deliver(shard, command))
        await asyncio.sleep(0)
        now += 5000
        await first
        with pytest.raises(RequestExpired):
            await second
        assert MailboxReader(1, shard.state).info.emails == 1


def _another_folder(writer: MailboxWriter, now: int) -> bytes:
    writer.add_folder("another", role=None, parent=None, sort_order=1)
    return b"done"


async def test_a_failed_turn_leaves_nothing_behind(tmp_path: Path) -> None:
    def turn(writer: MailboxWriter, now: int) -> bytes:
        writer.add_folder("half", role=None, parent=None, sort_order=1)
        raise Unavailable

    async with opened(tmp_path / "s") as shard:
        await deliver(shard, letter())
        with pytest.raises(Unavailable):
            await shard.run(1, new_request_id(), mailbox_turns.mailbox_plan(1, turn))
        assert "half" not in {f.name for f in MailboxReader(1, shard.state).folders().values()}


async def test_many_turns_share_a_flush(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await asyncio.gather(*(deliver(shard, letter(mailbox=1 + n % 5)) for n in range(200)))
        assert shard.replica.counts.flushes < 20


async def test_overload_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "MAILBOX_TURNS_MAX", 3)
    async with opened(tmp_path / "s") as shard:
        results = await asyncio.gather(
            *(deliver(shard, letter()) for _ in range(10)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, Overloaded)]
        assert len(refused) == 7
        assert MailboxReader(1, shard.state).info.emails == 3


async def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    room = True
    async with opened(tmp_path / "s", has_room=lambda: room) as shard:
        await deliver(shard, letter())
        room = False
        with pytest.raises(DiskFull):
            await deliver(shard, letter())
        assert MailboxReader(1, shard.state).info.emails == 1


async def test_closing_finishes_what_was_accepted(tmp_path: Path) -> None:
    shard = await open_shard(tmp_path / "s")
    tasks = [asyncio.create_task(deliver(shard, letter())) for _ in range(50)]
    await asyncio.sleep(0)
    await shard.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    stored = [result for result in results if not isinstance(result, BaseException)]
    async with opened(tmp_path / "s") as shard:
        reader = MailboxReader(1, shard.state)
        assert (reader.info.emails if reader.exists else 0) == len(stored) > 0


async def test_the_log_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "LOG_KEPT_ENTRIES", 20)
    monkeypatch.setattr(replica_module, "LOG_SLACK_ENTRIES", 20)
    async with opened(tmp_path / "s") as shard:
        for _ in range(100):
            await deliver(shard, letter())
        assert shard.replica.log.first == 1, "what is not indexed stays"
        shard.replica.note_indexed(shard.applied.index)
        await deliver(shard, letter())
        assert shard.applied.index - shard.replica.log.first <= 40
    async with opened(tmp_path / "s") as shard:
        await deliver(shard, letter())
        assert MailboxReader(1, shard.state).info.emails == 102


# Damage -------------------------------------------------------------------------------------


async def _filled(path: Path) -> None:
    shard = await open_shard(path)
    for _ in range(50):
        await deliver(shard, letter())
    _copy_as_killed(shard, path)


def _copy_as_killed(shard: Shard, path: Path) -> None:
    """Put a copy of the files, as SIGKILL would leave them, in the place of the open ones."""
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    shard.database.close()
    shard.replica.hard.close()
    if shard._loop_task is not None:
        shard._loop_task.cancel()
    shutil.rmtree(path)
    copy.rename(path)
    (path / "db" / "LOCK").touch()


def _flip(file: Path, at: float) -> None:
    octets = bytearray(file.read_bytes())
    octets[int(len(octets) * at)] ^= 0x40
    file.write_bytes(octets)


async def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    await _filled(tmp_path / "s")
    async with opened(tmp_path / "s") as shard:
        assert MailboxReader(1, shard.state).info.emails == 50


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
async def test_a_flipped_bit_in_the_write_ahead_log_is_found(tmp_path: Path, at: float) -> None:
    await _filled(tmp_path / "s")
    _flip(max((tmp_path / "s" / "db").glob("*.log"), key=lambda f: f.stat().st_size), at)
    with pytest.raises(Damaged):
        await open_shard(tmp_path / "s")


async def test_a_log_cut_short_is_found(tmp_path: Path) -> None:
    await _filled(tmp_path / "s")
    log = max((tmp_path / "s" / "db").glob("*.log"), key=lambda f: f.stat().st_size)
    os.truncate(log, log.stat().st_size // 2)
    with pytest.raises(Damaged):
        await open_shard(tmp_path / "s")


async def test_a_flipped_bit_in_a_table_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        for _ in range(50):
            await deliver(shard, letter())
        shard.database._db.flush()  # type: ignore[attr-defined]
        for family in shard.database._families.values():  # type: ignore[attr-defined]
            family.flush()
    table = max((tmp_path / "s" / "db").glob("*.sst"), key=lambda f: f.stat().st_size)
    _flip(table, 0.3)
    with pytest.raises(Damaged):
        await open_shard(tmp_path / "s")


async def test_an_empty_or_strange_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Damaged):
        ReplicaDirectory(tmp_path / "empty").open(NAME)
    async with opened(tmp_path / "s"):
        pass
    for name in (ReplicaName("other", 2, "mailbox"), ReplicaName("a-cluster", 3, "mailbox")):
        with pytest.raises(Damaged):
            ReplicaDirectory(tmp_path / "s").open(name)
    shutil.rmtree(tmp_path / "s" / "db")
    with pytest.raises(Damaged):
        ReplicaDirectory(tmp_path / "s").open(NAME)


async def test_a_database_of_another_replica_is_refused(tmp_path: Path) -> None:
    for name in ("s", "t"):
        async with opened(tmp_path / name):
            pass
    shutil.rmtree(tmp_path / "s" / "db")
    shutil.copytree(tmp_path / "t" / "db", tmp_path / "s" / "db")
    with pytest.raises(Damaged):
        ReplicaDirectory(tmp_path / "s").open(NAME)


async def test_a_damaged_hard_state_slot_leaves_the_other(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await deliver(shard, letter())
    file = tmp_path / "s" / "hard_state"
    octets = bytearray(file.read_bytes())
    octets[20] ^= 1
    file.write_bytes(octets)
    async with opened(tmp_path / "s") as shard:
        assert MailboxReader(1, shard.state).info.emails == 1
    octets[SLOT_BYTES + 20] ^= 1
    file.write_bytes(octets)
    with pytest.raises(Damaged):
        await open_shard(tmp_path / "s")


async def test_a_fatal_write_error_is_reported_and_unknown(tmp_path: Path) -> None:
    told: list[str] = []
    async with opened(tmp_path / "s", on_fatal=told.append) as shard:
        real = shard.database.flush

        async def broken() -> None:
            raise shard_module.WriteFailed("no space")

        shard.database.flush = broken  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await deliver(shard, letter())
        assert told
        shard.database.flush = real  # type: ignore[method-assign]


def test_done_is_a_reply() -> None:
    assert mailbox_turns.decoded(mailbox_turns.encoded(Done())) == Done()

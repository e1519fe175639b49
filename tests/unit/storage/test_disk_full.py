"""A full disk, at every point at which a shard writes: nothing lost, reads go on, no guessing."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest

from actors import wire
from actors.commands import Command, Delivered, Failed, MailboxId, PutBlob, Reply, ShardId
from actors.local_ports import LocalTransport
from actors.mailbox import Mailbox, MailboxAccess
from actors.options import ShardOptions
from actors.request_ids import new_request_id
from mail.errors import DiskFull, OutcomeUnknown
from storage import keys, records, replica_directory, search_index
from storage.database import Batch, DiskWentFull, Family, NoRoom, RocksDatabase
from storage.records import Applied
from storage.replica_directory import ReplicaDirectory
from tests.properties import IN_A_HURRY
from tests.unit.storage.shard_fixture import letter

ONE = MailboxId(1)
FULL = "No space left on device"


class Disk:
    """How many more writes and flushes the disk takes, and whether a database opens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None  # None: any number
        self.met: Counter[str] = Counter()
        write, flush = RocksDatabase.write, RocksDatabase.flush
        open_database = RocksDatabase.__init__

        def writing(database: RocksDatabase, batch: Batch) -> None:
            self._take("write")
            write(database, batch)

        async def flushing(database: RocksDatabase) -> None:
            self._take("flush")
            await flush(database)

        def opening(
            database: RocksDatabase,
            path: Path,
            *,
            create: bool,
            read_only: bool = False,
            cache_bytes: int = 1 << 20,
        ) -> None:
            if self.left == 0 and not read_only:
                raise NoRoom(FULL)
            open_database(database, path, create=create, read_only=read_only)

        monkeypatch.setattr(RocksDatabase, "write", writing)
        monkeypatch.setattr(RocksDatabase, "flush", flushing)
        monkeypatch.setattr(RocksDatabase, "__init__", opening)
        monkeypatch.setattr(ReplicaDirectory, "has_room_to_open", lambda _, __: self.left is None)

    def _take(self, what: str) -> None:
        if self.left is None:
            return
        if self.left == 0:
            self.met[what] += 1
            raise DiskWentFull(FULL)
        self.left -= 1


class Actor(Mailbox):
    """A mailbox actor that says so instead of ending the process."""

    def __init__(self, path: Path) -> None:
        self.ended = asyncio.Event()
        options = ShardOptions(ShardId(2), "mailbox", str(path / "s"), "test", create=True)
        super().__init__(options, LocalTransport(), end_process=lambda _: self.ended.set())

    async def ask(self, command: Command) -> Reply:
        (reply,) = wire.decode_replies(await self.handle(wire.encode([command])))
        return reply

    def emails(self) -> list[int]:
        return sorted(line.email_id for line in self.reader(ONE).listing())

    async def found(self, text: str) -> set[int] | None:
        return await MailboxAccess(self, ONE).search(["subject", "body"], text)


async def started(path: Path) -> Actor:
    actor = Actor(path)
    await actor.start()
    assert not actor.trouble
    return actor


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr("actors.shard_host._DISK_CHECK_S", 0.01)
    return Disk(monkeypatch)


def error_of(reply: Reply) -> type[Exception]:
    assert isinstance(reply, Failed), reply
    return type(wire.raised(reply))


@pytest.mark.parametrize("left", (1,) if IN_A_HURRY else range(8))
@pytest.mark.parametrize("size", [100, 400_000], ids=["small", "large"])
async def test_the_disk_fills_at_every_point(
    tmp_path: Path, disk: Disk, left: int, size: int
) -> None:
    actor = await started(tmp_path)
    stored = [await actor.ask(letter(f"before{n}")) for n in range(3)]
    acknowledged = {reply.email_id for reply in stored if isinstance(reply, Delivered)}
    disk.left = left
    commands = [letter(f"during{n}", b"x" * size) for n in range(6)]
    replies = await asyncio.gather(*map(actor.ask, commands[:3]))
    replies += [await actor.ask(command) for command in commands[3:]]
    for reply in replies:
        if isinstance(reply, Delivered):
            acknowledged.add(reply.email_id)
        else:
            assert error_of(reply) in (OutcomeUnknown, DiskFull)
    assert disk.met, "the disk was not full yet"
    assert error_of(await actor.ask(commands[0])) is DiskFull
    assert error_of(await actor.ask(PutBlob(ONE, new_request_id(), b"x"))) is DiskFull
    assert acknowledged <= set(actor.emails()), "what was read before is still read"
    assert not actor.ended.is_set()

    # The process is lost, and the disk is still full.
    disk.left = 0
    await actor.close()
    reading = await started(tmp_path)
    assert acknowledged <= set(reading.emails())
    assert error_of(await reading.ask(commands[0])) is DiskFull
    assert not reading.ended.is_set()
    assert reading.shown().state == "serving"
    assert "full" in reading.shown().trouble

    # There is room again: the actor ends by itself, and a fresh one takes everything.
    disk.left = None
    async with asyncio.timeout(10):
        await reading.ended.wait()
    await reading.close()
    fresh = await started(tmp_path)
    assert acknowledged <= set(fresh.emails())
    repeats = [await fresh.ask(command) for command in commands]
    for first, repeat in zip(replies, repeats, strict=True):
        assert isinstance(repeat, Delivered)
        assert repeat == first or isinstance(first, Failed)
    assert len(fresh.emails()) == 9, "each is there, and once"
    assert not fresh.shown().trouble
    assert await fresh.found("during0") is not None
    await fresh.close()


async def test_what_was_acknowledged_is_read_although_it_cannot_be_applied(
    tmp_path: Path, disk: Disk
) -> None:
    actor = await started(tmp_path)
    first = await actor.ask(letter("first"))
    assert isinstance(first, Delivered)
    applied = actor.shard.applied
    # As after a loss of power: the entry is durable, its unsynced application is not.
    actor.shard.database.write(_forgetting(actor, applied.index))
    disk.left = 0
    await actor.close()
    reading = await started(tmp_path)
    assert reading.emails() == [first.email_id]
    assert reading.shard.applied == applied
    await reading.close()


def _forgetting(actor: Actor, index: int) -> Batch:
    """Return what undoes the application of the last entry."""
    (entry,) = [entry for entry in actor.shard.replica.log_after(0) if entry.index == index]
    batch = Batch()
    for key, _ in entry.puts:
        batch.delete(Family.STATE, key)
    batch.put(Family.CTL, keys.APPLIED, records.encode(Applied(index - 1, entry.epoch)))
    return batch


async def test_searches_go_on_with_what_cannot_be_indexed(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await started(tmp_path)
    old = await actor.ask(letter("old hailstone"))
    assert isinstance(old, Delivered)
    assert await actor.found("hailstone") == {old.email_id}

    def full(index: search_index.SearchIndex, *, complete: bool = True) -> None:
        raise search_index.IndexFailed(f"commit: {FULL} (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(search_index.SearchIndex, "commit", full)
        new = await actor.ask(letter("new hailstone", "눈사람".encode()))
        assert isinstance(new, Delivered)
        assert await actor.found("hailstone") == {old.email_id, new.email_id}
        assert await actor.found("new hailstone") == {new.email_id}
        assert await actor.found("사람") == {new.email_id}
        assert await actor.found("sunshine") == set()
        assert await actor.found("") is None
        assert actor.indexer.failures == 0, "the index is not made anew"
    await actor.indexer.catch_up()
    assert actor.indexer.pending == 0
    assert await actor.found("hailstone") == {old.email_id, new.email_id}
    await actor.close()


async def test_a_failure_that_is_no_full_disk_ends_the_process(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await started(tmp_path)

    def broken(batch: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(actor.shard.database, "_db", type("Db", (), {"write": broken})())
    assert error_of(await actor.ask(letter("lost?"))) is OutcomeUnknown
    assert actor.ended.is_set()


def test_room_to_open_is_tried_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = ReplicaDirectory(tmp_path)
    directory.database.mkdir()
    assert directory.has_room_to_open(1 << 20)
    assert not directory.has_room_to_open(1 << 62)

    def quota(handle: int, offset: int, size: int) -> None:
        assert size >= replica_directory.OPENING_BYTES
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr("os.posix_fallocate", quota)
    assert shutil.disk_usage(tmp_path).free > replica_directory.OPENING_BYTES
    assert not directory.has_room_to_open(1 << 20)
    assert [file.name for file in tmp_path.iterdir()] == ["db"], "nothing is left behind"

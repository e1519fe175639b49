"""Each file of a shard is damaged in turn: all that is undamaged is saved, and audits clean."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from actors import mailbox_turns
from actors.commands import Deliver, Done, MailboxId
from actors.request_ids import new_request_id
from mail.message import parse
from storage import keys
from storage.audit import Audit
from storage.blobs import digest_of
from storage.database import Batch, Family
from storage.mailbox_reader import MailboxReader, mailboxes
from storage.mailbox_writer import MailboxWriter
from storage.raw_files import blob_values, log_puts
from storage.records import Damaged
from storage.replica_directory import ReplicaDirectory
from storage.salvage import Salvage
from storage.salvage_mailbox import Salvaged
from storage.shard import Shard
from tests.properties import IN_A_HURRY
from tests.unit.storage.shard_fixture import NAME, deliver, now_ms, open_shard, opened

LETTERS = 80 if IN_A_HURRY else 150
ACCOUNTS = {"one@example.test": 1, "two@example.test": 2}
Damage = Callable[[Path], None]


def letter(number: int) -> Deliver:
    mailbox = number % 2 + 1
    address = list(ACCOUNTS)[mailbox - 1]
    rng = random.Random(number)
    size = rng.choice((200, 3000, 20_000, 300_000 if number % 50 == 0 else 5000))
    line = b"words that repeat themselves so that they are compressed "
    body = rng.randbytes(size // 4).hex().encode() + line * (size // 2 // len(line))
    raw = (
        f"Return-Path: <s@example.test>\r\nDelivered-To: {address}\r\n"
        f"From: s@example.test\r\nTo: {address}\r\nSubject: number {number // 2 % 40}\r\n"
        f"Message-ID: <{number}@example.test>\r\n\r\n"
    ).encode() + body
    message = parse(raw)
    return Deliver(
        MailboxId(mailbox), new_request_id(), raw, message.summary, message.search_text,
        1_700_000_000_000 + number,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard as a killed process leaves it: half in files, half in the write-ahead log."""
    import asyncio

    path = tmp_path_factory.mktemp("pattern") / "s"
    copy = path.with_name("copy")

    async def make() -> None:
        shard = await open_shard(path)
        shard.replica.has_index = False
        for number in range(LETTERS):
            if number == 2 * LETTERS // 3:
                await shard.database.rewrite(blobs=True)
            await deliver(shard, letter(number))

        def turn(writer: MailboxWriter, now_ms: int) -> bytes:
            writer.update_email(3, keywords=["$flagged", "$seen"], folders=[1, 6])
            writer.destroy_email(4)
            return mailbox_turns.encoded(Done())

        await shard.run(1, new_request_id(), mailbox_turns.mailbox_plan(1, turn))
        shutil.copytree(path, copy)
        await shard.close()

    asyncio.run(make())
    return copy


async def salvaged(path: Path) -> tuple[Salvaged, Path]:
    target = path.with_name("new")
    report = await Salvage(path, target, NAME, ACCOUNTS, new_request_id, now_ms()).run()
    return report, target


def digests(shard: Shard) -> dict[bytes, tuple[int, int]]:
    found: dict[bytes, tuple[int, int]] = {}
    for mailbox in mailboxes(shard.state):
        reader = MailboxReader(mailbox, shard.state)
        for line in reader.listing():
            record = reader.email(line.email_id)
            assert record is not None
            found[record.digest] = (mailbox, line.email_id)
    return found


ALL = {digest_of(letter(number).raw): number for number in range(LETTERS)}
DESTROYED = digest_of(letter(6).raw)


def flip(file: Path, at: float) -> None:
    octets = bytearray(file.read_bytes())
    octets[int(len(octets) * at)] ^= 0x55
    file.write_bytes(octets)


def every(suffix: str, at: float) -> Damage:
    def damage(path: Path) -> None:
        files = [file for file in (path / "db").glob(f"*{suffix}") if file.stat().st_size > 5000]
        assert files
        for file in files:
            flip(file, at)

    return damage


def one_of(suffix: str, at: float, which: int) -> Damage:
    def damage(path: Path) -> None:
        files = sorted((path / "db").glob(f"*{suffix}"), key=lambda file: file.stat().st_size)
        flip(files[which], at)

    return damage


def without(name: str) -> Damage:
    def damage(path: Path) -> None:
        for file in path.glob(name):
            file.unlink()

    return damage


def garbage(name: str) -> Damage:
    def damage(path: Path) -> None:
        for file in path.glob(name):
            file.write_bytes(os.urandom(file.stat().st_size + 10))

    return damage


# What is damaged, and how many messages it may cost at most.
DAMAGES: dict[str, tuple[Damage, int]] = {
    "nothing": (lambda path: None, 0),
    "CURRENT gone": (without("db/CURRENT"), 0),
    "MANIFEST gone": (without("db/MANIFEST*"), 0),
    "MANIFEST garbage": (garbage("db/MANIFEST*"), 0),
    "OPTIONS gone": (without("db/OPTIONS*"), 0),
    "IDENTITY gone": (without("db/IDENTITY"), 0),
    "hard_state garbage": (garbage("hard_state"), 0),
    "hard_state gone": (without("hard_state"), 0),
    "index garbage": (garbage("index/*"), 0),
    "a block of every table": (every(".sst", 0.4), 15),
    # Nothing of the tables can be read then, in which the small bodies are.
    "the end of every table": (every(".sst", 0.999), 60),
    "a blob file": (every(".blob", 0.5), 1),
    "the beginning of a blob file": (every(".blob", 0.00001), LETTERS * 2 // 3),
    # A block of the log is lost, of 32 KiB.
    "the log in the middle": (one_of(".log", 0.5, -1), 8),
    "the log at its beginning": (one_of(".log", 0.05, -1), 8),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_what_is_undamaged_is_saved(tmp_path: Path, pattern: Path, name: str) -> None:
    damaged = tmp_path / "s"
    shutil.copytree(pattern, damaged)
    damage, lost_max = DAMAGES[name]
    damage(damaged)
    before = {file: file.stat().st_size for file in damaged.rglob("*") if file.is_file()}
    report, target = await salvaged(damaged)
    assert {file: file.stat().st_size for file in damaged.rglob("*") if file.is_file()} == before
    assert report.unresolved == []
    async with opened(target) as shard:
        there = digests(shard)
        for mailbox in mailboxes(shard.state):
            assert [f for f in Audit(mailbox, shard.state, shard.blobs).steps() if f] == []
        for digest in there:
            assert digest_of(shard.blobs.read(digest)) == digest
        missing = ALL.keys() - there.keys() - {DESTROYED}
        assert len(missing) <= lost_max
        assert report.messages == len(there)
        if not lost_max:
            state = MailboxReader(1, shard.state).email_state(3)
            assert state is not None
            assert state.keywords == ("$flagged", "$seen")
            assert DESTROYED not in there
            assert not report.lost
        # Numbers that clients may know are not given away again.
        highest = max(number for mailbox, number in there.values() if mailbox == 1)
        later = await deliver(shard, letter(LETTERS + 2))
        assert later.email_id > highest


async def test_the_new_shard_is_a_new_replica_of_a_later_epoch(
    tmp_path: Path, pattern: Path
) -> None:
    damaged = tmp_path / "s"
    shutil.copytree(pattern, damaged)
    _, target = await salvaged(damaged)
    database, hard = ReplicaDirectory(damaged).open(NAME)
    old = hard.record
    database.close()
    hard.close()
    async with opened(target) as shard:
        assert shard.core.epoch > old.promised_epoch
        assert shard.replica.hard.record.replica != old.replica
        assert shard.applied.index > old.high_water


async def test_what_rocksdb_dropped_of_its_log_is_found_aside(
    tmp_path: Path, pattern: Path
) -> None:
    """A start with a damaged log is what happens first: the shard refuses to serve."""
    damaged = tmp_path / "s"
    shutil.copytree(pattern, damaged)
    one_of(".log", 0.5, -1)(damaged)
    with pytest.raises(Damaged, match="was acknowledged"):
        await open_shard(damaged)
    _, target = await salvaged(damaged)
    async with opened(target) as shard:
        assert len(ALL.keys() - digests(shard).keys() - {DESTROYED}) <= 8


async def test_a_lost_message_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with opened(path) as shard:
        gone, kept = letter(0), letter(2)
        stored = await deliver(shard, gone)
        await deliver(shard, kept)
        batch = Batch()
        digest = digest_of(gone.raw)
        batch.delete_range(Family.BLOB, digest, keys.after(digest))
        shard.database.write(batch)
        await shard.database.rewrite(blobs=True)
    report, target = await salvaged(path)
    (lost,) = report.lost
    assert (lost.mailbox, lost.email) == (1, stored.email_id)
    assert (lost.received_at_ms, lost.size_bytes) == (gone.received_at_ms, len(gone.raw))
    assert lost.sender == "s@example.test"
    async with opened(target) as shard:
        assert list(digests(shard)) == [digest_of(kept.raw)]


async def test_messages_without_any_record_are_recovered(tmp_path: Path, pattern: Path) -> None:
    damaged = tmp_path / "s"
    shutil.copytree(pattern, damaged)
    # The table of the state, whole; what is younger is in the log.
    for file in (damaged / "db").glob("*.sst"):
        if b"Delivered-To" not in file.read_bytes():
            file.write_bytes(b"")
    report, target = await salvaged(damaged)
    assert report.recovered > 0
    async with opened(target) as shard:
        assert len(ALL.keys() - digests(shard).keys() - {DESTROYED}) <= 15
        names = {folder.name for folder in MailboxReader(1, shard.state).folders().values()}
        assert "Recovered" in names


def test_raw_files_read_what_rocksdb_wrote(pattern: Path) -> None:
    put = [key for file in (pattern / "db").glob("*.log") for key, _ in log_puts(file)]
    assert len(put) > LETTERS
    values = [one for file in (pattern / "db").glob("*.blob") for one in blob_values(file)]
    assert len(values) > 20
    small = [(key, value) for key, value in values if len(value) < keys.BLOB_CHUNK_BYTES]
    whole = [key for key, value in small if key[-4:] == b"\0" * 4 and digest_of(value) == key[:32]]
    assert len(whole) > 20

"""Where in the log a message was committed: the record of it names its entry, in any batch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.commands import Done
from actors.mailbox_turns import encoded, mailbox_plan
from mail.errors import Invalid
from mail.summary import Summary
from storage import keys, records
from storage.database import Family
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.records import EmailRecord, Entry
from storage.shard import Planned, Shard
from storage.transaction import Overlay
from tests.unit.storage.shard_fixture import deliver, letter, opened


def refuse(overlay: Overlay, now_ms: int) -> Planned:
    raise Invalid("refused")


def entry_of(shard: Shard, email_id: int) -> Entry:
    """Return the entry that the record of an email names."""
    record = MailboxReader(1, shard.state).email(email_id)
    assert record is not None
    octets = shard.database.get(Family.LOG, keys.log(record.index))
    assert octets is not None
    entry = records.decode(octets, Entry)
    assert (entry.epoch, entry.index) == (record.epoch, record.index)
    return entry


async def test_turns_that_write_nothing_take_no_place(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        first = letter()
        known = await deliver(shard, first)
        letters = [letter() for _ in range(6)]
        flushes = shard.replica.counts.flushes
        turns = []
        for one in letters:
            turns += [deliver(shard, first), shard.run(1, b"", refuse), deliver(shard, one)]
        replies = await asyncio.gather(*turns, return_exceptions=True)
        assert shard.replica.counts.flushes == flushes + 1, "they were one batch"
        assert replies[0] == known
        assert isinstance(replies[1], Invalid)
        for sent, email_id in zip((first, *letters), range(1, 8), strict=True):
            assert entry_of(shard, email_id).request_id == sent.request_id


async def test_each_reign_has_its_epoch(tmp_path: Path) -> None:
    letters = [letter() for _ in range(3)]
    for one in letters:
        async with opened(tmp_path / "s") as shard:
            await deliver(shard, one)
    async with opened(tmp_path / "s") as shard:
        entries = [entry_of(shard, email_id) for email_id in (1, 2, 3)]
        assert [one.request_id for one in entries] == [one.request_id for one in letters]
        assert len({one.epoch for one in entries}) == 3


async def test_a_change_of_flags_leaves_it(tmp_path: Path) -> None:
    def read(writer: MailboxWriter, now_ms: int) -> bytes:
        writer.update_email(1, keywords=("$seen",), folders=None)
        return encoded(Done())

    sent = letter()
    async with opened(tmp_path / "s") as shard:
        await deliver(shard, sent)
        await shard.run(1, b"", mailbox_plan(1, read))
        assert entry_of(shard, 1).request_id == sent.request_id


@pytest.mark.parametrize("fields", [6, 8])
def test_older_and_newer_records_are_read(fields: int) -> None:
    record = EmailRecord(1, 2, b"d" * 32, 3, 4, Summary(), 5, 6)
    # An array of fewer fields, as older releases write it.
    octets = bytearray(records.encode(record))
    assert octets[1] == 0x98
    octets[1] = 0x90 + fields
    found = records.decode(bytes(octets[: len(octets) - (8 - fields)]), EmailRecord)
    assert (found.email_id, found.size_bytes) == (1, 3)
    assert (found.epoch, found.index) == ((5, 6) if fields == 8 else (0, 0))

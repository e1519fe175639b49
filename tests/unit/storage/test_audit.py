"""One planted bug for every kind of disagreement: it is found, and repaired where it is derived."""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors import mailbox_turns
from actors.commands import Done
from mail.errors import BlobDamaged
from mail.folders import Counters
from storage import keys, records
from storage.audit import Audit, Documents, Finding, Kind
from storage.audit_repair import REPAIRED_AT_ONCE, AuditRepair
from storage.blobs import digest_of
from storage.collector import Collector
from storage.database import Batch, Family
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.records import (
    BlobOwner,
    CountersRecord,
    EmailRecord,
    EmailState,
    ListRecord,
    Number,
    Placed,
    ThreadRecord,
)
from storage.shard import Planned, Shard
from storage.transaction import Overlay
from tests.unit.storage.shard_fixture import deliver, letter, opened

INBOX, TRASH = 1, 5


def audited(shard: Shard, documents: Documents | None = None) -> list[Finding]:
    view = shard.database.view()
    try:
        audit = Audit(1, view, shard.blobs, documents)
        return [finding for finding in audit.steps() if finding is not None]
    finally:
        view.close()


async def repaired(shard: Shard) -> list[Finding]:
    """Repair what is found, twice since counters follow threads; return what is left."""
    for _ in range(2):
        findings = audited(shard)

        def plan(overlay: Overlay, now_ms: int, found: list[Finding] = findings) -> Planned:
            writer = AuditRepair(1, overlay, now_ms)
            writer.repair(found[:REPAIRED_AT_ONCE])
            writer.finish()
            return Planned(b"")

        await shard.run(1, b"", plan)
    return audited(shard)


async def filled(shard: Shard) -> None:
    """Five emails: two of one thread, one in two folders, one seen, one destroyed."""
    for _ in range(2):
        await deliver(shard, letter("same"))
    reply = letter("Re: same")
    first = MailboxReader(1, shard.state).email(1)
    assert first is not None
    summary = replace(reply.summary, in_reply_to=first.summary.message_id)
    await deliver(shard, replace(reply, summary=summary))
    await deliver(shard, letter("other"))
    await deliver(shard, letter("gone"))

    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        writer.update_email(2, keywords=["$seen"], folders=[INBOX, TRASH])
        writer.destroy_email(5)
        return mailbox_turns.encoded(Done())

    await shard.run(1, b"", mailbox_turns.mailbox_plan(1, turn))


def put(shard: Shard, key: bytes, record: records.Record | bytes | None) -> None:
    batch = Batch()
    if record is None:
        batch.delete(Family.STATE, key)
    else:
        octets = record if isinstance(record, bytes) else records.encode(record)
        batch.put(Family.STATE, key, octets)
    shard.database.write(batch)


def email(shard: Shard, number: int) -> tuple[EmailRecord, EmailState]:
    reader = MailboxReader(1, shard.state)
    record, state = reader.email(number), reader.email_state(number)
    assert record is not None
    assert state is not None
    return record, state


def listed(shard: Shard, number: int, folder: int) -> bytes:
    return keys.listed(1, folder, email(shard, number)[0].received_at_ms, number)


# Each plants one bug. The key says what it is; the value, by which kind it must be found.

Bug = Callable[[Shard], None]


def not_listed(shard: Shard) -> None:
    put(shard, listed(shard, 2, TRASH), None)


def not_in_all_mail(shard: Shard) -> None:
    put(shard, listed(shard, 2, keys.ALL_MAIL), None)


def listed_unread(shard: Shard) -> None:
    put(shard, listed(shard, 2, INBOX), ListRecord(1, (), 1, True))


def listing_unreadable(shard: Shard) -> None:
    put(shard, listed(shard, 2, INBOX), b"\x01\xc1")


def listed_where_it_is_not(shard: Shard) -> None:
    put(shard, listed(shard, 1, TRASH), ListRecord(1, (), 1, False))


def listed_and_destroyed(shard: Shard) -> None:
    put(shard, keys.listed(1, INBOX, 5, 5), ListRecord(1, (), 1, False))


def uid_missing(shard: Shard) -> None:
    put(shard, keys.uid(1, INBOX, 1), None)


def uid_of_another(shard: Shard) -> None:
    put(shard, keys.uid(1, INBOX, 1), Number(4))


def uid_too_much(shard: Shard) -> None:
    put(shard, keys.uid(1, INBOX, 99), Number(4))


def uid_twice(shard: Shard) -> None:
    state = email(shard, 1)[1]
    put(shard, keys.email_state(1, 1), replace(state, places=(Placed(INBOX, 4),)))


def uid_would_be_used_again(shard: Shard) -> None:
    folder = MailboxReader(1, shard.state).folder(INBOX)
    assert folder is not None
    put(shard, keys.folder(1, INBOX), replace(folder, uid_next=2))


def thread_lost(shard: Shard) -> None:
    put(shard, keys.thread(1, email(shard, 1)[0].thread_id), None)


def thread_unreadable(shard: Shard) -> None:
    put(shard, keys.thread(1, email(shard, 1)[0].thread_id), b"\x09")


def thread_without_a_member(shard: Shard) -> None:
    number = email(shard, 1)[0].thread_id
    thread = MailboxReader(1, shard.state).thread(number)
    assert thread is not None
    assert len(thread.members) > 1
    put(shard, keys.thread(1, number), ThreadRecord(thread.subject, thread.members[:1]))


def thread_with_a_stranger(shard: Shard) -> None:
    number = email(shard, 4)[0].thread_id
    other = MailboxReader(1, shard.state).thread(email(shard, 1)[0].thread_id)
    mine = MailboxReader(1, shard.state).thread(number)
    assert other is not None
    assert mine is not None
    members = (*other.members, *mine.members)
    put(shard, keys.thread(1, number), ThreadRecord(mine.subject, members))


def thread_of_the_destroyed(shard: Shard) -> None:
    put(shard, keys.thread(1, 90), ThreadRecord("gone", ()))


def message_id_forgotten(shard: Shard) -> None:
    prefix = keys.kind(1, b"m")
    for key, _ in list(shard.state.scan(prefix, keys.after(prefix))):
        put(shard, key, None)


def owner_lost(shard: Shard) -> None:
    put(shard, keys.blob_owner(1, email(shard, 1)[0].digest), None)


def owner_of_the_destroyed(shard: Shard) -> None:
    put(shard, keys.blob_owner(1, b"d" * 32), BlobOwner((5,), 3))


def owner_of_another(shard: Shard) -> None:
    digest = email(shard, 1)[0].digest
    put(shard, keys.blob_owner(1, digest), BlobOwner((1, 4), email(shard, 1)[0].size_bytes))


def owner_of_another_size(shard: Shard) -> None:
    put(shard, keys.blob_owner(1, email(shard, 1)[0].digest), BlobOwner((1,), 7))


def miscounted(shard: Shard) -> None:
    put(shard, keys.counters(1, INBOX), CountersRecord(Counters(9, 9, 9, 9)))


def not_counted(shard: Shard) -> None:
    put(shard, keys.counters(1, INBOX), None)


def counted_nowhere(shard: Shard) -> None:
    put(shard, keys.counters(1, 77), CountersRecord(Counters(1, 0, 1, 0)))


def change_info(**changes: object) -> Bug:
    def plant(shard: Shard) -> None:
        info = MailboxReader(1, shard.state).info
        put(shard, keys.info(1), replace(info, **changes))

    return plant


def change_lost(shard: Shard) -> None:
    put(shard, keys.change(1, 3), None)


def change_unreadable(shard: Shard) -> None:
    put(shard, keys.change(1, MailboxReader(1, shard.state).info.modseq), b"\x01\xc1")


DERIVED: dict[str, tuple[Bug, Kind]] = {
    bug.__name__: (bug, kind)
    for kind, bugs in {
        Kind.LISTING: (
            not_listed, not_in_all_mail, listed_unread, listing_unreadable,
            listed_where_it_is_not, listed_and_destroyed,
        ),
        Kind.UID: (uid_missing, uid_of_another, uid_too_much, uid_twice),
        Kind.UID_NEXT: (uid_would_be_used_again,),
        Kind.THREAD: (
            thread_lost, thread_unreadable, thread_without_a_member, thread_with_a_stranger,
            thread_of_the_destroyed,
        ),
        Kind.THREAD_KEY: (message_id_forgotten,),
        Kind.OWNER: (owner_lost, owner_of_the_destroyed, owner_of_another, owner_of_another_size),
        Kind.COUNTERS: (miscounted, not_counted, counted_nowhere),
        Kind.CHANGES: (change_lost, change_unreadable),
    }.items()
    for bug in bugs
} | {
    "emails": (change_info(emails=99), Kind.TOTALS),
    "size": (change_info(size_bytes=1), Kind.TOTALS),
    "unread": (change_info(unread=50), Kind.TOTALS),
    "next_email": (change_info(next_email=2), Kind.NEXT_NUMBERS),
    "next_thread": (change_info(next_thread=1), Kind.NEXT_NUMBERS),
    "next_folder": (change_info(next_folder=1), Kind.NEXT_NUMBERS),
    "modseq": (change_info(modseq=1), Kind.NEXT_NUMBERS),
    "roles": (change_info(roles=()), Kind.ROLES),
}  # fmt: skip


async def test_a_sound_mailbox_has_no_findings(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        assert audited(shard) == []
        await filled(shard)
        assert audited(shard) == []
        before = MailboxReader(1, shard.state).info.modseq
        assert await repaired(shard) == []
        assert MailboxReader(1, shard.state).info.modseq == before


@pytest.mark.parametrize("name", DERIVED)
async def test_what_is_derived_is_found_and_repaired(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        bug, kind = DERIVED[name]
        bug(shard)
        assert kind in {finding.kind for finding in audited(shard)}
        assert await repaired(shard) == []
        found = [line.email_id for line in MailboxReader(1, shard.state).listing(INBOX)]
        assert sorted(found) == [1, 2, 3, 4]
        await deliver(shard, letter("later"))
        assert audited(shard) == []


async def test_all_of_it_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        for name, (bug, _) in DERIVED.items():
            if name not in ("thread_lost", "thread_unreadable"):  # Others read that thread.
                bug(shard)
        for _ in range(2):
            await repaired(shard)
        assert await repaired(shard) == []


async def test_repairs_are_told_to_clients(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        before = MailboxReader(1, shard.state).info.modseq
        not_listed(shard)
        miscounted(shard)
        await repaired(shard)
        changes = [change for _, change in MailboxReader(1, shard.state).changes(before)]
        assert any(2 in change.emails_updated for change in changes)
        assert any(INBOX in change.folders_counted for change in changes)


async def test_turns_in_between_do_not_disturb_a_correction(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        miscounted(shard)
        change_info(emails=99)(shard)
        findings = audited(shard)
        await deliver(shard, letter("in between"))

        def plan(overlay: Overlay, now_ms: int) -> Planned:
            writer = AuditRepair(1, overlay, now_ms)
            writer.repair(findings)
            writer.finish()
            return Planned(b"")

        await shard.run(1, b"", plan)
        assert audited(shard) == []
        assert MailboxReader(1, shard.state).counters(INBOX).total_emails == 5


# What is the truth itself is reported, and stays ---------------------------------------------


async def _lost(tmp_path: Path, bug: Bug, kind: Kind, *, stays: bool = True) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        bug(shard)
        assert kind in {finding.kind for finding in audited(shard)}
        left = await repaired(shard)
        assert {finding.kind for finding in left} == {kind}
        assert not kind.repairable
        if stays:
            lines = MailboxReader(1, shard.state).listing()
            assert sorted(line.email_id for line in lines) == [1, 2, 3, 4]


async def test_a_blob_that_is_gone(tmp_path: Path) -> None:
    def bug(shard: Shard) -> None:
        digest = email(shard, 1)[0].digest
        batch = Batch()
        batch.delete_range(Family.BLOB, digest, keys.after(digest))
        shard.database.write(batch)

    await _lost(tmp_path, bug, Kind.BLOB_MISSING)


async def test_a_blob_of_another_content(tmp_path: Path) -> None:
    def bug(shard: Shard) -> None:
        record = email(shard, 1)[0]
        batch = Batch()
        batch.put(Family.BLOB, keys.blob_chunk(record.digest, 0), b"x" * record.size_bytes)
        shard.database.write(batch)

    await _lost(tmp_path, bug, Kind.BLOB_DAMAGED)


async def test_a_body_that_has_rotted_on_the_disk_fails_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        rotten = letter("rotten", body=os.urandom(9000))
        await deliver(shard, rotten)
        await deliver(shard, letter("sound"))
        await shard.database.rewrite(blobs=True)
    (file,) = (tmp_path / "s" / "db").glob("*.blob")
    octets = bytearray(file.read_bytes())
    octets[len(octets) // 2] ^= 1
    file.write_bytes(octets)
    async with opened(tmp_path / "s") as shard:
        with pytest.raises(BlobDamaged):
            shard.blobs.read(digest_of(rotten.raw))
        assert shard.blobs.unreadable == 1
        (finding,) = audited(shard)
        assert (finding.kind, finding.email) == (Kind.BLOB_DAMAGED, 1)

        async def pause() -> None:
            return

        collector = Collector(shard, pause=pause, dry_run=False)
        found = await collector.run()
        await collector.rewrite()
        assert (found.unreadable_blobs, found.rewritten) == (1, False)
        # Had its file been rewritten, no write would be taken any more.
        await deliver(shard, letter("later"))


async def test_an_email_without_its_state(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        put(shard, keys.email_state(1, 4), None)
        assert Kind.EMAIL_HALF in {finding.kind for finding in audited(shard)}


async def test_an_email_that_cannot_be_read_keeps_everything_else(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        digest = email(shard, 4)[0].digest
        put(shard, keys.email(1, 4), b"\x01\xc1")
        assert Kind.UNREADABLE in {finding.kind for finding in audited(shard)}
        await repaired(shard)
        reader = MailboxReader(1, shard.state)
        assert reader.blob_owner(digest) == BlobOwner((4,), len(shard.blobs.read(digest)))
        assert 4 in {line.email_id for line in reader.listing()}


async def test_an_email_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        put(shard, keys.folder(1, TRASH), None)
        assert Kind.FOLDER_MISSING in {finding.kind for finding in audited(shard)}


async def test_documents_of_the_index(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        sound = Documents(Tally({1: 1, 2: 1, 3: 1, 4: 1}), frozenset())
        assert audited(shard, sound) == []
        wrong = Documents(Tally({1: 1, 2: 2, 7: 1}), frozenset((4,)))
        found = {(finding.kind, finding.email) for finding in audited(shard, wrong)}
        assert found == {(Kind.SEARCH, 2), (Kind.SEARCH, 3), (Kind.SEARCH, 7)}


async def test_an_audit_is_of_one_moment(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as shard:
        await filled(shard)
        view = shard.database.view()
        steps = Audit(1, view, shard.blobs).steps()
        findings = [next(steps)]
        for number in range(5):
            await deliver(shard, letter(f"meanwhile {number}"))
            findings.append(next(steps))
        findings += list(steps)
        view.close()
        assert [finding for finding in findings if finding is not None] == []

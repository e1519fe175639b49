"""Salvage: makes a new shard of all that can be read of a damaged one.

Copies every record and body that is whole, plays what the log has on top, makes the records of
a message again from its body where only they are lost, and has the auditor make everything
that is derived. A message whose body is lost is taken out and listed. The new directory is a
new replica (R16): whoever puts it in the place of the old one decides that what is not in it is
lost. The damaged directory is only read.

On failure  the damaged directory is as it was; remove what was begun and do it again.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mail.message import parse
from storage import keys, records
from storage.audit import Audit, Finding
from storage.audit_repair import REPAIRED_AT_ONCE, AuditRepair
from storage.blobs import ShardBlobs, blob_chunks
from storage.database import Batch, Family, FamilyState, RocksDatabase
from storage.hard_state import HardRecord, HardState
from storage.mailbox_reader import MailboxReader, mailboxes
from storage.mailbox_writer import MailboxWriter
from storage.records import (
    Applied,
    Damaged,
    Entry,
)
from storage.replica_directory import ReplicaDirectory, ReplicaName
from storage.salvage_mailbox import (
    LISTED_MAX,
    RECOVERED,
    MailboxRestorer,
    Salvaged,
    write_all,
)
from storage.salvage_source import SalvageSource
from storage.shard import Planned, Shard
from storage.transaction import Overlay

ROUNDS_MAX = 8
_DELIVERED_TO = re.compile(rb"^Delivered-To:[ \t]*<?([^>\r\n]+?)>?[ \t]*\r?$", re.I | re.M)
_TRACE_BYTES = 4096

Progress = Callable[[str, int], None]


@dataclass(slots=True)
class Salvage:
    """One run. `accounts` maps the addresses of this shard to their mailboxes."""

    source: Path
    target: Path
    name: ReplicaName
    accounts: Mapping[str, int]
    new_id: Callable[[], bytes]
    now_ms: int
    progress: Progress = lambda step, done: None
    report: Salvaged = field(init=False)

    async def run(self) -> Salvaged:
        """Make the new shard. Raises Damaged when nothing can be read of the old one."""
        self.report = Salvaged(self.name.shard)
        work = self.target.with_name(f"{self.target.name}.work")
        shutil.rmtree(work, ignore_errors=True)
        old = ReplicaDirectory(self.source)
        await ReplicaDirectory(self.target).make(self.name, self.new_id)
        source = await asyncio.to_thread(SalvageSource, old.database, old.found, work)
        try:
            database = RocksDatabase(ReplicaDirectory(self.target).database, create=False)
            try:
                await asyncio.to_thread(self._fill, source, database)
                await database.flush()
            finally:
                database.close()
        finally:
            self.report.losses = source.losses
            source.close()
        await self._settle()
        return self.report

    # What is there

    def _fill(self, source: SalvageSource, database: RocksDatabase) -> None:
        self._copy_blobs(source, database)
        self._copy_records(source, database)
        last = self._play(source, database)
        hard = self._hard_record()
        promised = hard.promised_epoch if hard is not None else 0
        octets = records.encode(Applied(last.index, max(last.epoch, promised)))
        write_all(database, [(Family.CTL, keys.APPLIED, octets)])
        numbers = self._numbers(database, source)
        # A lost body is a lost message, and no more; lost records may have been of any.
        lossy = any(not loss.startswith(Family.BLOB.value) for loss in source.losses)
        for done, mailbox in enumerate(numbers):
            self.progress("mailboxes", done)
            MailboxRestorer(
                self.report, database, source, mailbox, now_ms=self.now_ms, lossy=lossy
            ).restore()
        self.report.mailboxes = len(numbers)
        if any(loss.startswith((Family.STATE.value, "log")) for loss in source.losses):
            self._recover_bodies(database)

    def _copy_blobs(self, source: SalvageSource, database: RocksDatabase) -> None:
        have: set[bytes] = set()
        for digest, data in source.blobs():
            if digest in have:
                continue
            have.add(digest)
            for key, value in blob_chunks(digest, data):
                write_all(database, [(Family.BLOB, key, value)])
            self.progress("bodies", len(have))
        self.report.blobs = len(have)

    def _copy_records(self, source: SalvageSource, database: RocksDatabase) -> None:
        def kept() -> Iterator[tuple[Family, bytes, bytes]]:
            for key, value in source.scan(Family.STATE):
                self.report.records += 1
                self.progress("records", self.report.records)
                yield Family.STATE, key, value

        write_all(database, kept())

    def _play(self, source: SalvageSource, database: RocksDatabase) -> Applied:
        """Play the log: its unbroken end wholly, older entries where records are missing."""
        entries = source.entries()
        first = len(entries)
        while first and (first == len(entries) or follows(entries[first - 1], entries[first])):
            first -= 1
        for one, other in pairwise(entries):
            if not follows(one, other):
                source.losses.append(f"log: entries {one.index + 1} to {other.index - 1}")
        older: dict[bytes, bytes] = {}
        for entry in entries[:first]:
            older |= dict(entry.puts)
            for key in entry.deletes:
                older.pop(key, None)
        missing = [
            (Family.STATE, key, value)
            for key, value in older.items()
            if source.in_gap(Family.STATE, key) and database.get(Family.STATE, key) is None
        ]
        write_all(database, missing)
        last = source.applied()
        for entry in entries[first:]:
            batch = Batch()
            for key, value in entry.puts:
                batch.put(Family.STATE, key, value)
            for key in entry.deletes:
                batch.delete(Family.STATE, key)
            database.write(batch)
            self.report.entries += entry.index > last.index
        if entries and entries[-1].index >= last.index:
            last = Applied(entries[-1].index, entries[-1].epoch)
        hard = self._hard_record()
        high_water = hard.high_water if hard is not None else 0
        if last.index < high_water:
            source.losses.append(f"log: entries {last.index + 1} to {high_water}")
        return Applied(max(last.index, high_water), last.epoch)

    def _hard_record(self) -> HardRecord | None:
        """Return what the damaged replica's hard state says, None when it cannot be read."""
        with suppress(OSError, Damaged):
            hard = HardState(ReplicaDirectory(self.source).hard_state)
            hard.close()
            return hard.record
        return None

    def _numbers(self, database: RocksDatabase, source: SalvageSource) -> list[int]:
        """Return the shard's mailboxes: those that are there, those of the directory and log."""
        found = set(mailboxes(FamilyState(database))) | set(self.accounts.values())
        found |= {entry.mailbox for entry in source.entries()}
        return sorted(found - {keys.DIRECTORY})

    # Bodies of which nothing else is known

    def _recover_bodies(self, database: RocksDatabase) -> None:
        """Put messages that no record tells of into a folder of their own."""
        state, blobs = FamilyState(database), ShardBlobs(database)
        numbers = list(mailboxes(state))
        for digest in _digests(database):
            if any(state.get(keys.blob_owner(number, digest)) for number in numbers):
                continue
            head = blobs.read(digest, 0, _TRACE_BYTES)
            mailbox = self._addressee(head)
            if mailbox is None or MailboxReader(mailbox, state).removed:
                continue
            self._recover(database, mailbox, digest, blobs.read(digest))

    def _addressee(self, head: bytes) -> int | None:
        """Return whose message it is, by the trace that we have put before it."""
        if not re.match(rb"(Return-Path|Delivered-To|Received):", head):
            return None
        found = _DELIVERED_TO.search(head)
        if found is None:
            return None
        return self.accounts.get(found[1].decode("utf-8", "replace").lower())

    def _recover(self, database: RocksDatabase, mailbox: int, digest: bytes, raw: bytes) -> None:
        overlay = Overlay(FamilyState(database))
        writer = MailboxWriter(mailbox, overlay, self.now_ms)
        folders = writer.folders()
        folder = next((n for n, one in folders.items() if one.name == RECOVERED), None)
        if folder is None:
            folder = writer.add_folder(RECOVERED, role=None, parent=None, sort_order=100)
        writer.add_email(
            digest=digest,
            size_bytes=len(raw),
            summary=parse(raw).summary,
            received_at_ms=self.now_ms,
            folders=(folder,),
        )
        writer.finish()
        _write_overlay(database, overlay)
        self.report.recovered += 1

    # What is derived

    async def _settle(self) -> None:
        """Open the new shard, let the auditor make what is derived, close it."""
        database, hard = ReplicaDirectory(self.target).open(self.name)
        shard = Shard(database, hard, clock_ms=lambda: self.now_ms)
        await shard.recover()
        try:
            for mailbox in list(mailboxes(shard.state)):
                await self._repair(shard, mailbox)
                reader = MailboxReader(mailbox, shard.state)
                self.report.messages += reader.info.emails if reader.exists else 0
        finally:
            await shard.close()
        ReplicaDirectory(self.target).forget_log()

    async def _repair(self, shard: Shard, mailbox: int) -> None:
        findings: list[Finding] = []
        for _ in range(ROUNDS_MAX):
            audit = Audit(mailbox, shard.state, shard.blobs)
            findings = [finding for finding in audit.steps() if finding is not None]
            derived = [finding for finding in findings if finding.kind.repairable]
            if not derived:
                break
            self.progress("repairs", len(derived))
            for first in range(0, len(derived), REPAIRED_AT_ONCE):
                some = derived[first : first + REPAIRED_AT_ONCE]

                def plan(overlay: Overlay, now_ms: int, some: list[Finding] = some) -> Planned:
                    writer = AuditRepair(mailbox, overlay, now_ms)
                    writer.repair(some)
                    writer.finish()
                    return Planned(b"")

                await shard.run(mailbox, b"", plan)
        self.report.unresolved += [
            f"mailbox {mailbox}: {finding.kind}: {finding.text}" for finding in findings
        ][:LISTED_MAX]


def follows(one: Entry, other: Entry) -> bool:
    """Say whether no entry is missing between the two."""
    return other.index == one.index + 1


def _digests(database: RocksDatabase) -> Iterator[bytes]:
    start = b""
    while found := next(database.scan(Family.BLOB, start, b"\xff" * 40), None):
        digest = found[0][:32]
        yield digest
        start = keys.after(digest)


def _write_overlay(database: RocksDatabase, overlay: Overlay) -> None:
    batch = Batch()
    for key, value in overlay.written.items():
        if value is None:
            batch.delete(Family.STATE, key)
        else:
            batch.put(Family.STATE, key, value)
    database.write(batch)

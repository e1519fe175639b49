"""Checkers: what must hold after every run, computed anew from what is on disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from mail.errors import BlobDamaged
from mail.folders import Counters, count_thread
from storage.audit import Audit
from storage.blobs import ShardBlobs, digest_of
from storage.database import Family, FamilyState
from storage.mailbox_reader import Blobs, MailboxReader
from storage.transaction import State
from tests.sim.disk import Disk, SimDatabase
from tests.sim.history import look_at

if TYPE_CHECKING:
    from tests.sim.simulator import Simulator


def mailbox_problems(mailbox: int, state: State, blobs: Blobs) -> list[str]:
    """Return what is wrong within one mailbox: listings, UIDs, threads, counters, blobs."""
    reader = MailboxReader(mailbox, state)
    if not reader.exists:
        return []
    problems: list[str] = []
    emails = [line.email_id for line in reader.listing()]
    if len(emails) != len(set(emails)) or len(emails) != reader.info.emails:
        problems.append(f"{len(emails)} listed, {reader.info.emails} counted")
    size = 0
    for email_id in emails:
        record, email_state = reader.email(email_id), reader.email_state(email_id)
        if record is None or email_state is None:
            problems.append(f"email {email_id} is listed and not there")
            continue
        size += record.size_bytes
        if blobs.size(record.digest) != record.size_bytes:
            problems.append(f"email {email_id} has no whole blob")
        owner = reader.blob_owner(record.digest)
        if owner is None or email_id not in owner.emails:
            problems.append(f"email {email_id} does not own its blob")
        for place in email_state.places:
            if reader.email_by_uid(place.folder, place.uid) != email_id:
                problems.append(f"email {email_id} has a wrong UID in folder {place.folder}")
    if size != reader.info.size_bytes:
        problems.append(f"{size} octets, {reader.info.size_bytes} counted")
    problems.extend(_counter_problems(reader, emails))
    audit = Audit(mailbox, state, blobs)
    problems.extend(f"{one.kind}: {one.text}" for one in audit.steps() if one is not None)
    return problems


def _counter_problems(reader: MailboxReader, emails: Iterable[int]) -> list[str]:
    threads = {record.thread_id for e in emails if (record := reader.email(e)) is not None}
    trash = reader.folder_with_role("trash")
    totals: dict[int, Counters] = {}
    nothing = Counters(0, 0, 0, 0)
    for thread_id in threads:
        thread = reader.thread(thread_id)
        if thread is None:
            return [f"thread {thread_id} is not there"]
        for folder, counters in count_thread(thread.members, trash=trash).items():
            totals[folder] = totals.get(folder, nothing) + counters
    return [
        f"folder {folder} counts {reader.counters(folder)}, has {totals.get(folder, nothing)}"
        for folder in reader.folders()
        if reader.counters(folder) != totals.get(folder, nothing)
    ]


def acknowledged_problems(
    acknowledged: Mapping[bytes, int], destroyed: Collection[int], reader: MailboxReader
) -> list[str]:
    """Return which acknowledged deliveries are not there once, under the number that was told."""
    problems = []
    digests: dict[bytes, list[int]] = {}
    for line in reader.listing() if reader.exists else ():
        record = reader.email(line.email_id)
        assert record is not None
        digests.setdefault(record.digest, []).append(line.email_id)
    for digest, email_id in acknowledged.items():
        expected = [] if email_id in destroyed else [email_id]
        if digests.get(digest, []) != expected:
            problems.append(f"email {email_id}: {digests.get(digest, [])} stored")
    problems.extend(
        f"emails {numbers} are one delivery" for numbers in digests.values() if len(numbers) > 1
    )
    return problems


def end_problems(simulator: Simulator) -> list[str]:
    """Return what is wrong on the disks once all is mended: every replica holds the same."""
    problems: list[str] = []
    nodes = [simulator.nodes[name] for name in simulator.row]
    first = nodes[0].disk
    for node in nodes[1:]:
        problems += _difference_problems(node.name, first, node.disk)
    for node in nodes:
        database = SimDatabase(node.disk, lambda: None)
        state, blobs = FamilyState(database), ShardBlobs(database)
        for mailbox, mail in simulator.history.mail.items():
            reader = MailboxReader(mailbox, state)
            if node is nodes[0]:
                problems += mailbox_problems(mailbox, state, blobs)
                problems += acknowledged_problems(mail.acknowledged, mail.destroyed, reader)
                simulator.history.see_read(
                    node.name, mailbox, simulator.history.floor(mailbox), look_at(reader)
                )
            problems += [f"{node.name}: {text}" for text in _blob_problems(reader, blobs)]
    return problems


def _difference_problems(name: str, one: Disk, other: Disk) -> list[str]:
    mine, theirs = one.families.values[Family.STATE], other.families.values[Family.STATE]
    if mine == theirs:
        return []
    differing = {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)}
    return [f"{name} holds another state: {sorted(differing)[:3]}"]


def _blob_problems(reader: MailboxReader, blobs: ShardBlobs) -> list[str]:
    problems = []
    for line in reader.listing() if reader.exists else ():
        record = reader.email(line.email_id)
        if record is None:
            continue
        try:
            whole = digest_of(blobs.read(record.digest)) == record.digest
        except (KeyError, BlobDamaged):
            whole = False
        if not whole:
            problems.append(f"email {line.email_id} of {reader.mailbox_id} has no whole blob")
    return problems

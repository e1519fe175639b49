"""Checkers: what must hold after every run, computed anew from what is on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mail.folders import Counters, count_thread
from storage.audit import Audit
from storage.mailbox_reader import Blobs, MailboxReader
from storage.transaction import State


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
    acknowledged: Mapping[bytes, int], destroyed: Mapping[int, object], reader: MailboxReader
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

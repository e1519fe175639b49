"""Audit: does everything that is kept of one mailbox agree? (R10)

Reads every record of a mailbox at one moment and compares what is derived with what it is
derived from: listings, UIDs, threads, counters, blob owners, sizes and the search index. What
is derived can be repaired (`storage/audit_repair.py`); a record or a blob that is damaged
cannot: it is reported, and the message stays listed.

Pure but for its reads: `steps` yields None wherever the caller may let others work.
"""

from __future__ import annotations

import hashlib
from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from mail.errors import BlobDamaged
from mail.folders import Counters, ThreadMember, count_thread
from mail.keywords import is_unread
from mail.threads import base_subject, thread_keys
from storage import keys, records
from storage.mailbox_reader import Blobs, MailboxReader, list_record
from storage.records import (
    BlobOwner,
    ChangeRecord,
    CountersRecord,
    Damaged,
    EmailRecord,
    EmailState,
    FolderRecord,
    MailboxRecord,
    Number,
    RepeatRecord,
    ReplyRecord,
    ThreadRecord,
)
from storage.transaction import State

# Findings of one mailbox that are listed; whatever made more of them made all of them.
FINDINGS_MAX = 10_000
# Octets of a blob that are hashed before others have their turn: about 1 ms.
HASHED_AT_ONCE_BYTES = keys.BLOB_CHUNK_BYTES
_NOTHING = Counters(0, 0, 0, 0)

RecordT = TypeVar("RecordT", bound=records.Record)


class Kind(StrEnum):
    """What can be wrong. The first ones are of what is the truth itself: they stay."""

    UNREADABLE = "unreadable record"
    EMAIL_HALF = "email without its state, or state without its email"
    BLOB_MISSING = "blob missing"
    BLOB_DAMAGED = "blob damaged"
    FOLDER_MISSING = "email in a folder that is not there"
    NO_FOLDER = "email in no folder"

    LISTING = "listing"
    UID = "uid"
    UID_NEXT = "uid beyond uid_next"
    THREAD = "thread"
    THREAD_KEY = "thread key"
    OWNER = "blob owner"
    COUNTERS = "folder counters"
    TOTALS = "mailbox totals"
    NEXT_NUMBERS = "next numbers"
    ROLES = "roles"
    CHANGES = "change log"
    SEARCH = "search index"

    @property
    def repairable(self) -> bool:
        """Say whether it is of derived data, which can be made again."""
        return self not in _LOST


_LOST = frozenset(
    (
        Kind.UNREADABLE, Kind.EMAIL_HALF, Kind.BLOB_MISSING, Kind.BLOB_DAMAGED,
        Kind.FOLDER_MISSING, Kind.NO_FOLDER,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement. Without subjects, names or addresses: it goes to logs."""

    kind: Kind
    text: str
    email: int = 0
    folder: int = 0
    thread: int = 0
    number: int = 0  # a modseq
    key: bytes = b""  # of a record too much
    digest: bytes = b""
    counters: Counters = _NOTHING  # what has to be added to those that are there


@dataclass(frozen=True, slots=True)
class Documents:
    """What a search index holds of one mailbox, as of the moment of the audit."""

    emails: Tally[int]  # by the number of documents that each has
    waiting: frozenset[int]  # emails that are about to be indexed anew


@dataclass(slots=True)
class _Sums:
    emails: int = 0
    size_bytes: int = 0
    unread: int = 0
    email_max: int = 0
    thread_max: int = 0
    modseq_max: int = 0


@dataclass(slots=True)
class Audit:
    """The audit of one mailbox over one view of its shard's state."""

    mailbox: int
    state: State
    blobs: Blobs
    documents: Documents | None = None  # None: the search index is not looked at
    done: int = 0  # emails looked at
    total: int = 0
    reader: MailboxReader = field(init=False)
    info: MailboxRecord = field(init=False)
    folders: dict[int, FolderRecord] = field(default_factory=dict)
    _sums: _Sums = field(default_factory=_Sums)
    _uids: dict[int, int] = field(default_factory=dict)  # the greatest of each folder
    _thread: tuple[int, ThreadRecord | None] = (0, None)

    def steps(self) -> Iterator[Finding | None]:
        """Yield what is found, and None between the records."""
        self.reader = MailboxReader(self.mailbox, self.state)
        octets = self.state.get(keys.info(self.mailbox))
        if octets is None:
            return
        try:
            self.info = records.decode(octets, MailboxRecord)
        except Damaged:
            yield Finding(Kind.UNREADABLE, "the mailbox's own record")
            return
        if self.info.removed:
            return
        self.total = self.info.emails
        yield from self._check_folders()
        yield from self._check_emails()
        yield from self._check_states()
        yield from self._check_listings()
        yield from self._check_uids()
        yield from self._check_threads()
        yield from self._check_owners()
        yield from self._check_changes()
        yield from self._check_rest()
        yield from self._check_numbers()
        if self.documents is not None:
            for email in self.documents.emails.keys() - self.documents.waiting:
                if self.state.get(keys.email(self.mailbox, email)) is None:
                    yield Finding(Kind.SEARCH, "a document of no email", email=email)

    # Reading

    def _records(
        self, letter: bytes, cls: type[RecordT]
    ) -> Iterator[tuple[bytes, RecordT | Finding]]:
        """Yield the rest of the key, and the record or what is wrong with it."""
        prefix = keys.kind(self.mailbox, letter)
        for key, octets in self.state.scan(prefix, keys.after(prefix)):
            found: RecordT | Finding
            try:
                found = records.decode(octets, cls)
            except Damaged as error:
                found = Finding(Kind.UNREADABLE, str(error), key=key)
            yield key[len(prefix) :], found

    def _get(self, key: bytes, cls: type[RecordT]) -> RecordT | None:
        """Return a record, None when it is not there or cannot be read."""
        return records.decode_or_none(self.state.get(key), cls)

    def _is(self, key: bytes, expected: records.Record) -> bool:
        return self._get(key, type(expected)) == expected

    # The checks

    def _check_folders(self) -> Iterator[Finding | None]:
        roles = []
        for key, record in self._records(b"f", FolderRecord):
            number = int.from_bytes(key, "big")
            if isinstance(record, Finding):
                yield record
                continue
            self.folders[number] = record
            if record.role is not None:
                roles.append((record.role, number))
            if number >= self.info.next_folder:
                yield Finding(Kind.NEXT_NUMBERS, f"folder {number} is beyond next_folder")
        if sorted(roles) != sorted(self.info.roles):
            yield Finding(Kind.ROLES, "the mailbox does not know its folders' roles")

    def _check_emails(self) -> Iterator[Finding | None]:
        sums = self._sums
        for key, record in self._records(b"e", EmailRecord):
            self.done += 1
            email = int.from_bytes(key, "big")
            if isinstance(record, Finding):
                yield Finding(Kind.UNREADABLE, record.text, email=email)
                continue
            octets = self.state.get(keys.email_state(self.mailbox, email))
            if octets is None:
                yield Finding(Kind.EMAIL_HALF, "an email without its state", email=email)
                continue
            state = self._get(keys.email_state(self.mailbox, email), EmailState)
            if state is None:
                yield Finding(Kind.UNREADABLE, "the state of an email", email=email)
                continue
            sums.emails += 1
            sums.size_bytes += record.size_bytes
            sums.unread += is_unread(state.keywords)
            sums.email_max = max(sums.email_max, email)
            sums.thread_max = max(sums.thread_max, record.thread_id)
            sums.modseq_max = max(sums.modseq_max, state.modseq)
            yield from self._check_placement(email, record, state)
            yield from self._check_relations(email, record, state)
            yield None

    def _check_placement(
        self, email: int, record: EmailRecord, state: EmailState
    ) -> Iterator[Finding]:
        if record.email_id != email:
            yield Finding(Kind.UNREADABLE, f"is called email {record.email_id}", email=email)
        if not state.places:
            yield Finding(Kind.NO_FOLDER, "an email in no folder", email=email)
        line = list_record(record, state.keywords)
        places = [place.folder for place in state.places]
        for folder in (keys.ALL_MAIL, *places):
            name = keys.listed(self.mailbox, folder, record.received_at_ms, email)
            if not self._is(name, line):
                yield Finding(Kind.LISTING, "not listed as it is", email=email, folder=folder)
        for place in state.places:
            if place.folder not in self.folders:
                yield Finding(
                    Kind.FOLDER_MISSING, "no such folder", email=email, folder=place.folder
                )
                continue
            self._uids[place.folder] = max(self._uids.get(place.folder, 0), place.uid)
            if not self._is(keys.uid(self.mailbox, place.folder, place.uid), Number(email)):
                yield Finding(Kind.UID, "not under its UID", email=email, folder=place.folder)

    def _check_relations(
        self, email: int, record: EmailRecord, state: EmailState
    ) -> Iterator[Finding | None]:
        if self._thread[0] != record.thread_id:
            name = keys.thread(self.mailbox, record.thread_id)
            self._thread = (record.thread_id, self._get(name, ThreadRecord))
        thread = self._thread[1]
        if member_of(record, state) not in (() if thread is None else thread.members):
            yield Finding(
                Kind.THREAD, "not in its thread as it is", email=email, thread=record.thread_id
            )
        subject = base_subject(record.summary.subject)
        for text in thread_keys(record.summary):
            if self.state.get(keys.thread_key(self.mailbox, f"{text}\0{subject}")) is None:
                yield Finding(Kind.THREAD_KEY, "not found by its message ids", email=email)
                break
        owner = self._get(keys.blob_owner(self.mailbox, record.digest), BlobOwner)
        if owner is None or email not in owner.emails:
            yield Finding(Kind.OWNER, "does not own its blob", email=email, digest=record.digest)
            yield from self._check_blob(record.digest, record.size_bytes, (email,))
        documents = self.documents
        if documents is not None and email not in documents.waiting:
            found = documents.emails[email]
            if found != 1:
                yield Finding(Kind.SEARCH, f"{found} documents of one email", email=email)

    def _check_states(self) -> Iterator[Finding | None]:
        prefix = keys.kind(self.mailbox, b"k")
        for key, _ in self.state.scan(prefix, keys.after(prefix)):
            email = int.from_bytes(key[len(prefix) :], "big")
            if self.state.get(keys.email(self.mailbox, email)) is None:
                yield Finding(Kind.EMAIL_HALF, "a state without its email", email=email)
            yield None

    def _check_listings(self) -> Iterator[Finding | None]:
        prefix = keys.kind(self.mailbox, b"d")
        for key, _ in self.state.scan(prefix, keys.after(prefix)):
            rest = key[len(prefix) :]
            folder, email = int.from_bytes(rest[:4], "big"), int.from_bytes(rest[12:], "big")
            record = self._get(keys.email(self.mailbox, email), EmailRecord)
            state = self._get(keys.email_state(self.mailbox, email), EmailState)
            if self._half_readable(email, record, state):
                continue
            places = () if state is None else (keys.ALL_MAIL, *(p.folder for p in state.places))
            received = b"" if record is None else keys.u64(record.received_at_ms)
            if folder not in places or rest[4:12] != received:
                yield Finding(
                    Kind.LISTING, "listed where it is not", email=email, folder=folder, key=key
                )
            yield None

    def _half_readable(
        self, email: int, record: EmailRecord | None, state: EmailState | None
    ) -> bool:
        """Say whether records of an email are there and damaged: then nothing is too much."""
        return (record is None and self.state.get(keys.email(self.mailbox, email)) is not None) or (
            state is None and self.state.get(keys.email_state(self.mailbox, email)) is not None
        )

    def _check_uids(self) -> Iterator[Finding | None]:
        for key, number in self._records(b"u", Number):
            folder, uid = int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")
            email = 0 if isinstance(number, Finding) else number.value
            octets = self.state.get(keys.email_state(self.mailbox, email))
            state = self._get(keys.email_state(self.mailbox, email), EmailState)
            if octets is not None and state is None:
                continue
            places = () if state is None else state.places
            if not any(place.folder == folder and place.uid == uid for place in places):
                name = keys.uid(self.mailbox, folder, uid)
                yield Finding(Kind.UID, f"UID {uid} of no email", folder=folder, key=name)
            yield None
        for folder, uid in self._uids.items():
            if uid >= self.folders[folder].uid_next:
                yield Finding(Kind.UID_NEXT, f"UID {uid} is in use", folder=folder, number=uid)

    def _check_threads(self) -> Iterator[Finding | None]:
        trash = self.reader.folder_with_role("trash")
        totals: dict[int, Counters] = {}
        for key, thread in self._records(b"t", ThreadRecord):
            number = int.from_bytes(key, "big")
            self._sums.thread_max = max(self._sums.thread_max, number)
            if isinstance(thread, Finding):
                yield Finding(Kind.THREAD, thread.text, thread=number)
                continue
            ids = [member.email_id for member in thread.members]
            if not ids or ids != sorted(set(ids)):
                yield Finding(Kind.THREAD, "without members, or out of order", thread=number)
            for email in ids:
                record = self._get(keys.email(self.mailbox, email), EmailRecord)
                if record is None or record.thread_id != number:
                    yield Finding(Kind.THREAD, "a member of another", email=email, thread=number)
            for folder, counters in count_thread(thread.members, trash=trash).items():
                totals[folder] = totals.get(folder, _NOTHING) + counters
            yield None
        kept: dict[int, Counters] = {}
        for key, counted in self._records(b"n", CountersRecord):
            if isinstance(counted, CountersRecord):
                kept[int.from_bytes(key, "big")] = counted.counters
        for folder in sorted(totals.keys() | kept.keys()):
            missing = totals.get(folder, _NOTHING) - kept.get(folder, _NOTHING)
            if missing != _NOTHING:
                yield Finding(Kind.COUNTERS, "miscounted", folder=folder, counters=missing)

    def _check_owners(self) -> Iterator[Finding | None]:
        for digest, owner in self._records(b"b", BlobOwner):
            if isinstance(owner, Finding):
                yield Finding(Kind.OWNER, owner.text, digest=digest)
                continue
            if len(owner.emails) != len(set(owner.emails)):
                yield Finding(Kind.OWNER, "an email named twice", digest=digest)
            for email in owner.emails:
                octets = self.state.get(keys.email(self.mailbox, email))
                record = self._get(keys.email(self.mailbox, email), EmailRecord)
                if (octets is None) or (record is not None and record.digest != digest):
                    yield Finding(Kind.OWNER, "of another's blob", email=email, digest=digest)
            yield from self._check_blob(digest, owner.size_bytes, owner.emails)

    def _check_blob(
        self, digest: bytes, size_bytes: int, emails: tuple[int, ...]
    ) -> Iterator[Finding | None]:
        """Read a blob that emails refer to; an upload that nobody uses is not worth it."""
        if not emails:
            return
        email = emails[0]
        hashed, offset = hashlib.sha256(), 0
        try:
            while piece := self.blobs.read(digest, offset, HASHED_AT_ONCE_BYTES):
                hashed.update(piece)
                offset += len(piece)
                yield None
        except BlobDamaged:
            yield Finding(Kind.BLOB_DAMAGED, "cannot be read", email=email, digest=digest)
            return
        except KeyError:
            yield Finding(Kind.BLOB_MISSING, "is not there", email=email, digest=digest)
            return
        if hashed.digest() != digest:
            text = f"{offset} octets of {size_bytes}, of another content"
            yield Finding(Kind.BLOB_DAMAGED, text, email=email, digest=digest)
        elif offset != size_bytes:
            text = f"is {offset} octets, {size_bytes} are noted"
            yield Finding(Kind.OWNER, text, email=email, digest=digest)

    def _check_changes(self) -> Iterator[Finding | None]:
        expected = self.info.oldest_change
        for key, change in self._records(b"c", ChangeRecord):
            modseq = int.from_bytes(key, "big")
            if modseq < expected:
                continue
            if modseq > expected or isinstance(change, Finding):
                number = modseq if isinstance(change, ChangeRecord) else modseq + 1
                yield Finding(Kind.CHANGES, f"change {expected} is missing", number=number)
            expected = modseq + 1
            yield None
        if expected <= self.info.modseq:
            number = self.info.modseq + 1
            yield Finding(Kind.CHANGES, f"change {expected} is missing", number=number)
        elif expected > self.info.modseq + 1:
            yield Finding(Kind.NEXT_NUMBERS, f"modseq is behind change {expected - 1}")

    def _check_rest(self) -> Iterator[Finding | None]:
        for letter, cls in ((b"m", Number), (b"q", ReplyRecord), (b"x", RepeatRecord)):
            for _, record in self._records(letter, cls):
                if isinstance(record, Finding):
                    yield record
                elif isinstance(record, Number):
                    self._sums.thread_max = max(self._sums.thread_max, record.value)
                yield None

    def _check_numbers(self) -> Iterator[Finding | None]:
        info, sums = self.info, self._sums
        unread = sums.unread if info.unread >= 0 else info.unread
        counted = (info.emails, info.size_bytes, info.unread)
        if counted != (sums.emails, sums.size_bytes, unread):
            yield Finding(
                Kind.TOTALS,
                f"{info.emails} emails of {info.size_bytes} octets counted, "
                f"{sums.emails} of {sums.size_bytes} there",
                counters=Counters(sums.emails - info.emails, unread - info.unread),
                number=sums.size_bytes - info.size_bytes,
            )
        if sums.email_max >= info.next_email:
            yield Finding(Kind.NEXT_NUMBERS, f"email {sums.email_max} is beyond next_email")
        if sums.thread_max >= info.next_thread:
            yield Finding(Kind.NEXT_NUMBERS, f"thread {sums.thread_max} is beyond next_thread")
        if sums.modseq_max > info.modseq:
            yield Finding(Kind.NEXT_NUMBERS, f"modseq {sums.modseq_max} is beyond the mailbox's")


def member_of(record: EmailRecord, state: EmailState) -> ThreadMember:
    """Return how an email is kept in its thread."""
    folders = tuple(place.folder for place in state.places)
    return ThreadMember(record.email_id, is_unread(state.keywords), folders)

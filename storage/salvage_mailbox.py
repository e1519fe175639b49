"""SalvageMailbox: makes one mailbox whole where records of the truth itself are missing.

Most is kept more than once: a body makes a message's record, the listing tells its time and
keywords, the UIDs its folders. What is derived is left to the auditor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from msgspec.structs import replace

from mail.folders import DEFAULT_FOLDERS, INBOX
from mail.message import parse
from storage import keys, records
from storage.blobs import ShardBlobs, blob_chunks
from storage.database import Batch, Family, FamilyState, RocksDatabase
from storage.records import (
    BlobOwner,
    ChangeRecord,
    Damaged,
    EmailRecord,
    EmailState,
    FolderRecord,
    ListRecord,
    MailboxRecord,
    Number,
    Placed,
    RepeatRecord,
    ReplyRecord,
    ThreadRecord,
)
from storage.salvage_source import SalvageSource

BATCH_BYTES_MAX = 4 << 20
# Numbers that lost turns may have given away are left out: clients remember them.
SKIPPED = 1 << 20
LISTED_MAX = 10_000
# Folders and emails beyond the last one known that are asked for one by one.
FOLDERS_ASKED, EMAILS_ASKED = 64, 1000
RECOVERED = "Recovered"


@dataclass(frozen=True, slots=True)
class LostMessage:
    """One message that could not be saved. For the operator's eyes, never for a log."""

    mailbox: int
    email: int
    received_at_ms: int
    size_bytes: int
    sender: str


@dataclass(slots=True)
class Salvaged:
    """What was saved, and what was not."""

    shard: int
    mailboxes: int = 0
    messages: int = 0
    rebuilt: int = 0  # messages whose records were made again
    recovered: int = 0  # found without any record, put into the folder Recovered
    blobs: int = 0
    records: int = 0
    entries: int = 0  # of the log, played on top
    lost: list[LostMessage] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)  # what RocksDB could not read
    unresolved: list[str] = field(default_factory=list)  # what the audit still finds


@dataclass(slots=True)
class _Evidence:
    """What other records tell of an email."""

    digests: dict[int, bytes] = field(default_factory=dict)
    received: dict[int, int] = field(default_factory=dict)
    threads: dict[int, int] = field(default_factory=dict)
    uids: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


class MailboxRestorer:
    """Makes one mailbox whole where records of the truth itself are missing."""

    def __init__(
        self,
        report: Salvaged,
        database: RocksDatabase,
        source: SalvageSource,
        mailbox: int,
        *,
        now_ms: int,
        lossy: bool,
    ) -> None:
        self._report = report
        self._now_ms = now_ms
        self._database = database
        self._source = source
        self._mailbox = mailbox
        self._lossy = lossy
        self._state = FamilyState(database)
        self._blobs = ShardBlobs(database)
        self._emails: set[int] = set()
        self._last_thread = 0

    def restore(self) -> None:
        self._fetch_gaps()
        info = self._get(keys.info(self._mailbox), MailboxRecord)
        if info is not None and info.removed:
            return
        if info is None and not self._lossy and not self._numbers():
            return  # It was never used.
        folders = self._restore_folders(info)
        self._emails = self._numbers()
        for email in sorted(self._emails):
            self._restore_email(email, folders)
        self._drop_unreadable()
        self._restore_info(info, folders)

    def _get(self, key: bytes, cls: type[records.RecordT]) -> records.RecordT | None:
        return records.decode_or_none(self._state.get(key), cls)

    def _put(self, key: bytes, record: records.Record | None) -> None:
        batch = Batch()
        if record is None:
            batch.delete(Family.STATE, key)
        else:
            batch.put(Family.STATE, key, records.encode(record))
        self._database.write(batch)

    def _fetch_gaps(self) -> None:
        """Ask for single records where a scan could not pass: other files may have them."""
        if not self._lossy:
            return
        wanted = [keys.info(self._mailbox)]
        wanted += [
            keys.folder(self._mailbox, n) for n in range(1, len(DEFAULT_FOLDERS) + FOLDERS_ASKED)
        ]
        for email in range(1, max(self._numbers(), default=0) + EMAILS_ASKED):
            wanted += [keys.email(self._mailbox, email), keys.email_state(self._mailbox, email)]
        for key in wanted:
            if self._source.in_gap(Family.STATE, key) and self._state.get(key) is None:
                octets = self._source.get(Family.STATE, key)
                if octets is not None:
                    write_all(self._database, [(Family.STATE, key, octets)])

    def _scan(self, letter: bytes) -> Iterator[tuple[bytes, bytes]]:
        prefix = keys.kind(self._mailbox, letter)
        for key, value in self._state.scan(prefix, keys.after(prefix)):
            yield key[len(prefix) :], value

    def _numbers(self) -> set[int]:
        """Return the emails that any record tells of."""
        found = {
            int.from_bytes(key, "big") for letter in (b"e", b"k") for key, _ in self._scan(letter)
        }
        for _, octets in self._scan(b"b"):
            with suppress(Damaged):
                found.update(records.decode(octets, BlobOwner).emails)
        return found

    def _restore_folders(self, info: MailboxRecord | None) -> dict[int, FolderRecord]:
        folders: dict[int, FolderRecord] = {}
        for key, octets in self._scan(b"f"):
            with suppress(Damaged):
                folders[int.from_bytes(key, "big")] = records.decode(octets, FolderRecord)
        wanted = dict(enumerate(DEFAULT_FOLDERS, 1)) if self._lossy else {}
        named: set[int] = set()
        for _, octets in self._scan(b"k"):
            with suppress(Damaged):
                named.update(p.folder for p in records.decode(octets, EmailState).places)
        roles = {folder.role for folder in folders.values()}
        for number in sorted({*wanted, *named} - folders.keys()):
            name, role, order = wanted.get(number, (f"{RECOVERED} {number}", None, 100))
            if role is not None and role in roles:
                continue
            folders[number] = FolderRecord(name, role, None, order)
        uids: dict[int, int] = {}
        for key, _ in self._scan(b"u"):
            folder, uid = int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")
            uids[folder] = max(uids.get(folder, 0), uid)
        for number, kept in list(folders.items()):
            made = replace(kept, uid_next=max(kept.uid_next, uids.get(number, 0) + 1))
            if self._lossy:  # UIDs of lost turns may be known to clients (RFC 9051 §2.3.1.1).
                made = replace(made, uid_validity=self._validity(kept))
            if self._get(keys.folder(self._mailbox, number), FolderRecord) != made:
                self._put(keys.folder(self._mailbox, number), made)
            folders[number] = made
        return folders

    def _validity(self, folder: FolderRecord) -> int:
        return max(self._now_ms // 1000, folder.uid_validity + 1)

    def _restore_email(self, email: int, folders: Mapping[int, FolderRecord]) -> None:
        record = self._get(keys.email(self._mailbox, email), EmailRecord)
        if record is None or not self._has_body(record.digest):
            record = self._record_from_body(email, record)
            if record is None:
                return
        state = self._get(keys.email_state(self._mailbox, email), EmailState)
        if state is None:
            state = self._state_from_listing(email, record, folders)
            self._put(keys.email_state(self._mailbox, email), state)
            self._report.rebuilt += 1

    def _has_body(self, digest: bytes) -> bool:
        if self._blobs.size(digest) is not None:
            return True
        data = self._source.body(digest)
        if data is None:
            return False
        write_all(self._database, [(Family.BLOB, *chunk) for chunk in blob_chunks(digest, data)])
        return True

    def _record_from_body(self, email: int, record: EmailRecord | None) -> EmailRecord | None:
        """Make an email's record again from its body; without one the email is lost."""
        digest = self._evidence.digests.get(email) if record is None else None
        if digest is None or not self._has_body(digest):
            self._lose(email, record)
            return None
        raw = self._blobs.read(digest)
        received = self._evidence.received.get(email, self._now_ms)
        made = EmailRecord(
            email_id=email,
            thread_id=self._evidence.threads.get(email) or self._new_thread(),
            digest=digest,
            size_bytes=len(raw),
            received_at_ms=received,
            summary=parse(raw).summary,
        )
        self._put(keys.email(self._mailbox, email), made)
        self._report.rebuilt += 1
        return made

    @cached_property
    def _evidence(self) -> _Evidence:
        """Return what other records tell of emails, read once."""
        found = _Evidence()
        for digest, octets in self._scan(b"b"):
            with suppress(Damaged):
                found.digests |= dict.fromkeys(records.decode(octets, BlobOwner).emails, digest)
        for key, _ in self._scan(b"d"):
            found.received[int.from_bytes(key[12:], "big")] = int.from_bytes(key[4:12], "big")
        for key, octets in self._scan(b"t"):
            with suppress(Damaged):
                for member in records.decode(octets, ThreadRecord).members:
                    found.threads[member.email_id] = int.from_bytes(key, "big")
        for key, octets in self._scan(b"u"):
            with suppress(Damaged):
                place = (int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big"))
                found.uids.setdefault(records.decode(octets, Number).value, []).append(place)
        return found

    def _threads(self) -> list[int]:
        found = [int.from_bytes(key, "big") for key, _ in self._scan(b"t")]
        for _, octets in self._scan(b"e"):
            with suppress(Damaged):
                found.append(records.decode(octets, EmailRecord).thread_id)
        return found

    def _new_thread(self) -> int:
        """Return a thread of its own: nothing tells with what an email belongs."""
        self._last_thread = max(self._last_thread, *self._threads(), 0) + 1
        return self._last_thread

    def _state_from_listing(
        self, email: int, record: EmailRecord, folders: Mapping[int, FolderRecord]
    ) -> EmailState:
        """Say where an email is, by the listings and UIDs, or in the inbox."""
        keywords: tuple[str, ...] = ()
        places: dict[int, Placed] = {}
        for folder, uid in self._evidence.uids.get(email, ()):
            if folder in folders:
                places[folder] = Placed(folder, uid)
        line = self._get(
            keys.listed(self._mailbox, keys.ALL_MAIL, record.received_at_ms, email),
            ListRecord,
        )
        if line is not None:
            keywords = line.keywords
        if not places:
            inbox = next((n for n, one in folders.items() if one.role == INBOX), min(folders))
            number = keys.folder(self._mailbox, inbox)
            folder_record = self._get(number, FolderRecord)
            assert folder_record is not None, "folders are restored first"
            self._put(number, replace(folder_record, uid_next=folder_record.uid_next + 1))
            places[inbox] = Placed(inbox, folder_record.uid_next)
        return EmailState(keywords, tuple(places[n] for n in sorted(places)), 0, 0)

    def _lose(self, email: int, record: EmailRecord | None) -> None:
        """Take an email out whose body is lost, and list it."""
        sender = ""
        if record is not None and record.summary.from_:
            sender = record.summary.from_[0].email
        received = self._evidence.received.get(email, 0)
        if record is not None:
            received = record.received_at_ms
        lost = LostMessage(
            self._mailbox, email, received, record.size_bytes if record else 0, sender
        )
        if len(self._report.lost) < LISTED_MAX:
            self._report.lost.append(lost)
        self._put(keys.email(self._mailbox, email), None)
        self._put(keys.email_state(self._mailbox, email), None)

    def _drop_unreadable(self) -> None:
        """Delete records that cannot be read and that nothing can make again."""
        for letter, cls in (
            (b"c", ChangeRecord), (b"m", Number), (b"q", ReplyRecord),
            (b"x", RepeatRecord), (b"f", FolderRecord),
        ):  # fmt: skip
            for key, octets in list(self._scan(letter)):
                try:
                    records.decode(octets, cls)
                except Damaged:
                    self._put(keys.kind(self._mailbox, letter) + key, None)

    def _restore_info(
        self, info: MailboxRecord | None, folders: Mapping[int, FolderRecord]
    ) -> None:
        now_ms = self._now_ms
        made = info or MailboxRecord(created_at_ms=now_ms, uid_validity=now_ms // 1000)
        if info is None:
            made = replace(made, unread=0)
        if self._lossy:
            # Lost turns may have used the numbers that come next, and clients may know a
            # state that lies in the future: all of them begin anew (RFC 8620 §5.2).
            threads = self._threads()
            changes = [int.from_bytes(key, "big") for key, _ in self._scan(b"c")]
            modseq = max(made.modseq, *changes, 0) + SKIPPED
            made = replace(
                made,
                next_email=max(made.next_email, *self._emails, 0) + SKIPPED,
                next_thread=max(made.next_thread, *threads, 0) + SKIPPED,
                next_folder=max(made.next_folder, *folders) + 1,
                modseq=modseq,
                email_modseq=modseq,
                folder_modseq=modseq,
                thread_modseq=modseq,
                oldest_change=modseq + 1,
            )
        made = replace(
            made, roles=tuple((f.role, n) for n, f in folders.items() if f.role is not None)
        )
        if made != info:
            self._put(keys.info(self._mailbox), made)


def write_all(database: RocksDatabase, puts: Iterable[tuple[Family, bytes, bytes]]) -> None:
    """Write, some megabytes at a time."""
    batch, size = Batch(), 0
    for family, key, value in puts:
        batch.put(family, key, value)
        size += len(key) + len(value)
        if size >= BATCH_BYTES_MAX:
            database.write(batch)
            batch, size = Batch(), 0
    database.write(batch)

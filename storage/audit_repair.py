"""AuditRepair: makes derived data again where an audit found it wrong (R9, R10).

A repair is an ordinary turn: it looks again at what is there now, writes what should be, and
goes through the log. Counters are corrected by what they were off: turns in between have
changed them rightly, but from a wrong start. The search index is repaired elsewhere: it is
not in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from mail.folders import Counters
from mail.threads import base_subject, thread_keys
from storage import keys, records
from storage.audit import Finding, Kind, member_of
from storage.mailbox_reader import list_record
from storage.mailbox_writer import MailboxWriter
from storage.records import (
    BlobOwner,
    CountersRecord,
    Damaged,
    EmailRecord,
    EmailState,
    Number,
    Record,
    ThreadRecord,
)

# Findings that one turn repairs: some milliseconds.
REPAIRED_AT_ONCE = 50
# Forgotten changes that one turn deletes; what is left below the oldest is never read.
CHANGES_DELETED_AT_ONCE = 1000
_BY_EMAIL = frozenset((Kind.LISTING, Kind.UID, Kind.THREAD, Kind.THREAD_KEY, Kind.OWNER))


class AuditRepair(MailboxWriter):
    """One mailbox, while it is repaired."""

    def repair(self, findings: Sequence[Finding]) -> None:
        """Repair what an audit found and is still so. Call `finish` afterwards."""
        self._info_now = self.info  # Written anew in any case.
        for finding in findings:
            match finding.kind:
                case Kind.UID_NEXT:
                    self._raise_uid_next(finding.folder, finding.number)
                case Kind.COUNTERS:
                    self._correct_counters(finding.folder, finding.counters)
                case Kind.TOTALS:
                    self._correct_totals(finding)
                case Kind.NEXT_NUMBERS:
                    self._raise_numbers()
                case Kind.ROLES:
                    found = ((r.role, n) for n, r in self.folders().items() if r.role is not None)
                    self._update_info(roles=tuple(found))
                case Kind.CHANGES:
                    self._forget_changes(finding.number)
                case kind if kind in _BY_EMAIL:
                    self._repair_relations(finding)
                case _:
                    pass

    def _repair_relations(self, finding: Finding) -> None:
        if finding.kind is Kind.THREAD and finding.thread:
            self._restore_thread(finding.thread, finding.email)
        if finding.digest:
            self._restore_owner(finding.digest, finding.email)
        if finding.key and not self._is_wanted(finding.key):
            self._overlay.delete(finding.key)
        if finding.email:
            self._restore_email(finding.email)

    # Reading what may be unreadable

    def _pair(self, email_id: int) -> tuple[EmailRecord, EmailState] | None:
        """Return both records of an email, None when one is not there or damaged."""
        try:
            record, state = self.email(email_id), self.email_state(email_id)
        except Damaged:
            return None
        return None if record is None or state is None else (record, state)

    def _put_if_other(self, key: bytes, expected: Record) -> bool:
        """Write a record unless it is there already; say whether it was written."""
        octets = self._overlay.get(key)
        try:
            if octets is not None and records.decode(octets, type(expected)) == expected:
                return False
        except Damaged:
            pass
        self._overlay.put(key, records.encode(expected))
        return True

    # Emails

    def _restore_email(self, email_id: int) -> None:
        pair = self._pair(email_id)
        if pair is None:
            return
        record, state = pair
        state = self._with_own_uids(record, state)
        line = list_record(record, state.keywords)
        wrong = False
        for folder in (keys.ALL_MAIL, *(place.folder for place in state.places)):
            name = keys.listed(self.mailbox_id, folder, record.received_at_ms, email_id)
            wrong |= self._put_if_other(name, line)
        self._restore_thread(record.thread_id, email_id)
        self._restore_owner(record.digest, email_id)
        subject = base_subject(record.summary.subject)
        for text in thread_keys(record.summary):
            name = keys.thread_key(self.mailbox_id, f"{text}\0{subject}")
            if self._overlay.get(name) is None:
                self._overlay.put(name, records.encode(Number(record.thread_id)))
        if wrong:
            self._note("emails_updated", email_id)

    def _with_own_uids(self, record: EmailRecord, state: EmailState) -> EmailState:
        """See that each place has a UID that leads to this email and to no other."""
        places = []
        for place in state.places:
            name = keys.uid(self.mailbox_id, place.folder, place.uid)
            holder = self._holder(name)
            other = None if holder in (None, record.email_id) else self._pair(holder or 0)
            taken = other is not None and any(
                one.folder == place.folder and one.uid == place.uid for one in other[1].places
            )
            if taken and self.folder(place.folder) is not None:
                place = self._new_place(place.folder, record.email_id)
            elif not taken:
                self._put_if_other(name, Number(record.email_id))
            places.append(place)
        if tuple(places) == state.places:
            return state
        state = replace(state, places=tuple(places), modseq=self.info.modseq + 1)
        self._overlay.put(keys.email_state(self.mailbox_id, record.email_id), records.encode(state))
        self._note("emails_updated", record.email_id)
        return state

    def _holder(self, uid_key: bytes) -> int | None:
        octets = self._overlay.get(uid_key)
        try:
            return None if octets is None else records.decode(octets, Number).value
        except Damaged:
            return None

    def _is_wanted(self, key: bytes) -> bool:
        """Say whether an email of now is where a listing or UID key says."""
        letter, rest = key[8:9], key[9:]
        folder = int.from_bytes(rest[:4], "big")
        email_id = self._holder(key) if letter == b"u" else int.from_bytes(rest[12:], "big")
        pair = None if email_id is None else self._pair(email_id)
        if pair is None:
            return False
        record, state = pair
        if letter == b"u":
            uid = int.from_bytes(rest[4:], "big")
            return any(place.folder == folder and place.uid == uid for place in state.places)
        folders = (keys.ALL_MAIL, *(place.folder for place in state.places))
        return folder in folders and rest[4:12] == keys.u64(record.received_at_ms)

    # Threads and owners

    def _restore_thread(self, thread_id: int, email_id: int) -> None:
        """Make a thread's record of the emails that are in it. Counters are corrected later."""
        subject, ids = "", {email_id} if email_id else set()
        try:
            thread = self.thread(thread_id)
        except Damaged:
            thread = None
        if thread is not None:
            subject = thread.subject
            ids |= {member.email_id for member in thread.members}
        pairs = [pair for number in sorted(ids) if (pair := self._pair(number)) is not None]
        pairs = [(record, state) for record, state in pairs if record.thread_id == thread_id]
        name = keys.thread(self.mailbox_id, thread_id)
        if not pairs:
            if self._overlay.get(name) is not None:
                self._overlay.delete(name)
                self._note("threads_destroyed", thread_id)
            return
        if thread is None:
            subject = base_subject(pairs[0][0].summary.subject)
        members = tuple(member_of(record, state) for record, state in pairs)
        if self._put_if_other(name, ThreadRecord(subject, members)):
            self._note("threads_updated" if thread else "threads_created", thread_id)

    def _restore_owner(self, digest: bytes, email_id: int) -> None:
        name = keys.blob_owner(self.mailbox_id, digest)
        try:
            owner = self.blob_owner(digest)
        except Damaged:
            owner = None
        ids = dict.fromkeys((*(owner.emails if owner else ()), email_id))
        pairs = [(number, pair) for number in ids if (pair := self._pair(number)) is not None]
        mine = [(number, pair[0]) for number, pair in pairs if pair[0].digest == digest]
        # An email whose record is damaged keeps its blob: it may be all that is left of it.
        damaged = [n for n in ids if n and self._pair(n) is None and self._has_record(n)]
        emails = tuple(sorted({*(number for number, _ in mine), *damaged}))
        size = mine[0][1].size_bytes if mine else owner.size_bytes if owner else 0
        expires = owner.upload_expires_ms if owner else 0
        if emails or expires:
            self._put_if_other(name, BlobOwner(emails, size, expires))
        elif owner is not None or self._overlay.get(name) is not None:
            self._overlay.delete(name)

    def _has_record(self, email_id: int) -> bool:
        return self._overlay.get(keys.email(self.mailbox_id, email_id)) is not None

    # Numbers

    def _raise_uid_next(self, folder_id: int, uid: int) -> None:
        folder = self.folder(folder_id)
        if folder is not None and folder.uid_next <= uid:
            self._put_folder(folder_id, replace(folder, uid_next=uid + 1))

    def _correct_counters(self, folder_id: int, missing: Counters) -> None:
        name = keys.counters(self.mailbox_id, folder_id)
        try:
            counted = self.counters(folder_id)
        except Damaged:
            counted = Counters(0, 0, 0, 0)
        counted = counted + missing
        if counted == Counters(0, 0, 0, 0) and self.folder(folder_id) is None:
            self._overlay.delete(name)
        else:
            self._overlay.put(name, records.encode(CountersRecord(counted)))
            self._note("folders_counted", folder_id)

    def _correct_totals(self, finding: Finding) -> None:
        info = self.info
        self._update_info(
            emails=info.emails + finding.counters.total_emails,
            unread=info.unread + finding.counters.unread_emails,
            size_bytes=info.size_bytes + finding.number,
        )

    def _raise_numbers(self) -> None:
        """Raise what numbers come next above everything that is there."""
        emails = self._last_number(b"e")
        threads = max(self._last_number(b"t"), self._threads_named())
        self._update_info(
            next_email=max(self.info.next_email, emails + 1),
            next_folder=max(self.info.next_folder, self._last_number(b"f") + 1),
            next_thread=max(self.info.next_thread, threads + 1),
        )
        modseq = max(self._last_number(b"c"), self._modseq_named())
        if modseq > self.info.modseq:
            # Clients have states up to there: all of them begin again (RFC 8620 §5.2).
            self._update_info(modseq=modseq)
            self._forget_changes(modseq + 1)

    def _last_number(self, letter: bytes) -> int:
        prefix = keys.kind(self.mailbox_id, letter)
        for key, _ in self._overlay.scan(prefix, keys.after(prefix), reverse=True):
            return int.from_bytes(key[len(prefix) :], "big")
        return 0

    def _threads_named(self) -> int:
        numbers = (record.thread_id for record in self._readable(b"e", EmailRecord))
        named = (number.value for number in self._readable(b"m", Number))
        return max(max(numbers, default=0), max(named, default=0))

    def _modseq_named(self) -> int:
        return max((state.modseq for state in self._readable(b"k", EmailState)), default=0)

    def _readable(self, letter: bytes, cls: type[records.RecordT]) -> Iterable[records.RecordT]:
        prefix = keys.kind(self.mailbox_id, letter)
        for _, octets in self._overlay.scan(prefix, keys.after(prefix)):
            try:
                yield records.decode(octets, cls)
            except Damaged:
                continue

    def _forget_changes(self, oldest: int) -> None:
        """Let clients with a state before `oldest` begin again (RFC 8620 §5.2)."""
        if oldest <= self.info.oldest_change:
            return
        first = keys.change(self.mailbox_id, self.info.oldest_change)
        for count, (key, _) in enumerate(
            list(self._overlay.scan(first, keys.change(self.mailbox_id, oldest)))
        ):
            if count == CHANGES_DELETED_AT_ONCE:
                break
            self._overlay.delete(key)
        self._update_info(oldest_change=oldest)

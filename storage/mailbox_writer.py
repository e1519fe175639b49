"""MailboxWriter: the only code that changes a mailbox's records.

Every operation keeps listings, UIDs, threads, counters, blob owners and the change log in
step with the email it changes, within one turn. Pure over its `Overlay`: time and content
come in as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from msgspec.structs import replace

from mail.errors import Invalid, NotFound, OverQuota
from mail.folders import DEFAULT_FOLDERS, Counters, ThreadMember, count_thread
from mail.keywords import is_unread
from mail.summary import Summary
from mail.threads import base_subject, thread_keys
from storage import keys, records
from storage.mailbox_reader import MailboxReader, list_record
from storage.records import (
    BlobOwner,
    ChangeRecord,
    CountersRecord,
    EmailRecord,
    EmailState,
    FolderRecord,
    MailboxRecord,
    Number,
    Placed,
    RepeatRecord,
    ThreadRecord,
)
from storage.transaction import Overlay

# A thread holds so many emails, then another begins: its record is rewritten with each one.
THREAD_EMAILS_MAX = 500
# So many changes are remembered for clients that come back (RFC 8620 §5.2).
CHANGES_KEPT_MAX = 100_000
FOLDERS_MAX = 1_000
UPLOAD_KEPT_MS = 24 * 3600 * 1000
# Repeats that are looked at, from a random one on, whether they expired: more than come in.
REPEATS_LOOKED_AT = 8


class MailboxWriter(MailboxReader):
    """One mailbox of a shard, within one turn."""

    def __init__(self, mailbox_id: int, overlay: Overlay, now_ms: int = 0) -> None:
        super().__init__(mailbox_id, overlay)
        self._overlay = overlay
        self._now_ms = now_ms
        self._changed: dict[str, dict[int, None]] = {}
        self._info_now: MailboxRecord | None = None
        self.index_emails: list[int] = []  # emails whose search documents changed
        self.blobs: list[bytes] = []  # digests that must be present when this commits

    @property
    def info(self) -> MailboxRecord:
        if self._info_now is None:
            self._info_now = super().info
        return self._info_now

    def _update_info(self, **changes: object) -> None:
        self._info_now = replace(self.info, **changes)

    def create(self, now_ms: int) -> None:
        """Make the mailbox with its default folders. It must not exist."""
        self._info_now = MailboxRecord(created_at_ms=now_ms, uid_validity=now_ms // 1000, unread=0)
        for name, role, sort_order in DEFAULT_FOLDERS:
            self.add_folder(name, role=role, parent=None, sort_order=sort_order)

    # Folders

    def add_folder(
        self, name: str, *, role: str | None, parent: int | None, sort_order: int
    ) -> int:
        """Make a folder and return its number."""
        number = self.info.next_folder
        if len(self.folders()) >= FOLDERS_MAX:
            raise Invalid("too many folders")
        self._put_folder(
            number,
            FolderRecord(
                name=name,
                role=role,
                parent=parent,
                sort_order=sort_order,
                uid_validity=self.info.uid_validity,
            ),
        )
        self._update_info(next_folder=number + 1)
        if role is not None:
            self._update_info(roles=(*self.info.roles, (role, number)))
        self._note("folders_created", number)
        return number

    def _put_folder(self, number: int, record: FolderRecord) -> None:
        self._overlay.put(keys.folder(self.mailbox_id, number), records.encode(record))

    # Emails

    def expect_room(self, size_bytes: int, quota_bytes: int) -> None:
        """Raise OverQuota when so many octets more do not fit; a quota of 0 is none."""
        if quota_bytes and self.info.size_bytes + size_bytes > quota_bytes:
            raise OverQuota

    def set_unread(self, unread: int) -> None:
        """Begin to keep count of unread mail in a mailbox that an older release has made."""
        self._update_info(unread=unread)

    def add_email(
        self,
        *,
        digest: bytes,
        size_bytes: int,
        summary: Summary,
        received_at_ms: int,
        folders: Sequence[int],
        keywords: Iterable[str] = (),
    ) -> int:
        """Put a new email into folders and return its number."""
        email_id = self.info.next_email
        thread_id = self._join_thread(summary)
        record = EmailRecord(
            email_id=email_id,
            thread_id=thread_id,
            digest=digest,
            size_bytes=size_bytes,
            received_at_ms=received_at_ms,
            summary=summary,
            epoch=self._overlay.position.epoch,
            index=self._overlay.position.index,
        )
        self._overlay.put(keys.email(self.mailbox_id, email_id), records.encode(record))
        self._update_info(
            next_email=email_id + 1,
            emails=self.info.emails + 1,
            size_bytes=self.info.size_bytes + size_bytes,
        )
        self._own_blob(digest, size_bytes, email_id)
        self._note("emails_created", email_id)
        self.index_emails.append(email_id)
        self._place(record, None, tuple(sorted(set(keywords))), folders)
        return email_id

    def update_email(
        self, email_id: int, *, keywords: Iterable[str] | None, folders: Sequence[int] | None
    ) -> None:
        """Replace keywords or folders, where not None. Raises NotFound, Invalid.

        A folder that the email stays in keeps its UID there.
        """
        record, state = self._existing(email_id)
        new_keywords = state.keywords if keywords is None else tuple(sorted(set(keywords)))
        present = [place.folder for place in state.places]
        wanted = present if folders is None else list(folders)
        if new_keywords == state.keywords and set(wanted) == set(present):
            return
        self._note("emails_updated", email_id)
        self._place(record, state, new_keywords, wanted)

    def destroy_email(self, email_id: int) -> None:
        """Destroy an email everywhere. Raises NotFound."""
        record, state = self._existing(email_id)
        self._note("emails_destroyed", email_id)
        self._unlist(record, state)
        self._replace_member(record.thread_id, email_id, None)
        self._overlay.delete(keys.email(self.mailbox_id, email_id))
        self._overlay.delete(keys.email_state(self.mailbox_id, email_id))
        self._disown_blob(record.digest, email_id)
        self._update_info(
            emails=self.info.emails - 1, size_bytes=self.info.size_bytes - record.size_bytes
        )
        self.index_emails.append(email_id)

    def _existing(self, email_id: int) -> tuple[EmailRecord, EmailState]:
        record, state = self.email(email_id), self.email_state(email_id)
        if record is None or state is None:
            raise NotFound("no such email")
        return record, state

    def _place(
        self,
        record: EmailRecord,
        before: EmailState | None,
        keywords: tuple[str, ...],
        folders: Sequence[int],
    ) -> None:
        """Write the email's state, and everything that is derived from it."""
        if not folders:
            raise Invalid("an email is in at least one folder (RFC 8621 §4.1.1)")
        kept = {} if before is None else {place.folder: place for place in before.places}
        places = tuple(
            kept.get(folder) or self._new_place(folder, record.email_id)
            for folder in sorted(set(folders))
        )
        if before is not None:
            self._unlist(record, before, keep_uids={place.folder for place in places})
        modseq = self.info.modseq + 1
        created = modseq if before is None else before.created_modseq
        state = EmailState(keywords, places, modseq, created)
        self._overlay.put(keys.email_state(self.mailbox_id, record.email_id), records.encode(state))
        line = records.encode(list_record(record, keywords))
        for folder in (keys.ALL_MAIL, *(place.folder for place in places)):
            self._overlay.put(
                keys.listed(self.mailbox_id, folder, record.received_at_ms, record.email_id), line
            )
        member = ThreadMember(
            record.email_id, is_unread(keywords), tuple(place.folder for place in places)
        )
        self._replace_member(record.thread_id, record.email_id, member)

    def _new_place(self, folder: int, email_id: int) -> Placed:
        record = self.folder(folder)
        if record is None:
            raise Invalid("no such folder")
        uid = record.uid_next
        self._put_folder(folder, replace(record, uid_next=uid + 1))
        self._overlay.put(keys.uid(self.mailbox_id, folder, uid), records.encode(Number(email_id)))
        return Placed(folder, uid, self._now_ms)

    def _unlist(
        self, record: EmailRecord, state: EmailState, keep_uids: set[int] | None = None
    ) -> None:
        for folder in (keys.ALL_MAIL, *(place.folder for place in state.places)):
            self._overlay.delete(
                keys.listed(self.mailbox_id, folder, record.received_at_ms, record.email_id)
            )
        for place in state.places:
            if keep_uids is None or place.folder not in keep_uids:
                self._overlay.delete(keys.uid(self.mailbox_id, place.folder, place.uid))

    # Threads and counters

    def _join_thread(self, summary: Summary) -> int:
        """Return the thread that the message belongs to, and remember its ids (RFC 8621 §3)."""
        subject = base_subject(summary.subject)
        # By subject too: a reply with a new one must not lead away from the old conversation.
        names = [
            keys.thread_key(self.mailbox_id, f"{text}\0{subject}") for text in thread_keys(summary)
        ]
        for name in names:
            octets = self._overlay.get(name)
            if octets is None:
                continue
            thread_id = records.decode(octets, Number).value
            thread = self.thread(thread_id)
            if thread is not None and len(thread.members) < THREAD_EMAILS_MAX:
                break
        else:
            thread_id = self.info.next_thread
            self._update_info(next_thread=thread_id + 1)
            self._put_thread(thread_id, ThreadRecord(subject, ()))
        for name in names:
            self._overlay.put(name, records.encode(Number(thread_id)))
        return thread_id

    def _put_thread(self, thread_id: int, record: ThreadRecord) -> None:
        self._overlay.put(keys.thread(self.mailbox_id, thread_id), records.encode(record))

    def _replace_member(self, thread_id: int, email_id: int, member: ThreadMember | None) -> None:
        """Put a changed member into its thread and carry the difference into the counters."""
        thread = self.thread(thread_id)
        assert thread is not None, "an email without a thread"
        before = thread.members
        after = tuple(m for m in before if m.email_id != email_id)
        if member is not None:
            after = tuple(sorted((*after, member), key=lambda m: m.email_id))
        if not after:
            self._overlay.delete(keys.thread(self.mailbox_id, thread_id))
            self._note("threads_destroyed", thread_id)
        else:
            self._put_thread(thread_id, ThreadRecord(thread.subject, after))
            if not before:
                self._note("threads_created", thread_id)
            elif len(after) != len(before):
                self._note("threads_updated", thread_id)
        self._recount(before, after)

    def _recount(self, before: Sequence[ThreadMember], after: Sequence[ThreadMember]) -> None:
        unread = sum(m.unread for m in after) - sum(m.unread for m in before)
        if unread and self.info.unread >= 0:
            self._update_info(unread=self.info.unread + unread)
        trash = self.folder_with_role("trash")
        old, new = count_thread(before, trash=trash), count_thread(after, trash=trash)
        nothing = Counters(0, 0, 0, 0)
        for folder in sorted(old.keys() | new.keys()):
            was, now = old.get(folder, nothing), new.get(folder, nothing)
            if was != now:
                counters = self.counters(folder) - was + now
                self._overlay.put(
                    keys.counters(self.mailbox_id, folder),
                    records.encode(CountersRecord(counters)),
                )
                self._note("folders_counted", folder)

    # Blobs

    def _own_blob(self, digest: bytes, size_bytes: int, email_id: int) -> None:
        owner = self.blob_owner(digest) or BlobOwner(size_bytes=size_bytes)
        self._put_owner(digest, replace(owner, emails=(*owner.emails, email_id)))
        self.blobs.append(digest)

    def _disown_blob(self, digest: bytes, email_id: int) -> None:
        owner = self.blob_owner(digest)
        assert owner is not None, "an email that does not own its blob"
        left = tuple(number for number in owner.emails if number != email_id)
        if left or owner.upload_expires_ms:
            self._put_owner(digest, replace(owner, emails=left))
        else:
            self._overlay.delete(keys.blob_owner(self.mailbox_id, digest))

    def own_upload(self, digest: bytes, size_bytes: int, now_ms: int) -> None:
        """Let the mailbox read an upload for a day (RFC 8620 §6.1)."""
        owner = self.blob_owner(digest) or BlobOwner(size_bytes=size_bytes)
        self._put_owner(digest, replace(owner, upload_expires_ms=now_ms + UPLOAD_KEPT_MS))
        self.blobs.append(digest)

    def _put_owner(self, digest: bytes, owner: BlobOwner) -> None:
        self._overlay.put(keys.blob_owner(self.mailbox_id, digest), records.encode(owner))

    # Repeats

    def expect_repeat(
        self, fingerprint: bytes, email_id: int, now_ms: int, expires_ms: int
    ) -> None:
        """Remember that a peer will send a stored email again; forget some who never came."""
        record = RepeatRecord(email_id, expires_ms)
        name = keys.repeat(self.mailbox_id, fingerprint)
        end = keys.after(keys.kind(self.mailbox_id, b"x"))
        for key, octets in list(islice(self._overlay.scan(name, end), REPEATS_LOOKED_AT)):
            if records.decode(octets, RepeatRecord).expires_ms <= now_ms:
                self._overlay.delete(key)
        self._overlay.put(name, records.encode(record))

    def take_repeat(self, fingerprint: bytes, now_ms: int) -> int | None:
        """Return the email that a peer's repeat is a copy of; it is matched only once."""
        name = keys.repeat(self.mailbox_id, fingerprint)
        octets = self._overlay.get(name)
        if octets is None:
            return None
        self._overlay.delete(name)
        record = records.decode(octets, RepeatRecord)
        return record.email_id if record.expires_ms > now_ms else None

    # The change log

    def _note(self, what: str, number: int) -> None:
        self._changed.setdefault(what, {})[number] = None

    @property
    def changed(self) -> bool:
        """Say whether this turn changed anything that clients can see."""
        return bool(self._changed)

    def modseq_after(self, kind: str) -> int:
        """Return what `finish` will make the JMAP state of "emails", "folders" or "threads"."""
        if any(what.startswith(kind) for what in self._changed):
            return self.info.modseq + 1
        states = {
            "emails": self.info.email_modseq,
            "folders": self.info.folder_modseq,
            "threads": self.info.thread_modseq,
        }
        return states[kind]

    def finish(self) -> None:
        """Write the change log and the mailbox's own record. The last act of a turn."""
        if self._info_now is None and not self._changed:
            return
        if self._changed:
            modseq = self.info.modseq + 1
            self._update_info(modseq=modseq)
            kinds = {what.split("_")[0] for what in self._changed}
            if "emails" in kinds:
                self._update_info(email_modseq=modseq)
            if "folders" in kinds:
                self._update_info(folder_modseq=modseq)
            if "threads" in kinds:
                self._update_info(thread_modseq=modseq)
            change = ChangeRecord(
                **{what: tuple(numbers) for what, numbers in self._net_changes().items()}
            )
            self._overlay.put(keys.change(self.mailbox_id, modseq), records.encode(change))
            oldest = modseq - CHANGES_KEPT_MAX
            if oldest >= self.info.oldest_change:
                self._overlay.delete(keys.change(self.mailbox_id, oldest))
                self._update_info(oldest_change=oldest + 1)
        self._overlay.put(keys.info(self.mailbox_id), records.encode(self.info))

    def _net_changes(self) -> dict[str, dict[int, None]]:
        """Return the changes with what one turn made and unmade taken out."""
        changed = {what: dict(numbers) for what, numbers in self._changed.items()}
        for kind in ("emails", "folders", "threads"):
            created = changed.get(f"{kind}_created", {})
            updated = changed.get(f"{kind}_updated", {})
            destroyed = changed.get(f"{kind}_destroyed", {})
            for number in list(destroyed):
                updated.pop(number, None)
                if number in created:
                    del created[number], destroyed[number]
            for number in created:
                updated.pop(number, None)
        return changed

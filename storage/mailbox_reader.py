"""MailboxReader: the typed view of one mailbox's records.

Reads what its `State` shows: applied state, or inside a turn also what the turn wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mail.errors import CannotCalculateChanges
from mail.folders import Counters
from storage import keys, records
from storage.records import (
    BlobOwner,
    ChangeRecord,
    CountersRecord,
    EmailRecord,
    EmailState,
    FolderRecord,
    ListRecord,
    MailboxRecord,
    Number,
    ThreadRecord,
)
from storage.transaction import State


class Blobs(Protocol):
    """Read access to the blobs of a shard."""

    def size(self, digest: bytes) -> int | None:
        """Return the size in octets, or None when there is no such blob."""

    def read(self, digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
        """Return octets of a blob. Raises KeyError when there is no such blob."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a folder's listing."""

    email_id: int
    received_at_ms: int
    record: ListRecord


class MailboxReader:
    """One mailbox of a shard, read-only."""

    def __init__(self, mailbox_id: int, state: State) -> None:
        self.mailbox_id = mailbox_id
        self._state = state

    @property
    def exists(self) -> bool:
        """Say whether the mailbox was ever written to and not removed."""
        record = self._info()
        return record is not None and not record.removed

    @property
    def removed(self) -> bool:
        """Say whether the mailbox was removed; records of it may be left."""
        record = self._info()
        return record is not None and record.removed

    @property
    def info(self) -> MailboxRecord:
        """Return the mailbox's own record. The mailbox must exist."""
        record = self._info()
        assert record is not None, "no such mailbox in this shard"
        return record

    def _info(self) -> MailboxRecord | None:
        octets = self._state.get(keys.info(self.mailbox_id))
        return None if octets is None else records.decode(octets, MailboxRecord)

    def folders(self) -> dict[int, FolderRecord]:
        """Return all folders by number, in the order of their numbers."""
        prefix = keys.kind(self.mailbox_id, b"f")
        return {
            int.from_bytes(key[len(prefix) :], "big"): records.decode(value, FolderRecord)
            for key, value in self._state.scan(prefix, keys.after(prefix))
        }

    def folder(self, folder_id: int) -> FolderRecord | None:
        octets = self._state.get(keys.folder(self.mailbox_id, folder_id))
        return None if octets is None else records.decode(octets, FolderRecord)

    def folder_with_role(self, role: str) -> int | None:
        """Return the number of the folder that has `role`, if there is one."""
        return next((folder for name, folder in self.info.roles if name == role), None)

    def counters(self, folder_id: int) -> Counters:
        octets = self._state.get(keys.counters(self.mailbox_id, folder_id))
        if octets is None:
            return Counters(0, 0, 0, 0)
        return records.decode(octets, CountersRecord).counters

    def email(self, email_id: int) -> EmailRecord | None:
        octets = self._state.get(keys.email(self.mailbox_id, email_id))
        return None if octets is None else records.decode(octets, EmailRecord)

    def email_state(self, email_id: int) -> EmailState | None:
        octets = self._state.get(keys.email_state(self.mailbox_id, email_id))
        return None if octets is None else records.decode(octets, EmailState)

    def listing(
        self, folder_id: int = keys.ALL_MAIL, *, newest_first: bool = True
    ) -> Iterator[Listed]:
        """Yield a folder by time of arrival; `keys.ALL_MAIL` is the whole mailbox."""
        prefix = keys.listing(self.mailbox_id, folder_id)
        size = len(prefix)
        for key, value in self._state.scan(prefix, keys.after(prefix), reverse=newest_first):
            yield Listed(
                email_id=int.from_bytes(key[size + 8 :], "big"),
                received_at_ms=int.from_bytes(key[size : size + 8], "big"),
                record=records.decode(value, ListRecord),
            )

    def listed_emails(self, folder_id: int) -> Iterator[int]:
        """Yield the emails of a folder by time of arrival, the oldest first."""
        prefix = keys.listing(self.mailbox_id, folder_id)
        for key, _ in self._state.scan(prefix, keys.after(prefix)):
            yield int.from_bytes(key[len(prefix) + 8 :], "big")

    def email_by_uid(self, folder_id: int, uid: int) -> int | None:
        octets = self._state.get(keys.uid(self.mailbox_id, folder_id, uid))
        return None if octets is None else records.decode(octets, Number).value

    def uids(self, folder_id: int, *, after: int = 0) -> Iterator[tuple[int, int]]:
        """Yield (UID, email) of a folder from the UID after `after` on: the order of placement."""
        prefix = keys.uids(self.mailbox_id, folder_id)
        start = prefix if after < 1 else keys.uid(self.mailbox_id, folder_id, after) + b"\0"
        for key, value in self._state.scan(start, keys.after(prefix)):
            yield int.from_bytes(key[len(prefix) :], "big"), records.decode(value, Number).value

    def thread(self, thread_id: int) -> ThreadRecord | None:
        octets = self._state.get(keys.thread(self.mailbox_id, thread_id))
        return None if octets is None else records.decode(octets, ThreadRecord)

    def changes(self, since_modseq: int) -> Iterator[tuple[int, ChangeRecord]]:
        """Yield (modseq, change) after `since_modseq`, oldest first.

        Raises CannotCalculateChanges when some of them are forgotten, or it lies in the future.
        """
        info = self.info
        if since_modseq > info.modseq or since_modseq + 1 < info.oldest_change:
            raise CannotCalculateChanges
        start = keys.change(self.mailbox_id, since_modseq + 1)
        prefix = keys.kind(self.mailbox_id, b"c")
        for key, value in self._state.scan(start, keys.after(prefix)):
            yield int.from_bytes(key[len(prefix) :], "big"), records.decode(value, ChangeRecord)

    def blob_owner(self, digest: bytes) -> BlobOwner | None:
        """Return why this mailbox may read the blob, or None if it may not."""
        octets = self._state.get(keys.blob_owner(self.mailbox_id, digest))
        return None if octets is None else records.decode(octets, BlobOwner)


def list_record(email: EmailRecord, keywords: tuple[str, ...]) -> ListRecord:
    """Return what a listing shows of an email with these keywords."""
    return ListRecord(email.thread_id, keywords, email.size_bytes, email.summary.has_attachment)


def mailboxes(state: State) -> Iterator[int]:
    """Yield the number of every mailbox of a shard, removed ones too; a seek each."""
    start = keys.mailbox(keys.DIRECTORY + 1)
    while (first := next(state.scan(start, b"\xff" * 9), None)) is not None:
        number = int.from_bytes(first[0][:8], "big")
        yield number
        start = keys.mailbox(number + 1)

"""Rows: emails as filters and sorts look at them, each record read when it is first needed.

What a folder's listing holds (date, thread, keywords, size) costs nothing more; folders and
keywords of the thread cost a read each, headers of the message a read of its octets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mail.errors import BlobDamaged
from mail.message import Message, parse
from storage import keys
from storage.mailbox_reader import Blobs, Listed, MailboxReader
from storage.records import EmailRecord, EmailState, ListRecord

# Threads whose keywords are remembered during one query.
THREADS_KEPT_MAX = 10_000
# Headers rarely exceed it; one chunk of a blob is read in any case.
HEADER_BYTES_MAX = 1 << 17

_HEADER_END = re.compile(rb"\A\r?\n|\n\r?\n")


class Rows:
    """The emails of one mailbox, during one query."""

    def __init__(self, reader: MailboxReader, blobs: Blobs) -> None:
        self.reader = reader
        self._blobs = blobs
        self._threads: dict[int, tuple[tuple[str, ...], ...]] = {}

    def listed(self, folder: int = keys.ALL_MAIL, *, newest_first: bool = True) -> Iterator[Row]:
        """Yield the emails of a folder by time of arrival."""
        for line in self.reader.listing(folder, newest_first=newest_first):
            yield Row(self, line, folder)

    def of(self, email_ids: Iterable[int], *, newest_first: bool = True) -> list[Row]:
        """Return the emails with these numbers by time of arrival, as far as they exist."""
        rows = []
        for email_id in email_ids:
            email, state = self.reader.email(email_id), self.reader.email_state(email_id)
            if email is not None and state is not None:
                row = Row(self, Listed(email_id, email.received_at_ms, _list_record(email, state)))
                row.read(email, tuple(place.folder for place in state.places))
                rows.append(row)
        rows.sort(key=lambda row: (row.received_at_ms, row.email_id), reverse=newest_first)
        return rows

    def thread_keywords(self, thread_id: int) -> tuple[tuple[str, ...], ...]:
        """Return the keywords of every email of a thread, whatever folders it is in."""
        known = self._threads.get(thread_id)
        if known is None:
            thread = self.reader.thread(thread_id)
            members = () if thread is None else thread.members
            states = (self.reader.email_state(member.email_id) for member in members)
            known = tuple(state.keywords for state in states if state is not None)
            if len(self._threads) >= THREADS_KEPT_MAX:
                self._threads.clear()
            self._threads[thread_id] = known
        return known

    def header(self, email: EmailRecord) -> Message:
        """Return the message's header as a message without a body."""
        return read_header(self._blobs, email.digest)


class Row:
    """One email."""

    __slots__ = (
        "_email", "_folders", "_listed_in", "_rows", "email_id", "has_attachment", "keywords",
        "received_at_ms", "size_bytes", "thread_id",
    )  # fmt: skip

    def __init__(self, rows: Rows, line: Listed, listed_in: int = keys.ALL_MAIL) -> None:
        record = line.record
        self.email_id = line.email_id
        self.received_at_ms = line.received_at_ms
        self.thread_id = record.thread_id
        self.keywords = record.keywords
        self.size_bytes = record.size_bytes
        self.has_attachment = record.has_attachment
        self._listed_in = listed_in
        self._rows = rows
        self._email: EmailRecord | None = None
        self._folders: tuple[int, ...] | None = None

    def read(self, email: EmailRecord, folders: tuple[int, ...]) -> None:
        """Take over records that were read already."""
        self._email, self._folders = email, folders

    @property
    def folders(self) -> tuple[int, ...]:
        """Return the numbers of the folders that it is in."""
        if self._folders is None:
            state = self._rows.reader.email_state(self.email_id)
            self._folders = () if state is None else tuple(p.folder for p in state.places)
        return self._folders

    def is_in(self, folder: int) -> bool:
        """Say whether it is in a folder, at no cost if it was listed there."""
        return folder == self._listed_in or folder in self.folders

    @property
    def email(self) -> EmailRecord | None:
        """Return its record, None when it was destroyed since the query began."""
        if self._email is None:
            self._email = self._rows.reader.email(self.email_id)
        return self._email

    @property
    def thread_keywords(self) -> tuple[tuple[str, ...], ...]:
        """Return the keywords of every email of its thread."""
        return self._rows.thread_keywords(self.thread_id)

    @property
    def header(self) -> Message | None:
        """Return its header as a message without a body, None if it cannot be read."""
        try:
            return None if self.email is None else self._rows.header(self.email)
        except BlobDamaged:
            return None


def _list_record(email: EmailRecord, state: EmailState) -> ListRecord:
    return ListRecord(
        email.thread_id, state.keywords, email.size_bytes, email.summary.has_attachment
    )


def read_header(blobs: Blobs, digest: bytes) -> Message:
    """Return the header of a message as a message without a body.

    Octets beyond ASCII may be decoded by what the body declares, so then all of it is read.
    """
    octets = blobs.read(digest, 0, HEADER_BYTES_MAX)
    end = _HEADER_END.search(octets)
    if end is not None and octets[: end.end()].isascii():
        return parse(octets[: end.end()])
    if len(octets) < HEADER_BYTES_MAX:
        return parse(octets)
    return parse(blobs.read(digest))

"""Columns: what a mailbox's emails are filtered by, held in memory a property at a time.

A column has one bit for every email number; a filter then is arithmetic on whole numbers,
whatever the size of the mailbox. Emails in the order of their arrival lie beside them.

State       derived (R9): made from the mailbox when a query first needs it, then kept in
            step with its change log. The least recently used are dropped first.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Iterator

from actors.jmap.context import pause
from actors.jmap.limits import ROWS_PER_STEP
from mail.errors import CannotCalculateChanges
from storage.mailbox_reader import MailboxReader

# Of one actor, beside its RocksDB: some half a million emails.
CACHE_BYTES_MAX = 16 << 20
# People use a dozen. What is beyond it is read email by email.
KEYWORD_COLUMNS_MAX = 64
# So many emails that arrived out of order are put in one by one; more are sorted in.
INSERTED_MAX = 64
# Emails looked at in the order of arrival before others have the loop: some 2 ms.
COLUMN_ROWS_PER_STEP = 20_000

_Arrived = tuple[int, int, int]  # when, number of the email, of its thread


class Columns:
    """The columns of one mailbox. `refresh` first; then read without waiting in between."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._clear()

    def _clear(self) -> None:
        self.modseq = -1  # of the last change that is in here
        # By time of arrival, and by number where that is equal; destroyed ones stay. These
        # are replaced, never changed: a walk may go on over the old ones.
        self.received = array("Q")
        self.order = array("Q")
        self.threads = array("Q")
        self._listed = bytearray()
        self._live = bytearray()
        self._attached = bytearray()
        self._keywords: dict[str, bytearray] = {}
        self._all_keywords = True
        self._folders: dict[int, bytearray] = {}

    @property
    def size_bytes(self) -> int:
        """Return about how much memory this takes."""
        bits = [self._listed, self._live, self._attached]
        bits += [*self._keywords.values(), *self._folders.values()]
        return 24 * len(self.order) + sum(map(len, bits))

    async def refresh(self, reader: MailboxReader, folders: Collection[int]) -> None:
        """Take in all that was committed by now, and have a column for each of `folders`."""
        async with self._lock:
            if self.modseq < 0:
                await self._build(reader)
            try:
                await self._load_and_follow(reader, folders)
            except CannotCalculateChanges:
                self._clear()
                await self._build(reader)
                await self._load_and_follow(reader, folders)
            except BaseException:
                self._clear()
                raise

    async def _build(self, reader: MailboxReader) -> None:
        # Read first: what changes while this walks is looked at again afterwards.
        modseq = reader.info.modseq
        received, order, threads = array("Q"), array("Q"), array("Q")
        for count, line in enumerate(reader.listing(newest_first=False), 1):
            received.append(line.received_at_ms)
            order.append(line.email_id)
            threads.append(line.record.thread_id)
            _put(self._listed, line.email_id, on=True)
            _put(self._live, line.email_id, on=True)
            if line.record.has_attachment:
                _put(self._attached, line.email_id, on=True)
            self._put_keywords(line.email_id, line.record.keywords)
            if count % ROWS_PER_STEP == 0:
                await pause()
        self.received, self.order, self.threads = received, order, threads
        self.modseq = modseq

    def _put_keywords(self, email_id: int, keywords: Collection[str]) -> None:
        for keyword in keywords:
            column = self._keywords.get(keyword)
            if column is None:
                if len(self._keywords) >= KEYWORD_COLUMNS_MAX:
                    self._all_keywords = False
                    continue
                column = self._keywords[keyword] = bytearray()
            _put(column, email_id, on=True)

    async def _load_and_follow(self, reader: MailboxReader, folders: Collection[int]) -> None:
        for folder in folders:
            if folder not in self._folders:
                column = bytearray()
                for count, email_id in enumerate(reader.listed_emails(folder), 1):
                    _put(column, email_id, on=True)
                    if count % (4 * ROWS_PER_STEP) == 0:
                        await pause()
                self._folders[folder] = column
        await self._follow(reader)

    async def _follow(self, reader: MailboxReader) -> None:
        """Look again at every email that changed. Raises CannotCalculateChanges."""
        info = reader.info
        if info.modseq == self.modseq:
            return
        changed: dict[int, None] = {}
        for modseq, change in reader.changes(self.modseq):
            if modseq > info.modseq:
                break
            for emails in (change.emails_created, change.emails_updated, change.emails_destroyed):
                changed.update(dict.fromkeys(emails))
            if len(changed) > ROWS_PER_STEP + len(self.order) // 2:
                raise CannotCalculateChanges  # To begin again is quicker.
        arrived: list[_Arrived] = []
        for count, email_id in enumerate(changed, 1):
            self._look_again(reader, email_id, arrived)
            if count % ROWS_PER_STEP == 0:
                await pause()
        if arrived:
            self._arrive(sorted(arrived))
        self.modseq = info.modseq

    def _look_again(self, reader: MailboxReader, email_id: int, arrived: list[_Arrived]) -> None:
        state = reader.email_state(email_id)
        _put(self._live, email_id, on=state is not None)
        folders = {place.folder for place in state.places} if state is not None else ()
        for folder, column in self._folders.items():
            _put(column, email_id, on=folder in folders)
        keywords = state.keywords if state is not None else ()
        for keyword, column in self._keywords.items():
            if keyword not in keywords:
                _put(column, email_id, on=False)
        self._put_keywords(email_id, keywords)
        if state is not None and not _has(self._listed, email_id):
            record = reader.email(email_id)
            if record is None:
                return
            _put(self._listed, email_id, on=True)
            _put(self._attached, email_id, on=record.summary.has_attachment)
            arrived.append((record.received_at_ms, email_id, record.thread_id))

    def _arrive(self, arrived: list[_Arrived]) -> None:
        received, order, threads = self.received[:], self.order[:], self.threads[:]
        if len(arrived) > INSERTED_MAX and received and arrived[0][0] <= received[-1]:
            merged = sorted([*zip(received, order, threads, strict=True), *arrived])
            received = array("Q", [when for when, _, _ in merged])
            order = array("Q", [email_id for _, email_id, _ in merged])
            threads = array("Q", [thread for _, _, thread in merged])
        else:
            for when, email_id, thread in arrived:
                at = bisect_left(received, when)
                while at < len(received) and received[at] == when and order[at] < email_id:
                    at += 1
                received.insert(at, when)
                order.insert(at, email_id)
                threads.insert(at, thread)
        self.received, self.order, self.threads = received, order, threads

    # What a filter asks

    @property
    def everything(self) -> int:
        """Return all emails there are."""
        return _bits(self._live)

    @property
    def attached(self) -> int:
        """Return the emails with an attachment."""
        return _bits(self._attached)

    def folder(self, folder: int) -> int:
        """Return the emails of a folder that `refresh` was told of."""
        return _bits(self._folders[folder])

    def other_folders(self, folders: Collection[int | None]) -> int:
        """Return the emails of all folders but these; `refresh` was told of all."""
        found = 0
        for folder, column in self._folders.items():
            if folder not in folders:
                found |= _bits(column)
        return found

    def keyword(self, keyword: str) -> int | None:
        """Return the emails with a keyword; None when there is no column for it."""
        column = self._keywords.get(keyword)
        if column is not None:
            return _bits(column)
        return 0 if self._all_keywords else None

    def arrived_before(self, when_ms: int) -> int:
        """Return the emails that arrived before a time."""
        return bits_of(self.order[: bisect_left(self.received, min(max(0, when_ms), 2**64 - 1))])

    def of_threads(self, emails: int) -> int:
        """Return all emails of the threads that some of `emails` are in."""
        threads = {thread for _, thread in self.walk(emails & self.everything) if thread}
        octets = bytearray(len(self._listed))
        for email_id, thread in zip(self.order, self.threads, strict=True):
            if thread in threads:
                octets[email_id >> 3] |= 1 << (email_id & 7)
        return _bits(octets) & self.everything

    def walk(self, emails: int, *, newest_first: bool = True) -> Iterator[tuple[int, int]]:
        """Yield (email, thread) by time of arrival; (0, 0) where others may have the loop.

        Emails and threads are numbered from 1.
        """
        order, threads = self.order, self.threads
        octets = emails.to_bytes(len(self._listed) + 1, "little")
        starts = range(0, len(order), COLUMN_ROWS_PER_STEP)
        for start in reversed(starts) if newest_first else starts:
            step = range(start, min(len(order), start + COLUMN_ROWS_PER_STEP))
            for i in reversed(step) if newest_first else step:
                email_id = order[i]
                if octets[email_id >> 3] >> (email_id & 7) & 1:
                    yield email_id, threads[i]
            yield 0, 0


class ColumnCache:
    """The columns of the mailboxes of one actor."""

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._columns: OrderedDict[int, Columns] = OrderedDict()
        self._hits = 0
        self._misses = 0

    def of(self, mailbox_id: int) -> Columns:
        """Return the columns of a mailbox; those used longest ago make room for them."""
        known = self._columns.pop(mailbox_id, None)
        self._hits += known is not None
        self._misses += known is None
        columns = known or Columns()
        size_bytes = sum(other.size_bytes for other in self._columns.values())
        while self._columns and size_bytes + columns.size_bytes > self._bytes_max:
            size_bytes -= self._columns.popitem(last=False)[1].size_bytes
        self._columns[mailbox_id] = columns
        return columns

    def counts(self) -> dict[str, float]:
        """Return what the cache holds, in octets, and how often it was of use."""
        return {
            "column_cache_bytes": sum(one.size_bytes for one in self._columns.values()),
            "column_cache_hits_total": self._hits,
            "column_cache_misses_total": self._misses,
        }

    def forget(self, mailbox_id: int) -> None:
        """Drop the columns of a mailbox."""
        self._columns.pop(mailbox_id, None)


def bits_of(emails: Collection[int]) -> int:
    """Return a set of email numbers as one whole number, a bit for each."""
    octets = bytearray((max(emails, default=0) >> 3) + 1)
    for email_id in emails:
        octets[email_id >> 3] |= 1 << (email_id & 7)
    return _bits(octets)


def numbers_of(emails: int) -> Iterator[int]:
    """Yield the email numbers of a set, the least first."""
    for at, octet in enumerate(emails.to_bytes((emails.bit_length() + 7) // 8, "little")):
        while octet:
            yield (at << 3) + (octet & -octet).bit_length() - 1
            octet &= octet - 1


def _bits(column: bytearray) -> int:
    return int.from_bytes(column, "little")


def _has(column: bytearray, email_id: int) -> bool:
    at = email_id >> 3
    return at < len(column) and bool(column[at] >> (email_id & 7) & 1)


def _put(column: bytearray, email_id: int, *, on: bool) -> None:
    at = email_id >> 3
    if on:
        if at >= len(column):
            column.extend(bytes(at + 1 - len(column)))
        column[at] |= 1 << (email_id & 7)
    elif at < len(column):
        column[at] &= ~(1 << (email_id & 7)) & 0xFF

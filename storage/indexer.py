"""Indexer: keeps a shard's search index in step with its log, and searches exactly.

The index is derived (R9): it follows the log some way behind, and the log index that it has
reached is written to the shard after each of its commits. A search first carries the tail
over, so its answer holds the newest mail; destroyed messages leave in the same way.

State       soft: which emails changed since the last commit, and their text while there is
            room for it; both are found again from the log and the blobs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from mail.errors import Unavailable
from mail.message import parse
from mail.summary import SearchText
from storage import keys
from storage.mailbox_reader import MailboxReader
from storage.search_index import Field, IndexDocument, IndexFailed, IndexInUse, SearchIndex
from storage.shard import Applying, Shard

# Texts of new mail wait here until they are indexed; what does not fit is parsed again.
TEXT_CHARS_MAX = 16_000_000
# Documents of one commit: it bounds the memory of a batch and the time a search may wait.
COMMIT_DOCUMENTS_MAX = 500
# Indexing begins when no turn was committed for so long, or when so many emails wait: mail
# that is coming in has the processor first.
QUIET_S = 0.5
PENDING_EMAILS_MAX = 20_000
FAILURES_MAX = 3
FOLLOW_AGAIN_S = 30.0

_EmailKey = tuple[int, int]
log = structlog.get_logger()


class Indexer:
    """One shard's search index and what it still has to take in."""

    def __init__(self, shard: Shard, path: Path) -> None:
        self._shard = shard
        self._path = path
        self._index = self._open()
        # Email to the log index of its last change, in that order; 0 while rebuilding.
        self._pending: OrderedDict[_EmailKey, int] = OrderedDict()
        self._reached = shard.applied.index  # everything up to here is in _pending or indexed
        self._texts: dict[_EmailKey, SearchText] = {}
        self._text_chars = 0
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._last_change_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.failed = 0  # documents that could not be read
        self.failures = 0  # indexes that could not go on
        self._failures_in_a_row = 0  # without a commit between them

    def _open(self, *, anew: bool = False) -> SearchIndex | None:
        """Return the open index. Without one there is no search, but mail all the same."""
        try:
            return SearchIndex.open(self._path, anew=anew)
        except (IndexFailed, IndexInUse, OSError) as error:
            log.error("search index cannot be opened", error=repr(error))
            return None

    def start(self) -> None:
        """Begin to follow."""
        if self._index is not None:
            self._find_pending(self._index)
        self._task = asyncio.create_task(self._follow(), name="indexer")
        if self._pending:
            self._changed.set()

    def _find_pending(self, index: SearchIndex) -> None:
        """Find what is not indexed yet: in the log, or everything."""
        if index.fresh or self._shard.indexed_index + 1 < self._shard.log_first:
            self._pend_everything()
        else:
            for entry in self._shard.log_after(self._shard.indexed_index):
                self._note(entry.mailbox, entry.emails, entry.index)

    def _pend_everything(self) -> None:
        """Put all emails before the changes that wait, which may also be of destroyed ones."""
        waiting = self._pending
        self._pending = OrderedDict.fromkeys(self._all_emails(), 0)
        for key, index in waiting.items():
            self._pending.setdefault(key, index)

    def _note(self, mailbox: int, emails: Sequence[int], index: int) -> None:
        for email_id in emails:
            self._pending[mailbox, email_id] = index
            self._pending.move_to_end((mailbox, email_id))

    def _all_emails(self) -> Iterator[_EmailKey]:
        for key, _ in self._shard.state.scan(b"", b"\xff" * 16):
            if key[8:9] == b"k":
                yield int.from_bytes(key[:8], "big"), int.from_bytes(key[9:], "big")

    @property
    def pending(self) -> int:
        """Return how many emails wait to be indexed."""
        return len(self._pending)

    def expect(self, mailbox: int, email_id: int, text: SearchText) -> None:
        """Keep the text of a new email until it is indexed, if there is room for it."""
        key = (mailbox, email_id)
        if key in self._texts or key not in self._pending:
            return  # A repeat, or it is indexed already: nobody would take it out again.
        chars = _chars(text)
        if self._text_chars + chars <= TEXT_CHARS_MAX:
            self._texts[key] = text
            self._text_chars += chars

    def applied(self, entries: Sequence[Applying]) -> None:
        """Take note of applied entries."""
        for entry in entries:
            self._note(entry.mailbox, entry.emails, entry.index)
        self._reached = entries[-1].index
        self._last_change_at = asyncio.get_running_loop().time()
        self._changed.set()

    async def search(self, mailbox: int, fields: Collection[str], text: str) -> set[int] | None:
        """Return the emails that hold every term of `text`; None when it has no terms.

        Raises Unavailable when the index cannot be used, nor made anew.
        """
        wanted = [Field(name) for name in fields]
        await self.catch_up()
        index = self._index
        if index is None:
            raise Unavailable
        try:
            return await asyncio.to_thread(index.search, mailbox, wanted, text)
        except IndexFailed as error:
            async with self._lock:
                if self._index is index:
                    self._make_anew(str(error))
        return await self.search(mailbox, fields, text)

    async def catch_up(self) -> None:
        """Carry over everything that is applied now; what comes later may wait."""
        async with self._lock:
            if self._index is None:
                self._index = self._open()
                if self._index is None:
                    raise Unavailable
                self._find_pending(self._index)
            left = len(self._pending)
            while self._pending and left > 0:
                taken = await self._commit_some(self._index)
                # An index made anew holds nothing yet: then all of it has to be carried over.
                left = left - taken if taken else len(self._pending)
            self._note_reached()

    def _note_reached(self) -> None:
        """Remember how far the log is indexed: up to the oldest change that still waits."""
        oldest = next(iter(self._pending.values()), self._reached + 1)
        if oldest - 1 > self._shard.indexed_index:
            self._shard.note_indexed(oldest - 1)

    async def _commit_some(self, index: SearchIndex) -> int:
        """Index a batch and return how many emails left the queue; 0 when the index failed."""
        batch: list[tuple[_EmailKey, int]] = []
        while self._pending and len(batch) < COMMIT_DOCUMENTS_MAX:
            batch.append(self._pending.popitem(last=False))
        try:
            await self._take_in(index, [key for key, _ in batch])
        except IndexFailed as error:
            self._make_anew(str(error))
            return 0
        except BaseException:
            for key, changed_index in reversed(batch):
                if key not in self._pending:
                    self._pending[key] = changed_index
                    self._pending.move_to_end(key, last=False)
            raise
        self._failures_in_a_row = 0
        return len(batch)

    async def _take_in(self, index: SearchIndex, batch: Sequence[_EmailKey]) -> None:
        for mailbox, email_id in batch:
            text = await self._text(mailbox, email_id)
            if text is None:
                index.remove(mailbox, [email_id])
            else:
                index.add([IndexDocument(mailbox, email_id, text)])
            await asyncio.sleep(0)
        # Until a commit is complete, a fresh index counts as none: a crash begins it again.
        await _to_its_end(asyncio.to_thread(index.commit, complete=not self._pending))

    def _make_anew(self, trouble: str) -> None:
        """Replace an index that cannot go on by an empty one; it holds nothing of its own (R9).

        Raises Unavailable when it fails again and again: the disk is full, or worse.
        """
        self.failures += 1
        self._failures_in_a_row += 1
        log.error("search index made anew", trouble=trouble, failures=self.failures)
        if self._index is not None:
            self._index.close()
        self._index = self._open(anew=True)
        if self._index is not None:
            self._find_pending(self._index)
        if self._index is None or self._failures_in_a_row > FAILURES_MAX:
            raise Unavailable

    async def _text(self, mailbox: int, email_id: int) -> SearchText | None:
        """Return the text of an email, or None when it is destroyed."""
        kept = self._texts.pop((mailbox, email_id), None)
        if kept is not None:
            self._text_chars -= _chars(kept)
        record = MailboxReader(mailbox, self._shard.state).email(email_id)
        if record is None:
            return None
        if kept is not None:
            return kept
        try:
            raw = self._shard.blobs.read(record.digest)
        except KeyError:
            self.failed += 1
            return SearchText()
        try:
            if len(raw) < keys.BLOB_CHUNK_BYTES:
                return parse(raw).search_text
            return await asyncio.to_thread(lambda: parse(raw).search_text)
        except Exception as error:  # One message must not keep all others out of the index.
            log.error("message not indexed", mailbox=mailbox, email=email_id, error=repr(error))
            self.failed += 1
            return SearchText()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            self._changed.clear()
            quiet_at = self._last_change_at + QUIET_S
            if len(self._pending) >= PENDING_EMAILS_MAX or quiet_at <= loop.time():
                try:
                    await self.catch_up()
                except Exception as error:
                    log.error("search index does not follow", error=repr(error))
                    await asyncio.sleep(FOLLOW_AGAIN_S)
                    self._changed.set()
            else:
                await asyncio.sleep(quiet_at - loop.time())
                self._changed.set()

    async def close(self) -> None:
        """Stop following and free the index. What is not indexed is found again at start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._lock:
            if self._index is not None:
                self._index.close()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work` even when cancelled: the index takes one writer at a time."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _chars(text: SearchText) -> int:
    return len(text.subject) + len(text.from_) + len(text.to) + len(text.body) + len(text.names)

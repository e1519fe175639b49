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
from collections.abc import Collection, Iterator, Sequence

from mail.message import parse
from mail.summary import SearchText
from storage import keys
from storage.mailbox_reader import MailboxReader
from storage.search_index import Field, IndexDocument, SearchIndex
from storage.shard import Applying, Shard

# Texts of new mail wait here until they are indexed; what does not fit is parsed again.
TEXT_CHARS_MAX = 16_000_000
# Documents of one commit: it bounds the memory of a batch and the time a search may wait.
COMMIT_DOCUMENTS_MAX = 500
# Indexing begins when no turn was committed for so long, or when so many emails wait: mail
# that is coming in has the processor first.
QUIET_S = 0.5
PENDING_EMAILS_MAX = 20_000

_EmailKey = tuple[int, int]


class Indexer:
    """One shard's search index and what it still has to take in."""

    def __init__(self, shard: Shard, index: SearchIndex) -> None:
        self._shard = shard
        self._index = index
        self._pending: OrderedDict[_EmailKey, None] = OrderedDict()
        self._reached = shard.applied.index  # everything up to here is in _pending or indexed
        self._texts: dict[_EmailKey, SearchText] = {}
        self._text_chars = 0
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._last_change_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.failed = 0  # documents that could not be read

    def start(self) -> None:
        """Find what is not indexed yet, and begin to follow."""
        if self._index.fresh or self._shard.indexed_index + 1 < self._shard.log_first:
            self._pending.update(dict.fromkeys(self._all_emails()))
        else:
            for entry in self._shard.log_after(self._shard.indexed_index):
                self._pending.update(dict.fromkeys((entry.mailbox, e) for e in entry.emails))
        self._task = asyncio.create_task(self._follow(), name="indexer")
        if self._pending:
            self._changed.set()

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
        chars = _chars(text)
        if self._text_chars + chars <= TEXT_CHARS_MAX:
            self._texts[mailbox, email_id] = text
            self._text_chars += chars

    def applied(self, entries: Sequence[Applying]) -> None:
        """Take note of applied entries."""
        for entry in entries:
            for email_id in entry.emails:
                key = (entry.mailbox, email_id)
                self._pending[key] = None
                self._pending.move_to_end(key)
        self._reached = entries[-1].index
        self._last_change_at = asyncio.get_running_loop().time()
        self._changed.set()

    async def search(self, mailbox: int, fields: Collection[str], text: str) -> set[int] | None:
        """Return the emails that hold every term of `text`; None when it has no terms."""
        await self.catch_up()
        return self._index.search(mailbox, [Field(name) for name in fields], text)

    async def catch_up(self) -> None:
        """Carry over everything that is applied now."""
        async with self._lock:
            while self._pending or self._reached > self._shard.indexed_index:
                await self._commit_some()

    async def _commit_some(self) -> None:
        reached = self._reached
        batch: list[_EmailKey] = []
        while self._pending and len(batch) < COMMIT_DOCUMENTS_MAX:
            batch.append(self._pending.popitem(last=False)[0])
        try:
            await self._take_in(batch)
        except BaseException:
            self._pending.update(dict.fromkeys(batch))
            raise
        if not self._pending and reached > self._shard.indexed_index:
            self._shard.note_indexed(reached)

    async def _take_in(self, batch: Sequence[_EmailKey]) -> None:
        if not batch:
            return
        for mailbox, email_id in batch:
            text = await self._text(mailbox, email_id)
            if text is None:
                self._index.remove(mailbox, [email_id])
            else:
                self._index.add([IndexDocument(mailbox, email_id, text)])
            await asyncio.sleep(0)
        await asyncio.to_thread(self._index.commit)

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
        if len(raw) < keys.BLOB_CHUNK_BYTES:
            return parse(raw).search_text
        return await asyncio.to_thread(lambda: parse(raw).search_text)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            self._changed.clear()
            quiet_at = self._last_change_at + QUIET_S
            if len(self._pending) >= PENDING_EMAILS_MAX or quiet_at <= loop.time():
                await self.catch_up()
            else:
                await asyncio.sleep(quiet_at - loop.time())
                self._changed.set()

    async def rebuild(self) -> int:
        """Index every email again and return how many there are."""
        async with self._lock:
            self._pending.update(dict.fromkeys(self._all_emails()))
            count = len(self._pending)
        await self.catch_up()
        return count

    async def close(self) -> None:
        """Stop following and free the index. What is not indexed is found again at start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._lock:
            self._index.close()


def _chars(text: SearchText) -> int:
    return len(text.subject) + len(text.from_) + len(text.to) + len(text.body) + len(text.names)

"""Indexer: keeps a shard's search index in step with its log, and searches exactly.

The index is derived (R9): it follows the log some way behind, and the log index that it has
reached is written to the shard after each of its commits. A search reads what its mailbox
has beyond that, or carries it over first if it is much, so its answer holds the newest mail;
destroyed messages leave in the same way.

State       soft: which emails changed since the last commit, and their text while there is
            room for it; both are found again from the log and the blobs.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from mail.errors import BlobDamaged, DiskFull, Unavailable
from mail.message import parse
from mail.search import Term, matches, parse_query
from mail.summary import SearchText
from storage import keys
from storage.audit import Documents
from storage.database import is_full
from storage.heap import give_back
from storage.kept_texts import KeptTexts
from storage.mailbox_reader import MailboxReader
from storage.replica_ports import Applying
from storage.search_index import Field, IndexDocument, IndexFailed, IndexInUse, SearchIndex
from storage.shadow_index import ShadowIndex, count_emails, emails_in, settle
from storage.shard import Shard

# Texts of new mail wait here until they are indexed; what does not fit is parsed again.
TEXT_BYTES_MAX = 16 << 20
# Documents of one commit: it bounds the memory of a batch and the time a search may wait, some
# two seconds. Half as many make twice the segments, and these are merged, so written, more often.
COMMIT_DOCUMENTS_MAX = 2000
# So many emails that came in or were indexed leave holes of some ten MB in the heap; when all
# are indexed, fewer are worth it.
GIVE_BACK_EMAILS = 1000
GIVE_BACK_AT_REST_EMAILS = 100
# After so many the database's memory goes to files, too, of megabytes then.
WRITE_OUT_EMAILS = 1000
# Indexing begins when no turn was committed for so long, or when so many emails wait: mail
# that is coming in has the processor first.
QUIET_S = 0.5
PENDING_EMAILS_MAX = 4000  # A search of one mailbox waits for no more, some seconds.
FAILURES_MAX = 3
# What a search reads of its mailbox's newest emails, rather than wait for a commit, which
# takes tens of milliseconds: they take some five.
TAIL_EMAILS_MAX = 50
TAIL_BYTES_MAX = 100_000
# Emails of one mailbox that a search reads when a full disk keeps them out of the index.
UNINDEXED_READ_MAX = 5000
FOLLOW_AGAIN_S = 30.0

_EmailKey = tuple[int, int]
Pause = Callable[[], Awaitable[None]]
log = structlog.get_logger()


async def _yield() -> None:
    await asyncio.sleep(0)


class IndexFull(Unavailable):
    """The disk has no room for the search index to grow."""


class Indexer:
    """One shard's search index and what it still has to take in."""

    def __init__(self, shard: Shard, path: Path) -> None:
        self._shard = shard
        self._path = path
        self._shadow: ShadowIndex | None = None
        self._index = self._open()
        # Email to the log index of its last change, in that order; 0 while rebuilding.
        self._pending: OrderedDict[_EmailKey, int] = OrderedDict()
        self._reached = shard.applied.index  # everything up to here is in _pending or indexed
        self._texts = KeptTexts(TEXT_BYTES_MAX)
        self._taken: list[_EmailKey] = []  # of the commit that is being made
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._last_change_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.failed = 0  # documents that could not be read
        self.failures = 0  # indexes that could not go on
        self._failures_in_a_row = 0  # without a commit between them
        self._passed = 0  # emails noted or indexed since memory was given back
        self._unwritten = 0  # emails noted since the database's memory went to files at rest

    def _open(self, *, anew: bool = False) -> SearchIndex | None:
        """Return the open index. Without one there is no search, but mail all the same."""
        try:
            if self._shadow is None:
                settle(self._path)
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
        if index.fresh or self._shard.replica.indexed_index + 1 < self._shard.replica.log.first:
            self._pend_everything()
        else:
            for entry in self._shard.replica.log_after(self._shard.replica.indexed_index):
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
            if self._shadow is not None:
                self._shadow.changed[mailbox, email_id] = None

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
        if key not in self._texts and key in self._pending:
            # Else it is a repeat, or indexed already: nobody would take it out again.
            self._texts.put(key, text)

    def applied(self, entries: Sequence[Applying]) -> None:
        """Take note of applied entries."""
        for entry in entries:
            self._note(entry.mailbox, entry.emails, entry.index)
            self._passed += len(entry.emails)
            self._unwritten += len(entry.emails)
        self._reached = entries[-1].index
        self._last_change_at = asyncio.get_running_loop().time()
        self._changed.set()

    async def search(self, mailbox: int, fields: Collection[str], text: str) -> set[int] | None:
        """Return the emails that hold every term of `text`; None when it has no terms.

        On a full disk, emails that cannot be indexed now are read instead. Raises Unavailable
        when these are too many, and when the index cannot be used, nor made anew.
        """
        wanted = [Field(name) for name in fields]
        unindexed = self._waiting(mailbox)
        if self._index is None or not self._is_short(mailbox, unindexed):
            try:
                await self.catch_up(mailbox)
                unindexed = []
            except IndexFull:
                unindexed = self._waiting(mailbox)
        index = self._index
        if index is None or len(unindexed) > UNINDEXED_READ_MAX:
            raise Unavailable
        try:
            found = await asyncio.to_thread(index.search, mailbox, wanted, text)
            if unindexed and found is not None:
                terms = parse_query(text)
                await self._read_instead(found, mailbox, unindexed, wanted, terms)
            return found
        except IndexFailed as error:
            async with self._lock:
                if self._index is index:
                    self._make_anew(str(error))
        return await self.search(mailbox, fields, text)

    async def _read_instead(
        self,
        found: set[int],
        mailbox: int,
        emails: Sequence[int],
        fields: Collection[Field],
        terms: Sequence[Term],
    ) -> None:
        """Bring `found` up to date with emails that are not in the index."""
        for email_id in emails:
            text = await self._text(mailbox, email_id)
            found.discard(email_id)
            if text is not None and all(
                any(matches((term,), field.of(text)) for field in fields) for term in terms
            ):
                found.add(email_id)
            await asyncio.sleep(0)

    def _waiting(self, mailbox: int) -> list[int]:
        """Return the emails of a mailbox that the index does not hold as they are now."""
        keys = (*self._pending, *self._taken)
        return list(dict.fromkeys(email_id for owner, email_id in keys if owner == mailbox))

    def _is_short(self, mailbox: int, emails: Sequence[int]) -> bool:
        """Say whether to read these emails is quicker than to index them."""
        if len(emails) > TAIL_EMAILS_MAX:
            return False
        reader = MailboxReader(mailbox, self._shard.state)
        text_bytes = 0
        for email_id in emails:
            size_bytes = self._texts.size_bytes((mailbox, email_id))
            if size_bytes is not None:
                text_bytes += size_bytes
            elif reader.email(email_id) is not None:
                return False  # Its text would have to be read from the disk.
        return text_bytes <= TAIL_BYTES_MAX

    async def catch_up(self, mailbox: int | None = None) -> None:
        """Carry over everything that is applied now, or what is of one mailbox.

        What comes later may wait. Raises IndexFull when the disk has no room for it, Unavailable.
        """
        async with self._lock:
            if self._index is None:
                self._index = self._open()
                if self._index is None:
                    raise Unavailable
                self._find_pending(self._index)
            left = self._count_pending(mailbox)
            if left and self._shard.read_only:
                raise IndexFull
            while left > 0:
                taken = await self._commit_some(self._index, mailbox)
                # An index made anew holds nothing yet: then all of it has to be carried over.
                left = left - taken if taken else self._count_pending(mailbox)
            self._note_reached()

    def _count_pending(self, mailbox: int | None) -> int:
        if mailbox is None:
            return len(self._pending)
        return sum(owner == mailbox for owner, _ in self._pending)

    def _note_reached(self) -> None:
        """Remember how far the log is indexed: up to the oldest change that still waits."""
        oldest = min(self._pending.values(), default=self._reached + 1)
        if oldest - 1 > self._shard.replica.indexed_index:
            self._shard.replica.note_indexed(oldest - 1)

    async def _commit_some(self, index: SearchIndex, mailbox: int | None) -> int:
        """Index a batch and return how many emails left the queue; 0 when the index failed."""
        wanted = (key for key in self._pending if mailbox is None or key[0] == mailbox)
        self._taken = list(islice(wanted, COMMIT_DOCUMENTS_MAX))
        batch = [(key, self._pending.pop(key)) for key in self._taken]
        try:
            await self._take_in(index, self._taken, complete=not self._pending)
        except IndexFailed as error:
            if is_full(error):
                self._reopen(error)
                raise IndexFull from None
            self._make_anew(str(error))
            return 0
        except BaseException:
            for key, changed_index in reversed(batch):
                if key not in self._pending:
                    self._pending[key] = changed_index
                    self._pending.move_to_end(key, last=False)
            raise
        finally:
            self._taken = []
        for key, _ in batch:
            if key not in self._pending:
                self._texts.drop(key)
        self._failures_in_a_row = 0
        self._passed += len(batch)
        return len(batch)

    async def _take_in(
        self,
        index: SearchIndex,
        batch: Sequence[_EmailKey],
        *,
        complete: bool,
        pause: Pause = _yield,
    ) -> None:
        for mailbox, email_id in batch:
            text = await self._text(mailbox, email_id)
            if text is None:
                index.remove(mailbox, [email_id])
            else:
                index.add([IndexDocument(mailbox, email_id, text)])
            await pause()
        # Until a commit is complete, a fresh index counts as none: a crash begins it again.
        await _to_its_end(asyncio.to_thread(index.commit, complete=complete))

    # Upkeep

    async def documents(self, mailbox: int) -> Documents:
        """Return what the index holds of a mailbox. It is of the moment of the call."""
        waiting = frozenset(
            email_id for owner, email_id in (*self._pending, *self._taken) if owner == mailbox
        )
        index = self._index
        if index is None:
            raise Unavailable
        try:
            found = await asyncio.to_thread(index.documents, index.searcher, mailbox)
        except IndexFailed as error:
            raise Unavailable(str(error)) from None
        return Documents(Tally(found), waiting)

    @property
    def has_garbage(self) -> bool:
        """Say whether words of destroyed mail are in the index's files; `rebuild` ends that."""
        return self._index is not None and self._index.has_garbage

    def renew(self, mailbox: int, emails: Sequence[int]) -> None:
        """Make the documents of these emails anew, as `applied` would."""
        self._note(mailbox, emails, self._reached)
        self._changed.set()

    async def rebuild(self, progress: Callable[[int, int], None], *, pause: Pause = _yield) -> None:
        """Make the index anew beside the live one, and put it in its place; searches go on.

        `progress` is told how many emails are done, of how many. Raises Unavailable and its
        kind; the live index is then as it was.
        """
        if self._shadow is not None or self._index is None or self._shard.read_only:
            raise Unavailable("the search index cannot be made anew now")
        try:
            shadow = self._shadow = await asyncio.to_thread(ShadowIndex, self._path)
            try:
                await self._fill(shadow, progress, pause)
                async with self._lock:
                    await _to_its_end(self._switch(shadow))
            finally:
                self._shadow = None
                await asyncio.to_thread(shadow.throw_away)
        except (IndexFailed, IndexInUse, OSError) as error:
            log.error("search index not made anew", error=repr(error))
            raise Unavailable("the search index cannot be made anew") from None

    async def _fill(
        self, shadow: ShadowIndex, progress: Callable[[int, int], None], pause: Pause
    ) -> None:
        done, total = 0, count_emails(self._shard.state)
        progress(done, total)
        for emails in emails_in(self._shard.state, COMMIT_DOCUMENTS_MAX):
            if not self._shard.has_room():
                raise DiskFull
            await self._take_in(shadow.index, emails, complete=False, pause=pause)
            done += len(emails)
            progress(done, max(done, total))

    async def _switch(self, shadow: ShadowIndex) -> None:
        """Catch the shadow up and let it take the place; changes from here on still wait."""
        changed, shadow.changed = list(shadow.changed), {}
        await self._take_in(shadow.index, changed, complete=True)
        live = self._index
        if live is None:
            raise Unavailable
        try:
            self._index = await asyncio.to_thread(shadow.take_place, live)
        except (IndexFailed, IndexInUse, OSError):
            self._shadow = None
            self._index = await asyncio.to_thread(self._open)
            raise
        finally:
            await asyncio.to_thread(live.close)

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

    def _reopen(self, error: IndexFailed) -> None:
        """Go back to the last commit: a full disk is no fault of what is indexed already."""
        log.error("search index cannot grow", error=str(error))
        if self._index is not None:
            self._index.close()
        self._index = self._open()
        if self._index is not None:
            self._find_pending(self._index)

    async def _text(self, mailbox: int, email_id: int) -> SearchText | None:
        """Return the text of an email, or None when it is destroyed."""
        reader = MailboxReader(mailbox, self._shard.state)
        kept = self._texts.get((mailbox, email_id))
        if kept is not None:  # Its state is as good as its record, and a tenth of that to read.
            return None if reader.email_state(email_id) is None else kept
        record = reader.email(email_id)
        if record is None:
            return None
        try:
            raw = self._shard.blobs.read(record.digest)
        except (KeyError, BlobDamaged):
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
            await self._give_back(GIVE_BACK_EMAILS)
            quiet_at = self._last_change_at + QUIET_S
            if len(self._pending) >= PENDING_EMAILS_MAX or quiet_at <= loop.time():
                try:
                    await self.catch_up()
                    await self._come_to_rest()
                except Exception as error:
                    log.error("search index does not follow", error=repr(error))
                    await asyncio.sleep(FOLLOW_AGAIN_S)
                    self._changed.set()
            else:
                await asyncio.sleep(quiet_at - loop.time())
                self._changed.set()

    async def _come_to_rest(self) -> None:
        """Hold little memory while nothing happens."""
        if self._unwritten >= WRITE_OUT_EMAILS:
            self._unwritten = 0
            await self._shard.database.write_out()
        await self._give_back(GIVE_BACK_AT_REST_EMAILS)

    async def _give_back(self, emails: int) -> None:
        """Give freed memory back to the system, if so many emails passed since the last time."""
        if self._passed >= emails:
            self._passed = 0
            await asyncio.to_thread(give_back)

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

"""Shard: one replica's data, and the loop that commits turns to it.

Turns wait in a bounded queue. All that wait are planned, one after the other, on applied
state plus the overlay of the batch (R12); their entries and blobs are written and flushed
once (R2); then the core says what is committed, which is applied, and only then answered
(R3). One batch is in flight at a time.

State       hard: the log and RocksDB, the hard state beside it.  soft: queue; lost on restart.
On success  `run` returns when the turn is durable on a quorum and visible to later reads.
On failure  it may still have happened. Repeat with the same request id.
Raises      Overloaded, DiskFull, NotPrimary, RequestExpired (temporary); what the plan raised.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mail.errors import DiskFull, NotPrimary, OutcomeUnknown, Overloaded, RequestExpired
from storage import keys, records, replies
from storage.blobs import OnTheirWay, ShardBlobs, blob_chunks
from storage.database import (
    Batch,
    Database,
    DiskWentFull,
    Family,
    FamilyState,
    WriteFailed,
    is_full,
)
from storage.hard_state import HardState
from storage.log import entries_between, read_log, read_through, state_after
from storage.records import Applied, Damaged, Entry, Number, ReplyRecord
from storage.replication.core import (
    Campaign,
    Effects,
    Flushed,
    Position,
    Promise,
    PromiseKept,
    Propose,
    ReplicaCore,
    ReplicaId,
)
from storage.transaction import Overlay, State

# What one batch may hold: enough to fill a flush, and the loop stays responsive.
BATCH_TURNS_MAX = 256
BATCH_BYTES_MAX = 4 << 20
# Turns and octets that may wait; beyond, the peer is asked to come again.
QUEUE_TURNS_MAX = 4096
QUEUE_BYTES_MAX = 128 << 20
MAILBOX_TURNS_MAX = 512
# Blobs up to this size are written with their entry, larger ones in slices before it.
BLOB_INLINE_BYTES_MAX = 64 << 10
# Replies are remembered for the life of the outgoing queue and two days more (R8).
REPLIES_KEPT_MS = 7 * 24 * 3600 * 1000
# Applied entries that stay in the log, and how far it may grow before the rest is cut off.
LOG_KEPT_ENTRIES = 1024
LOG_SLACK_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan decided: its reply, and what the entry must name beside the writes."""

    reply: bytes
    blobs: tuple[bytes, ...] = ()  # digests that must be present
    emails: tuple[int, ...] = ()  # emails whose search documents change
    dropped: tuple[bytes, ...] = ()  # blobs that nothing refers to any more


Plan = Callable[[Overlay, int], Planned]


@dataclass(slots=True)
class _Turn:
    mailbox: int
    request_id: bytes
    plan: Plan
    blobs: Mapping[bytes, bytes]
    size_bytes: int
    answer: asyncio.Future[bytes]
    reply: bytes = b""


@dataclass(slots=True)
class ShardCounts:
    """What the shard counts since it was opened."""

    turns: int = 0
    flushes: int = 0
    entries: int = 0
    repeats: int = 0


@dataclass(slots=True)
class Applying:
    """What listeners learn of an entry once it is applied."""

    mailbox: int
    emails: tuple[int, ...]
    index: int


@dataclass(slots=True)
class Shard:
    """One open shard. `recover` first; `run` may be called once it returned."""

    database: Database
    hard: HardState
    clock_ms: Callable[[], int]
    has_room: Callable[[], bool] = lambda: True  # False: the disk is nearly full (R16)
    on_applied: Callable[[Sequence[Applying]], None] = lambda _: None
    on_fatal: Callable[[str], None] = lambda _: None
    on_full: Callable[[str], None] = lambda _: None
    read_only: bool = False  # a write met a full disk: what is there is read, no more is written
    counts: ShardCounts = field(default_factory=ShardCounts)
    has_index: bool = True  # False: nothing follows the log, which need not be kept for it
    indexed_index: int = 0  # the log is kept from here on
    core: ReplicaCore = field(init=False)
    state: State = field(init=False)
    blobs: ShardBlobs = field(init=False)
    applied: Applied = field(init=False)
    _queue: deque[_Turn] = field(default_factory=deque)
    _queued_bytes: int = 0
    _queued_by_mailbox: dict[int, int] = field(default_factory=dict)
    _on_their_way: OnTheirWay = field(default_factory=OnTheirWay)
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _log_first: int = 1
    _closing: bool = False
    _loop_task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.state = FamilyState(self.database)
        self.blobs = ShardBlobs(self.database)

    # Recovery

    async def recover(self) -> None:
        """Check what is on disk, begin a reign, apply what was not applied yet.

        Raises Damaged when records are missing or cannot be read: then nothing is served.
        """
        log = read_log(self.database)
        octets = self.database.get(Family.CTL, keys.APPLIED)
        self.applied = Applied(0, 0) if octets is None else records.decode(octets, Applied)
        octets = self.database.get(Family.CTL, keys.INDEXED)
        self.indexed_index = 0 if octets is None else records.decode(octets, Number).value
        last = log[-1] if log else None
        position = Position(self.applied.epoch, self.applied.index)
        if last is not None and last.index >= self.applied.index:
            position = Position(last.epoch, last.index)
        if position.index < self.hard.record.high_water:
            # A damaged write-ahead log ends silently at the damage (RocksDB's default).
            raise Damaged(
                f"log: ends at {position.index}, {self.hard.record.high_water} was acknowledged"
            )
        tail = [entry for entry in log if entry.index > self.applied.index]
        if tail and tail[0].index != self.applied.index + 1:
            raise Damaged(f"log: entry {self.applied.index + 1} is missing")
        self._log_first = log[0].index if log else self.applied.index + 1
        await read_through(self.database, Family.STATE)
        record = self.hard.record
        self.core = ReplicaCore(
            replica=ReplicaId(record.replica),
            voters=frozenset((ReplicaId(record.replica),)),
            promised=Promise(record.promised_epoch, ReplicaId(record.promised_candidate)),
            last=position,
            committed_index=self.applied.index,
        )
        self.core.recover(tail)
        if self.read_only:
            # Readers see what was acknowledged, although it cannot be applied now.
            shown = [entry for entry in tail if entry.index <= record.high_water]
            self.state = state_after(self.state, shown)
            if shown:
                self.applied = Applied(shown[-1].index, shown[-1].epoch)
            return
        await self._obey(self.core.step(Campaign(self.clock_ms())))
        self._loop_task = asyncio.create_task(self._commit_forever(), name="commit")

    def log_after(self, index: int) -> Iterator[Entry]:
        """Yield the applied entries after `index`. They must not have been cut off."""
        return entries_between(self.database, index + 1, self.applied.index)

    @property
    def log_first(self) -> int:
        """Return the index of the oldest entry that is still in the log."""
        return self._log_first

    # Turns

    async def run(
        self,
        mailbox: int,
        request_id: bytes,
        plan: Plan,
        *,
        blobs: Mapping[bytes, bytes] | None = None,
    ) -> bytes:
        """Commit one turn and return its reply; a repeated request id gets the first reply.

        `blobs` maps SHA-256 digests to octets that the plan's entry will name. An empty
        request id is for turns that may safely run twice.
        """
        blobs = blobs or {}
        size = sum(len(data) for data in blobs.values())
        self._admit(mailbox, size)
        self._queued_bytes += size
        self._queued_by_mailbox[mailbox] = self._queued_by_mailbox.get(mailbox, 0) + 1
        self._on_their_way.begin(blobs)
        try:
            inline = await self._stage(blobs)
            turn = _Turn(
                mailbox=mailbox,
                request_id=request_id,
                plan=plan,
                blobs=inline,
                size_bytes=sum(len(data) for data in inline.values()),
                answer=asyncio.get_running_loop().create_future(),
            )
            if self._closing:
                raise NotPrimary
            if self.read_only:
                raise DiskFull
            self._queue.append(turn)
            self._work.set()
            return await turn.answer
        finally:
            self._queued_bytes -= size
            self._on_their_way.end(blobs)
            waiting = self._queued_by_mailbox[mailbox] - 1
            if waiting:
                self._queued_by_mailbox[mailbox] = waiting
            else:
                del self._queued_by_mailbox[mailbox]

    def _admit(self, mailbox: int, size_bytes: int) -> None:
        if self._closing:
            raise NotPrimary
        if self.read_only or not self.has_room():
            raise DiskFull
        if (
            len(self._queue) >= QUEUE_TURNS_MAX
            or (self._queued_bytes and self._queued_bytes + size_bytes > QUEUE_BYTES_MAX)
            or self._queued_by_mailbox.get(mailbox, 0) >= MAILBOX_TURNS_MAX
        ):
            raise Overloaded

    async def _stage(self, blobs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Write large blobs in slices, letting others in between; return the small ones.

        They are durable with the flush of the entry that names them: one log, in order.
        """
        inline: dict[bytes, bytes] = {}
        for digest, data in blobs.items():
            if len(data) <= BLOB_INLINE_BYTES_MAX:
                inline[digest] = data
                continue
            for key, value in blob_chunks(digest, data):
                batch = Batch()
                batch.put(Family.BLOB, key, value)
                try:
                    self._write(batch)
                except DiskWentFull:
                    raise DiskFull from None  # Nothing names it yet: it did not happen.
                await asyncio.sleep(0)
        return inline

    async def _commit_forever(self) -> None:
        while True:
            await self._work.wait()
            turns = self._take()
            if not turns:
                if self._closing:
                    return
                self._work.clear()
                continue
            try:
                await self._commit(turns)
            except Exception as error:
                _fail(turns, OutcomeUnknown())
                self._stop_writing(error)
                _fail(self._queue, DiskFull())
                self._queue.clear()
                if isinstance(error, WriteFailed) or is_full(error):
                    return
                raise

    def _take(self) -> list[_Turn]:
        turns: list[_Turn] = []
        size = 0
        while self._queue and len(turns) < BATCH_TURNS_MAX and size < BATCH_BYTES_MAX:
            turn = self._queue.popleft()
            size += turn.size_bytes
            turns.append(turn)
        return turns

    async def _commit(self, turns: Sequence[_Turn]) -> None:
        now_ms = self.clock_ms()
        overlay = Overlay(self.state)
        entries: list[Entry] = []
        planned: list[_Turn] = []
        blobs: dict[bytes, bytes] = {}
        for turn in turns:
            if turn.answer.done():
                continue  # Its caller has given up before anything was done.
            try:
                entry = self._plan(turn, overlay, now_ms)
            except Exception as error:
                turn.answer.set_exception(error)
                continue
            planned.append(turn)
            if entry is not None:
                entries.append(entry)
                blobs.update(turn.blobs)
        if entries:
            await self._obey(self.core.step(Propose(tuple(entries))), blobs)
        self.counts.turns += len(planned)
        for turn in planned:
            if not turn.answer.done():
                turn.answer.set_result(turn.reply)

    def _plan(self, turn: _Turn, overlay: Overlay, now_ms: int) -> Entry | None:
        """Run a turn's plan over the overlay; return its entry, or None if it wrote nothing."""
        if turn.request_id:
            if replies.made_at_ms(turn.request_id) < now_ms - REPLIES_KEPT_MS:
                raise RequestExpired  # Its reply may be forgotten by now.
            octets = overlay.get(keys.reply(turn.mailbox, turn.request_id))
            if octets is not None:
                self.counts.repeats += 1
                turn.reply = records.decode(octets, ReplyRecord).reply
                if not turn.reply:
                    raise RequestExpired("this request was given up by its sender")
                return None
        upper = Overlay(overlay)
        decided = turn.plan(upper, now_ms)
        turn.reply = decided.reply
        if not upper.written and not decided.dropped:
            return None
        if turn.request_id:
            upper.put(
                keys.reply(turn.mailbox, turn.request_id),
                records.encode(ReplyRecord(decided.reply, now_ms)),
            )
            if turn.request_id[-1] % 32 == 0:  # One turn in 32 does it for the others.
                replies.prune(upper, turn.mailbox, before_ms=now_ms - REPLIES_KEPT_MS)
        overlay.absorb(upper)
        return Entry(
            epoch=0,
            index=0,
            mailbox=turn.mailbox,
            request_id=turn.request_id,
            recorded_at_ms=now_ms,
            puts=tuple((k, v) for k, v in upper.written.items() if v is not None),
            deletes=tuple(k for k, v in upper.written.items() if v is None),
            blobs=decided.blobs,
            emails=decided.emails,
            dropped=decided.dropped,
        )

    # Obeying the core

    async def _obey(self, effects: Effects, blobs: Mapping[bytes, bytes] | None = None) -> None:
        """Do what the core says, in the order that `Effects` states, until it says no more."""
        while True:
            if effects.promise is not None:
                self.hard.keep_promise(effects.promise)
                effects = self.core.step(PromiseKept(effects.promise))
            elif effects.append:
                await self._append(effects.append, blobs or {})
                effects = self.core.step(Flushed(effects.append[-1].index))
            elif effects.committed:
                self._apply(effects.committed)
                return
            else:
                return

    async def _append(self, entries: Sequence[Entry], blobs: Mapping[bytes, bytes]) -> None:
        batch = Batch()
        for digest, data in blobs.items():
            for key, value in blob_chunks(digest, data):
                batch.put(Family.BLOB, key, value)
        for entry in entries:
            batch.put(Family.LOG, keys.log(entry.index), records.encode(entry))
        self._write(batch)
        await self.database.flush()
        self.hard.raise_high_water(entries[-1].index)
        self.counts.flushes += 1
        self.counts.entries += len(entries)

    def _apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries: effects and applied index in one write."""
        assert entries[0].index == self.applied.index + 1
        batch = Batch()
        for entry in entries:
            for key, value in entry.puts:
                batch.put(Family.STATE, key, value)
            for key in entry.deletes:
                batch.delete(Family.STATE, key)
            if entry.dropped:
                self._drop(batch, entry, entries)
        applied = Applied(entries[-1].index, entries[-1].epoch)
        batch.put(Family.CTL, keys.APPLIED, records.encode(applied))
        self._truncate(batch, applied.index)
        self._write(batch)
        self.applied = applied
        self.on_applied([Applying(entry.mailbox, entry.emails, entry.index) for entry in entries])

    def brings(self, digest: bytes) -> bool:
        """Say whether a turn that is not over brings this blob."""
        return digest in self._on_their_way

    def _drop(self, batch: Batch, entry: Entry, entries: Sequence[Entry]) -> None:
        """Delete the blobs that an entry drops, but for those that come again behind it."""
        named = {digest for one in entries if one.index > entry.index for digest in one.blobs}
        for digest in entry.dropped:
            if digest not in named and digest not in self._on_their_way:
                batch.delete_range(Family.BLOB, digest, keys.after(digest))

    def cut_log(self) -> None:
        """Cut off all of the log that is applied and indexed."""
        batch = Batch()
        self._truncate(batch, self.applied.index, wholly=True)
        self._write(batch)

    def _truncate(self, batch: Batch, applied_index: int, *, wholly: bool = False) -> None:
        """Cut off what is applied and indexed; the write-ahead log holds the order of both."""
        keep_from = applied_index + 1 - (0 if wholly else LOG_KEPT_ENTRIES)
        if self.has_index:
            keep_from = min(keep_from, self.indexed_index + 1)
        if keep_from - self._log_first < (1 if wholly else LOG_SLACK_ENTRIES):
            return
        batch.delete_range(Family.LOG, keys.log(self._log_first), keys.log(keep_from))
        self._log_first = keep_from

    def note_indexed(self, index: int) -> None:
        """Remember that the search index holds everything up to `index`."""
        if not self.read_only:
            self.note(keys.INDEXED, index)
            self.indexed_index = index

    def note(self, name: bytes, number: int) -> None:
        """Write a number of this replica's own to the ctl family."""
        batch = Batch()
        batch.put(Family.CTL, name, records.encode(Number(number)))
        self._write(batch)

    def _write(self, batch: Batch) -> None:
        try:
            self.database.write(batch)
        except WriteFailed as error:
            self._stop_writing(error)
            raise

    def _stop_writing(self, error: Exception) -> None:
        """Write no more: a full disk can still be read, anything else ends the process."""
        if not self.read_only:
            self.read_only = True
            (self.on_full if is_full(error) else self.on_fatal)(f"write: {error!r}")

    async def abandon(self) -> None:
        """Let go of a shard that cannot be used, so that it can be opened again."""
        self._closing = True
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        self.database.close()
        self.hard.close()

    async def close(self) -> None:
        """Finish what was accepted, take nothing new, close the database."""
        self._closing = True
        self._work.set()
        if self._loop_task is not None:
            await self._loop_task
        if not self.read_only:
            with suppress(DiskWentFull):  # All that was acknowledged was flushed.
                await self.database.flush()
        self.database.close()
        self.hard.close()


def _fail(turns: Sequence[_Turn], error: Exception) -> None:
    for turn in turns:
        if not turn.answer.done():
            turn.answer.set_exception(error)

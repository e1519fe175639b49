"""Shard: the turns of one shard, and the loop that commits them.

Turns wait in a bounded queue. All that wait are planned, one after the other, on applied
state plus the overlay of the batch (R12); their entries go to the replica as one proposal,
and they are answered once it is committed and applied (R3). One batch is in flight at a time.
On a follower nothing is planned: every turn fails as NotPrimary.

State       hard: the replica's (`storage/replica.py`).  soft: queue; lost on restart.
On success  `run` returns when the turn is durable on a quorum and visible to later reads.
On failure  it may still have happened. Repeat with the same request id.
Raises      Overloaded, DiskFull, NotPrimary, RequestExpired (temporary); what the plan raised.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mail.errors import (
    DiskFull,
    MailError,
    NotPrimary,
    OutcomeUnknown,
    Overloaded,
    RequestExpired,
)
from storage import keys, records, replies
from storage.blobs import OnTheirWay, ShardBlobs
from storage.database import Database, DiskWentFull, WriteFailed, is_full
from storage.records import Applied, Entry, ReplyRecord
from storage.replica import Replica
from storage.replica_ports import HardStateFile, NoPeers, Peers
from storage.replication.core import ReplicaCore
from storage.replication.messages import Position
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
    repeats: int = 0


def boot_clock_ms() -> int:
    """Return the time since this machine started, sleep included: what leases count in (R5)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Shard:
    """One open shard. `recover` first; `run` may be called once it returned."""

    def __init__(
        self,
        database: Database,
        hard: HardStateFile,
        *,
        clock_ms: Callable[[], int],
        boot_ms: Callable[[], int] = boot_clock_ms,
        peers: Peers | None = None,
        has_room: Callable[[], bool] = lambda: True,
        on_fatal: Callable[[str], None] = lambda _: None,
        on_full: Callable[[str], None] = lambda _: None,
        read_only: bool = False,
    ) -> None:
        """Make a shard of what is open.

        `has_room` says whether the disk is not nearly full (R16). `read_only`: a write met a
        full disk, what is there is read, no more is written.
        """
        self.clock_ms = clock_ms
        self.has_room = has_room
        self.on_fatal = on_fatal
        self.on_full = on_full
        self.counts = ShardCounts()
        self.replica = Replica(
            database, hard, now_ms=boot_ms, peers=peers or NoPeers(), read_only=read_only
        )
        self.replica.on_write_failed = self._write_failed
        self.replica.on_broken = lambda error: self.on_fatal(f"replica: {error!r}")
        self.replica.on_demoted = self._demoted
        self.replica.keeps_blob = self.brings
        self._queue: deque[_Turn] = deque()
        self._queued_bytes = 0
        self._queued_by_mailbox: dict[int, int] = {}
        self._on_their_way = OnTheirWay()
        self._work = asyncio.Event()
        self._closing = False
        self._loop_task: asyncio.Task[None] | None = None

    @property
    def core(self) -> ReplicaCore:
        return self.replica.core

    @property
    def database(self) -> Database:
        return self.replica.database

    @property
    def state(self) -> State:
        """Return the applied state."""
        return self.replica.state

    @property
    def blobs(self) -> ShardBlobs:
        return self.replica.blobs

    @property
    def applied(self) -> Applied:
        return self.replica.applied

    @property
    def read_only(self) -> bool:
        return self.replica.read_only

    @property
    def leads(self) -> bool:
        """Say whether questions are answered here: as primary, or alone with a full disk."""
        if self.read_only:
            return self.replica.is_alone
        return self.core.serving and self.replica.failed is None

    async def recover(self) -> None:
        """Check what is on disk and take part in the replica set; alone, begin a reign.

        Raises Damaged when records are missing or cannot be read: then nothing is served.
        """
        await self.replica.recover()
        if self.read_only:
            return
        self.replica.start()
        self._loop_task = asyncio.create_task(self._commit_forever(), name="commit")
        while self.replica.is_alone and not self.core.serving:
            await self.replica.changed()

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
            self._refuse_if_useless()
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
        self._refuse_if_useless()
        if not self.has_room():
            raise DiskFull
        if (
            len(self._queue) >= QUEUE_TURNS_MAX
            or (self._queued_bytes and self._queued_bytes + size_bytes > QUEUE_BYTES_MAX)
            or self._queued_by_mailbox.get(mailbox, 0) >= MAILBOX_TURNS_MAX
        ):
            raise Overloaded

    def _refuse_if_useless(self) -> None:
        if self.read_only:
            raise DiskFull
        if self._closing or not self.leads:
            raise NotPrimary

    async def _stage(self, blobs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Write large blobs in slices, letting others in between; return the small ones.

        They are durable with the flush of the entry that names them: one log, in order.
        """
        inline: dict[bytes, bytes] = {}
        for digest, data in blobs.items():
            if len(data) <= BLOB_INLINE_BYTES_MAX:
                inline[digest] = data
                continue
            try:
                for _ in self.replica.stage(digest, data):
                    await asyncio.sleep(0)
            except DiskWentFull:
                raise DiskFull from None  # Nothing names it yet: it did not happen.
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
            except MailError as error:  # The reign ended.
                _fail(turns, error)
            except Exception as error:
                _fail(turns, OutcomeUnknown())
                if isinstance(error, WriteFailed):
                    return
                self.on_fatal(f"commit: {error!r}")
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
        # Nothing else comes into the log before these do: there is no await up to `propose`.
        epoch, after = self.core.epoch, self.core.last.index
        entries: list[Entry] = []
        planned: list[_Turn] = []
        blobs: dict[bytes, bytes] = {}
        for turn in turns:
            if turn.answer.done():
                continue  # Its caller has given up before anything was done.
            try:
                position = Position(epoch, after + len(entries) + 1)
                entry = self._plan(turn, overlay, position, now_ms)
            except Exception as error:
                turn.answer.set_exception(error)
                continue
            planned.append(turn)
            if entry is not None:
                entries.append(entry)
                blobs.update(turn.blobs)
        if entries:
            await self.replica.propose(entries, blobs)
        self.counts.turns += len(planned)
        for turn in planned:
            if not turn.answer.done():
                turn.answer.set_result(turn.reply)

    def _plan(self, turn: _Turn, overlay: Overlay, position: Position, now_ms: int) -> Entry | None:
        """Run a turn's plan over the overlay; return its entry, or None if it wrote nothing.

        `position` is where the entry will be in the log.
        """
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
        upper = Overlay(overlay, position)
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

    def brings(self, digest: bytes) -> bool:
        """Say whether a turn that is not over brings this blob."""
        return digest in self._on_their_way

    def _demoted(self) -> None:
        """Throw away what waits: it was not even planned (R12)."""
        _fail(self._queue, NotPrimary())
        self._queue.clear()

    def _write_failed(self, error: WriteFailed) -> None:
        """Write no more: a full disk can still be read, anything else ends the process."""
        _fail(self._queue, DiskFull())
        self._queue.clear()
        (self.on_full if is_full(error) else self.on_fatal)(f"write: {error!r}")

    def take_out(self) -> None:
        """Take a shard out of service in which damage was found; its files stay open."""
        _fail(self._queue, NotPrimary())
        self._queue.clear()
        self.replica.withdraw()

    async def abandon(self) -> None:
        """Let go of a shard that cannot be used, so that it can be opened again."""
        self._closing = True
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        await self.replica.abandon()

    async def close(self) -> None:
        """Finish what was accepted, take nothing new, close the database."""
        self._closing = True
        self._work.set()
        if self._loop_task is not None:
            await self._loop_task
        await self.replica.close()


def _fail(turns: Sequence[_Turn], error: Exception) -> None:
    for turn in turns:
        if not turn.answer.done():
            turn.answer.set_exception(error)

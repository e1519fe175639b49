"""Replica: drives one ReplicaCore: a database, a hard state and the other replicas around it.

It obeys the core's effects in their order, flushes in the background, applies what is committed,
and carries blobs beside the log. Whatever arrives is taken in one go, without waiting, so that
one input never meets another half done; only flushes and snapshots take their time.

State       hard: the log and RocksDB, the hard state beside it.  soft: the core's, the waiters.
On success  `propose` returns when the entries are committed and applied here.
On failure  OutcomeUnknown: they may still commit. NotPrimary: they were not even proposed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import assert_never

from mail.errors import BlobDamaged, NotPrimary, Unavailable
from storage import keys, records
from storage.blob_traffic import BlobTraffic, parts_of
from storage.blobs import ShardBlobs, blob_chunks
from storage.database import Batch, Database, DiskWentFull, Family, FamilyState, WriteFailed
from storage.log import ReplicaLog, read_replica, read_through, state_after
from storage.records import Applied, Damaged, Entry, Members, MembersRecord, Number
from storage.replica_ports import Applying, HardStateFile, Peers, ReplicaCounts, SnapshotFrame
from storage.replication import frames
from storage.replication.core import ReplicaCore
from storage.replication.effects import (
    Campaign,
    Effects,
    Flushed,
    Input,
    PromiseKept,
    Propose,
    Received,
    RenewLease,
)
from storage.replication.messages import (
    AnyMessage,
    Append,
    Position,
    Promise,
    ReplicaId,
    decode_message,
    encode_message,
)
from storage.replication.reign import Reign
from storage.snapshots import Described, needs
from storage.transaction import State
from storage.waiters import Waiters

TICK_S = 0.1  # while there is anybody to talk to
LEASE_WAIT_S = 1.0  # an answer waits for the lease no longer
# Applied entries that stay in the log, and how far it may grow before the rest is cut off.
LOG_KEPT_ENTRIES = 1024
LOG_SLACK_ENTRIES = 1024
# What a follower lacks stays so long; one that lags further is filled from a snapshot.
LOG_LAG_ENTRIES = 16 * 1024


class Replica:
    """One open replica. `recover` first; then `start`, unless it is only read."""

    def __init__(
        self,
        database: Database,
        hard: HardStateFile,
        *,
        now_ms: Callable[[], int],
        peers: Peers,
        read_only: bool = False,
    ) -> None:
        self.database = database
        self.hard = hard
        self.now_ms = now_ms
        self.peers = peers
        self.read_only = read_only
        self.counts = ReplicaCounts()
        self.state: State = FamilyState(database)
        self.blobs = ShardBlobs(database)
        self.traffic = BlobTraffic(self.blobs)
        self.applied = Applied(0, 0)
        self.indexed_index = 0  # the log is kept from here on
        self.has_index = True  # False: nothing follows the log, which need not be kept for it
        self.on_applied: Callable[[Sequence[Applying]], None] = lambda _: None
        self.on_demoted: Callable[[], None] = lambda: None
        self.on_write_failed: Callable[[WriteFailed], None] = lambda _: None
        self.on_changed: Callable[[], None] = lambda: None  # who leads, or the replica set
        self.on_broken: Callable[[BaseException], None] = lambda _: None  # this process must end
        self.on_lagging: Callable[[ReplicaId], None] = lambda _: None  # only a snapshot helps it
        self.on_snapshot: Callable[[ReplicaId, SnapshotFrame], None] = lambda _, __: None
        self.on_damaged: Callable[[str], None] = lambda _: None  # what others need, unreadable
        self.keeps_blob: Callable[[bytes], bool] = lambda _: False  # it comes again, not dropped
        self.core: ReplicaCore
        self.log = ReplicaLog(database)
        self._waiters = Waiters()
        self._to_flush = asyncio.Event()
        self._cuts = 0  # of the log's end
        self._seen: tuple[object, ...] = ()  # what `on_changed` was called for
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: Exception | None = None  # why it takes no part any more

    # Recovery

    async def recover(self) -> None:
        """Check what is on disk and make the core of it.

        Raises Damaged when records are missing or cannot be read: then nothing is served.
        """
        found = read_replica(self.database)
        self.applied, self.indexed_index = found.applied, found.indexed_index
        self.log.first = found.log[0].index if found.log else self.applied.index + 1
        await read_through(self.database, Family.STATE)
        record = self.hard.record
        replica = ReplicaId(record.replica)
        members = found.members or MembersRecord(0, Members((replica,)))
        tail = found.tail
        self.core = ReplicaCore(
            replica,
            members=members.members,
            members_index=members.index,
            promised=Promise(record.promised_epoch, ReplicaId(record.promised_candidate)),
            committed=Position(self.applied.epoch, self.applied.index),
            tail=tail,
            high_water=record.high_water,
            now_ms=self.now_ms(),
        )
        if self.core.suspect and self.is_alone:
            # A damaged write-ahead log ends silently at the damage, and no other has the rest.
            last = self.core.last.index
            raise Damaged(f"log: ends at {last}, {record.high_water} was acknowledged")
        if self.read_only:
            # Readers see what was acknowledged, although it cannot be applied now.
            shown = [entry for entry in tail if entry.index <= record.high_water]
            self.state = state_after(self.state, shown)
            if shown:
                self.applied = Applied(shown[-1].index, shown[-1].epoch)

    def start(self) -> None:
        """Begin to flush and to take note of time; stand for election when there is no other."""
        for work in (self._flush_forever, self._tick_forever):
            self._tasks.append(asyncio.create_task(work(), name=work.__name__))
        for task in self._tasks:
            task.add_done_callback(self._task_ended)
        if self.is_alone:
            self.step(Campaign())

    @property
    def replica(self) -> ReplicaId:
        return self.core.replica

    @property
    def is_alone(self) -> bool:
        """Say whether the replica set is this one replica."""
        members = self.core.members
        return members.voters == (self.replica,) and not members.learners

    # What the shard asks for

    def step(self, message: Input) -> None:
        """Give the core one input and do what it says. Raises what the core raises."""
        self._obey(self.core.step(message, self.now_ms()))

    async def propose(self, entries: Sequence[Entry], blobs: Mapping[bytes, bytes]) -> None:
        """Commit and apply entries; `blobs` are written with them. One call at a time."""
        if self.failed is not None:
            raise NotPrimary
        done = self._waiters.propose(self.core.last.index + len(entries), blobs)
        try:
            self.step(Propose(tuple(entries)))
            await done
        finally:
            self._waiters.proposal = None

    def stage(self, digest: bytes, data: bytes) -> Iterator[None]:
        """Write a large blob ahead of the entry that names it, here and at the followers.

        Slice by slice, so that the caller can let others in between. Raises WriteFailed.
        """
        reign = self.core.reign
        followers = [] if reign is None else list(reign.followers)
        parts = {one: parts_of(one, self.replica, digest, data) for one in followers}
        for key, value in blob_chunks(digest, data):
            batch = Batch()
            batch.put(Family.BLOB, key, value)
            self.write(batch)
            for follower in followers:
                self.peers.send(follower, frames.encode_frame(next(parts[follower])))
            yield
        for follower in followers:
            self.traffic.note_sent(follower, digest)

    async def confirm_lease(self, reign: Reign | None) -> None:
        """Return once what was read until now may leave (R5, R15). Raises NotPrimary.

        `reign` is the one that held when the reading began: in a later one, another replica may
        have led in between, and what was read may be older than that.
        """
        if self.read_only and self.is_alone:
            return
        if self.core.reign is not reign:
            raise NotPrimary
        if self.core.may_answer(self.now_ms()):
            return
        if self.failed is not None:
            raise NotPrimary  # To renew the lease would keep others from leading.
        self.step(RenewLease())
        await self._waiters.lease(LEASE_WAIT_S)

    # The other replicas

    def described(self) -> Described:
        """Return what a snapshot that is taken from now on holds at least."""
        position = Position(self.applied.epoch, self.applied.index)
        return Described(self.core.epoch, position)

    def receive(self, octets: bytes) -> None:
        """Take a frame of another replica. What cannot be read or is not for us is dropped."""
        if self.read_only or self.failed is not None:
            return
        try:
            frame = frames.decode_frame(octets)
        except Unavailable:
            return
        if frames.addressee(frame) != self.replica:
            return
        sender = ReplicaId(frame.sender)
        match frame:
            case frames.Said():
                self._said(sender, frame)
            case frames.Part():
                batch = self.traffic.arrived(frame)
                if batch is not None:
                    self.write(batch)
            case frames.Lacking(digests=digests):
                self.traffic.note_lacking(sender, digests)
            case frames.Offer():
                if needs(self.core, frame):
                    self.on_snapshot(sender, frame)
            case frames.Wanted() | frames.Slice():
                self.on_snapshot(sender, frame)
            case _:
                assert_never(frame)

    def _said(self, sender: ReplicaId, frame: frames.Said) -> None:
        try:
            message = decode_message(frame.message)
        except Unavailable:
            return
        if isinstance(message, Append) and message.entries:
            brought = dict(frame.blobs)
            lacking = self.traffic.lacking(message.entries, brought, frozenset(frame.gone))
            if lacking:
                self._keep(brought)  # The next try brings the others only.
                self.send_frame(frames.Lacking(sender, self.replica, lacking))
                return
            self._obey(self.core.step(Received(sender, message), self.now_ms()), brought)
        else:
            self.step(Received(sender, message))

    def _keep(self, blobs: Mapping[bytes, bytes]) -> None:
        """Write blobs whose entries are yet to come."""
        batch = Batch()
        self.traffic.put(batch, blobs)
        self.write(batch)

    def _send(self, to: ReplicaId, message: AnyMessage) -> None:
        octets = encode_message(message)
        if not isinstance(message, Append) or not message.entries:
            self.send_frame(frames.Said(to, self.replica, octets))
            return
        proposal = self._waiters.proposal
        fresh = {} if proposal is None else proposal.blobs
        try:
            committed = self.core.committed.index
            with_it = self.traffic.travelling(to, message.entries, fresh, committed)
        except BlobDamaged:
            self.on_damaged("a blob that a follower lacks cannot be read")
            return
        for digest, data in with_it.parts:
            for part in parts_of(to, self.replica, digest, data):
                self.send_frame(part)
        said = frames.Said(to, self.replica, octets, tuple(with_it.blobs), tuple(with_it.gone))
        self.send_frame(said)

    def send_frame(self, frame: frames.AnyFrame) -> None:
        """Send a frame to the replica that it names, or lose it."""
        self.peers.send(frames.addressee(frame), frames.encode_frame(frame))

    # Obeying the core

    def _obey(self, effects: Effects, blobs: Mapping[bytes, bytes] | None = None) -> None:
        """Do what the core says, in the order that `Effects` states, until it says no more."""
        todo = deque([effects])
        while todo:
            effects = todo.popleft()
            now_ms = self.now_ms()
            if effects.promise is not None:
                self.hard.keep_promise(effects.promise)
                todo.append(self.core.step(PromiseKept(effects.promise), now_ms))
            if effects.high_water is not None:
                self.hard.set_high_water(effects.high_water)
            if effects.append or effects.cut_from:
                self._append(effects, blobs)
            for to, message in effects.send:
                self._send(to, message)
            if effects.committed:
                self._apply(effects.committed)
            if effects.demoted:
                self._end_reign()
            for fetch in effects.fetch:
                try:
                    fetched = self.log.fetched(fetch, self.core.last.index)
                    todo.append(self.core.step(fetched, now_ms))
                except Damaged as error:
                    self.on_damaged(str(error))
            for follower in effects.snapshot:
                self.on_lagging(follower)
        core = self.core
        self._waiters.wake(
            applied_index=self.applied.index,
            reigns=core.reign is not None,
            may_answer=core.may_answer(self.now_ms()),
        )
        seen = (core.role, core.epoch, core.serving, core.members_index, core.suspect, core.primary)
        if seen != self._seen:
            self._seen = seen
            self.on_changed()

    def _append(self, effects: Effects, brought: Mapping[bytes, bytes] | None) -> None:
        batch = Batch()
        if effects.cut_from:
            self._cuts += 1
            batch.delete_range(Family.LOG, keys.log(effects.cut_from), keys.LOG_END)
        blobs = brought
        if blobs is None:
            proposal = self._waiters.proposal
            blobs = {} if proposal is None else proposal.blobs
        self.traffic.put(batch, blobs)
        for entry in effects.append:
            batch.put(Family.LOG, keys.log(entry.index), records.encode(entry))
        self.write(batch)
        self.counts.entries += len(effects.append)
        self._to_flush.set()

    def _end_reign(self) -> None:
        self._waiters.end_reign()
        self.on_demoted()

    # Applying

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
                later = (*entries[entry.index - entries[0].index + 1 :], *self.core.uncommitted)
                self._drop(batch, entry, later)
            if entry.members is not None:
                members = MembersRecord(entry.index, entry.members)
                batch.put(Family.CTL, keys.MEMBERS, records.encode(members))
        applied = Applied(entries[-1].index, entries[-1].epoch)
        batch.put(Family.CTL, keys.APPLIED, records.encode(applied))
        needed_from = self._needed_from(applied.index, wholly=False)
        self.log.truncate(batch, needed_from, slack=LOG_SLACK_ENTRIES)
        self.write(batch)
        self.applied = applied
        self.on_applied([Applying(entry.mailbox, entry.emails, entry.index) for entry in entries])

    def _drop(self, batch: Batch, entry: Entry, later: Sequence[Entry]) -> None:
        """Delete the blobs that an entry drops, but for those that come again behind it."""
        again = {digest for one in later for digest in one.blobs}
        for digest in entry.dropped:
            if digest not in again and not self.keeps_blob(digest):
                batch.delete_range(Family.BLOB, digest, keys.after(digest))
                self.traffic.note_dropped(digest)

    # The log

    def log_after(self, index: int) -> Iterator[Entry]:
        """Yield the applied entries after `index`. They must not have been cut off."""
        return self.log.between(index + 1, self.applied.index)

    def cut_log(self) -> None:
        """Cut off all of the log that is applied and indexed."""
        batch = Batch()
        self.log.truncate(batch, self._needed_from(self.applied.index, wholly=True), slack=1)
        self.write(batch)

    def _needed_from(self, applied_index: int, *, wholly: bool) -> int:
        """Return the first entry of the log that somebody may still need."""
        after = applied_index + 1
        needed = after - (0 if wholly else LOG_KEPT_ENTRIES)
        reign = self.core.reign
        if reign is not None and reign.followers and not wholly:
            least = min(follower.match_index for follower in reign.followers.values())
            needed = min(needed, max(least + 1, after - LOG_LAG_ENTRIES))
        return min(needed, self.indexed_index + 1) if self.has_index else needed

    def note_indexed(self, index: int) -> None:
        """Remember that the search index holds everything up to `index`."""
        if not self.read_only:
            self.note(keys.INDEXED, index)
            self.indexed_index = index

    def note(self, name: bytes, number: int) -> None:
        """Write a number of this replica's own to the ctl family."""
        batch = Batch()
        batch.put(Family.CTL, name, records.encode(Number(number)))
        self.write(batch)

    # Writing

    def write(self, batch: Batch) -> None:
        """Write, unflushed. Raises WriteFailed: then nothing more is written by this process."""
        try:
            self.database.write(batch)
        except WriteFailed as error:
            self._write_failed(error)
            raise

    def _write_failed(self, error: WriteFailed) -> None:
        if not self.read_only:
            self.read_only = True
            self._fail(error)
            self.on_write_failed(error)

    def withdraw(self) -> None:
        """Take no part any more, since damage was found: the others can have another primary."""
        for task in self._tasks:
            task.cancel()
        self._fail(Damaged("out of service"))

    def _fail(self, error: Exception) -> None:
        self.failed = self.failed or error
        self._waiters.fail(error)

    async def _flush_forever(self) -> None:
        while True:
            await self._to_flush.wait()
            self._to_flush.clear()
            position, cuts = self.core.last, self._cuts
            try:
                await self.database.flush()
                self.counts.flushes += 1
                if cuts == self._cuts:
                    self.step(Flushed(position))
                else:  # What was flushed may have been cut off, and the same be written again.
                    self._to_flush.set()
            except WriteFailed as error:
                self._write_failed(error)
                return

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """See to it that a replica that cannot go on does not seem to."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.on_broken(error)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self.failed is not None:
                return
            if not self.is_alone:
                with suppress(WriteFailed):  # It is told to whom it concerns.
                    self._obey(self.core.tick(self.now_ms()))

    async def changed(self) -> None:
        """Return when the core has been told something. Raises WriteFailed."""
        if self.failed is not None:
            raise self.failed
        await self._waiters.change()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def abandon(self) -> None:
        """Let go of the database as it is."""
        await self._stop()
        self.database.close()
        self.hard.close()

    async def close(self) -> None:
        """Flush what was written and close the database."""
        await self._stop()
        if not self.read_only:
            with suppress(DiskWentFull):  # All that was acknowledged was flushed.
                await self.database.flush()
        self.database.close()
        self.hard.close()

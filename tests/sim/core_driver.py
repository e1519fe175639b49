"""The simulated driver of one core: a process that obeys Effects, in the order on the type.

Its turns are planned as the shard plans them: on applied state plus the overlay of what is on
its way in this reign, each request id once. Every disk operation may be its last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mail.errors import Invalid, NotPrimary
from storage.records import Entry
from storage.replication.core import ReplicaCore
from storage.replication.effects import (
    ChangeMembers,
    Effects,
    Fetch,
    Fetched,
    Flushed,
    Input,
    PromiseKept,
    Propose,
    Received,
    RenewLease,
    SnapshotEnded,
)
from storage.replication.messages import (
    Position,
    ReplicaId,
    decode_message,
    encode_message,
)
from storage.replication.reign import Reign
from tests.sim.core_checkers import number
from tests.sim.core_disk import Contents, Disk

if TYPE_CHECKING:
    from tests.sim.core_simulator import Simulator

ASK_LEASE_AGAIN_MS = 20
READ_PATIENCE_MS = 400
NEVER_CUT = 1 << 60


class Answer(Protocol):
    def __call__(self, value: int | None) -> None:
        """Take a value; None: not done here, or the outcome is unknown."""


class Process:
    """One process of a replica, from its start to its end."""

    def __init__(self, simulator: Simulator, replica: ReplicaId, disk: Disk) -> None:
        self.simulator = simulator
        self.rng = simulator.rng
        self.replica = replica
        self.name = f"r{replica[0]}"
        self.disk = disk
        self.dead = False
        self.stopped_until_ms = 0  # true time
        disk.settle_all()
        found = disk.live
        self.core: ReplicaCore = simulator.core_class(
            replica,
            members=found.members,
            members_index=found.members_index,
            promised=disk.promise,
            committed=found.applied,
            tail=[found.log[i] for i in range(found.applied.index + 1, found.last + 1)],
            high_water=disk.high_water,
            now_ms=self.clock_ms(),
        )
        self._overlay: dict[bytes, bytes] = {}
        self._waiters: dict[bytes, list[Answer]] = {}
        self._flushing = False
        self._cut_to = NEVER_CUT  # the log was cut to here since the flush began
        self._reign: Reign | None = None  # the newest that was seen to begin
        self._served: Reign | None = None
        self.simulator.at(self._tick_ms(), self.tick)

    def clock_ms(self) -> int:
        return self.simulator.clock_ms(self.replica)

    def _tick_ms(self) -> int:
        return 50 + int(self.rng.random() * 50)

    # The core

    def step(self, message: Input) -> None:
        self.run(self.core.step(message, self.clock_ms()))

    def tick(self) -> None:
        self.simulator.at(self._tick_ms(), self.tick)
        self.run(self.core.tick(self.clock_ms()))

    def deliver(self, sender: ReplicaId, octets: bytes) -> None:
        self.step(Received(sender, decode_message(octets)))

    def run(self, effects: Effects) -> None:
        """Obey effects, in their order."""
        disk = self.disk
        if self.core.reign is not self._reign:
            self._reign = self.core.reign
            if self._reign is not None:
                self.simulator.history.see_reign(self.name, self, self._reign.epoch, disk.live)
        if effects.promise is not None:
            self.keep_promise(effects)
        if effects.high_water is not None:
            disk.set_high_water(effects.high_water)
        if effects.cut_from or effects.append:
            if effects.cut_from:
                self._cut_to = min(self._cut_to, effects.cut_from - 1)
            disk.write(effects.cut_from, effects.append)
        for to, message in effects.send:
            self.simulator.send(self.replica, to, encode_message(message))
        if effects.committed:
            self._apply(effects.committed)
        if effects.append:
            self._begin_flush()
        for fetch in effects.fetch:
            self.simulator.at(1 + int(self.rng.random() * 20), self.fetch, fetch)
        for follower in effects.snapshot:
            self.simulator.begin_snapshot(self, follower)
        if effects.demoted:
            self._give_up()

    def keep_promise(self, effects: Effects) -> None:
        assert effects.promise is not None
        self.disk.keep_promise(effects.promise)
        self.step(PromiseKept(effects.promise))

    def _apply(self, committed: Sequence[Entry]) -> None:
        history, core = self.simulator.history, self.core
        history.see_committed(self.name, core.epoch, committed)
        if core.reign is not None:
            history.see_primary_commit(
                self.name,
                committed[-1],
                core.reign.epoch,
                core.members.voters,
                self.simulator.disks,
            )
        self.disk.apply(committed)
        if core.reign is not None and core.serving and core.reign is not self._served:
            self._served = core.reign
            history.see_serving(self.name, self.disk.live, core.reign.epoch)
        for entry in committed:
            for answer in self._waiters.pop(entry.request_id, ()):
                answer(number(entry.puts[0][1]))
        live = self.disk.live
        if len(live.log) > self.simulator.log_max:
            upto = live.applied.index - int(self.rng.random() * self.simulator.log_kept)
            if upto > live.base.index:
                self.disk.truncate(upto)

    def _give_up(self) -> None:
        waiters, self._waiters = self._waiters, {}
        self._overlay.clear()
        for answers in waiters.values():
            for answer in answers:
                answer(None)

    # The disk

    def _begin_flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        self._cut_to = NEVER_CUT
        last = self.core.last
        duration_ms = self.simulator.flush_ms()
        self.simulator.at(duration_ms, self.flush_ended, self.disk.written, last)

    def flush_ended(self, upto: int, last: Position) -> None:
        self.disk.flush(upto)
        self._flushing = False
        cut_to = self._cut_to
        if self.disk.written > upto:
            self._begin_flush()
        # What was cut off and written again since is not what this flush made durable.
        if cut_to >= last.index:
            self.step(Flushed(last))

    def fetch(self, fetch: Fetch) -> None:
        """Read the older log for a follower; the reign may be another when that is done."""
        live, after = self.disk.live, fetch.after_index
        epoch = live.epoch_at(after)
        if epoch is None:
            self.step(Fetched(fetch.follower, None))
            return
        count = 1 + int(self.rng.random() * 8)
        upto = min(live.last, after + count)
        entries = tuple(live.log[index] for index in range(after + 1, upto + 1))
        fetched = Fetched(fetch.follower, Position(epoch, after), entries)
        self.simulator.at(self.simulator.flush_ms(), self.step, fetched)

    def snapshot_ended(self, follower: ReplicaId, contents: Contents) -> None:
        index = self.simulator.install_snapshot(self.replica, follower, contents)
        self.step(SnapshotEnded(follower, index))

    # Clients

    def write(self, key: bytes, request: bytes, answer: Answer) -> None:
        """Raise the counter `key` by one, once per request id."""
        if not self.core.serving:
            answer(None)
            return
        reply = self.disk.live.values.get(b"r" + request)
        if reply is not None:
            answer(number(reply))
        elif request in self._waiters:
            self._waiters[request].append(answer)
        else:
            before = self._overlay.get(key) or self.disk.live.values.get(key)
            value = (number(before) + 1).to_bytes(4, "big")
            self._overlay[key] = value
            self._waiters[request] = [answer]
            puts = ((key, value), (b"r" + request, value))
            self.step(Propose((Entry(0, 0, 1, request, 0, puts),)))

    def read(self, key: bytes, answer: Answer) -> None:
        if not self.core.serving:
            answer(None)
            return
        value = number(self.disk.live.values.get(key))
        give_up_ms = self.simulator.now_ms + READ_PATIENCE_MS
        after_ms = int(self.rng.random() * 5)
        self.simulator.at(after_ms, self.leave, value, self.core.reign, give_up_ms, answer)

    def leave(self, value: int, reign: Reign | None, give_up_ms: int, answer: Answer) -> None:
        """Give an answer out, if the lease holds at this moment; else renew it first."""
        if self.core.reign is not reign or self.simulator.now_ms > give_up_ms:
            answer(None)
        elif self.core.may_answer(self.clock_ms()):
            answer(value)
        else:
            self.step(RenewLease())
            self.simulator.at(ASK_LEASE_AGAIN_MS, self.leave, value, reign, give_up_ms, answer)

    # Supervisors

    def hint(self, message: Input) -> None:
        """Take what a supervisor says; the core may refuse it."""
        voters = self.core.members.voters
        try:
            self.step(message)
        except (Invalid, NotPrimary):
            return
        if isinstance(message, ChangeMembers):
            for voter in set(message.members.voters) - set(voters):
                disk = self.simulator.disks[ReplicaId(voter)]
                self.simulator.history.see_voter(f"r{voter[0]}", disk, self.core.committed.index)

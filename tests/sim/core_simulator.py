"""Simulator of one shard's replica set: the production core under one seed, and all it fears.

Replicas on simulated disks, clocks and a network; clients that count, repeat by request id and
read; supervisors that hint at random; processes that crash and stop, power that fails, disks
that fill, forget and are lost; members that come and go. In the end everything is mended, and
the set must serve and converge.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from storage.records import Members
from storage.replication import reign, tail
from storage.replication.core import ReplicaCore
from storage.replication.effects import Campaign
from storage.replication.members import members_of
from storage.replication.messages import ReplicaId
from tests.sim.core_checkers import History
from tests.sim.core_clients import Client
from tests.sim.core_disk import Contents, Crashed, Disk, Refused
from tests.sim.core_driver import Process
from tests.sim.core_faults import Faults
from tests.sim.core_network import Network

FAULTS_MS = 9_000  # simulated time with faults
MENDED_MS = 20_000  # so long the mended set may take until all replicas agree
SUPERVISE_MS = 250
SKEW_MAX = 0.05
UNSURE_MS = 6_000  # longer than a message and a stop last together
EVENTS_MAX = 200_000  # of one run: a storm of messages is a problem of its own


class Simulator:
    """One run."""

    core_class: type[ReplicaCore] = ReplicaCore
    process_class: type[Process] = Process

    def __init__(self, seed: int, *, only: Collection[str] | None = None) -> None:
        """Begin the run of a seed. `only` names the kinds of faults; None: the seed chooses."""
        self.rng = rng = random.Random(seed)
        self.now_ms = 0  # true time
        self.history = History()
        self.network = Network(rng)
        self.disks: dict[ReplicaId, Disk] = {}
        self.processes: dict[ReplicaId, Process] = {}  # those that run
        self.gone: set[ReplicaId] = set()  # their disks are lost for good
        self.snapshots = 0  # installed
        self.suspects = 0  # processes that began as such
        self.mended = False
        self.members_unsure_ms = 0  # until then replica sets may be on their way to somebody
        self.hung_flush = rng.choice((0.0, 0.0, 0.01, 0.05))
        self.log_max = rng.choice((8, 30, 200))
        self.log_kept = rng.choice((1, 6, 25))
        self._clocks: dict[ReplicaId, tuple[int, float]] = {}
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self._names = count(1)
        replicas = [self._name() for _ in range(rng.choice((1, 3, 3, 3, 3, 5)))]
        members = members_of(replicas)
        for replica in replicas:
            self.add_replica(replica, members)
        self.clients = [Client(self, n) for n in range(4)]
        self.faults = Faults(self, only)
        self._mended_at_ms = 0
        self.served_ms: int | None = None  # how long the mended set took to serve
        self.converged_ms: int | None = None

    # Time

    def at(self, after_ms: int, do: Callable[..., None], *arguments: Any) -> None:
        """Have something done later; what belongs to a process ends with it."""
        event = (self.now_ms + after_ms, next(self._numbers), do, arguments)
        heapq.heappush(self._events, event)

    def clock_ms(self, replica: ReplicaId) -> int:
        offset, rate = self._clocks[replica]
        return int(offset + self.now_ms * rate)

    def set_clock(self, replica: ReplicaId) -> None:
        """Give a machine its clock: what it shows after it was switched on, and its speed."""
        rate = 1 + (self.rng.random() * 2 - 1) * SKEW_MAX
        self._clocks[replica] = (self.rng.randrange(1_000_000), rate)

    def flush_ms(self) -> int:
        if not self.mended and self.rng.random() < self.hung_flush:
            return int(self.rng.random() * 2500)
        return 1 + int(self.rng.random() * 6)

    # Replicas

    def _name(self) -> ReplicaId:
        return ReplicaId(bytes((next(self._names),)) * 16)

    def add_replica(self, replica: ReplicaId, members: Members) -> None:
        self.disks[replica] = Disk(replica, members, self.rng)
        self.set_clock(replica)
        self.start(replica)

    def new_replica(self) -> ReplicaId:
        """Return an empty replica, which learns from others whom it belongs to."""
        replica = self._name()
        self.add_replica(replica, Members((), (replica,)))
        return replica

    def start(self, replica: ReplicaId) -> None:
        if replica in self.processes or replica in self.gone:
            return
        process = self.process_class(self, replica, self.disks[replica])
        self.processes[replica] = process
        self.suspects += process.core.suspect

    def crash(self, replica: ReplicaId, *, power: bool) -> None:
        """End a process; without power its machine forgets what was not flushed."""
        process = self.processes.pop(replica, None)
        if process is not None:
            process.dead = True
        self.disks[replica].crash_in = None
        if power:
            members = self.disks[replica].live.newest_members()
            self.disks[replica].lose_power()
            self.set_clock(replica)
            if self.disks[replica].live.newest_members() != members:
                # Others may still hear of that replica set.
                self.members_unsure_ms = self.now_ms + UNSURE_MS

    def send(self, sender: ReplicaId, receiver: ReplicaId, octets: bytes) -> None:
        for delay_ms in self.network.delays(sender, receiver):
            self.at(delay_ms, self._arrive, sender, receiver, octets)

    def _arrive(self, sender: ReplicaId, receiver: ReplicaId, octets: bytes) -> None:
        process = self.processes.get(receiver)
        if process is not None:
            self._dispatch(process, process.deliver, (sender, octets))

    def begin_snapshot(self, source: Process, follower: ReplicaId) -> None:
        contents = source.disk.live.snapshot()
        self.at(20 + int(self.rng.random() * 300), source.snapshot_ended, follower, contents)

    def install_snapshot(self, source: ReplicaId, follower: ReplicaId, contents: Contents) -> int:
        """Replace the follower's state; return the index that it holds, 0 if that failed."""
        process = self.processes.get(follower)
        if process is None or not self.network.is_open(source, follower):
            return 0
        disk = self.disks[follower]
        if disk.live.applied.index >= contents.applied.index:
            return disk.live.applied.index
        self.crash(follower, power=False)
        disk.install_snapshot(contents, suspect=process.core.suspect)
        self.start(follower)
        self.snapshots += 1
        return contents.applied.index

    # The run

    def run(self) -> list[str]:
        """Return every problem that a checker found."""
        with self._small_limits():
            for client in self.clients:
                self.at(int(self.rng.random() * 50), client.begin)
            for _ in range(2):
                self.at(SUPERVISE_MS, self._supervise)
            self.faults.begin()
            self._run_until(FAULTS_MS)
            self._mend()
            end_ms = self.now_ms + MENDED_MS
            while not self.history.problems and self.now_ms < end_ms:
                self._run_until(self.now_ms + 100)
                if self._is_converged():
                    break
            self._check_end()
        return self.history.problems

    @contextmanager
    def _small_limits(self) -> Iterator[None]:
        """Keep little in memory and send little at once, so that every path is walked."""
        kept, at_once = tail.KEPT_ENTRIES, reign.APPEND_ENTRIES_MAX
        tail.KEPT_ENTRIES = self.rng.choice((1, 4, 32))
        reign.APPEND_ENTRIES_MAX = self.rng.choice((1, 3, 16))
        try:
            yield
        finally:
            tail.KEPT_ENTRIES, reign.APPEND_ENTRIES_MAX = kept, at_once

    def _run_until(self, end_ms: int) -> None:
        events = self._events
        while events and events[0][0] <= end_ms and not self.history.problems:
            self.now_ms, sequence, do, arguments = heapq.heappop(events)
            if sequence > EVENTS_MAX:
                self.history.problem("a storm of events")
            owner = getattr(do, "__self__", None)
            if isinstance(owner, Process):
                self._dispatch(owner, do, arguments)
            else:
                do(*arguments)
        self.now_ms = end_ms

    def _dispatch(self, process: Process, do: Callable[..., None], arguments: Any) -> None:
        """Let a process act, unless it has ended or is stopped."""
        if process.dead:
            return
        if process.stopped_until_ms > self.now_ms:
            self.at(process.stopped_until_ms - self.now_ms, self._dispatch, process, do, arguments)
            return
        try:
            do(*arguments)
        except (Crashed, Refused):
            self.crash(process.replica, power=self.rng.random() < 0.5)
            self.at(50 + int(self.rng.random() * 1500), self.start, process.replica)

    def ask(self, replica: ReplicaId, method: str, *arguments: Any) -> None:
        """Have a running process do something now, as somebody outside asks it to."""
        process = self.processes.get(replica)
        if process is not None:
            self._dispatch(process, getattr(process, method), arguments)

    # Supervisors

    def serving(self) -> list[Process]:
        """Return the processes that may answer now."""
        return [
            process
            for replica, process in self.processes.items()
            if process.core.may_answer(self.clock_ms(replica))
        ]

    def _supervise(self) -> None:
        self.at(SUPERVISE_MS + int(self.rng.random() * SUPERVISE_MS), self._supervise)
        processes = [p for p in self.processes.values() if p.replica in p.core.members.voters]
        primaries = [process for process in processes if process.core.reign is not None]
        if processes and not (primaries if self.mended else self.serving()):
            self.ask(self.rng.choice(processes).replica, "hint", Campaign())

    # The end

    def _mend(self) -> None:
        self.mended = True
        self.network.calm()
        self.faults.end()
        for replica, disk in self.disks.items():
            disk.full = False
            disk.crash_in = None
            self.start(replica)
        for process in self.processes.values():
            process.stopped_until_ms = min(process.stopped_until_ms, self.now_ms)
        self._mended_at_ms = self.now_ms

    def _is_converged(self) -> bool:
        """Say whether a primary serves, clients get answers, and its replicas have all of it."""
        serving = [process for process in self.processes.values() if process.core.serving]
        if self.served_ms is None and self.serving():
            self.served_ms = self.now_ms - self._mended_at_ms
        if self.served_ms is None or not serving:
            return False
        for client in self.clients:
            client.finish()
        if any(client.busy for client in self.clients):
            return False
        members = max(serving, key=lambda process: process.core.epoch).core.members
        here = [
            self.processes[ReplicaId(replica)]
            for replica in (*members.voters, *members.learners)
            if replica not in self.gone
        ]
        applied = {process.disk.live.applied for process in here}
        if len(applied) > 1 or any(process.core.suspect for process in here):
            return False
        self.converged_ms = self.now_ms - self._mended_at_ms
        self.history.see_end((process.name, process.disk.live) for process in here)
        return True

    def _check_end(self) -> None:
        if not self.history.problems and self.converged_ms is None:
            states = ", ".join(
                f"{p.name} {p.core.role.value} {p.core.epoch} {p.core.last} {p.core.committed}"
                f"{' suspect' if p.core.suspect else ''} {len(p.core.members.voters)}"
                for p in self.processes.values()
            )
            self.history.problem(f"mended, it does not serve or converge: {states}")

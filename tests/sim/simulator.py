"""Simulator: the production Shard, Replica, Core and Snapshots of one shard, driven by one seed.

One replica or three (or on the way from one to three), on simulated disks, clocks and a
network; clients, readers, collectors and supervisors around them; and faults (`faults.py`).
What was acknowledged must be there, once, whatever the order of events; a read must show what
was acknowledged before it; at the end, mended, the set must serve and its replicas be equal.
The seed gives the same run again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from mail.errors import MailError, Unavailable
from storage import blob_traffic, keys, snapshots
from storage import replica as replica_module
from storage import shard as shard_module
from storage.blob_traffic import BlobTraffic
from storage.collector import Collector
from storage.database import WriteFailed
from storage.replica import Replica
from storage.replication import tail
from storage.replication.messages import ReplicaId
from storage.shard import Shard
from storage.snapshots import SnapshotReceiver
from tests.sim import checkers, virtual_time
from tests.sim.clients import MAILBOXES, Client
from tests.sim.disk import Crashed, Disk, SimHardState
from tests.sim.faults import Faults, Handicap
from tests.sim.history import History
from tests.sim.host import Host
from tests.sim.network import Network
from tests.sim.supervisor import Supervisor
from tests.sim.virtual_time import START_S, VirtualTimeLoop

T = TypeVar("T")
START_MS = 1_700_000_000_000
MENDED_S = 30.0  # by then the set serves, is whole and its replicas are equal
SERVED_S = 10.0  # by then a majority of three serves
TROUBLE_S = (1.0, 6.0)  # for so long there are faults

# Limits so small that what they bound happens within a few seconds.
SMALL: tuple[tuple[object, str, object], ...] = (
    (keys, "BLOB_CHUNK_BYTES", 1_000),
    (shard_module, "BLOB_INLINE_BYTES_MAX", 600),
    (blob_traffic, "INLINE_BYTES_MAX", 600),
    (blob_traffic, "TRAVELLING_BYTES_MAX", 3_000),
    (replica_module, "LOG_KEPT_ENTRIES", 6),
    (replica_module, "LOG_SLACK_ENTRIES", 6),
    (replica_module, "LOG_LAG_ENTRIES", 20),
    (tail, "KEPT_ENTRIES", 4),
    (snapshots, "SLICE_BYTES", 2_000),
    (snapshots, "ASK_AGAIN_S", 0.3),
    (snapshots, "SENDER_IDLE_S", 3.0),
)


class Node:
    """One machine: a disk, a clock, and at most one process with a replica."""

    def __init__(self, simulator: Simulator, name: str, *, founds: bool) -> None:
        self.name = name
        self._simulator = simulator
        rng = simulator.rng
        self._rate = 1 + rng.uniform(-0.04, 0.04)
        self._offset_ms = rng.randint(1_000, 10_000_000)
        self.host: Host | None = None
        self.suspended = 0  # stops that have not ended
        self.disk = self._new_disk(founds=founds)

    def _new_disk(self, *, founds: bool) -> Disk:
        replica = ReplicaId(self._simulator.rng.randbytes(16))
        disk = Disk(self._simulator.rng, replica, founds=founds)
        disk.on_applied = lambda at, index: self._simulator.history.see_applied(
            self.name, at, index
        )
        return disk

    def replace_disk(self) -> None:
        """Begin anew with an empty disk: another replica than before."""
        self.disk = self._new_disk(founds=False)

    def boot_ms(self) -> int:
        return self._offset_ms + int((self._simulator.loop.time() - START_S) * 1000 * self._rate)


@dataclass(frozen=True)
class Classes:
    """What runs: the production classes, but for a planted bug."""

    shard: type[Shard] = Shard
    replica: type[Replica] = Replica
    traffic: type[BlobTraffic] = BlobTraffic
    collector: type[Collector] = Collector
    receiver: type[SnapshotReceiver] = SnapshotReceiver
    hard_state: type[SimHardState] = SimHardState


class Simulator:
    """One run."""

    def __init__(self, seed: int, classes: Classes | None = None) -> None:
        self.rng = random.Random(seed)
        self.classes = classes or Classes()
        self.history = History(MAILBOXES)
        self.loop: VirtualTimeLoop
        self.network: Network
        self.nodes: dict[str, Node] = {}
        self.row: tuple[str, ...] = ("a",)  # where the directory's table wants replicas
        self.size = self.rng.choice((1, 3, 3, 3))
        self.has_index = self.rng.random() < 0.1
        self.think_s = self.rng.choice((0.05, 0.2, 0.6))
        self.mended = False
        self.snapshots = 0
        self.resumed = 0
        self.elections = 0
        self.losses = 0
        self._clients: list[asyncio.Task[None]] = []

    @property
    def problems(self) -> list[str]:
        return self.history.problems

    def run(self) -> list[str]:
        """Return every problem that a checker found."""
        with _small_limits(self.classes):
            virtual_time.run(self._main)
        return self.problems

    async def _main(self, loop: VirtualTimeLoop) -> None:
        self.loop = loop
        loop.set_exception_handler(self._see_exception)
        self.network = Network(self.rng, loop.time, self.at, self._carry)
        names = ("a",) if self.size == 1 else ("a", "b", "c", "d")
        for name in names:
            self.nodes[name] = Node(self, name, founds=name == "a")
            self.start(self.nodes[name])
        if self.size == 3:
            grow_s = self.rng.choice((0.0, 0.0, 0.5, 2.0))
            self.at(grow_s, self._grow)
            for node in self.nodes.values():
                Supervisor(self, node)
        faults = Faults(self)
        reader = loop.create_task(Client(self, 0).read_forever())
        self._clients = [
            loop.create_task(Client(self, self.rng.randint(5, 12)).run()) for _ in range(5)
        ]
        await asyncio.sleep(self.rng.uniform(*TROUBLE_S))
        faults.end()
        handicapped = faults.handicap()
        self._mend(handicapped)
        if handicapped is not None:
            await self._serve_without(handicapped)
        await reader
        await self._converge()
        for error in loop.failed_tasks():
            self._see_exception(loop, {"exception": error})
        if not self.problems:
            self.history.problems += checkers.end_problems(self)

    def _grow(self) -> None:
        if len(self.row) == 1:
            self.row = ("a", "b", "c")

    # Time

    def clock_ms(self) -> int:
        return START_MS + int((self.loop.time() - START_S) * 1000)

    def at(self, after_s: float, what: Callable[[], None]) -> None:
        """Do something later, in nobody's process."""
        self.loop.call_later(after_s, what, context=self.loop.nobody)

    # Processes

    def start(self, node: Node) -> None:
        if node.host is None:
            node.host = Host(self, node)
            node.host.process.post(node.host.begin)

    def crash(self, node: Node, *, power: bool | None = None) -> None:
        """End a process as it is, and start another after a while."""
        host, node.host = node.host, None
        if host is None:
            return
        host.process.kill()
        if self.rng.random() < 0.5 if power is None else power:
            node.disk.lose_power()
        after_s = 0.05 if self.mended else self.rng.choice((0.02, 0.2, 1.0))
        self.at(after_s, lambda: self.start(node))

    def stop(self, node: Node, for_s: float) -> None:
        """Stop a process for a while, as SIGSTOP or a stalled machine does."""
        host = node.host
        if host is not None and not host.process.stopped:
            host.report()
            host.process.stop()
            self.at(for_s, host.process.go_on)

    def see_damage(self, node: Node, trouble: str) -> None:
        """A replica is out of service: a new one takes its place, on another disk."""
        if self.size == 1 or not node.disk.lost:
            self.history.problem(f"{node.name} is damaged: {trouble}")
            return
        self.at(self.rng.random(), lambda: self.replace(node))

    def replace(self, node: Node) -> None:
        """Have a new replica on an empty disk in a node's place."""
        host, node.host = node.host, None
        if host is not None:
            host.process.kill()
        node.replace_disk()
        self.start(node)

    # Messages

    def send(self, host: Host, to: ReplicaId, frame: bytes) -> None:
        if host.process.dead:
            return
        for node in self.nodes.values():
            if node.disk.replica == to:
                self.network.send(host.node.name, node.name, frame)
                return

    def _carry(self, one: str, other: str, frame: bytes) -> None:
        host = self.nodes[other].host
        if host is not None:
            host.process.post(host.receive, frame)

    def add_client(self, work: Coroutine[None, None, None]) -> None:
        self._clients.append(self.loop.create_task(work, context=self.loop.nobody))

    async def ask(self, name: str, work: Callable[[Shard], Awaitable[T]]) -> T:
        """Ask the replica on a node; the answer may never come. Raises MailError."""
        answer: asyncio.Future[T] = self.loop.create_future()
        self.at(self.rng.random() * 0.002, lambda: self._asked(name, work, answer))
        return await answer

    def _asked(
        self, name: str, work: Callable[[Shard], Awaitable[T]], answer: asyncio.Future[T]
    ) -> None:
        host = self.nodes[name].host
        if host is None:
            self._answer(answer, None, Unavailable())
        else:
            host.process.post(lambda: host.process.spawn(self._handle(host, work, answer)))

    async def _handle(
        self, host: Host, work: Callable[[Shard], Awaitable[T]], answer: asyncio.Future[T]
    ) -> None:
        value, error = None, None
        try:
            value = await host.handle(work)
        except MailError as refusal:
            error = refusal
        lost = self.rng.random() < self.network.loss
        if not lost:
            self.at(
                self.rng.random() * self.network.delay_s,
                lambda: self._answer(answer, value, error),
            )

    @staticmethod
    def _answer(answer: asyncio.Future[T], value: T | None, error: MailError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)  # type: ignore[arg-type]

    # The end

    def _see_exception(self, loop: object, context: dict[str, object]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, (Crashed, MailError, WriteFailed)):
            self.history.problem(f"{context.get('message', 'a task')}: {error!r}")

    def _mend(self, handicapped: Handicap | None) -> None:
        self.mended = True
        self.network.calm()
        for node in self.nodes.values():
            node.disk.crash_in = None
            node.disk.slow_s = 0.005
            if handicapped is not None and handicapped.node is node:
                continue
            node.disk.full = False
            if node.host is not None:
                node.host.process.go_on()
            self.start(node)
        if self.size == 3:
            self._grow()
        if handicapped is not None:
            handicapped.begin()

    async def _serve_without(self, handicapped: Handicap) -> None:
        """Check that a majority suffices, whatever ails the third."""
        name = handicapped.node.name
        others = [self.loop.create_task(Client(self, 0).pester(name)) for _ in range(2)]
        try:
            async with asyncio.timeout(SERVED_S):
                await Client(self, 0).deliver()
        except TimeoutError:
            self.history.problem(f"no service, {handicapped.what}: {self.shown()}")
        for task in others:
            task.cancel()
        handicapped.end()

    async def _converge(self) -> None:
        began_s = self.loop.time()
        while self.loop.time() < began_s + MENDED_S and not self.problems:
            await asyncio.sleep(0.25)
            if all(task.done() for task in self._clients) and self.is_whole():
                return
        if not self.problems:
            self.history.problem(f"mended, it does not serve or converge: {self.shown()}")

    def replicas(self) -> Iterator[tuple[Node, Replica]]:
        for node in self.nodes.values():
            if node.host is not None and node.host.replica is not None:
                yield node, node.host.replica

    def primary(self) -> Replica | None:
        found = [replica for _, replica in self.replicas() if replica.core.serving]
        return max(found, key=lambda one: one.core.epoch) if found else None

    def is_manned(self) -> bool:
        """Say whether exactly the wanted replicas vote."""
        primary = self.primary()
        if primary is None or primary.core.members_index > primary.core.committed.index:
            return False
        wanted = {self.nodes[name].disk.replica for name in self.row}
        members = primary.core.members
        return set(members.voters) == wanted and not members.learners

    def is_whole(self) -> bool:
        """Say whether the wanted replicas vote, and all have and have applied all."""
        primary = self.primary()
        if primary is None or not self.is_manned():
            return False
        wanted = primary.core.members.voters
        here = [
            replica
            for node, replica in self.replicas()
            if replica.replica in wanted and not node.disk.lost
        ]
        last = primary.core.last.index
        return len(here) == len(wanted) and all(
            one.applied.index == last and not one.core.suspect and not one.read_only for one in here
        )

    def shown(self) -> str:
        states = [
            f"{node.name} {one.core.role.value} {one.core.epoch} {one.core.last} "
            f"{one.core.committed.index} {one.applied.index}"
            f"{' suspect' if one.core.suspect else ''}{' full' if one.read_only else ''}"
            for node, one in self.replicas()
        ]
        clients = sum(not task.done() for task in self._clients)
        primary = self.primary()
        voters = len(primary.core.members.voters) if primary is not None else 0
        return f"{clients} clients wait, {voters} voters, row {self.row}: {'; '.join(states)}"


@contextmanager
def _small_limits(classes: Classes) -> Iterator[None]:
    changed = (
        *SMALL,
        (shard_module, "Replica", classes.replica),
        (replica_module, "BlobTraffic", classes.traffic),
    )
    before = [getattr(module, name) for module, name, _ in changed]
    for module, name, value in changed:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(changed, before, strict=True):
            setattr(module, name, value)

"""What befalls a simulated replica set, at random but within what it must survive.

Crashes, stalls and cuts have no limit. Of durable data, one replica's at a time may be lost,
and only where the sets that know it have three voters or more: less cannot be survived.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from storage.records import Members
from storage.replication.effects import Campaign, ChangeMembers, Release
from storage.replication.members import members_of, quorum
from storage.replication.messages import ReplicaId

if TYPE_CHECKING:
    from tests.sim.core_driver import Process
    from tests.sim.core_simulator import Simulator

STOP_MAX_MS = 3_000


class Faults:
    """The evil of one run: some runs are calm, some wild, and each in its own way."""

    def __init__(self, simulator: Simulator, only: Collection[str] | None) -> None:
        self.simulator = simulator
        self.rng = rng = simulator.rng
        self.ended = False
        self._pause_ms = rng.choice((80, 200, 400, 800))
        self._wanted = rng.choice((1, 3, 3, 5))  # voters
        kinds = {
            self._campaign: 5,
            self._usurp: 5,
            self._release: 3,
            self._partition: 3,
            self._cut: 4,
            self._mend_network: 12,
            self._weather: 2,
            self._crash: 3,
            self._crash_soon: 2,
            self._stop: 3,
            self._blackout: 1,
            self._fill: 1,
            self._back_up: 4,
            self._roll_back: 3,
            self._lose: 1,
            self._change_members: 12,
        }
        # Each run is without some of them, so that the others have room to act.
        self._kinds = [
            kind
            for kind in kinds
            if kind == self._mend_network
            or (rng.random() < 0.7 if only is None else kind.__name__.strip("_") in only)
        ]
        self._weights = [kinds[kind] for kind in self._kinds]

    def begin(self) -> None:
        self.simulator.at(self._pause_ms, self._strike)

    def end(self) -> None:
        self.ended = True

    def _strike(self) -> None:
        if self.ended:
            return
        self.simulator.at(int(self.rng.random() * 2 * self._pause_ms), self._strike)
        self.rng.choices(self._kinds, self._weights)[0]()

    def _any(self) -> ReplicaId | None:
        running = list(self.simulator.processes)
        return self.rng.choice(running) if running else None

    def _any_primary(self) -> Process | None:
        found = [p for p in self.simulator.processes.values() if p.core.serving]
        return self.rng.choice(found) if found else None

    # Supervisors

    def _campaign(self) -> None:
        """Hint at random, also needlessly and to several at once."""
        running = list(self.simulator.processes)
        for replica in self.rng.sample(running, self.rng.randint(0, len(running))):
            self._hint(replica, 30)

    def _hint(self, replica: ReplicaId, within_ms: int) -> None:
        after_ms = int(self.rng.random() * within_ms)
        self.simulator.at(after_ms, self.simulator.ask, replica, "hint", Campaign())

    def _usurp(self) -> None:
        """Cut off or stop a primary, and have others try to succeed it while it may not know."""
        simulator, rng, primary = self.simulator, self.rng, self._any_primary()
        if primary is None:
            return
        others = [replica for replica in simulator.processes if replica != primary.replica]
        duration_ms = 100 + int(rng.random() * 1500)
        match rng.randrange(4):
            case 0:
                duration_ms = 700 + int(rng.random() * 750)  # Its lease ends meanwhile.
                primary.stopped_until_ms = simulator.now_ms + duration_ms
                if rng.random() < 0.5:  # What was on its way arrives, and nothing else.
                    simulator.at(20, simulator.network.silence, primary.replica, others)
                    duration_ms += 200
            case 1:
                simulator.network.silence(primary.replica, others)
            case _:
                simulator.network.split(([primary.replica], others))
        simulator.at(duration_ms, simulator.network.mend)
        restart = rng.random() < 0.3
        for replica in others:
            if restart:
                simulator.crash(replica, power=False)
                simulator.at(5 + int(rng.random() * 50), simulator.start, replica)
            for _ in range(rng.randint(0, 3)):
                self._hint(replica, duration_ms)

    def _release(self) -> None:
        primary = self._any_primary()
        if primary is not None:
            voter = ReplicaId(self.rng.choice(primary.core.members.voters))
            self.simulator.ask(primary.replica, "hint", Release(voter))

    # The network

    def _partition(self) -> None:
        replicas: list[bytes] = list(self.simulator.disks)
        self.rng.shuffle(replicas)
        place = self.rng.randint(0, len(replicas) // 2)
        self.simulator.network.split((replicas[:place], replicas[place:]))

    def _cut(self) -> None:
        """Cut one direction, or one pair, or all that somebody sends or hears."""
        network, replicas = self.simulator.network, list(self.simulator.disks)
        one, other = self.rng.choice(replicas), self.rng.choice(replicas)
        match self.rng.randrange(4):
            case 0:
                network.cuts.add((one, other))
            case 1:
                network.cuts.update(((one, other), (other, one)))
            case 2:
                network.cuts.update((one, to) for to in replicas)
            case _:
                network.silence(one, replicas)

    def _mend_network(self) -> None:
        self.simulator.network.mend()

    def _weather(self) -> None:
        network, rng = self.simulator.network, self.rng
        network.loss = rng.choice((0.0, 0.05, 0.3))
        network.repeat = rng.choice((0.0, 0.1, 0.5))
        network.slow = rng.choice((0.0, 0.1, 0.4))
        network.slow_max_ms = rng.choice((50, 400, 2000))

    # Processes and machines

    def _start_later(self, replica: ReplicaId) -> None:
        self.simulator.at(30 + int(self.rng.random() ** 2 * 2000), self.simulator.start, replica)

    def _crash(self) -> None:
        replica = self._any()
        if replica is not None:
            self.simulator.crash(replica, power=self.rng.random() < 0.5)
            self._start_later(replica)

    def _crash_soon(self) -> None:
        """Let a process die at one of its next disk operations."""
        replica = self._any()
        if replica is not None:
            self.simulator.disks[replica].crash_in = self.rng.randint(1, 12)

    def _blackout(self) -> None:
        """All machines lose their power at once."""
        for replica in list(self.simulator.processes):
            self.simulator.crash(replica, power=True)
            self._start_later(replica)

    def _stop(self) -> None:
        replica = self._any()
        if replica is not None:
            until_ms = self.simulator.now_ms + int(self.rng.random() ** 3 * STOP_MAX_MS)
            self.simulator.processes[replica].stopped_until_ms = until_ms

    def _fill(self) -> None:
        replica = self._any()
        if replica is not None:
            disk = self.simulator.disks[replica]
            disk.full = True
            self.simulator.at(int(self.rng.random() * 2000), setattr, disk, "full", False)

    # Data that was durable

    def _back_up(self) -> None:
        """Keep a copy, to which the database may be rolled back some time."""
        replica = self.rng.choice(list(self.simulator.disks))
        disk = self.simulator.disks[replica]
        disk.backup = disk.durable.copy()

    def _roll_back(self) -> None:
        """Let a database lose its newest flushed entries; the hard state beside it stays."""
        disks = self.simulator.disks
        replica = self.rng.choice([one for one in disks if disks[one].backup] or list(disks))
        disk = disks[replica]
        backup, disk.backup = disk.backup, None
        if backup is None or not self._may_lose(replica):
            return
        if disk.high_water < disk.acknowledged:
            return  # The mark was lost with the power: nobody could tell what is missing.
        self.simulator.crash(replica, power=False)
        disk.settle_all()
        disk.install(backup)
        disk.lost = True
        self._start_later(replica)

    def _lose(self) -> None:
        """Lose a disk for good; another replica is to take its place."""
        replica = self.rng.choice(list(self.simulator.disks))
        if self._may_lose(replica):
            self.simulator.crash(replica, power=False)
            self.simulator.gone.add(replica)
            self.simulator.disks[replica].lost = True

    def _known_sets(self) -> list[Members]:
        """Return every replica set that is in force somewhere."""
        simulator = self.simulator
        return [
            disk.live.newest_members()
            for replica, disk in simulator.disks.items()
            if replica not in simulator.gone
        ]

    def _short_of_data(self) -> set[ReplicaId]:
        """Return who has lost something and has not got it back."""
        simulator = self.simulator
        short = set(simulator.gone)
        for replica, disk in simulator.disks.items():
            process = simulator.processes.get(replica)
            suspect = disk.live.last < disk.high_water if process is None else process.core.suspect
            if suspect:
                short.add(replica)
        return short

    def _may_lose(self, victim: ReplicaId) -> bool:
        short = self._short_of_data()
        if victim in short or self.simulator.now_ms < self.simulator.members_unsure_ms:
            return False
        known = [one.voters for one in self._known_sets()]
        return not any(short & set(voters) for voters in known) and all(
            len(voters) >= 3 for voters in known if victim in voters
        )

    # Members

    def _change_members(self) -> None:
        if self.rng.random() < 0.1:
            self._wanted = self.rng.choice((1, 3, 5))
        primary = self._any_primary()
        if primary is None or primary.stopped_until_ms > self.simulator.now_ms:
            return  # What is right now need not be so when it goes on.
        change = self._next_change(primary)
        if change is None:
            return
        based_on = primary.core.members_index
        if self.rng.random() < 0.05:
            based_on -= 1
        self.simulator.ask(primary.replica, "hint", ChangeMembers(change, based_on))

    def _next_change(self, primary: Process) -> Members | None:
        """Return the replica set that a supervisor would want next."""
        rng, gone = self.rng, self.simulator.gone
        members = primary.core.members
        voters, learners = set(members.voters), set(members.learners)
        dead = sorted(voters & gone)
        if rng.random() < 0.15:
            return self._unsafe_change(voters, learners)
        if learners & gone:
            learners -= gone
        elif learners and rng.random() < 0.8:
            learner = rng.choice(sorted(learners))
            learners.discard(learner)
            if rng.random() < 0.9:
                voters.add(learner)
        elif dead and len(voters) > self._wanted:
            voters.discard(dead[0])
        elif dead or len(voters) < self._wanted:
            learners.add(self._spare(voters | learners))
        else:
            voters.discard(rng.choice(sorted(voters)))
        return members_of(voters, learners) if self._can_work(voters) else None

    def _unsafe_change(self, voters: set[bytes], learners: set[bytes]) -> Members | None:
        """Return a set that must not follow on the one in force, or must only sometimes."""
        if self.rng.random() < 0.5:
            voters = voters | learners
            learners = set()
        else:
            kept = self.rng.sample(sorted(voters), self.rng.randint(1, len(voters)))
            voters, learners = set(kept) | learners, set()
        return members_of(voters, learners) if self._can_work(voters) else None

    def _can_work(self, voters: set[bytes]) -> bool:
        return bool(voters) and len(voters - self._short_of_data()) >= quorum(len(voters))

    def _spare(self, members: set[bytes]) -> ReplicaId:
        """Return a replica that belongs to nobody, a new one if need be."""
        simulator = self.simulator
        spare = [one for one in simulator.processes if one not in members]
        never_voted = [
            one for one in spare if not any(one in known.voters for known in self._known_sets())
        ]
        return self.rng.choice(never_voted) if never_voted else simulator.new_replica()

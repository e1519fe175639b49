"""What befalls a simulated replica set, at random but within what it must survive.

Crashes, stalls, cuts and full disks have no limit. Of durable data, one replica's at a time is
lost, and only where three vote, all of them whole: less cannot be survived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from storage.database import Family
from storage.records import Members
from storage.replication.effects import Campaign, ChangeMembers, Release
from storage.replication.members import members_of
from storage.replication.messages import ReplicaId
from tests.sim.clients import Client

if TYPE_CHECKING:
    from tests.sim.simulator import Node, Simulator

STOP_MAX_S = 3.0


class Handicap:
    """What ails one replica while the two others must serve without it."""

    def __init__(self, simulator: Simulator, node: Node, what: str) -> None:
        self.simulator = simulator
        self.node = node
        self.what = f"{node.name} is {what}"
        self._kind = what

    def begin(self) -> None:
        network, names = self.simulator.network, list(self.simulator.nodes)
        match self._kind:
            case "full":
                self.node.disk.full = True
            case "stopped" if self.node.host is not None:
                self.simulator.stop(self.node, 60.0)
            case "damaged" if self.node.host is not None:
                self.node.disk.lost = True
                self.node.host.process.post(self.node.host.out_of_service, "a handicap")
            case "deaf":
                network.cut(names, (self.node.name,), one_way=True)
            case _:
                network.cut((self.node.name,), names, one_way=True)

    def end(self) -> None:
        self.simulator.network.mend()
        self.node.disk.full = False
        if self.node.host is not None:
            self.node.host.process.go_on()
        self.simulator.start(self.node)


class Faults:
    """The evil of one run: some runs are calm, some wild, and each in its own way."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.rng = rng = simulator.rng
        self._ended = False
        self._usurping = False
        self._pause_s = rng.choice((0.1, 0.2, 0.4, 0.8))
        kinds: dict[Callable[[], None], int] = {
            self._crash: 4,
            self._crash_soon: 8,
            self._stop: 3,
            self._fill: 2,
            self._slow_disk: 2,
        }
        if simulator.size > 1:
            kinds |= {
                self._blackout: 1,
                self._campaign: 5,
                self._usurp: 6,
                self._release: 3,
                self._partition: 3,
                self._cut: 4,
                self._mend_network: 8,
                self._weather: 3,
                self._lose: 4,
                self._rot: 4,
                self._move: 2,
                self._change_members: 4,
            }
        # Each run is without some of them, so that the others have room to act.
        self._kinds = [kind for kind in kinds if kind == self._mend_network or rng.random() < 0.7]
        self._weights = [kinds[kind] for kind in self._kinds]
        if self._kinds:
            simulator.at(self._pause_s, self._strike)

    def end(self) -> None:
        self._ended = True

    def handicap(self) -> Handicap | None:
        """Return what is to ail one of three replicas while all else is mended."""
        if not self._may_lose() or self.rng.random() < 0.5:
            return None
        name = self.rng.choice(self.simulator.row)
        primary = self._any_primary()
        if primary is not None and primary.name in self.simulator.row and self.rng.random() < 0.6:
            name = primary.name
        kind = self.rng.choice(("full", "stopped", "damaged", "deaf", "mute"))
        return Handicap(self.simulator, self.simulator.nodes[name], kind)

    def _strike(self) -> None:
        if self._ended:
            return
        self.simulator.at(self.rng.random() * 2 * self._pause_s, self._strike)
        self.rng.choices(self._kinds, self._weights)[0]()

    def _any(self) -> Node:
        return self.rng.choice(list(self.simulator.nodes.values()))

    def _any_primary(self) -> Node | None:
        found = [node for node, one in self.simulator.replicas() if one.core.serving]
        return self.rng.choice(found) if found else None

    def _one(self) -> Node:
        """Return a node, the primary's more often than others."""
        return (self.rng.random() < 0.4 and self._any_primary()) or self._any()

    # Processes and disks

    def _crash(self) -> None:
        node = self._one()
        self.simulator.crash(node)
        if self.rng.random() < 0.4:  # And again, while it recovers.
            node.disk.crash_in = self.rng.randint(1, 10)

    def _crash_soon(self) -> None:
        self._one().disk.crash_in = self.rng.randint(1, self.rng.choice((8, 60)))

    def _stop(self) -> None:
        self.simulator.stop(self._one(), self.rng.random() ** 2 * STOP_MAX_S)

    def _blackout(self) -> None:
        for node in self.simulator.nodes.values():
            self.simulator.crash(node, power=True)

    def _fill(self) -> None:
        disk = self._one().disk
        disk.full = True

        def room() -> None:
            disk.full = False

        self.simulator.at(self.rng.random() * 2, room)

    def _slow_disk(self) -> None:
        self._any().disk.slow_s = self.rng.choice((0.005, 0.05, 0.3))

    def _may_lose(self) -> bool:
        """Say whether one replica's data may go: three vote, and all are whole."""
        simulator = self.simulator
        if any(node.disk.lost for node in simulator.nodes.values()):
            return False
        return len(simulator.row) == 3 and simulator.is_manned()

    def _lose(self) -> None:
        if self._may_lose():
            node = self.simulator.nodes[self.rng.choice(self.simulator.row)]
            node.disk.lost = True
            self.simulator.losses += 1
            self.simulator.replace(node)

    def _rot(self) -> None:
        """Flip a bit; somebody reads it, now or a little later."""
        if not self._may_lose():
            return
        node = self.simulator.nodes[self.rng.choice(self.simulator.row)]
        families = node.disk.families
        family = self.rng.choice(list(Family))
        if not families.keys[family]:
            return
        key = self.rng.choice(families.keys[family])
        families.rotten.add((family, key))
        node.disk.lost = True
        self.simulator.losses += 1
        self.simulator.at(self.rng.random() * 2, lambda: self._audit(node, families.rotten))

    def _audit(self, node: Node, rotten: object) -> None:
        """Find what has not been found yet."""
        host = node.host
        if node.disk.families.rotten is not rotten:
            return
        if host is None or host.process.stopped:
            self.simulator.at(0.2, lambda: self._audit(node, rotten))
        else:
            host.process.post(host.out_of_service, "an audit found a flipped bit")

    # The network

    def _partition(self) -> None:
        names = list(self.simulator.nodes)
        self.rng.shuffle(names)
        place = self.rng.randint(1, len(names) - 1)
        self.simulator.network.cut(names[:place], names[place:])

    def _cut(self) -> None:
        """Cut one direction, or all that somebody sends or hears."""
        names, network = list(self.simulator.nodes), self.simulator.network
        one, other = self.rng.choice(names), self.rng.choice(names)
        match self.rng.randrange(3):
            case 0:
                network.cut((one,), (other,), one_way=True)
            case 1:
                network.cut((one,), names, one_way=True)
            case _:
                network.cut(names, (one,), one_way=True)

    def _mend_network(self) -> None:
        if not self._usurping:
            self.simulator.network.mend()

    def _weather(self) -> None:
        self.simulator.network.change_weather()

    # Supervisors

    def _campaign(self) -> None:
        """Hint needlessly, and to several at once."""
        for node in self.simulator.nodes.values():
            if node.host is not None and self.rng.random() < 0.5:
                node.host.process.post(node.host.order, Campaign())

    def _usurp(self) -> None:
        """Cut off or stop a primary, and have others try to succeed it while it may not know."""
        node = self._any_primary()
        if node is None or self._usurping:
            return
        for_s = self.rng.uniform(0.8, 2.5)
        others = [other for other in self.simulator.nodes.values() if other is not node]
        names = [other.name for other in others]
        if self.rng.random() < 0.4:
            self.simulator.stop(node, for_s)
        else:
            self.simulator.network.mend()
            self.simulator.network.cut((node.name,), names, one_way=self.rng.random() < 0.3)
        self._usurping = True
        self.simulator.at(for_s, self._end_usurping)
        watching = Client(self.simulator, 0).watch(node.name, for_s + 0.2)
        self.simulator.add_client(watching)
        for other in others:
            for _ in range(3):
                self.simulator.at(self.rng.random() * for_s, partial(self._hint, other))

    def _end_usurping(self) -> None:
        self._usurping = False
        self.simulator.network.mend()

    @staticmethod
    def _hint(node: Node) -> None:
        if node.host is not None:
            node.host.process.post(node.host.order, Campaign())

    def _release(self) -> None:
        node = self._any_primary()
        if node is not None and node.host is not None and node.host.replica is not None:
            voters = node.host.replica.core.members.voters
            successor = ReplicaId(self.rng.choice(voters))
            node.host.process.post(node.host.order, Release(successor))

    def _move(self) -> None:
        """Have the table want another node instead of one of the three."""
        if len(self.simulator.row) == 3 and self.simulator.is_manned():
            spare = next(name for name in self.simulator.nodes if name not in self.simulator.row)
            given_up = self.rng.randrange(3)
            row = list(self.simulator.row)
            row[given_up] = spare
            self.simulator.row = tuple(row)

    def _change_members(self) -> None:
        """Order some replica set, sensible or not; the core takes only what is safe."""
        node = self._any_primary()
        if node is None or node.host is None or node.host.replica is None:
            return
        core = node.host.replica.core
        replicas = [other.disk.replica for other in self.simulator.nodes.values()]
        one = self.rng.choice(replicas)
        voters, learners = set(core.members.voters), set(core.members.learners)
        match self.rng.randrange(4):
            case 0:
                learners ^= {one} - voters
            case 1:
                voters |= {one}
                learners -= {one}
            case 2 if len(voters) > 3:
                voters -= {one}
            case _:
                learners |= {one} - voters
        members = members_of(voters, learners)
        order = ChangeMembers(Members(members.voters, members.learners), core.members_index)
        node.host.process.post(node.host.order, order)

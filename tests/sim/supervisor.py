"""A simulated supervisor of one node: production decisions over a picture of what it hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.commands import ShardRow
from actors.reports import SetMembers
from cluster.supervisors import failover, replication
from cluster.supervisors.failover import Attempts
from cluster.supervisors.picture import SUSPICION_MS, NodeView, Picture
from storage.records import Members
from storage.replication.effects import Campaign, ChangeMembers, Release
from tests.sim.host import SHARD

if TYPE_CHECKING:
    from tests.sim.simulator import Node, Simulator

BEAT_S = 0.25


class Supervisor:
    """See the module. It hears of what is not cut off, a little late."""

    def __init__(self, simulator: Simulator, node: Node) -> None:
        self.simulator = simulator
        self.node = node
        self.picture = Picture(node.name)
        self._attempts = Attempts()
        self._heard_ms: dict[str, int] = {}
        self._beat()

    def _beat(self) -> None:
        self.simulator.at(BEAT_S * (0.7 + 0.6 * self.simulator.rng.random()), self._beat)
        now_ms = int(self.simulator.loop.time() * 1000)
        self._observe(now_ms)
        host = self.node.host
        if host is None:
            return
        if SHARD in failover.elections(self.picture, self._attempts, now_ms):
            host.process.post(host.order, Campaign())
        row = ShardRow(SHARD, "mailbox", self.simulator.row, 1)
        for _, order in replication.changes(self.picture, {SHARD: row}, now_ms):
            host.process.post(host.order, self._change(order))
        self._hand_over(now_ms)

    def _hand_over(self, now_ms: int) -> None:
        """Have a primary that is to go hand over first: it cannot remove itself."""
        primary = self.picture.primary(SHARD, now_ms)
        host = self.node.host
        if host is None or primary is None or primary.report.node != self.node.name:
            return
        wanted = [self.simulator.nodes[name].disk.replica for name in self.simulator.row]
        if primary.report.replica not in wanted and set(wanted) < set(primary.members.voters):
            host.process.post(host.order, Release(wanted[0]))

    @staticmethod
    def _change(order: SetMembers) -> ChangeMembers:
        return ChangeMembers(Members(order.voters, order.learners), order.based_on)

    def _observe(self, now_ms: int) -> None:
        network = self.simulator.network
        for name, node in self.simulator.nodes.items():
            if network.is_cut(name, self.node.name):
                continue
            view = self.picture.nodes.setdefault(name, NodeView(name))
            view.heard_ms = now_ms
            view.whole = True
            host = node.host
            if host is not None and not host.process.stopped:
                self._heard_ms[name] = now_ms
            silent = now_ms - self._heard_ms.get(name, now_ms) > SUSPICION_MS
            view.silent = frozenset({SHARD}) if host is None or silent else frozenset()
            if host is not None:
                self.picture.take_report(host.report())

"""Picture: the cluster as one supervisor sees it, made of what it hears (architecture §4).

Nothing in it is kept: a new supervisor has the same picture after a second. What it does not
hear of is unknown, not gone (rule 12): only a node that was heard and fell silent, or a replica
that its own node calls silent, counts as away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from actors.commands import ShardId
from actors.link import LinkAddress
from actors.reports import Beat, Members, Report

SUSPICION_MS = 800  # without a sign of life; a lease is shorter (R5)
NEVER_MS = -(1 << 60)


@dataclass(slots=True)
class NodeView:
    """One node, as its supervisor tells."""

    node: str
    heard_ms: int = NEVER_MS
    incarnation: bytes = b""
    serial: int = 0
    address: LinkAddress | None = None
    disk_free_bytes: int = 0
    release: str = ""
    gateways: tuple[str, ...] = ()
    silent: frozenset[ShardId] = frozenset()
    whole: bool = False  # its reports are all here


@dataclass(frozen=True, slots=True)
class Primary:
    """The replica that orders a shard's writes, as far as is known."""

    report: Report
    members: Members


@dataclass(slots=True)
class Picture:
    """Reports by shard and node."""

    own_node: str
    nodes: dict[str, NodeView] = field(default_factory=dict)
    reports: dict[ShardId, dict[str, Report]] = field(default_factory=dict)

    def take_beat(self, beat: Beat, now_ms: int) -> bool:
        """Take what another supervisor tells; False when its whole story is needed first."""
        view = self.nodes.setdefault(beat.node, NodeView(beat.node))
        fresh = view.incarnation != beat.incarnation
        follows = beat.whole or (not fresh and view.whole and beat.serial <= view.serial + 1)
        view.heard_ms = now_ms
        view.address = beat.address
        view.disk_free_bytes = beat.disk_free_bytes
        view.release = beat.release
        view.gateways = beat.gateways
        view.silent = frozenset(beat.gone)
        if not fresh and beat.serial <= view.serial and not beat.whole:
            return True  # An old one, overtaken.
        view.incarnation = beat.incarnation
        if not follows:
            view.whole = False
            return False
        if beat.whole:
            self._forget(beat.node)
            view.whole = True
        view.serial = beat.serial
        for report in beat.reports:
            self.take_report(report)
        return True

    def take_report(self, report: Report) -> None:
        self.reports.setdefault(report.shard, {})[report.node] = report

    def _forget(self, node: str) -> None:
        for by_node in self.reports.values():
            by_node.pop(node, None)

    def forget_replica(self, shard: ShardId, node: str) -> None:
        """Take note that a replica is no more: its directory was removed."""
        self.reports.get(shard, {}).pop(node, None)

    def is_alive(self, node: str, now_ms: int) -> bool:
        view = self.nodes.get(node)
        return view is not None and now_ms - view.heard_ms <= SUSPICION_MS

    def alive_nodes(self, now_ms: int) -> list[str]:
        return sorted(node for node in self.nodes if self.is_alive(node, now_ms))

    def live(self, shard: ShardId, now_ms: int) -> list[Report]:
        """Return the reports of a shard's replicas that are there now, in the order of nodes."""
        return [
            report
            for node, report in sorted(self.reports.get(shard, {}).items())
            if self.is_alive(node, now_ms) and shard not in self.nodes[node].silent
        ]

    def primary(self, shard: ShardId, now_ms: int) -> Primary | None:
        """Return the live primary of the latest epoch, if there is one."""
        leading = [one for one in self.live(shard, now_ms) if one.role == "primary"]
        if not leading:
            return None
        report = max(leading, key=lambda one: one.epoch)
        return Primary(report, members_of_report(report))

    def members(self, shard: ShardId) -> Members | None:
        """Return the newest replica set that any replica has told of, live or not."""
        known = [one for one in self.reports.get(shard, {}).values() if one.voters]
        if not known:
            return None
        return members_of_report(max(known, key=lambda one: (one.members_index, one.last_epoch)))

    def shards(self) -> Iterator[ShardId]:
        return iter(sorted(self.reports))


def members_of_report(report: Report) -> Members:
    return Members(report.voters, report.learners)


def by_replica(reports: Iterable[Report]) -> dict[bytes, Report]:
    """Return the reports of replicas that are open, by the replica's id."""
    return {report.replica: report for report in reports if report.replica}

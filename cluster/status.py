"""Status: what is so, asked of those who know; bounded in time, also when nobody answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    ListShards,
    ShardId,
    ShardRow,
    Shards,
)
from actors.ray_ports import RayTransport
from actors.reports import NodeShown, Picture, Report, unreachable
from cluster.data_directory import DataDirectory, free_bytes_of
from cluster.gateway_actors import Listener
from cluster.placement import NodePlan
from cluster.supervisors.picture import SUSPICION_MS
from cluster.supervisors.replication import factor_in_force
from mail.errors import MailError

ASK_TIMEOUT_S = 2.0  # Twice this, and the operator's command has its answer.
QUEUES = ("incoming", "active", "deferred", "hold", "error")


class ClusterStatus:
    """Gathers `helio status`. Remembers the shard table for when the directory is away."""

    def __init__(self, plan: NodePlan, transport: RayTransport, data: DataDirectory) -> None:
        self._plan = plan
        self._transport = transport
        self._data = data
        self._rows: tuple[ShardRow, ...] = ()

    async def gather(self, state: str = "") -> dict[str, Any]:
        """Return the facts as architecture §6 has them; `state` when it is not to be derived."""
        _, picture = await asyncio.gather(self._refresh(), self._picture())
        rows = with_directory(self._rows, self._plan.node)
        wanted = self._plan.replication_factor
        found = await asyncio.gather(*map(self._asked, picture.reports))
        shards = [shard_facts(row, found, wanted) for row in rows]
        heard = self._nodes(picture)
        nodes = all_node_facts(heard, rows, shards)
        gateways = [name for node in heard for name in node.gateways]
        listeners = await self._listeners(gateways)
        alive = [node["id"] for node in nodes if node["state"] == "alive"]
        known = {*alive, *(node for row in rows for node in row.replicas)}
        in_force = factor_in_force(wanted, len(known))
        whole = (
            all(shard["primary"] is not None or _rests(shard) for shard in shards)
            and len({name for name, _ in listeners}) == len(gateways)
            and len(alive) == len(nodes)
        )
        return {
            "version": self._plan.release,
            "cluster": {
                "id": self._plan.cluster_id,
                "state": state or ("serving" if whole else "degraded"),
                "replication": replication_facts(wanted, in_force, shards),
            },
            "listeners": [
                {
                    "name": found.name,
                    "host": found.host,
                    "port": found.port,
                    "node": name.partition("@")[2],
                    "processes": processes,
                }
                for (name, found), processes in _counted(listeners).items()
            ],
            "nodes": nodes,
            "shards": shards,
            "queues": dict.fromkeys(QUEUES, 0),
        }

    async def shard(self, shard: ShardId) -> dict[str, Any]:
        """Return the facts of one shard."""
        row, reports = await self.replicas(shard)
        return shard_facts(row, reports, self._plan.replication_factor)

    async def replicas(self, shard: ShardId) -> tuple[ShardRow, tuple[Report, ...]]:
        """Return where a shard's replicas belong, and what those say that are heard."""
        _, picture = await asyncio.gather(self._refresh(), self._picture())
        rows = with_directory(self._rows, self._plan.node)
        row = next((row for row in rows if row.shard == shard), None)
        reports = tuple(report for report in picture.reports if report.shard == shard)
        return row or ShardRow(shard, "mailbox", (), 0), reports

    async def _asked(self, report: Report) -> Report:
        """Return a report as it is, or as unreachable when a primary does not answer now."""
        if report.role != "primary":
            return report
        try:
            await self._transport.shown(report.shard, timeout_s=ASK_TIMEOUT_S)
        except MailError:
            return unreachable(report)
        return report

    async def _picture(self) -> Picture:
        try:
            return await self._transport.picture(timeout_s=ASK_TIMEOUT_S)
        except MailError:
            return Picture((), ())

    def _nodes(self, picture: Picture) -> tuple[NodeShown, ...]:
        """Return the nodes that are heard; this one at least, which is asked."""
        if picture.nodes:
            return picture.nodes
        plan = self._plan
        free = free_bytes_of(self._data.path)
        return (NodeShown(plan.node, 0, free, plan.release, plan.gateway_names),)

    async def _refresh(self) -> None:
        try:
            table = await ask(
                self._transport, DIRECTORY_SHARD, ListShards(), Shards, timeout_s=ASK_TIMEOUT_S
            )
        except MailError:
            return
        self._rows = table.shards

    async def _listeners(self, gateways: Sequence[str]) -> list[tuple[str, Listener]]:
        """Return (gateway, listener) of every listener that listens."""

        async def of(name: str) -> list[tuple[str, Listener]]:
            try:
                found = await self._transport.ask(name, "listening", timeout_s=ASK_TIMEOUT_S)
            except MailError:
                return []
            return [(name, listener) for listener in found]

        found = await asyncio.gather(*map(of, gateways))
        return [pair for pairs in found for pair in pairs]


def _counted(listeners: Sequence[tuple[str, Listener]]) -> dict[tuple[str, Listener], int]:
    """Return how many processes share each listener, under the name of one of them."""
    first: dict[tuple[str, Listener], str] = {}
    counts: Counter[tuple[str, Listener]] = Counter()
    for name, listener in listeners:
        key = first.setdefault((name.partition("@")[2], listener), name)
        counts[key, listener] += 1
    return dict(counts)


def _rests(shard: Mapping[str, Any]) -> bool:
    return all(replica["state"] == "resting" for replica in shard["replicas"])


def all_node_facts(
    heard: Sequence[NodeShown], rows: Sequence[ShardRow], shards: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return every node: those that are or were heard, and those that only the table names."""
    facts = {node.node: node_facts(node, shards) for node in heard}
    for name in (name for row in rows for name in row.replicas):
        if name not in facts:
            facts[name] = {
                "id": name,
                "name": name,
                "state": "unknown",
                "host": None,
                **_held(name, shards),
                "disk_free_bytes": None,
                "version": None,
                "silent_ms": None,
            }
    return [facts[name] for name in sorted(facts)]


def node_facts(node: NodeShown, shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one node as `helio status --json` has it."""
    return {
        "id": node.node,
        "name": node.node,
        "state": "alive" if node.silent_ms <= SUSPICION_MS else "silent",
        "host": node.host or "127.0.0.1",
        **_held(node.node, shards),
        "disk_free_bytes": node.disk_free_bytes,
        "version": node.release,
        "silent_ms": node.silent_ms,
    }


def _held(node: str, shards: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many replicas are or ought to be on a node, and how many of them lead."""
    nodes = [replica["node"] for shard in shards for replica in shard["replicas"]]
    return {
        "shards": nodes.count(node),
        "primaries": sum(shard["primary"] == node for shard in shards),
    }


def replication_facts(
    wanted: int, in_force: int, shards: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how many copies there are to be, and whether there are."""
    fewest = min((shard["voters"] for shard in shards if shard["voters"]), default=in_force)
    return {
        "wanted": wanted,
        "in_force": in_force,
        "state": "replicated" if min(fewest, in_force) >= wanted else "under-replicated",
        "under_replicated_shards": sum(shard["under_replicated"] for shard in shards),
    }


def with_directory(rows: Sequence[ShardRow], node: str) -> tuple[ShardRow, ...]:
    """Return the shard table with the directory's own shard in it."""
    if any(row.shard == DIRECTORY_SHARD for row in rows):
        return tuple(rows)
    return (ShardRow(DIRECTORY_SHARD, "directory", (node,), 0), *rows)


def shard_facts(row: ShardRow, reports: Sequence[Report], wanted: int = 1) -> dict[str, Any]:
    """Return one shard as `helio status --json` has it."""
    mine = {report.node: report for report in reports if report.shard == row.shard}
    leading = [report for report in mine.values() if report.role == "primary"]
    primary = max(leading, key=lambda report: report.epoch, default=None)
    serving = primary is not None and primary.state == "serving"
    shown = primary or next(iter(mine.values()), None)
    copies = live_copies(row, mine, primary)
    facts: dict[str, Any] = {
        "id": row.shard,
        "kind": row.kind,
        "epoch": shown.epoch if shown else 0,
        "primary": primary.node if primary is not None and serving else None,
        "replicas": replica_facts(row, mine, primary),
        "mailboxes": row.mailboxes,
        "pid": (shown.pid or None) if shown else None,
        "voters": len(shown.voters) if shown else 0,
        "copies": copies,
        "under_replicated": copies < wanted,
    }
    trouble = next((report.trouble for report in mine.values() if report.trouble), "")
    if trouble:
        facts["trouble"] = trouble
    return facts


def live_copies(row: ShardRow, reports: Mapping[str, Report], primary: Report | None) -> int:
    """Return how many replicas vote and are heard; of a shard at rest, how many there are."""
    if not reports:
        return len(row.replicas) if len(row.replicas) == 1 else 0
    return sum(
        not report.suspect
        and report.state != "unreachable"
        and report.replica in (report if primary is None else primary).voters
        for report in reports.values()
    )


def replica_facts(
    row: ShardRow, reports: Mapping[str, Report], primary: Report | None
) -> list[dict[str, Any]]:
    """Return the replicas of a shard: where they are, and where they ought to be."""
    nodes = dict.fromkeys((*row.replicas, *reports))
    silent = "resting" if len(nodes) == 1 else "unreachable"
    found = []
    for node in nodes:
        report = reports.get(node)
        facts: dict[str, Any] = {
            "node": node,
            "role": "none",
            "state": silent,
            "lag_entries": 0,
        }
        if report is not None:
            last_index = report.last_index if primary is None else primary.last_index
            facts |= {
                "role": role_of(report, primary),
                "state": report.state,
                "lag_entries": max(0, last_index - report.applied_index),
                "pid": report.pid,
            }
        found.append(facts)
    return found


def role_of(report: Report, primary: Report | None) -> str:
    """Return what a replica is in its set, as far as the primary knows it."""
    if report is primary:
        return "primary"
    members = report if primary is None else primary
    if report.replica in members.voters:
        return "follower"
    return "learner" if report.replica in members.learners else "none"

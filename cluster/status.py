"""Status: what is so, asked of those who know; bounded in time, also when nobody answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    ListShards,
    ShardId,
    ShardRow,
    Shards,
    ShardShown,
)
from actors.ray_ports import NotRunning, RayTransport
from cluster.data_directory import DataDirectory, free_bytes_of
from cluster.gateway_actors import Listener
from cluster.placement import NodePlan
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
        await self._refresh()
        rows = with_directory(self._rows, self._plan.node)
        shown, listeners = await asyncio.gather(
            asyncio.gather(*(self.shard(row.shard) for row in rows)), self._listeners()
        )
        shards = [
            shard_facts(row, found, self._plan.node) for row, found in zip(rows, shown, strict=True)
        ]
        wanted = len(self._plan.gateway_names)
        serving = sum(shard["primary"] is not None for shard in shards)
        rest = sum(one is not None and one.state == "resting" for one in shown)
        whole = serving + rest == len(shards) and len({name for name, _ in listeners}) == wanted
        node = self._plan.node
        return {
            "version": self._plan.release,
            "cluster": {
                "id": self._plan.cluster_id,
                "state": state or ("serving" if whole else "degraded"),
            },
            "listeners": [
                {
                    "name": found.name,
                    "host": found.host,
                    "port": found.port,
                    "node": node,
                    "processes": processes,
                }
                for found, processes in Counter(found for _, found in listeners).items()
            ],
            "nodes": [
                {
                    "id": node,
                    "name": node,
                    "state": "alive",
                    "host": "127.0.0.1",
                    "shards": len(shards),
                    "primaries": serving,
                    "disk_free_bytes": free_bytes_of(self._data.path),
                }
            ],
            "shards": shards,
            "queues": dict.fromkeys(QUEUES, 0),
        }

    async def shard(self, shard: ShardId) -> ShardShown | None:
        """Return what a shard says of itself, or None when it says nothing."""
        try:
            return await self._transport.shown(shard, timeout_s=ASK_TIMEOUT_S)
        except NotRunning:
            return resting(shard)
        except MailError:
            return None

    async def _refresh(self) -> None:
        try:
            table = await ask(
                self._transport, DIRECTORY_SHARD, ListShards(), Shards, timeout_s=ASK_TIMEOUT_S
            )
        except MailError:
            return
        self._rows = table.shards

    async def _listeners(self) -> list[tuple[str, Listener]]:
        """Return (gateway, listener) of every listener that listens."""

        async def of(name: str) -> list[tuple[str, Listener]]:
            try:
                found = await self._transport.ask(name, "listening", timeout_s=ASK_TIMEOUT_S)
            except MailError:
                return []
            return [(name, listener) for listener in found]

        found = await asyncio.gather(*map(of, self._plan.gateway_names))
        return [pair for pairs in found for pair in pairs]


def resting(shard: ShardId) -> ShardShown:
    """Return what is shown of a shard that nobody uses: it has no process."""
    kind = "directory" if shard == DIRECTORY_SHARD else "mailbox"
    return ShardShown(shard, kind, "resting", 0, 0, 0, 0, 0, 0, pid=0)


def with_directory(rows: Sequence[ShardRow], node: str) -> tuple[ShardRow, ...]:
    """Return the shard table with the directory's own shard in it."""
    if any(row.shard == DIRECTORY_SHARD for row in rows):
        return tuple(rows)
    return (ShardRow(DIRECTORY_SHARD, "directory", (node,), 0), *rows)


def shard_facts(row: ShardRow, found: ShardShown | None, node: str) -> dict[str, Any]:
    """Return one shard as `helio status --json` has it."""
    serving = found is not None and found.state == "serving"
    facts: dict[str, Any] = {
        "id": row.shard,
        "kind": row.kind,
        "epoch": found.epoch if found else 0,
        "primary": node if serving else None,
        "replicas": replica_facts(found, node),
        "mailboxes": row.mailboxes,
        "pid": (found.pid or None) if found else None,
    }
    if found is not None and found.trouble:
        facts["trouble"] = found.trouble
    return facts


def replica_facts(found: ShardShown | None, node: str) -> list[dict[str, Any]]:
    """Return the replicas of a shard: one, on one node."""
    return [
        {
            "node": node,
            "role": "primary",
            "state": found.state if found else "unreachable",
            "lag_entries": found.last_index - found.applied_index if found else 0,
        }
    ]

"""Placement: who runs where. On one node: everything here, beside its data.

Names are the whole of it: whoever starts an actor that is there already gets that one, so
`helio up` and the supervisor may both start whatever they miss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.commands import DIRECTORY_SHARD, ShardId
from actors.options import ShardOptions
from actors.ray_ports import SUPERVISOR, shard_name
from actors.remote import Place, start_actor
from actors.shard_actor import ShardActor
from cluster.gateway_actors import GatewayActor, GatewayOptions
from cluster.logs import LogFile

SHARD_PREFIX = "shard/"


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """One gateway actor: its class and what it is told."""

    cls: type[GatewayActor]
    options: GatewayOptions
    settings: object


@dataclass(frozen=True, slots=True)
class NodePlan:
    """All that is needed to start any actor of one node. Plain data: it crosses processes."""

    place: Place
    cluster_id: str
    node: str
    release: str
    shards: Path
    log: LogFile
    gateways: tuple[GatewayPlan, ...]
    mailbox_actors_per_node: int
    disk_floor_bytes: int
    trash_days: int = 0
    junk_days: int = 0
    audit_hours: float = 0.0
    collect_hours: float = 0.0
    block_cache_bytes: int = 8 << 20
    idle_actor_s: float = 0.0  # after which an unused shard is sent to rest; 0: never

    @property
    def gateway_names(self) -> tuple[str, ...]:
        return tuple(gateway.options.name for gateway in self.gateways)

    def shard_options(self, shard: ShardId) -> ShardOptions:
        """Return what the actor of a shard is told."""
        return ShardOptions(
            shard=shard,
            kind="directory" if shard == DIRECTORY_SHARD else "mailbox",
            path=str(self.shards / f"{shard:06d}"),
            cluster_id=self.cluster_id,
            create=True,
            mailbox_actors_per_node=self.mailbox_actors_per_node,
            node=self.node,
            version=self.release,
            disk_floor_bytes=self.disk_floor_bytes,
            block_cache_bytes=self.block_cache_bytes,
            trash_days=self.trash_days,
            junk_days=self.junk_days,
            audit_hours=self.audit_hours,
            collect_hours=self.collect_hours,
        )

    def start(self, name: str) -> Any:
        """Start the shard or gateway of that name; return its handle. Blocks for a moment."""
        if name.startswith(SHARD_PREFIX):
            shard = ShardId(int(name.removeprefix(SHARD_PREFIX)))
            options = self.shard_options(shard)
            return start_actor(ShardActor, options, self.log, name=name, place=self.place)
        for gateway in self.gateways:
            if gateway.options.name == name:
                return start_actor(
                    gateway.cls, gateway.options, gateway.settings, name=name, place=self.place
                )
        raise AssertionError(f"no actor is called {name}")

    def start_supervisor(self, cls: Callable[..., object]) -> Any:
        """Start the supervisor, which is given this plan; return its handle."""
        assert isinstance(cls, type)
        return start_actor(cls, self, name=SUPERVISOR, place=self.place)


def expected(plan: NodePlan, shards: tuple[ShardId, ...]) -> tuple[str, ...]:
    """Return the names of the actors that ought to run: directory, gateways, shards."""
    mailboxes = (shard_name(shard) for shard in shards if shard != DIRECTORY_SHARD)
    return (shard_name(DIRECTORY_SHARD), *plan.gateway_names, *mailboxes)

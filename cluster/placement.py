"""Placement: what runs on one node, beside its data, and under which names.

Whoever starts an actor that is there already gets that one, so `helio up` and the supervisor may
both start whatever they miss.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.commands import DIRECTORY_SHARD, ShardId
from actors.directory_actor import DirectoryActor
from actors.link_options import LinkOptions
from actors.options import ShardOptions
from actors.ray_ports import replica_name, supervisor_name
from actors.remote import Place, start_actor
from actors.reports import quorum
from actors.shard_actor import ShardActor
from cluster.gateway_actors import GatewayActor, GatewayOptions
from cluster.logs import LogFile


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
    link: LinkOptions = field(default_factory=LinkOptions)  # to processes of other nodes
    trash_days: int = 0
    junk_days: int = 0
    audit_hours: float = 0.0
    collect_hours: float = 0.0
    block_cache_bytes: int = 8 << 20
    idle_actor_s: float = 0.0  # after which an unused shard is sent to rest; 0: never
    founds_directory: bool = True  # the cluster is new and begins here
    replication_factor: int = 3
    replace_after_s: float = 300.0  # a node that is silent so long is given up

    @property
    def gateway_names(self) -> tuple[str, ...]:
        return tuple(gateway.options.name for gateway in self.gateways)

    def shard_options(self, shard: ShardId, *, founds: bool, factor: int) -> ShardOptions:
        """Return what a replica's actor is told. `factor` is how many the shard is to have."""
        return ShardOptions(
            shard=shard,
            kind="directory" if shard == DIRECTORY_SHARD else "mailbox",
            founds=founds,
            # While a node is away, a majority of what is to be is enough to begin with.
            voters_at_birth=1 if shard == DIRECTORY_SHARD else quorum(factor),
            path=str(self.shards / f"{shard:06d}"),
            cluster_id=self.cluster_id,
            create=True,
            mailbox_actors_per_node=self.mailbox_actors_per_node,
            node=self.node,
            link=self.link,
            version=self.release,
            disk_floor_bytes=self.disk_floor_bytes,
            block_cache_bytes=self.block_cache_bytes,
            trash_days=self.trash_days,
            junk_days=self.junk_days,
            audit_hours=self.audit_hours,
            collect_hours=self.collect_hours,
        )

    def start_replica(self, shard: ShardId, *, founds: bool, factor: int) -> Any:
        """Start this node's replica of a shard; return its handle. Blocks for a moment."""
        options = self.shard_options(shard, founds=founds, factor=factor)
        name = replica_name(shard, self.node)
        cls = DirectoryActor if shard == DIRECTORY_SHARD else ShardActor
        return start_actor(cls, options, self.log, name=name, place=self.place)

    def start_gateway(self, name: str) -> Any:
        """Start the gateway of that name; return its handle. Blocks for a moment."""
        for gateway in self.gateways:
            if gateway.options.name == name:
                return start_actor(
                    gateway.cls, gateway.options, gateway.settings, name=name, place=self.place
                )
        raise AssertionError(f"no gateway is called {name}")

    def start_first(self, supervisor: Callable[..., object]) -> None:
        """Start what every node has. The supervisor starts the rest, and would start these, too."""
        self.start_supervisor(supervisor)
        if self.founds_directory or DIRECTORY_SHARD in self.local_shards():
            self.start_replica(DIRECTORY_SHARD, founds=self.founds_directory, factor=1)
        for name in self.gateway_names:
            self.start_gateway(name)

    def start_supervisor(self, cls: Callable[..., object]) -> Any:
        """Start the supervisor, which is given this plan; return its handle."""
        assert isinstance(cls, type)
        return start_actor(cls, self, name=supervisor_name(self.node), place=self.place)

    def set_aside(self, shard: ShardId, *, keep: bool) -> None:
        """Take a replica that was given up out of the way; keep its files, or delete them.

        Its mark goes too: another replica may be begun here, which is empty and knows it.
        """
        path = self.shards / f"{shard:06d}"
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
        if path.exists():
            path.rename(aside)
        path.with_name(f"{path.name}.made").unlink(missing_ok=True)
        if not keep:
            shutil.rmtree(aside, ignore_errors=True)

    def local_shards(self) -> tuple[ShardId, ...]:
        """Return the shards of which this node has a replica on its disk."""
        made = (file.parent.name for file in self.shards.glob("[0-9]*/hard_state"))
        return tuple(sorted(ShardId(int(name)) for name in made if name.isdigit()))

"""Nodes: several nodes of a cluster in one process, over real links, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from actors import wire
from actors.commands import Command, Reply, ShardId, ShardRow
from actors.link import LOOPBACK, Link, LinkAddress, open_link
from actors.link_options import LinkOptions
from actors.options import ShardOptions
from actors.shard_actor import ShardActor
from cluster.supervisors.exchange import Exchange
from mail.errors import MailError, Unavailable

SHARD = ShardId(2)
PATIENCE_S = 20.0
LOOK_AGAIN_S = 0.02


class NodeHere:
    """One node: an exchange and the replica actors beside it."""

    def __init__(self, name: str, path: Path, link: LinkOptions) -> None:
        self.name = name
        self.link = link
        self.path = path
        self.actors: dict[ShardId, ShardActor] = {}
        self.exchange = self._exchange()
        self.address: LinkAddress | None = None

    def _exchange(self) -> Exchange:
        return Exchange(
            self.name, incarnation=os.urandom(8), activate=self._activate, link=self.link
        )

    async def _activate(self, shard: ShardId) -> None:
        return

    async def start(self) -> None:
        self.address = await self.exchange.start()

    async def start_replica(self, shard: ShardId, *, founds: bool) -> None:
        options = ShardOptions(
            shard,
            "mailbox",
            str(self.path / f"{shard:06d}"),
            "a-cluster",
            create=True,
            founds=founds,
            node=self.name,
            link=self.link,
        )
        actor = self.actors[shard] = ShardActor(options, lambda _: None)
        await actor.pulse(self.address)

    async def stop_replica(self, shard: ShardId) -> None:
        """Have a replica vanish as a killed process does, but for its files' lock."""
        actor = self.actors.pop(shard)
        actor._listener.close()
        actor._peers.close()
        await actor._reporter.close()
        host = actor._host()
        assert host is not None
        if host.replica is not None:
            await host.close()

    async def stop(self) -> None:
        await self.exchange.close()
        for shard in list(self.actors):
            await self.stop_replica(shard)


class Nodes:
    """The nodes, and a client that finds primaries as gateways do."""

    def __init__(self, path: Path, names: Sequence[str], links: Mapping[str, LinkOptions]) -> None:
        self.nodes = {
            name: NodeHere(name, path / name, links.get(name, LOOPBACK)) for name in names
        }

    async def start(self) -> None:
        for node in self.nodes.values():
            await node.start()
        addresses = {
            node.name: node.address for node in self.nodes.values() if node.address is not None
        }
        for node in self.nodes.values():
            node.exchange.meet(addresses)

    def place(self, shard: ShardId, names: Sequence[str]) -> None:
        row = ShardRow(shard, "mailbox", tuple(names), 1)
        for node in self.nodes.values():
            node.exchange.rows = {**node.exchange.rows, shard: row}

    async def ask(self, command: Command, shard: ShardId = SHARD) -> Reply:
        """Return the answer of whoever leads; repeat while nobody does."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for node in list(self.nodes.values()):
                    with contextlib.suppress(MailError):
                        return await self._ask(node, shard, command)
                await asyncio.sleep(0.05)

    async def _ask(self, node: NodeHere, shard: ShardId, command: Command) -> Reply:
        found = await node.exchange._find(shard)
        for address in found.addresses[:1]:
            link: Link = await open_link(address, "a test", options=node.link)
            try:
                octets = await link.call(wire.encode([command]), timeout_s=5.0)
            finally:
                link.end()
            return wire.result(wire.decode_replies(octets)[0], Reply)
        raise Unavailable

    def primary(self, shard: ShardId = SHARD) -> str | None:
        for node in self.nodes.values():
            host = node.actors[shard]._host() if shard in node.actors else None
            if host is not None and host.replica is not None and host.replica.core.serving:
                return node.name
        return None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        for _ in range(round(PATIENCE_S / LOOK_AGAIN_S)):
            if condition():
                return
            await asyncio.sleep(LOOK_AGAIN_S)
        raise AssertionError("it does not come to that")


@contextlib.asynccontextmanager
async def running(
    path: Path, names: Sequence[str], links: Mapping[str, LinkOptions] | None = None
) -> AsyncIterator[Nodes]:
    nodes = Nodes(path, names, links or {})
    await nodes.start()
    try:
        yield nodes
    finally:
        for node in nodes.nodes.values():
            await node.stop()

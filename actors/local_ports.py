"""LocalTransport: actors and gateways in one process, for tests of both without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from actors.commands import ShardId
from mail.errors import OutcomeUnknown, Unavailable

Handle = Callable[[bytes], Awaitable[bytes]]


class LocalTransport:
    """Carries frames by calling; an actor that is not there is unavailable."""

    def __init__(self) -> None:
        self.shards: dict[ShardId, Handle] = {}
        self.gateways: dict[str, Callable[[bytes], None]] = {}

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        """Return the reply frame (`actors.ports.Transport`)."""
        handle = self.shards.get(shard)
        if handle is None:
            raise Unavailable
        try:
            async with asyncio.timeout(timeout_s):
                return await handle(frame)
        except TimeoutError:
            raise OutcomeUnknown from None

    def misled(self, shard: ShardId) -> None:
        """Do nothing: there is one actor a shard here."""

    def notify(self, gateway: str, frame: bytes) -> None:
        """Hand a frame to a gateway (`actors.ports.Notices`)."""
        notified = self.gateways.get(gateway)
        if notified is not None:
            notified(frame)

"""LinkPeers: the way from one replica to the others of its shard, over links.

Where the others listen is told by the supervisor of this node, and may change at any time. A
frame for one whose link is not open waits for that, with few others; beyond that it is lost,
which the replication expects.

State       soft: addresses, links.
On failure  frames are lost; the core sends again what matters.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from actors.link import LOOPBACK, Link, LinkAddress, open_link
from actors.link_options import LinkOptions
from mail.errors import Unavailable
from storage.replication.messages import ReplicaId

# Frames that wait for a link: it is mostly the first one that opens it.
WAITING_FRAMES_MAX = 64
# Octets on their way to one replica; one append in flight is a few MiB, a large blob its size.
WAITING_BYTES_MAX = 256 << 20
OPEN_AGAIN_S = 0.2  # after a failure: a process that is being started again takes longer anyway


class LinkPeers:
    """See `storage.replica.Peers`. Used on one event loop."""

    def __init__(self, name: str, options: LinkOptions = LOOPBACK) -> None:
        """Call the others as `name`."""
        self._name = name
        self._options = options
        self._addresses: dict[ReplicaId, LinkAddress] = {}
        self._links: dict[ReplicaId, Link] = {}
        self._waiting: dict[ReplicaId, deque[bytes]] = {}
        self._opening: dict[ReplicaId, asyncio.Task[None]] = {}

    def introduce(self, addresses: Mapping[ReplicaId, LinkAddress]) -> None:
        """Take note of where others listen; who is not named keeps its address."""
        for replica, address in addresses.items():
            if self._addresses.get(replica) != address:
                self._addresses[replica] = address
                link = self._links.pop(replica, None)
                if link is not None:
                    link.end()

    def send(self, to: ReplicaId, frame: bytes) -> None:
        """Send a frame, or lose it."""
        link = self._links.get(to)
        if link is not None and not link.lost:
            if link.bytes_waiting < WAITING_BYTES_MAX:
                link.tell(frame)
            return
        waiting = self._waiting.setdefault(to, deque(maxlen=WAITING_FRAMES_MAX))
        waiting.append(frame)
        if to not in self._opening and to in self._addresses:
            task = asyncio.create_task(self._open(to, self._addresses[to]), name="open peer")
            self._opening[to] = task
            task.add_done_callback(lambda _: self._opening.pop(to, None))

    async def _open(self, to: ReplicaId, address: LinkAddress) -> None:
        try:
            link = await open_link(address, self._name, options=self._options)
        except Unavailable:
            self._waiting.pop(to, None)
            await asyncio.sleep(OPEN_AGAIN_S)
            return
        self._links[to] = link
        for frame in self._waiting.pop(to, ()):
            link.tell(frame)

    def close(self) -> None:
        """Cut the links."""
        for task in self._opening.values():
            task.cancel()
        for link in self._links.values():
            link.end()

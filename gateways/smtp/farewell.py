"""Farewell: how a connection is closed whose peer may still be sending.

A host that closes a socket with input unread, or that gets more after it, answers with a reset
(RFC 1122 §4.2.2.13), and a reset makes the peer's kernel throw away what its program has not
read yet: our last reply. So only our sending side is closed after that reply; what still comes
is read and thrown away until the peer closes too.

Bounds      LINGER_S a connection, then it is closed whatever comes; input beyond LINGER_BYTES_MAX
            waits in the peer's kernel; no more than LINGERING_MAX connections linger, others
            are closed at once.
TLS         has no half-closed connections: the peer has LINGER_S to read the reply and to close.
"""

from __future__ import annotations

import asyncio

CLOSE_GRACE_S = 5.0  # For the last reply to leave before the connection is cut.
LINGER_S = 2.0  # A few round trips: for the reply to get there and the peer's close to come back.
# What a peer may have had on its way when we spoke: its send buffer and our receive buffer.
LINGER_BYTES_MAX = 16 << 20
LINGERING_MAX = 256  # File descriptors beside those of sessions.


class Farewells:
    """The connections of one gateway that linger. They belong to no session any more."""

    def __init__(self) -> None:
        self._lingering: set[_Farewell] = set()

    def __len__(self) -> int:
        """Return how many connections linger."""
        return len(self._lingering)

    def linger(self, transport: asyncio.Transport) -> None:
        """Close the connection once its peer has done so, and soon in any case."""
        if transport.is_closing() or len(self._lingering) >= LINGERING_MAX:
            close(transport)
            return
        farewell = _Farewell(transport, self._lingering)
        transport.set_protocol(farewell)
        farewell.begin()

    async def over(self, timeout_s: float) -> None:
        """Return when nobody lingers any more; after `timeout_s`, close who still does."""
        if self._lingering:
            await asyncio.wait([one.gone for one in self._lingering], timeout=max(0.0, timeout_s))
        for one in tuple(self._lingering):
            one.end()


def close(transport: asyncio.Transport) -> None:
    """Close a connection when what was written has left, or cut it off a little later."""
    transport.close()
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(CLOSE_GRACE_S, transport.abort)


class _Farewell(asyncio.Protocol):
    """Throws away what a peer still sends."""

    def __init__(self, transport: asyncio.Transport, lingering: set[_Farewell]) -> None:
        self._transport = transport
        self._lingering = lingering
        self._left_bytes = LINGER_BYTES_MAX
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._timer = loop.call_later(LINGER_S, self.end)

    def begin(self) -> None:
        """Send no more, and listen as before."""
        self._lingering.add(self)
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._transport.resume_reading()
        except OSError:  # The peer has just cut the connection.
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes <= 0:
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    def end(self) -> None:
        """Close it now."""
        close(self._transport)
        self._leave()

    def _leave(self) -> None:
        self._timer.cancel()
        self._lingering.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)

"""SmtpGateway: the listener that takes mail from other servers (MX), and its life.

State       soft only: connections, and messages on their way to the Mail port.
Start       binds, listens, and then `ready` may be said.
Drain       stops accepting, ends idle sessions with 421, lets transactions come to their reply,
            and cuts off what is left after the time given.
On failure  a peer that lost its connection before the reply to the end of data repeats.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from actors.ports import Accounts, Mail
from gateways.smtp.farewell import Farewells
from gateways.smtp.inbound import InboundSession
from gateways.smtp.origins import Origins
from gateways.smtp.peer_limits import PeerLimits
from gateways.smtp.reception import BytesInFlight, Reception
from gateways.smtp.settings import SmtpSettings

__all__ = ["SmtpGateway", "SmtpSettings"]

BACKLOG = 1024  # Connections that the kernel keeps for us; it cuts this at net.core.somaxconn.
GATEWAY_ID_BYTES = 4
LAST_WORDS_S = 1.0  # After the time given to a drain: for the 421 of who waits, and to linger.


class SmtpGateway:
    """Serves SMTP on one address. Made, started and drained on one event loop."""

    def __init__(
        self,
        accounts: Accounts,
        mail: Mail,
        settings: SmtpSettings,
        tls_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(settings.parse_threads, "smtp-parse")
        self._server: asyncio.Server | None = None
        prefix, numbers = secrets.token_hex(GATEWAY_ID_BYTES), itertools.count(1)
        self._reception = Reception(
            accounts=accounts,
            mail=mail,
            settings=settings,
            tls_context=tls_context,
            clock=clock,
            next_id=lambda: f"{prefix}-{next(numbers):x}",
            executor=self._executor,
            in_flight=BytesInFlight(settings.in_flight_bytes_max),
            origins=Origins(settings.trusted_networks, settings.proxy_networks),
            peer_limits=PeerLimits(settings.address_limits, settings.network_limits),
            farewells=Farewells(),
        )

    async def start(self) -> tuple[str, int]:
        """Listen, and return the host and the port. Raises OSError when the address is taken."""
        assert self._server is None
        loop = asyncio.get_running_loop()
        listener = await self._bind(loop)
        self._server = await loop.create_server(
            lambda: InboundSession(self._reception, loop), sock=listener, backlog=BACKLOG
        )
        host, port = listener.getsockname()[:2]
        return str(host), int(port)

    async def drain(self, timeout_s: float) -> None:
        """Stop as the header says; returns when no connection is left."""
        if self._server is not None:
            self._server.close()
        reception = self._reception
        reception.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s + LAST_WORDS_S
        if reception.sessions:
            reception.emptied.clear()
            for session in tuple(reception.sessions):
                if session.idle:
                    session.close_down()
            if not await self._emptied(timeout_s):
                for session in tuple(reception.sessions):
                    session.close_down()
                if not await self._emptied(LAST_WORDS_S):
                    for session in tuple(reception.sessions):
                        session.abort()
        await reception.farewells.over(deadline - loop.time())
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _emptied(self, timeout_s: float) -> bool:
        """Wait for the last session to end; say whether it did."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._reception.emptied.wait()
        except TimeoutError:
            return False
        return True

    def metrics(self) -> dict[str, int]:
        """Return the counters, and what is going on now."""
        reception = self._reception
        return asdict(reception.counters) | {
            "connections_open": len(reception.sessions),
            "bytes_in_flight": reception.in_flight.held_bytes,
        }

    async def _bind(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        settings = self._settings
        found = await loop.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, address = found[0][0], found[0][4]
        # With protocol 0 asyncio would leave TCP_NODELAY off: 40 ms a reply.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if settings.reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.setblocking(False)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener

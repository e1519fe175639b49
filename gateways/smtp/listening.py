"""Listening: the sockets of one SMTP gateway, and its life, whoever its clients are.

Start       binds and listens.
Drain       stops accepting, ends idle sessions with 421, lets transactions come to their reply,
            and cuts off what is left after the time given.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from gateways.smtp.connection import TLS_HANDSHAKE_S
from gateways.smtp.farewell import CLOSE_GRACE_S
from gateways.smtp.reception import Reception
from gateways.smtp.session import Session

BACKLOG = 1024  # Connections that the kernel keeps for us; it cuts this at net.core.somaxconn.
GATEWAY_ID_BYTES = 4
LAST_WORDS_S = 1.0  # After the time given to a drain: for the 421 of who waits, and to linger.


def transaction_ids() -> Callable[[], str]:
    """Return what gives ids that no other gateway gives."""
    prefix, numbers = secrets.token_hex(GATEWAY_ID_BYTES), itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):x}"


class Listening:
    """The part of a gateway that knows sockets. Used on one event loop."""

    def __init__(self, reception: Reception) -> None:
        self._listeners: list[asyncio.Server] = []
        self._shared = reception

    async def listen(
        self,
        session: Callable[[asyncio.AbstractEventLoop], Session[Any, Any]],
        host: str,
        port: int,
        tls_context: ssl.SSLContext | None = None,
    ) -> tuple[str, int]:
        """Listen, with TLS at once if there is a context; return the host and the port.

        Raises OSError when the address is taken.
        """
        loop = asyncio.get_running_loop()
        listener = await self._bind(loop, host, port)
        server = await loop.create_server(
            lambda: session(loop),
            sock=listener,
            backlog=BACKLOG,
            ssl=tls_context,
            ssl_handshake_timeout=TLS_HANDSHAKE_S if tls_context else None,
            ssl_shutdown_timeout=CLOSE_GRACE_S if tls_context else None,
        )
        self._listeners.append(server)
        bound_host, bound_port = listener.getsockname()[:2]
        return str(bound_host), int(bound_port)

    async def drain(self, timeout_s: float) -> None:
        """Stop as the header says; returns when no connection is left."""
        for listener in self._listeners:
            listener.close()
        reception = self._shared
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
        reception.executor.shutdown(wait=False, cancel_futures=True)

    async def _emptied(self, timeout_s: float) -> bool:
        """Wait for the last session to end; say whether it did."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._shared.emptied.wait()
        except TimeoutError:
            return False
        return True

    def metrics(self) -> dict[str, int]:
        """Return the counters, and what is going on now."""
        reception = self._shared
        return asdict(reception.counters) | {
            "connections_open": len(reception.sessions),
            "bytes_in_flight": reception.in_flight.held_bytes,
        }

    async def _bind(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, address = found[0][0], found[0][4]
        # With protocol 0 asyncio would leave TCP_NODELAY off: 40 ms a reply.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._shared.settings.reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.setblocking(False)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener

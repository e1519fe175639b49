"""The HTTP gateway: two uvicorn servers, HTTPS and HTTP, on the running loop.

State       soft: counters, delays of failed sign-ins, open connections.
On start    every socket is bound before anything is served; a port that is taken raises OSError.
On drain    no new connections; running requests finish; WebSockets close with 1001.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import structlog
import uvicorn
from starlette.types import ASGIApp

from actors.ports import Mail, Push, SignIns
from gateways.http.app import build_app
from gateways.http.body import AtOnce, BodyBudget
from gateways.http.clock import Clock, SystemClock
from gateways.http.connection import BoundedHttpProtocol, BoundedWebSocketProtocol
from gateways.http.context import Context
from gateways.http.delays import FailureDelays
from gateways.http.health import Probe, Readiness
from gateways.http.metrics import HttpMetrics, MetricsSource
from gateways.http.settings import HttpSettings

log = structlog.get_logger(__name__)

Tls: TypeAlias = Callable[[], ssl.SSLContext] | tuple[Path, Path]  # or certificate and key
Listener: TypeAlias = tuple[str, str, int]  # "http" or "https", host, port

BACKLOG = 2_048
PING_INTERVAL_S = 20.0  # keeps WebSockets open through proxies, and finds dead ones
CLOSE_GRACE_STEP_S = 0.01
CLOSE_GRACE_STEPS = 100  # a second for the client's half of the handshake (RFC 6455 §7.1.2)


class HttpGateway:
    """One gateway: give it ports, start it, drain it."""

    def __init__(
        self,
        accounts: SignIns,
        mail: Mail,
        push: Push,
        settings: HttpSettings,
        *,
        probe: Probe,
        tls: Tls | None = None,
        clock: Clock | None = None,
        metrics_sources: Sequence[MetricsSource] = (),
    ) -> None:
        clock = clock or SystemClock()
        self._settings = settings
        self._tls = tls
        self._ssl_context: ssl.SSLContext | None = None
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []
        self._context = Context(
            accounts=accounts,
            mail=mail,
            push=push,
            settings=settings,
            clock=clock,
            readiness=Readiness(probe, clock),
            metrics=HttpMetrics(),
            metrics_sources=metrics_sources,
            delays=FailureDelays(),
            bodies=BodyBudget(settings.bodies_bytes_max),
            requests=AtOnce("maxConcurrentRequests", settings.concurrent_requests_max),
            uploads=AtOnce("maxConcurrentUpload", settings.concurrent_uploads_max),
            event_sources=AtOnce("maxEventSources", settings.event_sources_per_account_max),
            polls=AtOnce("maxPolls", settings.polls_per_account_max),
        )

    async def start(self) -> list[Listener]:
        """Bind and serve; return what listens where. Raises OSError when a port is taken."""
        assert not self._servers, "started once"
        bound: list[tuple[str, socket.socket]] = []
        settings = self._settings
        try:
            if self._tls is not None and settings.https_port is not None:
                self._ssl_context = _ssl_context(self._tls)
                bound.append(("https", _bind(settings.https_host, settings.https_port, settings)))
            if settings.http_port is not None:
                bound.append(("http", _bind(settings.http_host, settings.http_port, settings)))
        except BaseException:
            for _, sock in bound:
                sock.close()
            raise
        listeners = [(name, *_address(sock)) for name, sock in bound]
        self._context.https_port = next((p for name, _, p in listeners if name == "https"), None)
        app = build_app(self._context)
        for name, sock in bound:
            await self._serve(app, sock, self._ssl_context if name == "https" else None)
        return listeners

    async def _serve(
        self, app: ASGIApp, sock: socket.socket, ssl_context: ssl.SSLContext | None
    ) -> None:
        server = _Server(_config(app, self._settings, ssl_context))
        task = asyncio.create_task(server.run_until_exit(sock), name="http server")
        self._servers.append((server, task))
        ready = asyncio.create_task(server.listening.wait())
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not server.listening.is_set():
            await task  # raises why

    def reload(self, certificate: Path, key: Path) -> None:
        """Serve this chain to new connections. Raises OSError, ssl.SSLError; the old one stays."""
        assert self._ssl_context is not None, "only with TLS"
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)  # do they fit?
        self._ssl_context.load_cert_chain(certificate, key)
        log.info("certificate reloaded", certificate=str(certificate))

    async def drain(self) -> None:
        """Stop accepting, finish what runs, close WebSockets with 1001, stop.

        Takes `drain_timeout_s` and at most two seconds more; what still runs then is cut off.
        """
        context = self._context
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._settings.drain_timeout_s
        context.draining.set()
        for server, _ in self._servers:
            server.stop_accepting()
        sessions = list(context.websockets)
        for session in sessions:
            session.drain(finish_s=self._settings.drain_timeout_s / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                await asyncio.gather(*(session.closed.wait() for session in sessions))
        for _ in range(CLOSE_GRACE_STEPS):
            if not any(server.has_websockets() for server, _ in self._servers):
                break
            await asyncio.sleep(CLOSE_GRACE_STEP_S)
        for server, _ in self._servers:
            server.stop(within_s=max(1, int(until_s - loop.time())))
        await asyncio.gather(*(task for _, task in self._servers))
        self._servers.clear()


class _Server(uvicorn.Server):
    """uvicorn's server as a guest: it takes no signals and does not end the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Keep the Date header right until `stop`; uvicorn's own loop wakes ten times a second."""
        while not self._stopping.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

    def stop(self, *, within_s: int) -> None:
        """End the main loop; what runs may finish within so many seconds."""
        self.config.timeout_graceful_shutdown = within_s
        self.should_exit = True
        self._stopping.set()

    async def run_until_exit(self, sock: socket.socket) -> None:
        """Serve until `stop`, then cut off what is still there."""
        try:
            await self.serve([sock])
        except SystemExit as error:  # uvicorn exits when it cannot start
            raise RuntimeError("the HTTP server did not start") from error
        finally:
            sock.close()
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    def stop_accepting(self) -> None:
        """Close the listening sockets; open connections go on."""
        for server in self.servers:
            server.close()

    def has_websockets(self) -> bool:
        """Return whether any WebSocket connection is still open."""
        connections = self.server_state.connections
        return any(isinstance(item, BoundedWebSocketProtocol) for item in connections)


def _config(
    app: ASGIApp, settings: HttpSettings, ssl_context: ssl.SSLContext | None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=BoundedHttpProtocol,
        ws=BoundedWebSocketProtocol,
        ws_max_size=settings.request_bytes_max,
        ws_per_message_deflate=False,  # 128 KB a connection, for pushes of 100 octets
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_INTERVAL_S,
        lifespan="off",
        log_config=None,
        log_level="error",  # below that it logs paths
        access_log=False,
        server_header=False,
        proxy_headers=False,  # X-Forwarded-For must not make a peer look like loopback
        limit_concurrency=settings.connections_max,
        backlog=BACKLOG,
        ssl_context_factory=None if ssl_context is None else lambda _config, _default: ssl_context,
    )


def _ssl_context(tls: Tls) -> ssl.SSLContext:
    if callable(tls):
        return tls()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 §3.1.1
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(*tls)
    return context


def _bind(host: str, port: int, settings: HttpSettings) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # With protocol 0 asyncio would leave Nagle's algorithm on: 44 ms a request instead of 0.1.
    sock = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _address(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port

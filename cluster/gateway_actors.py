"""GatewayActors: each gateway inside its Ray actor.

State       soft: listeners, connections, what the router remembers.
Start       with the first call, also after Ray has started the process again.
Drain       for good: a drained gateway does not listen again.
On failure  whoever was connected sees the connection end and repeats.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from actors.link_options import LinkOptions
from actors.ray_ports import RayTransport
from actors.remote import Pulse
from actors.router import Router
from cluster.logs import LogFile
from cluster.metrics import cluster_metrics, kind_and_process, own_metrics, readiness
from cluster.tls import TlsFiles
from gateways.http.server import HttpGateway
from gateways.http.settings import HttpSettings
from gateways.smtp.server import SmtpGateway
from gateways.smtp.settings import SmtpSettings

log = structlog.get_logger()

CERTIFICATE_POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that is listened on."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What every gateway is told. Plain data: it crosses processes."""

    name: str  # of the actor
    namespace: str
    tls: TlsFiles
    log: LogFile
    node: str = ""
    link: LinkOptions = field(default_factory=LinkOptions)  # to shards and supervisor
    others: tuple[str, ...] = ()  # gateways whose metrics this one shows


class Opened(Protocol):
    """A gateway that listens."""

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, finish what was accepted."""

    def reload(self, files: TlsFiles) -> None:
        """Use this certificate for new connections. Raises OSError, ssl.SSLError."""

    def metrics(self) -> Mapping[str, float]:
        """Return counters by name."""


class GatewayActor:
    """The life of a gateway; a subclass says which one it is."""

    def __init__(self, options: GatewayOptions) -> None:
        options.log(options.name.partition("@")[0].replace("/", "-"))
        self._options = options
        self._transport = RayTransport(options.namespace, options.name, options.node, options.link)
        self._router: Router | None = None
        self._gateway: Opened | None = None
        self._listeners: tuple[Listener, ...] = ()
        self._starting: asyncio.Task[tuple[Listener, ...]] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._drained = False

    async def pulse(self) -> Pulse:
        """Answer at once; begin to listen if that has not begun."""
        if not self._listeners:
            self._start()
        return Pulse(os.getpid(), bool(self._listeners))

    async def ensure_started(self) -> tuple[Listener, ...]:
        """Return the listeners once they listen. Raises OSError when an address is taken."""
        return await asyncio.shield(self._start())

    async def listening(self) -> tuple[Listener, ...]:
        """Return what listens now, at once."""
        return self._listeners

    async def metrics(self) -> Mapping[str, float]:
        """Return the gateway's counters by name."""
        if self._gateway is None or self._router is None:
            return {}
        return {**self._gateway.metrics(), **self._router.counts()}

    async def drain(self, timeout_s: float) -> None:
        """Finish what was accepted and listen no more."""
        self._drained = True
        self._listeners = ()
        if self._watching is not None:
            self._watching.cancel()
        if self._gateway is not None:
            await self._gateway.drain(timeout_s)
        if self._router is not None:
            await self._router.close()
        await self._transport.close()

    def _start(self) -> asyncio.Task[tuple[Listener, ...]]:
        failed = (
            self._starting is not None
            and self._starting.done()
            and (self._starting.cancelled() or self._starting.exception() is not None)
        )
        if self._starting is None or failed:
            self._starting = asyncio.create_task(self._open(), name="open gateway")
        return self._starting

    async def _open(self) -> tuple[Listener, ...]:
        if self._drained:
            return ()
        if self._router is None:
            self._router = Router(self._transport, self._options.name)
            self._transport.noticed = self._router.notified
            await self._router.start()
        try:
            self._gateway, self._listeners = await self.open(self._router)
        except OSError as error:
            log.error("not listening", gateway=self._options.name, error=str(error))
            raise
        if self._watching is None:
            follow = self._follow(self._gateway)
            self._watching = asyncio.create_task(follow, name="follow certificate")
        log.info("listening", gateway=self._options.name, addresses=repr(self._listeners))
        return self._listeners

    async def open(self, router: Router) -> tuple[Opened, tuple[Listener, ...]]:
        """Start the gateway. For subclasses. Raises OSError when an address is taken."""
        raise NotImplementedError

    async def _follow(self, gateway: Opened) -> None:
        """Use a certificate that was renewed, for new connections."""
        seen = _stamp(self._options.tls)
        while True:
            await asyncio.sleep(CERTIFICATE_POLL_S)
            now = _stamp(self._options.tls)
            if now == seen:
                continue
            try:
                gateway.reload(self._options.tls)
            except (OSError, ssl.SSLError) as error:
                # Half of the pair may have been written; the next look finds the other.
                log.warning("certificate not usable", error=str(error))
                continue
            seen = now
            log.info("certificate renewed")


class SmtpActor(GatewayActor):
    """The gateway for mail from other servers."""

    def __init__(self, options: GatewayOptions, settings: SmtpSettings) -> None:
        super().__init__(options)
        self._settings = settings

    async def open(self, router: Router) -> tuple[Opened, tuple[Listener, ...]]:
        gateway = OpenedSmtp(router, self._settings, self._options.tls)
        return gateway, (await gateway.start(),)


class HttpActor(GatewayActor):
    """The gateway for browsers and JMAP clients."""

    def __init__(self, options: GatewayOptions, settings: HttpSettings) -> None:
        super().__init__(options)
        self._settings = settings

    async def open(self, router: Router) -> tuple[Opened, tuple[Listener, ...]]:
        gateway = OpenedHttp(router, self._transport, self._settings, self._options)
        return gateway, await gateway.start()


class OpenedSmtp:
    """An SMTP gateway and its certificate."""

    def __init__(self, router: Router, settings: SmtpSettings, files: TlsFiles) -> None:
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(files.certificate, files.key)
        self._gateway = SmtpGateway(router, router, settings, self._tls)

    async def start(self) -> Listener:
        """Listen."""
        host, port = await self._gateway.start()
        return Listener("smtp", host, port)

    async def drain(self, timeout_s: float) -> None:
        """Finish what was accepted."""
        await self._gateway.drain(timeout_s)

    def reload(self, files: TlsFiles) -> None:
        """Use this certificate for new connections."""
        self._tls.load_cert_chain(files.certificate, files.key)

    def metrics(self) -> Mapping[str, float]:
        """Return the counters."""
        return self._gateway.metrics()


class OpenedHttp:
    """An HTTP gateway, its certificate, and what it tells of the rest of the cluster."""

    def __init__(
        self,
        router: Router,
        transport: RayTransport,
        settings: HttpSettings,
        options: GatewayOptions,
    ) -> None:
        kind, process = kind_and_process(options.name)
        self._gateway = HttpGateway(
            router,
            router,
            router,
            settings,
            probe=functools.partial(readiness, transport),
            tls=(options.tls.certificate, options.tls.key),
            metrics_sources=(
                functools.partial(cluster_metrics, transport, options.others),
                functools.partial(own_metrics, kind, process, router.counts),
            ),
        )

    async def start(self) -> tuple[Listener, ...]:
        """Listen."""
        return tuple(Listener(*found) for found in await self._gateway.start())

    async def drain(self, timeout_s: float) -> None:
        """Finish what was accepted; the gateway bounds it itself."""
        await self._gateway.drain()

    def reload(self, files: TlsFiles) -> None:
        """Use this certificate for new connections."""
        self._gateway.reload(files.certificate, files.key)

    def metrics(self) -> Mapping[str, float]:
        """Return nothing: it shows its own at `/metrics`."""
        return {}


def _stamp(files: TlsFiles) -> Mapping[Path, int]:
    stamps = {}
    for file in (files.certificate, files.key):
        try:
            stamps[file] = file.stat().st_mtime_ns
        except OSError:
            stamps[file] = 0
    return stamps

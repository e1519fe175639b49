"""Listeners: which addresses the gateways are to listen on, checked before anything starts."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.refusal import Refused
from cluster.settings import Settings, served_listeners, variable


@dataclass(frozen=True, slots=True)
class Address:
    """Where one listener is to listen; the port is never 0."""

    host: str
    port: int


def reserve(settings: Settings, before: Mapping[str, int]) -> dict[str, Address]:
    """Return the address of every listener by name; port 0 becomes a free one.

    The port is found here and not by the gateway, so that a gateway that was killed comes back
    where its clients look for it; `before` has the ports of a node that was killed, which it
    gets again if they are free. Raises Refused when an address cannot be had.
    """
    sockets: list[socket.socket] = []  # Open until all are known: no port is found twice.
    found = {}
    try:
        for name, listener in served_listeners(settings).items():
            bound = _bind(name, listener.host, listener.port, before.get(name, 0))
            sockets.append(bound)
            found[name] = Address(listener.host, bound.getsockname()[1])
    finally:
        for bound in sockets:
            bound.close()
    return found


def ports_before(run: Mapping[str, Any]) -> dict[str, int]:
    """Return the ports by listener that run.json of a killed node names."""
    found = {}
    listeners = run.get("listeners")
    for name, address in (listeners if isinstance(listeners, Mapping) else {}).items():
        port = str(address).rpartition(":")[2]
        if port.isdigit():
            found[str(name)] = int(port)
    return found


def _bind(name: str, host: str, port: int, before: int) -> socket.socket:
    if port == 0 and before:
        with contextlib.suppress(Refused):
            return _bind(name, host, before, 0)
    setting = f"setting {name}.port / {variable((name, 'port'))}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise Refused(
            f"host {host} is unknown (setting {name}.host / {variable((name, 'host'))})"
        ) from None
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Connections of an earlier run that linger are no obstacle; who listens is one.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(1)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise Refused(f"port {port} is taken ({setting})") from None
        if error.errno == errno.EACCES:
            raise Refused(
                f"port {port} needs more rights than this process has ({setting})"
            ) from None
        raise Refused(
            f"cannot listen on {host}:{port}: {error.strerror} "
            f"(setting {name}.host / {variable((name, 'host'))})"
        ) from None
    return bound

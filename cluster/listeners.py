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


class Reservation:
    """The addresses of all listeners, kept free for our gateways until closed.

    A socket that is bound and does not listen keeps everybody off a port but those who ask for
    it with SO_REUSEADDR, as our gateways do: no connection of anybody gets it by chance while
    a gateway starts, or comes back after it was killed.
    """

    def __init__(self) -> None:
        self.addresses: dict[str, Address] = {}
        self._held: list[socket.socket] = []

    def add(self, name: str, host: str, checked: socket.socket) -> None:
        """Hold the address that `checked` could have listened on."""
        address = checked.getsockname()
        held = socket.socket(checked.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        checked.close()
        self._held.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(address)
        self.addresses[name] = Address(host, address[1])

    def close(self) -> None:
        """Give the addresses up."""
        for held in self._held:
            held.close()


def reserve(settings: Settings, before: Mapping[str, int]) -> Reservation:
    """Reserve the address of every listener; port 0 becomes a free one.

    The port is found here and not by the gateway, so that a gateway that was killed comes back
    where its clients look for it; `before` has the ports of a node that was killed, which it
    gets again if they are free. Raises Refused when an address cannot be had.
    """
    reservation = Reservation()
    try:
        for name, listener in served_listeners(settings).items():
            checked = _bind(name, listener.host, listener.port, before.get(name, 0))
            reservation.add(name, listener.host, checked)
    except BaseException:
        reservation.close()
        raise
    return reservation


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

"""Routes: the next hops that the operator has set for recipient domains, and their order.

    [[route]]
    domains = ["example.org", "*.example.org"]    # or "*": every domain
    via = ["smart.example.net:587", "direct"]     # one hop or several, tried in this order
    auth = "name:password"                        # for the relays among them
    tls = "verified"                              # none, opportunistic, encrypted, verified

Pure. The most specific pattern wins: the name itself, then the longest `*.` above it, then `*`.
Routes with the same pattern are tried one after the other, in the order of the file. A domain
without a route goes to its own mail servers (RFC 5321 §5.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from mail.address import parse_domain
from mail.errors import InvalidAddress

DIRECT = "direct"
EVERYWHERE = "*"
RELAY_PORT = 25
IMPLICIT_TLS_PORT = 465  # RFC 8314 §3.3: TLS from the first octet, without STARTTLS
HOPS_MAX = 10  # for one domain: each may cost a connection's time limit


class RouteTls(StrEnum):
    """What the operator wants of the connection to a next hop."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    ENCRYPTED = "encrypted"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a relay wants to see before it takes mail."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where to try: the recipient domain's own servers, or a relay.

    `host` is a name or an IP address, empty for the domain's own servers; their port is the
    sender's own affair, and `port` is then 0.
    """

    host: str
    port: int
    tls: RouteTls
    credentials: Credentials | None = None

    @property
    def is_direct(self) -> bool:
        return not self.host

    @property
    def implicit_tls(self) -> bool:
        """Say whether TLS begins with the connection (RFC 8314 §3.3)."""
        return self.port == IMPLICIT_TLS_PORT and self.tls is not RouteTls.NONE


@dataclass(frozen=True, slots=True)
class Route:
    """One `[[route]]`: patterns of domains, and the hops to try for them."""

    domains: tuple[str, ...]
    hops: tuple[NextHop, ...]


class Mx(NamedTuple):
    """One MX record; `host` is empty for a null MX (RFC 7505 §3)."""

    preference: int
    host: str


DIRECTLY = NextHop("", 0, RouteTls.OPPORTUNISTIC)


def parse_route(
    domains: Sequence[str],
    via: str | Sequence[str] = DIRECT,
    *,
    port: int | None = None,
    auth: str | None = None,
    tls: str | None = None,
) -> Route:
    """Return one route as the settings have it. Raises ValueError, with a sentence.

    `port` is for the hops of `via` that name none. With `auth`, `tls` is "verified" unless it
    is set, and may not be "opportunistic": a password is not left to chance.
    """
    if not domains:
        raise ValueError("a route needs domains")
    credentials = _parse_credentials(auth)
    wanted = RouteTls.OPPORTUNISTIC if credentials is None else RouteTls.VERIFIED
    if tls is not None:
        try:
            wanted = RouteTls(tls)
        except ValueError:
            raise ValueError(f"tls of a route is none of {', '.join(RouteTls)}: {tls}") from None
    if credentials is not None and wanted is RouteTls.OPPORTUNISTIC:
        raise ValueError("a route with auth needs tls encrypted or verified, or plainly none")
    texts = [via] if isinstance(via, str) else via
    if not 0 < len(texts) <= HOPS_MAX:
        raise ValueError(f"a route goes via 1 to {HOPS_MAX} hosts")
    hops = tuple(_parse_hop(text, port, wanted, credentials) for text in texts)
    return Route(tuple(map(_parse_pattern, domains)), hops)


def parse_short_routes(routes: Mapping[str, str]) -> tuple[Route, ...]:
    """Return routes in their short form, `{domain: "host:port"}`. Raises ValueError."""
    return tuple(parse_route([domain], via) for domain, via in routes.items())


def next_hops(domain: str, routes: Iterable[Route]) -> tuple[NextHop, ...]:
    """Return the hops to try for a recipient domain, in their order; each once."""
    routes = tuple(routes)
    for pattern in _patterns(domain):
        hops = [hop for route in routes if pattern in route.domains for hop in route.hops]
        if hops:
            return tuple(dict.fromkeys(hops))[:HOPS_MAX]
    return (DIRECTLY,)


def order_by_preference(records: Sequence[Mx], numbers: Sequence[float]) -> list[Mx]:
    """Return MX records, the most preferred first, in random order where they are equal.

    RFC 5321 §5.1. `numbers` are random, one a record.
    """
    keyed = zip(records, numbers, strict=True)
    return [mx for mx, _ in sorted(keyed, key=lambda pair: (pair[0].preference, pair[1]))]


def _patterns(domain: str) -> list[str]:
    """Return what may stand for a domain, the most specific first."""
    if domain.startswith("["):  # An address literal has no parts.
        return [domain, EVERYWHERE]
    labels = domain.lower().rstrip(".").split(".")
    above = [f"*.{'.'.join(labels[i:])}" for i in range(1, len(labels))]
    return [".".join(labels), *above, EVERYWHERE]


def _parse_pattern(text: str) -> str:
    prefix = "*." if text.startswith("*.") else ""
    try:
        return EVERYWHERE if text == EVERYWHERE else prefix + parse_domain(text[len(prefix) :])
    except InvalidAddress:
        raise ValueError(f"a route's domain is not valid: {text}") from None


def _parse_hop(
    text: str, port: int | None, tls: RouteTls, credentials: Credentials | None
) -> NextHop:
    if text.lower() == DIRECT:
        return NextHop("", 0, tls)  # Nobody's server gets a relay's password.
    host, port_text = _split_port(text)
    try:
        number = int(port_text) if port_text else RELAY_PORT if port is None else port
        host = str(ipaddress.ip_address(host)) if is_ip_address(host) else parse_domain(host)
    except (ValueError, InvalidAddress):
        raise ValueError(f"a route goes via direct or host:port, not {text}") from None
    if not 0 < number < 1 << 16:
        raise ValueError(f"a route's port is not valid: {text}")
    return NextHop(host, number, tls, credentials)


def _split_port(text: str) -> tuple[str, str]:
    """Return host and port of `host`, `host:port`, `::1`, `[::1]` and `[::1]:25`."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port


def is_ip_address(host: str) -> bool:
    """Say whether a host is given by its address, and not by a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _parse_credentials(auth: str | None) -> Credentials | None:
    if auth is None:
        return None
    name, colon, password = auth.partition(":")
    if not (name and colon and password):
        raise ValueError("auth of a route is name:password")
    return Credentials(name, password)

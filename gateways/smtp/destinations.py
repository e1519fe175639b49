"""Destinations: the hosts that take the mail of a recipient domain, with their addresses.

RFC 5321 §5.1: the MX hosts by preference; without an MX record the domain itself; never a host
that is less preferred than we are. What the DNS says for certain is permanent, trouble with it is
temporary: a host whose addresses cannot be had now is left out while there are others.

    556 5.1.10  the domain takes no mail (null MX, RFC 7505 §4)
    550 5.1.2   the domain does not exist, or has neither MX nor address
    550 5.4.4   none of its MX hosts has an address
    554 5.4.6   we are its best MX host, but its mailboxes are not here: a loop
    451 4.4.3   the DNS has no answer now
    451 4.3.5   a relay that the operator has set does not exist: the mail waits for a correction
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gateways.smtp.resolver import Answer, LookupFailed, NotFound, Resolver
from mail.address import parse_domain
from mail.errors import InvalidAddress, MailError
from mail.routes import Mx, is_ip_address, order_by_preference

OUTBOUND_PORT = 25
HOSTS_MAX = 10  # of one domain; its best ten are not all down for long
ADDRESSES_MAX = 8  # of one host
RECORDS_MAX = 100  # MX records looked at; more are nobody's honest wish


class NullMx(MailError):
    """The domain does not accept mail (RFC 7505 §4)."""

    smtp = "556 5.1.10"


class NoSuchDomain(MailError):
    """The domain does not exist or has no mail server (RFC 3463 §3.2)."""

    smtp = "550 5.1.2"


class NoUsableHost(MailError):
    """None of the domain's mail servers has an address (RFC 5321 §5.1)."""

    smtp = "550 5.4.4"


class MailLoop(MailError):
    """This host is the best mail server of the domain, and does not know it (RFC 5321 §5.1)."""

    smtp = "554 5.4.6"


class NoSuchRelay(MailError):
    """The relay that a route names does not exist."""

    smtp = "451 4.3.5"


@dataclass(frozen=True, slots=True)
class Host:
    """One server to try: its addresses in the order of trying, at least one.

    `name` is a host name, or for an address literal the address itself. `canonical` is the name
    after CNAMEs; `authenticated` says that the addresses are (RFC 7672 §2.2).
    """

    name: str
    port: int
    addresses: tuple[str, ...]
    canonical: str = ""
    authenticated: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a recipient domain's mail goes; `hosts` in the order of trying, at least one."""

    hosts: tuple[Host, ...]
    named_by_mx: bool = False
    mx_authenticated: bool = False  # the MX records, or their absence


class Destinations:
    """Finds destinations. `own_names` and `own_addresses` are those of this cluster's hosts."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        own_names: Collection[str] = (),
        own_addresses: Collection[str] = (),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._resolver = resolver
        self._own_names = {name.lower().rstrip(".") for name in own_names}
        self._own_addresses = {_plain(address) for address in own_addresses}
        self._chance = chance

    async def of_domain(self, domain: str, *, port: int = OUTBOUND_PORT) -> Destination:
        """Return where the mail of a domain or an address literal goes.

        Raises NullMx, NoSuchDomain, NoUsableHost, MailLoop; LookupFailed.
        """
        if domain.startswith("["):
            return _of_literal(domain, port)
        try:
            answer = await self._resolver.mx(domain)
        except NotFound as error:
            if not error.name_exists:
                raise NoSuchDomain(f"The domain {domain} does not exist") from None
            return await self._implicit(domain, port, mx_authenticated=error.authenticated)
        records = [mx for mx in answer.records[:RECORDS_MAX] if _is_host(mx.host)]
        if not records and all(not mx.host for mx in answer.records):
            raise NullMx(f"The domain {domain} does not accept mail (null MX)")
        hosts = await self._mx_hosts(domain, records, port)
        return Destination(tuple(hosts), True, answer.authenticated)

    async def of_relay(self, host: str, *, port: int) -> Destination:
        """Return the one host of a route, an address or a name whose MX does not matter.

        Raises NoSuchRelay, LookupFailed: both temporary.
        """
        if is_ip_address(host):
            return Destination((Host(host, port, (host,)),))
        try:
            return Destination((await self._host(host, port),))
        except NotFound as error:
            raise NoSuchRelay(f"The relay of a route cannot be used: {error}") from None

    async def _implicit(self, domain: str, port: int, *, mx_authenticated: bool) -> Destination:
        """Return the domain's own host, as if it were its only MX (RFC 5321 §5.1)."""
        try:
            host = await self._host(domain, port)
        except NotFound:
            raise NoSuchDomain(f"The domain {domain} has no mail server") from None
        if self._is_own(host):
            raise MailLoop(f"Mail for {domain} loops back to this host")
        return Destination((host,), False, mx_authenticated)

    async def _mx_hosts(self, domain: str, records: Sequence[Mx], port: int) -> list[Host]:
        numbers = [self._chance() for _ in records]
        ordered = order_by_preference(records, numbers)
        own = [mx.preference for mx in ordered if mx.host in self._own_names]
        ordered = _above(ordered, own)
        if own and not ordered:
            raise MailLoop(f"Mail for {domain} loops back to this host")
        tried = ordered[:HOSTS_MAX]
        found = await asyncio.gather(
            *(self._host(mx.host, port) for mx in tried), return_exceptions=True
        )
        for outcome in found:
            if isinstance(outcome, BaseException) and not isinstance(
                outcome, NotFound | LookupFailed
            ):
                raise outcome
        # Somebody else's name may lead to our address; that is the same loop.
        own = [
            mx.preference
            for mx, host in zip(tried, found, strict=True)
            if isinstance(host, Host) and self._is_own(host)
        ]
        kept = set(_above(tried, own))
        outcomes = [host for mx, host in zip(tried, found, strict=True) if mx in kept]
        hosts = [host for host in outcomes if isinstance(host, Host)]
        if hosts:
            return list({host.name: host for host in hosts}.values())
        for outcome in outcomes:
            if isinstance(outcome, LookupFailed):
                raise outcome
        if own:
            raise MailLoop(f"Mail for {domain} loops back to this host")
        raise NoUsableHost(f"None of the mail servers of {domain} has an address")

    async def _host(self, name: str, port: int) -> Host:
        """Return a host with its addresses. Raises NotFound, LookupFailed."""
        v6, v4 = await asyncio.gather(
            self._resolver.aaaa(name), self._resolver.a(name), return_exceptions=True
        )
        answers = [answer for answer in (v6, v4) if isinstance(answer, Answer)]
        if not answers:
            # No answer about one family leaves the question open, whatever the other says.
            errors = [error for error in (v6, v4) if isinstance(error, BaseException)]
            raise min(errors, key=lambda error: isinstance(error, NotFound))
        lists = [self._shuffled(answer.records) for answer in answers]
        return Host(
            name,
            port,
            tuple(interleave(*lists))[:ADDRESSES_MAX],
            answers[0].canonical,
            all(answer.authenticated for answer in answers),
        )

    def _shuffled(self, addresses: Sequence[str]) -> list[str]:
        """Return addresses in random order: what is remembered must not favour one of them."""
        return [a for _, a in sorted((self._chance(), address) for address in addresses)]

    def _is_own(self, host: Host) -> bool:
        own = host.name.lower() in self._own_names or host.canonical in self._own_names
        return own or any(_plain(address) in self._own_addresses for address in host.addresses)


def interleave(*lists: Sequence[str]) -> list[str]:
    """Return addresses of several families in turns, so that one that is cut off costs little.

    RFC 8305 §4.
    """
    turns = itertools.zip_longest(*lists)
    return [address for turn in turns for address in turn if address is not None]


def _above(ordered: Sequence[Mx], own: Sequence[int]) -> list[Mx]:
    """Return what is more preferred than we are (RFC 5321 §5.1)."""
    return [mx for mx in ordered if not own or mx.preference < min(own)]


def _is_host(name: str) -> bool:
    """Say whether an MX record names a host; some give an address or nothing."""
    try:
        return not is_ip_address(parse_domain(name))
    except InvalidAddress:
        return False


def _plain(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _of_literal(domain: str, port: int) -> Destination:
    """Return the host of `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3)."""
    try:
        address = _plain(parse_domain(domain)[1:-1].removeprefix("IPv6:"))
    except (InvalidAddress, ValueError):
        raise NoSuchDomain(f"The address literal {domain} is not valid") from None
    return Destination((Host(address, port, (address,)),))

"""Resolver: asks the DNS for what mail needs to know, and remembers the answers.

Answers     plain values; `authenticated` says that a resolver which we trust has validated them
            (the AD bit, RFC 6840 §5.8).
NotFound    the name, or this type of it, does not exist: an answer like others, also remembered.
LookupFailed  anything else: no answer in time, SERVFAIL, nonsense. Temporary, never a bounce.
Bounds      one query in flight per name and type, QUERIES_MAX in all; CACHE_MAX answers, the
            longest unused go first; times to live between TTL_S_MIN and TTL_S_MAX.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from mail.errors import Unavailable
from mail.routes import Mx
from mail.tlsa import Tlsa

QUERIES_MAX = 200  # each has a socket
CACHE_MAX = 20_000  # answers, some hundred bytes each
TTL_S_MIN = 5.0  # a burst of mail for one domain asks once
TTL_S_MAX = 86_400.0  # a day: who set a month regrets it when a server moves
NEGATIVE_TTL_S_MAX = 900.0  # RFC 2308 §5 advises at most 3 hours; a new name should not wait
FAILURE_TTL_S = 5.0  # RFC 9520 §3.2: failures are remembered for a moment as well
SERVER_TIMEOUT_S = 3.0  # then the next server is asked
LIFETIME_S = 12.0  # of one lookup: each of three servers once, and one of them again
EDNS_BYTES = 1232  # what is not broken into fragments; what is larger comes over TCP
DNS_PORT = 53
LOCAL_SERVER = "127.0.0.1"  # where there is no configuration, as resolv.conf(5) has it

T = TypeVar("T")


class NotFound(Exception):
    """The name does not exist (`name_exists` is false) or has no record of this type."""

    def __init__(self, name: str, rtype: str, *, name_exists: bool, authenticated: bool) -> None:
        what = f"has no {rtype} record" if name_exists else "does not exist"
        super().__init__(f"{name} {what}")
        self.name_exists = name_exists
        self.authenticated = authenticated


class LookupFailed(Unavailable):
    """The DNS gave no answer now."""

    smtp = "451 4.4.3"  # RFC 3463 §3.5: directory server failure


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """Records of one type, at least one; `canonical` is the name after all CNAMEs."""

    records: tuple[T, ...]
    canonical: str
    authenticated: bool


@dataclass(frozen=True, slots=True)
class _Remembered:
    outcome: Answer[Any] | NotFound | LookupFailed
    until: float


class Resolver:
    """The DNS as one gateway sees it. Names are in ASCII, with or without the last dot.

    `servers` are `address`, `address:port` or `[address]:port`; with none, those of the system.
    `trust_ad` says whether their AD bit is believed; None believes servers on loopback, since
    beyond that anybody on the way could set it (RFC 7672 §2.1.3).
    """

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        trust_ad: bool | None = None,
        lifetime_s: float = LIFETIME_S,
        server_timeout_s: float = SERVER_TIMEOUT_S,
        cache_max: int = CACHE_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        addresses = [parse_server(server) for server in servers] or _system_servers()
        stub = dns.asyncresolver.Resolver(configure=False)
        stub.nameservers = [dns.nameserver.Do53Nameserver(*address) for address in addresses]
        stub.timeout, stub.lifetime = server_timeout_s, lifetime_s
        stub.use_edns(0, 0, EDNS_BYTES)
        stub.set_flags(dns.flags.RD | dns.flags.AD)  # RFC 6840 §5.7: we care for the AD bit.
        self._stub = stub
        if trust_ad is None:
            trust_ad = all(ipaddress.ip_address(host).is_loopback for host, _ in addresses)
        self._trust_ad = trust_ad
        self._cache: OrderedDict[tuple[str, str], _Remembered] = OrderedDict()
        self._cache_max = cache_max
        self._in_flight: dict[tuple[str, str], asyncio.Task[_Remembered]] = {}
        self._slots = asyncio.Semaphore(QUERIES_MAX)
        self._clock = clock

    async def a(self, name: str) -> Answer[str]:
        """Return IPv4 addresses. This and its like raise NotFound and LookupFailed."""
        return await self._resolve(name, "A")

    async def aaaa(self, name: str) -> Answer[str]:
        """Return IPv6 addresses."""
        return await self._resolve(name, "AAAA")

    async def mx(self, name: str) -> Answer[Mx]:
        """Return MX records in no order; the host of a null MX is empty (RFC 7505 §3)."""
        return await self._resolve(name, "MX")

    async def txt(self, name: str) -> Answer[bytes]:
        """Return TXT records, the strings of each joined (RFC 7208 §3.3)."""
        return await self._resolve(name, "TXT")

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        """Return TLSA records (RFC 6698 §2.1)."""
        return await self._resolve(name, "TLSA")

    def close(self) -> None:
        """Give up the queries in flight."""
        for task in self._in_flight.values():
            task.cancel()

    async def _resolve(self, name: str, rtype: str) -> Answer[Any]:
        key = name.lower().rstrip("."), rtype
        found = self._recall(key)
        if found is None:
            task = self._in_flight.get(key)
            if task is None:
                task = asyncio.create_task(self._query(*key))
                self._in_flight[key] = task
                task.add_done_callback(lambda _: self._in_flight.pop(key, None))
            # Others may wait for the same answer, so who goes away does not take it along.
            found = await asyncio.shield(task)
        match found.outcome:
            case Answer() as answer:
                return answer
            case NotFound() | LookupFailed() as error:
                # The traceback belongs to whoever asks, not to what is remembered.
                raise error.with_traceback(None)

    def _recall(self, key: tuple[str, str]) -> _Remembered | None:
        found = self._cache.get(key)
        if found is None:
            return None
        if self._clock() >= found.until:
            del self._cache[key]
            return None
        self._cache.move_to_end(key)
        return found

    async def _query(self, name: str, rtype: str) -> _Remembered:
        try:
            async with self._slots:
                outcome, ttl_s = await self._ask(name, rtype)
        except (dns.exception.DNSException, OSError, EOFError) as error:
            outcome, ttl_s = LookupFailed(f"DNS lookup of {name} {rtype}: {_said(error)}"), None
        if isinstance(outcome, LookupFailed):
            ttl_s = FAILURE_TTL_S
        remembered = _Remembered(outcome, self._clock() + (ttl_s or 0.0))
        if ttl_s is not None:
            self._cache[name, rtype] = remembered
            while len(self._cache) > self._cache_max:
                self._cache.popitem(last=False)
        return remembered

    async def _ask(
        self, name: str, rtype: str
    ) -> tuple[Answer[Any] | NotFound | LookupFailed, float | None]:
        """Return the outcome, and for how many seconds; None when it is not to be kept."""
        try:
            absolute = dns.name.from_text(name + ".")
        except dns.exception.DNSException:  # Too long, or an empty label: nobody has it.
            error = NotFound(name, rtype, name_exists=False, authenticated=False)
            return error, NEGATIVE_TTL_S_MAX
        try:
            answer = await self._stub.resolve(absolute, rtype, search=False)
        except dns.resolver.NXDOMAIN as error:
            response = error.response(absolute)  # type: ignore[no-untyped-call]
            return self._denied(name, rtype, response, name_exists=False)
        except dns.resolver.NoAnswer as error:
            response = error.response()  # type: ignore[no-untyped-call]
            return self._denied(name, rtype, response, name_exists=True)
        assert answer.rrset is not None
        ttl_s = float(answer.chaining_result.minimum_ttl)
        return Answer(
            tuple(_value(record) for record in answer.rrset),
            _text(answer.canonical_name),
            self._is_authenticated(answer.response),
        ), min(max(ttl_s, TTL_S_MIN), TTL_S_MAX)

    def _denied(
        self, name: str, rtype: str, response: dns.message.Message, *, name_exists: bool
    ) -> tuple[NotFound, float | None]:
        authenticated = self._is_authenticated(response)
        error = NotFound(name, rtype, name_exists=name_exists, authenticated=authenticated)
        # RFC 2308 §5: the lesser of the SOA record's own time and its minimum; without such a
        # record, a denial is not kept.
        times = [
            min(rrset.ttl, rrset[0].minimum)
            for rrset in response.authority
            if rrset.rdtype == dns.rdatatype.SOA
        ]
        if not times:
            return error, None
        return error, min(max(float(min(times)), TTL_S_MIN), NEGATIVE_TTL_S_MAX)

    def _is_authenticated(self, response: dns.message.Message) -> bool:
        return self._trust_ad and bool(response.flags & dns.flags.AD)


def parse_server(text: str) -> tuple[str, int]:
    """Return address and port of a DNS server. Raises ValueError."""
    host, port = text, str(DNS_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        raise ValueError(f"a DNS server is an address, perhaps with a port: {text}") from None


def _system_servers() -> list[tuple[str, int]]:
    try:
        found: Iterable[Any] = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration:
        found = ()
    addresses = [(server, DNS_PORT) for server in found if isinstance(server, str)]
    return addresses or [(LOCAL_SERVER, DNS_PORT)]


def _text(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _value(record: Any) -> Any:
    match dns.rdatatype.to_text(record.rdtype):
        case "MX":
            return Mx(record.preference, _text(record.exchange))
        case "TXT":
            return b"".join(record.strings)
        case "TLSA":
            return Tlsa(record.usage, record.selector, record.mtype, bytes(record.cert))
        case _:
            return str(record.address)


def _said(error: Exception) -> str:
    """Return what went wrong in a few words: dnspython's own lists every try."""
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, dns.resolver.NoNameservers):
        return "the servers could not answer"
    return type(error).__name__

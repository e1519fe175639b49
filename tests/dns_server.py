"""DnsServer: a DNS server on loopback that serves what a test tells it to.

    with DnsServer({"example.test": {"MX": [(10, "mx.example.test")]},
                    "mx.example.test": {"A": ["127.0.0.1"], "ttl": 60}}) as dns:
        dns.servers              # what to put into the setting `dns.servers`
        dns.behave("mx.example.test", Behaviour.SERVFAIL, "AAAA")

UDP and TCP on one free port. It answers as a validating resolver does: CNAMEs are followed as far
as its data go, an absent name or type is denied with a SOA record, and the AD bit is set, if asked
for, where every name of the answer lies below a signed one. Records may be changed while it runs.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Self

import dnslib
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, TCPServer, UDPServer

ADDRESS = "127.0.0.1"
PORT_TRIES_MAX = 20  # a port that is free for UDP may be taken for TCP
CNAMES_MAX = 8
CLASSIC_BYTES_MAX = 512  # RFC 1035 §4.2.1: without EDNS

Zones = Mapping[str, Mapping[str, Any]]


class Behaviour(Enum):
    """What a name may be told to do instead of answering."""

    SERVFAIL = "servfail"
    NXDOMAIN = "nxdomain"
    SILENT = "silent"  # the client runs into its time limit
    TRUNCATED = "truncated"  # over UDP; TCP has the whole answer


READERS: dict[str, Callable[[Any], dnslib.RD]] = {
    "A": dnslib.A,
    "AAAA": dnslib.AAAA,
    "CNAME": dnslib.CNAME,
    "PTR": dnslib.PTR,
    "MX": lambda record: dnslib.MX(preference=record[0], label=record[1]),  # (preference, host)
    "SRV": lambda record: dnslib.SRV(*record),  # (priority, weight, port, target)
    # Text, octets, or a list of them for a record of several strings.
    "TXT": lambda record: dnslib.TXT(list(record) if isinstance(record, list | tuple) else record),
    # (usage, selector, matching type, octets)
    "TLSA": lambda record: dnslib.RD(bytes(record[:3]) + bytes(record[3])),
}


class DnsServer:
    """A server with its data; a context manager that leaves neither thread nor socket behind.

    `zones` maps a name to its records by type, and to "ttl", in seconds; see READERS for their
    forms. Names at and below one of `signed` are authenticated.
    """

    def __init__(
        self,
        zones: Zones | None = None,
        *,
        signed: tuple[str, ...] = (),
        ttl_s: int = 300,
        negative_ttl_s: int = 60,
    ) -> None:
        self.zones: dict[str, dict[str, Any]] = {}
        self.signed = {_key(name) for name in signed}
        self.ttl_s = ttl_s
        self.negative_ttl_s = negative_ttl_s
        self.queries: Counter[tuple[str, str, str]] = Counter()  # by name, type, "udp" or "tcp"
        self._behaviours: dict[tuple[str, str], Behaviour] = {}
        self._lock = threading.Lock()
        self._servers: list[Any] = []
        self._threads: list[threading.Thread] = []
        self.port = 0
        for name, records in (zones or {}).items():
            self.set(name, **records)

    # What a test says --------------------------------------------------------------------

    def set(self, name: str, **records: Any) -> None:
        """Replace all records of a name; with none, the name is gone."""
        with self._lock:
            self.zones.pop(_key(name), None)
            if records:
                self.zones[_key(name)] = records

    def behave(self, name: str, behaviour: Behaviour | None, rtype: str = "") -> None:
        """Tell a name, or one type of it, to misbehave; None ends that."""
        with self._lock:
            if behaviour is None:
                self._behaviours.pop((_key(name), rtype), None)
            else:
                self._behaviours[_key(name), rtype] = behaviour

    def count(self, name: str, rtype: str = "", transport: str = "") -> int:
        """Return how many queries there were, of one type and over one transport if given."""
        with self._lock:
            return sum(
                number
                for (asked, asked_type, over), number in self.queries.items()
                if asked == _key(name) and rtype in ("", asked_type) and transport in ("", over)
            )

    @property
    def servers(self) -> list[str]:
        """Return the server as the setting `dns.servers` has it."""
        return [f"{ADDRESS}:{self.port}"]

    # Its life ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._bind()
        for server in self._servers:
            server.resolver, server.logger = _Answers(self), DNSLogger(log="-request,-reply")
            server.logger.log_error = server.logger.log_pass  # silence is an error to dnslib
            server.logger.log_truncated = server.logger.log_pass
            # A short poll: a stop waits for it.
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self._servers, self._threads = [], []

    def _bind(self) -> None:
        for _ in range(PORT_TRIES_MAX):
            udp = UDPServer((ADDRESS, self.port), DNSHandler)
            port = udp.server_address[1]
            try:
                tcp = TCPServer((ADDRESS, port), DNSHandler)
            except OSError:
                udp.server_close()
                continue
            self.port, self._servers = port, [udp, tcp]
            return
        raise OSError("no port is free for both UDP and TCP")

    # Answers -----------------------------------------------------------------------------

    def answer(self, request: dnslib.DNSRecord, transport: str) -> dnslib.DNSRecord:
        """Return the reply to a query. Raises DNSError to stay silent."""
        name, rtype = _key(str(request.q.qname)), dnslib.QTYPE[request.q.qtype]
        with self._lock:
            self.queries[name, rtype, transport] += 1
            behaviour = self._behaviours.get((name, rtype)) or self._behaviours.get((name, ""))
            reply = request.reply(ra=1, aa=0)
            reply.header.ad = 0  # dnslib repeats what the query has.
            if behaviour is Behaviour.SILENT:
                raise dnslib.DNSError("told to be silent")
            if behaviour is Behaviour.SERVFAIL:
                reply.header.rcode = dnslib.RCODE.SERVFAIL
                return reply
            if behaviour is Behaviour.NXDOMAIN:
                self._deny(reply, name, exists=False)
            else:
                self._fill(reply, name, rtype)
            edns = [record for record in request.ar if record.rtype == dnslib.QTYPE.OPT]
            asked_ad = request.header.ad or any(record.edns_do for record in edns)
            names = [name, *(_key(str(rr.rdata.label)) for rr in reply.rr if rr.rtype == 5)]
            if asked_ad and all(self._is_signed(each) for each in names):
                reply.header.ad = 1
        bytes_max = max([CLASSIC_BYTES_MAX, *(record.edns_len for record in edns)])
        too_large = transport == "udp" and len(reply.pack()) > bytes_max
        if too_large or (behaviour is Behaviour.TRUNCATED and transport == "udp"):
            reply.rr, reply.auth = [], []  # The question stays, by which clients know the reply.
            reply.header.tc = 1
        return reply

    def _fill(self, reply: dnslib.DNSRecord, name: str, rtype: str) -> None:
        for _ in range(CNAMES_MAX):
            records = self.zones.get(name, {})
            ttl_s = records.get("ttl", self.ttl_s)
            found = rtype if rtype in records else "CNAME" if "CNAME" in records else ""
            for record in records.get(found, ()):
                code, data = getattr(dnslib.QTYPE, found), READERS[found](record)
                reply.add_answer(dnslib.RR(name, code, rdata=data, ttl=ttl_s))
            if found != "CNAME" or rtype == "CNAME":
                if not found:
                    self._deny(reply, name, exists=self._exists(name))
                return
            name = _key(records["CNAME"][0])

    def _deny(self, reply: dnslib.DNSRecord, name: str, *, exists: bool) -> None:
        reply.header.rcode = dnslib.RCODE.NOERROR if exists else dnslib.RCODE.NXDOMAIN
        times = (1, 3600, 600, 86400, self.negative_ttl_s)
        soa = dnslib.SOA("ns.test", "hostmaster.test", times)
        zone = name.rpartition(".")[2] or "."
        reply.add_auth(dnslib.RR(zone, dnslib.QTYPE.SOA, rdata=soa, ttl=self.negative_ttl_s))

    def _exists(self, name: str) -> bool:
        """Say whether there is a record at the name or below it (RFC 8020)."""
        return any(each == name or each.endswith(f".{name}") for each in self.zones)

    def _is_signed(self, name: str) -> bool:
        return any(name == top or name.endswith(f".{top}") for top in self.signed)


class _Answers(BaseResolver):
    """Hands dnslib's queries to the server."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def resolve(self, request: dnslib.DNSRecord, handler: DNSHandler) -> dnslib.DNSRecord:
        stream = handler.server.socket_type == socket.SOCK_STREAM
        return self._server.answer(request, "tcp" if stream else "udp")


def _key(name: str) -> str:
    return name.rstrip(".").lower()

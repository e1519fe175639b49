"""DANE: when TLSA records are looked for and what counts; a peer's chain from a real handshake."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from gateways.smtp.dane import look_up, peer_chain
from gateways.smtp.destinations import Destinations
from gateways.smtp.resolver import LookupFailed, Resolver
from mail.tlsa import Tlsa, TlsaSet, matches
from tests.dns_server import Behaviour, DnsServer
from tests.protocol.policy_server import Authority, PolicyServer

KEY = (3, 1, 1, bytes(32))
ZONES = {
    "example.test": {"MX": [(10, "mx.example.test")]},
    "mx.example.test": {"A": ["127.0.0.1"]},
    "_25._tcp.mx.example.test": {"TLSA": [KEY, (0, 0, 1, bytes(32))]},
    "insecure.test": {"MX": [(10, "mx.example.test")]},
    "abroad.example.test": {"MX": [(10, "mx.insecure.test")]},
    "mx.insecure.test": {"A": ["127.0.0.1"]},
    "_25._tcp.mx.insecure.test": {"TLSA": [KEY]},
    "bare.example.test": {"A": ["127.0.0.1"]},
    "odd.example.test": {"A": ["127.0.0.1"]},
    "_25._tcp.odd.example.test": {"TLSA": [(0, 0, 1, bytes(32)), (3, 1, 9, bytes(32))]},
    "alias.example.test": {"CNAME": ["real.example.test"]},
    "real.example.test": {"A": ["127.0.0.1"]},
    "_25._tcp.alias.example.test": {"TLSA": [(3, 1, 1, bytes([1] * 32))]},
}


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONES, signed=("example.test",)) as server:
        yield server


async def of(dns: DnsServer, domain: str, port: int = 25) -> TlsaSet | None:
    resolver = Resolver(dns.servers, lifetime_s=1.0, server_timeout_s=0.3)
    destination = await Destinations(resolver).of_domain(domain, port=port)
    return await look_up(resolver, destination, destination.hosts[0])


async def test_records_of_a_signed_host(dns: DnsServer) -> None:
    assert await of(dns, "example.test") == TlsaSet("mx.example.test", (Tlsa(*KEY),))
    assert await of(dns, "example.test", port=2526) is None  # they are for one port


@pytest.mark.parametrize("domain", ["insecure.test", "abroad.example.test", "[127.0.0.1]"])
async def test_nothing_is_asked_where_the_way_is_not_signed(dns: DnsServer, domain: str) -> None:
    assert await of(dns, domain) is None
    assert not any(rtype == "TLSA" for _, rtype, _ in dns.queries)


async def test_a_resolver_that_is_not_trusted_makes_no_demand(dns: DnsServer) -> None:
    resolver = Resolver(dns.servers, trust_ad=False)
    destination = await Destinations(resolver).of_domain("example.test")
    assert await look_up(resolver, destination, destination.hosts[0]) is None


async def test_a_domain_without_mx_and_a_relay(dns: DnsServer) -> None:
    assert await of(dns, "bare.example.test") is None
    dns.set("_25._tcp.bare.example.test", TLSA=[KEY])
    assert await of(dns, "bare.example.test") == TlsaSet("bare.example.test", (Tlsa(*KEY),))
    resolver = Resolver(dns.servers)
    relay = await Destinations(resolver).of_relay("mx.example.test", port=25)
    assert await look_up(resolver, relay, relay.hosts[0]) is not None


async def test_records_that_cannot_be_used(dns: DnsServer) -> None:
    assert await of(dns, "odd.example.test") == TlsaSet("odd.example.test", ())


async def test_records_at_the_end_of_a_cname_come_first(dns: DnsServer) -> None:
    found = await of(dns, "alias.example.test")
    assert found is not None
    assert found.base == "alias.example.test"
    dns.set("_25._tcp.real.example.test", TLSA=[KEY])
    assert await of(dns, "alias.example.test") == TlsaSet("real.example.test", (Tlsa(*KEY),))


@pytest.mark.parametrize("behaviour", [Behaviour.SERVFAIL, Behaviour.SILENT])
async def test_no_answer_is_temporary(dns: DnsServer, behaviour: Behaviour) -> None:
    dns.behave("_25._tcp.mx.example.test", behaviour)
    with pytest.raises(LookupFailed):
        await of(dns, "example.test")


async def _chain_of(port: int) -> tuple[bytes, ...]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        return peer_chain(writer.get_extra_info("ssl_object"))
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_peers_chain(loop: object, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authority = Authority(tmp_path, now)
    context = authority.serving("mx.example.test")
    file = tmp_path / "server.pem"
    file.write_bytes(file.read_bytes() + authority.ca_file.read_bytes())
    context.load_cert_chain(file, tmp_path / "server-key.pem")

    async def shown() -> tuple[bytes, ...]:
        async with PolicyServer(context, b"") as server:
            return await _chain_of(server.port)

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        chain = runner.run(shown())
    ca = authority.ca.certificate.public_bytes(Encoding.DER)
    assert len(chain) == 2
    assert chain[1] == ca
    record = Tlsa(2, 0, 1, hashlib.sha256(ca).digest())
    assert matches([record], chain, ["mx.example.test"], now)
    assert not matches([record], chain, ["mx.example.net"], now)

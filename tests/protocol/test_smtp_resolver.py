"""The resolver against a DNS server on loopback: answers, denials, trouble, memory, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from gateways.smtp.resolver import LookupFailed, NotFound, Resolver, parse_server
from mail.routes import Mx
from mail.tlsa import Tlsa
from tests.dns_server import Behaviour, DnsServer


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


ZONES = {
    "example.test": {
        "MX": [(10, "MX.example.test"), (20, "mx2.example.test")],
        "TXT": ["v=spf1 -all", ["v=STS", "v1; id=1"]],
        "ttl": 60,
    },
    "null.test": {"MX": [(0, ".")]},
    "mx.example.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
    "_25._tcp.mx.example.test": {"TLSA": [(3, 1, 1, bytes(range(32)))]},
    "alias.test": {"CNAME": ["middle.test"]},
    "middle.test": {"CNAME": ["mx.example.test"], "ttl": 30},
    "dangling.test": {"CNAME": ["nowhere.test"]},
    "large.test": {"TXT": [f"{number} {'x' * 240}" for number in range(20)]},
    "moment.test": {"A": ["192.0.2.3"], "ttl": 0},
    "forever.test": {"A": ["192.0.2.4"], "ttl": 10_000_000},
}


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONES, signed=("example.test",)) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def resolver(dns: DnsServer, clock: Clock) -> AsyncIterator[Resolver]:
    one = Resolver(dns.servers, clock=clock, lifetime_s=1.0, server_timeout_s=0.3)
    yield one
    one.close()


async def test_records_are_plain_values(resolver: Resolver) -> None:
    mx = await resolver.mx("example.test")
    assert set(mx.records) == {Mx(10, "mx.example.test"), Mx(20, "mx2.example.test")}
    assert (await resolver.mx("null.test")).records == (Mx(0, ""),)
    assert set((await resolver.a("mx.example.test")).records) == {"192.0.2.1", "192.0.2.2"}
    assert (await resolver.aaaa("mx.example.test")).records == ("2001:db8::1",)
    texts = (await resolver.txt("example.test")).records
    assert set(texts) == {b"v=spf1 -all", b"v=STSv1; id=1"}
    tlsa = await resolver.tlsa("_25._tcp.mx.example.test")
    assert tlsa.records == (Tlsa(3, 1, 1, bytes(range(32))),)


async def test_cnames_are_followed(resolver: Resolver) -> None:
    answer = await resolver.aaaa("alias.test")
    assert answer.records == ("2001:db8::1",)
    assert answer.canonical == "mx.example.test"
    with pytest.raises(NotFound) as caught:
        await resolver.a("dangling.test")
    assert not caught.value.name_exists


async def test_an_absent_name_is_not_an_absent_record(resolver: Resolver) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.test does not exist") as caught:
        await resolver.mx("nowhere.test")
    assert not caught.value.name_exists
    with pytest.raises(NotFound, match=r"null\.test has no A record") as caught:
        await resolver.a("null.test")
    assert caught.value.name_exists
    with pytest.raises(NotFound):  # below it there are names
        await resolver.a("_tcp.mx.example.test")


async def test_authenticated_is_what_the_server_says(resolver: Resolver) -> None:
    assert (await resolver.mx("example.test")).authenticated
    assert not (await resolver.mx("null.test")).authenticated
    assert not (await resolver.a("alias.test")).authenticated  # not all of the way is signed
    with pytest.raises(NotFound) as caught:
        await resolver.tlsa("_25._tcp.mx2.example.test")
    assert caught.value.authenticated


async def test_a_server_that_is_not_trusted_authenticates_nothing(dns: DnsServer) -> None:
    resolver = Resolver(dns.servers, trust_ad=False)
    assert not (await resolver.mx("example.test")).authenticated


@pytest.mark.parametrize("behaviour", [Behaviour.SERVFAIL, Behaviour.SILENT])
async def test_trouble_is_temporary(
    dns: DnsServer, resolver: Resolver, clock: Clock, behaviour: Behaviour
) -> None:
    dns.behave("example.test", behaviour)
    with pytest.raises(LookupFailed, match=r"example\.test MX") as caught:
        await resolver.mx("example.test")
    assert caught.value.smtp == "451 4.4.3"
    asked = dns.count("example.test")
    with pytest.raises(LookupFailed):
        await resolver.mx("example.test")
    assert dns.count("example.test") == asked  # remembered for a moment
    dns.behave("example.test", None)
    clock.now += 6
    assert (await resolver.mx("example.test")).records


async def test_a_server_that_is_not_there_is_temporary_and_the_next_one_is_asked(
    dns: DnsServer,
) -> None:
    with DnsServer() as gone:
        dead = gone.servers
    with pytest.raises(LookupFailed):
        await Resolver(dead, lifetime_s=0.5).mx("example.test")
    two = Resolver([*dead, *dns.servers], server_timeout_s=0.3)
    assert (await two.mx("example.test")).records


async def test_large_answers_come_over_tcp(dns: DnsServer, resolver: Resolver) -> None:
    assert len((await resolver.txt("large.test")).records) == 20
    assert dns.count("large.test", "TXT", "tcp") == 1
    dns.behave("mx.example.test", Behaviour.TRUNCATED)
    assert len((await resolver.a("mx.example.test")).records) == 2
    assert dns.count("mx.example.test", "A", "udp") == 1
    assert dns.count("mx.example.test", "A", "tcp") == 1


async def test_answers_are_remembered_for_their_time(
    dns: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    for _ in range(3):
        await resolver.mx("Example.TEST.")
    assert dns.count("example.test", "MX") == 1
    clock.now += 59
    await resolver.mx("example.test")
    assert dns.count("example.test", "MX") == 1
    clock.now += 2
    await resolver.mx("example.test")
    assert dns.count("example.test", "MX") == 2


async def test_the_shortest_time_of_a_chain_counts(
    dns: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    await resolver.a("alias.test")
    clock.now += 31
    await resolver.a("alias.test")
    assert dns.count("alias.test", "A") == 2


async def test_times_have_bounds(dns: DnsServer, resolver: Resolver, clock: Clock) -> None:
    for name in ("moment.test", "moment.test", "forever.test"):
        await resolver.a(name)
    assert dns.count("moment.test") == 1
    clock.now += 86_401
    await resolver.a("forever.test")
    assert dns.count("forever.test") == 2


async def test_denials_are_remembered_as_the_soa_says(
    dns: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    for name in ("nowhere.test", "null.test"):
        for _ in range(2):
            with pytest.raises(NotFound):
                await resolver.a(name)
        assert dns.count(name, "A") == 1
    dns.set("nowhere.test", A=["192.0.2.9"])
    clock.now += 61
    assert (await resolver.a("nowhere.test")).records == ("192.0.2.9",)


async def test_many_who_ask_at_once_ask_once(dns: DnsServer, resolver: Resolver) -> None:
    answers = await asyncio.gather(*(resolver.mx("example.test") for _ in range(50)))
    assert len({answer.records for answer in answers}) == 1
    assert dns.count("example.test", "MX") == 1


async def test_who_gives_up_does_not_take_the_answer_along(
    dns: DnsServer, resolver: Resolver
) -> None:
    first = asyncio.create_task(resolver.mx("example.test"))
    second = asyncio.create_task(resolver.mx("example.test"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).records
    assert dns.count("example.test", "MX") == 1


async def test_the_memory_is_bounded(dns: DnsServer) -> None:
    resolver = Resolver(dns.servers, cache_max=2)
    for name in ("moment.test", "forever.test", "moment.test", "mx.example.test", "moment.test"):
        await resolver.a(name)
    assert dns.count("moment.test") == 1  # used lately
    await resolver.a("forever.test")
    assert dns.count("forever.test") == 2


async def test_names_that_cannot_be_do_not_exist(resolver: Resolver) -> None:
    for name in ("a..test", "a" * 64 + ".test", ".".join(["a" * 60] * 5)):
        with pytest.raises(NotFound):
            await resolver.a(name)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
    ],
)
def test_servers(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["", "ns.example.test", "192.0.2.1:dns", "[192.0.2.1"])
def test_what_is_no_server(text: str) -> None:
    if text == "[192.0.2.1":
        assert parse_server(text) == ("192.0.2.1", 53)
        return
    with pytest.raises(ValueError, match="a DNS server is an address"):
        parse_server(text)


async def test_the_server_stops_cleanly() -> None:
    with DnsServer(ZONES) as dns:
        port = dns.port
        await Resolver(dns.servers).mx("example.test")
    with DnsServer(ZONES) as again:
        again_resolver = Resolver(again.servers)
        assert (await again_resolver.mx("example.test")).records
    with pytest.raises(LookupFailed):
        await Resolver([f"127.0.0.1:{port}"], lifetime_s=0.3).mx("example.test")

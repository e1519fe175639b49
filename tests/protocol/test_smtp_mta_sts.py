"""MTA-STS: policies fetched from an HTTPS server on loopback, remembered, renewed."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateways.smtp.mta_sts import CHECK_S, RETRY_S, MtaSts, trust
from gateways.smtp.resolver import Resolver
from mail.mta_sts import Mode, Policy
from tests.dns_server import Behaviour, DnsServer
from tests.protocol.policy_server import Authority, PolicyServer, answer, policy_text

HOST = "mta-sts.example.test"
HOUR = 3600


class Clock:
    """Seconds that pass when a test says so, for policies and DNS alike."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    zones = {
        "_mta-sts.example.test": {"TXT": ["v=STSv1; id=1"], "ttl": 30},
        HOST: {"A": ["127.0.0.1"], "ttl": 30},
    }
    with DnsServer(zones) as server:
        yield server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, datetime.datetime.now(datetime.UTC))


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[PolicyServer]:
    response = answer(policy_text("mx.example.test"))
    async with PolicyServer(authority.serving(HOST), response) as one:
        yield one


@pytest.fixture
async def sts(
    dns: DnsServer, authority: Authority, server: PolicyServer, clock: Clock
) -> AsyncIterator[MtaSts]:
    resolver = Resolver(dns.servers, clock=clock, lifetime_s=1.0, server_timeout_s=0.3)
    context = trust(authority.ca_file)
    one = MtaSts(resolver, context, port=server.port, timeout_s=1.0, clock=clock)
    yield one
    one.close()


def announce(dns: DnsServer, policy_id: str) -> None:
    dns.set("_mta-sts.example.test", TXT=[f"v=STSv1; id={policy_id}"], ttl=30)


ENFORCED = Policy(Mode.ENFORCE, HOUR, ("mx.example.test",))


async def test_a_policy_is_fetched_once(sts: MtaSts, server: PolicyServer) -> None:
    policies = await asyncio.gather(*(sts.policy("example.test") for _ in range(20)))
    assert set(policies) == {ENFORCED}
    assert len(server.requests) == 1
    assert server.requests[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    assert f"\r\nHost: {HOST}\r\n".encode() in server.requests[0]


async def test_no_record_no_policy(sts: MtaSts, dns: DnsServer, server: PolicyServer) -> None:
    assert await sts.policy("other.test") is None
    assert await sts.policy("[127.0.0.1]") is None
    dns.behave("_mta-sts.trouble.test", Behaviour.SERVFAIL)
    assert await sts.policy("trouble.test") is None
    dns.set("_mta-sts.odd.test", TXT=["v=STSv1"])
    assert await sts.policy("odd.test") is None
    assert not server.requests


@pytest.mark.parametrize(
    "response",
    [
        answer(policy_text("mx.example.test"), status="404 Not Found"),
        answer(policy_text("mx.example.test"), status="204 No Content"),
        answer("", status="301 Moved", Location="https://mta-sts.example.test/other"),
        answer("<html>", content_type="text/html"),
        answer(policy_text("mx.example.test"), content_type="text/html"),
        answer(policy_text()),
        answer("x" * 200_000),
        answer(policy_text("mx.example.test"))[:-5],  # breaks off
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"nonsense\r\n\r\n",
        b"",
        None,
    ],
)
async def test_what_is_no_policy(sts: MtaSts, server: PolicyServer, response: bytes | None) -> None:
    server.response = response
    assert await sts.policy("example.test") is None
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "response",
    [
        answer(policy_text("mx.example.test"), content_type="Text/Plain; charset=utf-8"),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
        + policy_text("mx.example.test").encode(),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n0\r\n\r\n"
        % (len(policy_text("mx.example.test")), policy_text("mx.example.test").encode()),
    ],
)
async def test_ways_to_serve_one(sts: MtaSts, server: PolicyServer, response: bytes) -> None:
    server.response = response
    assert await sts.policy("example.test") == ENFORCED


async def test_the_certificate_must_be_the_hosts(
    dns: DnsServer, authority: Authority, clock: Clock, tmp_path: Path
) -> None:
    response = answer(policy_text("mx.example.test"))
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=20)
    for serving in (
        authority.serving("example.test"),  # another name
        authority.serving(HOST, made=past),  # too old
    ):
        async with PolicyServer(serving, response) as server:
            sts = MtaSts(Resolver(dns.servers), trust(authority.ca_file), port=server.port)
            assert await sts.policy("example.test") is None
            assert not server.requests
    other = tmp_path / "other"
    other.mkdir()
    stranger = Authority(other, datetime.datetime.now(datetime.UTC))
    async with PolicyServer(authority.serving(HOST), response) as server:
        for context in (trust(stranger.ca_file), trust(None)):
            sts = MtaSts(Resolver(dns.servers), context, port=server.port)
            assert await sts.policy("example.test") is None


async def test_a_failed_fetch_is_tried_again_later(
    sts: MtaSts, server: PolicyServer, clock: Clock
) -> None:
    good, server.response = server.response, answer("", status="500 Oops")
    assert await sts.policy("example.test") is None
    server.response = good
    assert await sts.policy("example.test") is None
    assert len(server.requests) == 1
    clock.now += RETRY_S
    assert await sts.policy("example.test") == ENFORCED


async def test_a_policy_that_has_just_been_announced_is_found(
    sts: MtaSts, dns: DnsServer, clock: Clock
) -> None:
    dns.set("_mta-sts.example.test")
    assert await sts.policy("example.test") is None
    announce(dns, "1")
    clock.now += CHECK_S + 1
    assert await sts.policy("example.test") == ENFORCED


async def test_a_new_id_renews_the_policy_beside_the_mail(
    sts: MtaSts, dns: DnsServer, server: PolicyServer, clock: Clock
) -> None:
    await sts.policy("example.test")
    announce(dns, "2")
    server.response = answer(policy_text("new.example.test", mode="testing"))
    clock.now += CHECK_S + 1
    assert await sts.policy("example.test") == ENFORCED  # this mail does not wait
    await sts.settled()
    assert await sts.policy("example.test") == Policy(Mode.TESTING, HOUR, ("new.example.test",))
    assert len(server.requests) == 2


async def test_the_same_id_is_not_fetched_again_before_half_of_its_time(
    sts: MtaSts, server: PolicyServer, clock: Clock
) -> None:
    await sts.policy("example.test")
    for _ in range(5):
        clock.now += CHECK_S + 1
        await sts.policy("example.test")
        await sts.settled()
    assert len(server.requests) == 1
    clock.now += HOUR / 2
    await sts.policy("example.test")
    await sts.settled()
    assert len(server.requests) == 2
    clock.now += HOUR * 0.9  # beyond the first one's end
    assert await sts.policy("example.test") == ENFORCED


@pytest.mark.parametrize("trouble", ["record gone", "record fails", "fetch fails", "new is wrong"])
async def test_an_old_policy_stays_in_force_until_its_end(
    sts: MtaSts, dns: DnsServer, server: PolicyServer, clock: Clock, trouble: str
) -> None:
    await sts.policy("example.test")
    announce(dns, "2")
    match trouble:
        case "record gone":
            dns.set("_mta-sts.example.test")
        case "record fails":
            dns.behave("_mta-sts.example.test", Behaviour.SERVFAIL)
        case "fetch fails":
            server.response = answer("", status="503 Later")
        case _:
            server.response = answer("version: STSv2")
    for _ in range(10):
        clock.now += HOUR / 11
        assert await sts.policy("example.test") == ENFORCED
        await sts.settled()
    clock.now += HOUR / 11 + 1
    assert await sts.policy("example.test") is None


async def test_a_domain_can_end_its_policy(
    sts: MtaSts, dns: DnsServer, server: PolicyServer, clock: Clock
) -> None:
    await sts.policy("example.test")
    announce(dns, "2")
    server.response = answer(policy_text(mode="none"))
    clock.now += CHECK_S + 1
    await sts.policy("example.test")
    await sts.settled()
    ended = await sts.policy("example.test")
    assert ended is not None
    assert ended.mode is Mode.NONE


async def test_failures_are_not_repeated_for_every_message(
    sts: MtaSts, dns: DnsServer, server: PolicyServer, clock: Clock
) -> None:
    await sts.policy("example.test")
    announce(dns, "2")
    server.response = answer("", status="503 Later")
    for _ in range(4):
        clock.now += CHECK_S + 1
        await sts.policy("example.test")
        await sts.settled()
    assert len(server.requests) == 2
    clock.now += RETRY_S
    await sts.policy("example.test")
    await sts.settled()
    assert len(server.requests) == 3

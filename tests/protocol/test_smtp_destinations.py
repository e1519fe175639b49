"""Destinations: which hosts a domain's mail goes to, against a DNS server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateways.smtp.destinations import (
    ADDRESSES_MAX,
    HOSTS_MAX,
    Destinations,
    MailLoop,
    NoSuchDomain,
    NoSuchRelay,
    NoUsableHost,
    NullMx,
    interleave,
)
from gateways.smtp.resolver import LookupFailed, Resolver
from mail.errors import MailError
from tests.dns_server import Behaviour, DnsServer

ZONES = {
    "example.test": {"MX": [(20, "b.test"), (10, "a.test"), (20, "c.test")]},
    "a.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1", "2001:db8::2"]},
    "b.test": {"A": ["192.0.2.3"]},
    "c.test": {"AAAA": ["2001:db8::3"]},
    "implicit.test": {"A": ["192.0.2.4"]},
    "alias.test": {"CNAME": ["example.test"]},
    "alias-of-implicit.test": {"CNAME": ["implicit.test"]},
    "dangling.test": {"CNAME": ["nowhere.test"]},
    "text.test": {"TXT": ["no mail here"]},
    "null.test": {"MX": [(0, ".")], "A": ["192.0.2.5"]},
    "half-null.test": {"MX": [(0, "."), (10, "b.test")]},
    "to-alias.test": {"MX": [(10, "mail.test")]},
    "mail.test": {"CNAME": ["b.test"]},
    "to-address.test": {"MX": [(10, "192.0.2.1")]},
    "to-address-and-host.test": {"MX": [(10, "192.0.2.1"), (20, "b.test")]},
    "to-nothing.test": {"MX": [(10, "nowhere.test"), (20, "text.test")]},
    "to-nothing-and-host.test": {"MX": [(10, "nowhere.test"), (20, "b.test")]},
    "backup.test": {"MX": [(10, "a.test"), (20, "Us.test"), (20, "b.test"), (30, "c.test")]},
    "loop.test": {"MX": [(10, "us.test"), (20, "b.test")]},
    "us.test": {"A": ["192.0.2.99"]},
    "other-name.test": {"MX": [(10, "a.test"), (20, "us-too.test"), (30, "b.test")]},
    "us-too.test": {"A": ["192.0.2.99"]},
    "loop-by-address.test": {"A": ["192.0.2.99"]},
    "many.test": {"MX": [(10, f"m{number}.test") for number in range(30)]},
    **{f"m{number}.test": {"A": ["192.0.2.7"]} for number in range(30)},
    "wide.test": {"A": [f"192.0.2.{number}" for number in range(100, 130)]},
}


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONES, signed=("example.test", "a.test")) as server:
        yield server


@pytest.fixture
async def destinations(dns: DnsServer) -> Destinations:
    resolver = Resolver(dns.servers, lifetime_s=1.0, server_timeout_s=0.3)
    return Destinations(resolver, own_names=["us.test"], own_addresses=["192.0.2.99"])


async def names(destinations: Destinations, domain: str) -> list[str]:
    return [host.name for host in (await destinations.of_domain(domain)).hosts]


async def test_mx_hosts_by_preference(dns: DnsServer) -> None:
    chances = iter([0.2, 0.9, 0.1] + [0.5] * 100)
    destinations = Destinations(Resolver(dns.servers), chance=lambda: next(chances))
    found = await destinations.of_domain("example.test", port=2526)
    assert found.hosts[0].name == "a.test"
    assert {host.name for host in found.hosts[1:]} == {"b.test", "c.test"}
    assert {host.port for host in found.hosts} == {2526}
    assert found.named_by_mx
    assert found.mx_authenticated
    assert [host.authenticated for host in found.hosts] == [True, False, False]


async def test_equal_hosts_take_turns(destinations: Destinations) -> None:
    orders = {tuple(await names(destinations, "example.test")) for _ in range(40)}
    assert orders == {("a.test", "b.test", "c.test"), ("a.test", "c.test", "b.test")}


async def test_families_take_turns(destinations: Destinations) -> None:
    found = await destinations.of_domain("example.test")
    addresses = found.hosts[0].addresses
    assert sorted(addresses) == ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
    assert [":" in address for address in addresses] == [True, False, True, False]
    assert found.hosts[0].port == 25
    assert interleave(["6"], ["4a", "4b", "4c"]) == ["6", "4a", "4b", "4c"]


async def test_without_mx_the_domain_itself(destinations: Destinations) -> None:
    found = await destinations.of_domain("implicit.test")
    assert [host.addresses for host in found.hosts] == [("192.0.2.4",)]
    assert not found.named_by_mx


async def test_cnames(destinations: Destinations) -> None:
    assert (await names(destinations, "alias.test"))[0] == "a.test"
    (host,) = (await destinations.of_domain("alias-of-implicit.test")).hosts
    assert (host.name, host.canonical) == ("alias-of-implicit.test", "implicit.test")
    (host,) = (await destinations.of_domain("to-alias.test")).hosts
    assert (host.name, host.canonical, host.addresses) == ("mail.test", "b.test", ("192.0.2.3",))


@pytest.mark.parametrize(
    ("domain", "error", "smtp"),
    [
        ("null.test", NullMx, "556 5.1.10"),
        ("nowhere.test", NoSuchDomain, "550 5.1.2"),
        ("dangling.test", NoSuchDomain, "550 5.1.2"),
        ("text.test", NoSuchDomain, "550 5.1.2"),
        ("to-nothing.test", NoUsableHost, "550 5.4.4"),
        ("to-address.test", NoUsableHost, "550 5.4.4"),
        ("loop.test", MailLoop, "554 5.4.6"),
        ("loop-by-address.test", MailLoop, "554 5.4.6"),
        ("us.test", MailLoop, "554 5.4.6"),
        ("[192.0.2.300]", NoSuchDomain, "550 5.1.2"),
    ],
)
async def test_what_is_permanent(
    destinations: Destinations, domain: str, error: type[MailError], smtp: str
) -> None:
    with pytest.raises(error) as caught:
        await destinations.of_domain(domain)
    assert caught.value.smtp == smtp
    assert domain in caught.value.text


async def test_records_that_name_no_host_are_passed_over(destinations: Destinations) -> None:
    for domain in ("half-null.test", "to-address-and-host.test", "to-nothing-and-host.test"):
        assert await names(destinations, domain) == ["b.test"]


async def test_nobody_less_preferred_than_we_are(destinations: Destinations) -> None:
    assert await names(destinations, "backup.test") == ["a.test"]
    assert await names(destinations, "other-name.test") == ["a.test"]


async def test_literals(destinations: Destinations, dns: DnsServer) -> None:
    (host,) = (await destinations.of_domain("[192.0.2.1]", port=2526)).hosts
    assert (host.name, host.addresses, host.port) == ("192.0.2.1", ("192.0.2.1",), 2526)
    (host,) = (await destinations.of_domain("[IPv6:2001:db8::1]")).hosts
    assert host.addresses == ("2001:db8::1",)
    assert not host.authenticated
    assert not dns.queries


async def test_trouble_with_the_mx_record_is_temporary(
    dns: DnsServer, destinations: Destinations
) -> None:
    for behaviour in (Behaviour.SERVFAIL, Behaviour.SILENT):
        dns.behave(f"{behaviour.value}.test", behaviour)
        with pytest.raises(LookupFailed) as caught:
            await destinations.of_domain(f"{behaviour.value}.test")
        assert caught.value.smtp == "451 4.4.3"


async def test_a_host_in_trouble_is_left_out_while_there_are_others(
    dns: DnsServer, destinations: Destinations
) -> None:
    dns.behave("a.test", Behaviour.SERVFAIL)
    assert sorted(await names(destinations, "example.test")) == ["b.test", "c.test"]


async def test_hosts_all_in_trouble_are_temporary(
    dns: DnsServer, destinations: Destinations
) -> None:
    for name in ("a.test", "b.test", "c.test"):
        dns.behave(name, Behaviour.SERVFAIL)
    with pytest.raises(LookupFailed):
        await destinations.of_domain("example.test")
    # That one of them certainly has no address does not settle it.
    with pytest.raises(LookupFailed):
        await destinations.of_domain("to-nothing-and-host.test")


async def test_trouble_with_one_family_leaves_the_other(
    dns: DnsServer, destinations: Destinations
) -> None:
    dns.behave("implicit.test", Behaviour.SERVFAIL, "AAAA")
    (host,) = (await destinations.of_domain("implicit.test")).hosts
    assert host.addresses == ("192.0.2.4",)
    dns.behave("text.test", Behaviour.SERVFAIL, "AAAA")
    with pytest.raises(LookupFailed):  # Nobody knows whether it has an address.
        await destinations.of_domain("text.test")


async def test_bounds(destinations: Destinations) -> None:
    assert len((await destinations.of_domain("many.test")).hosts) == HOSTS_MAX
    assert len((await destinations.of_domain("wide.test")).hosts[0].addresses) == ADDRESSES_MAX


async def test_relays(dns: DnsServer, destinations: Destinations) -> None:
    (host,) = (await destinations.of_relay("b.test", port=587)).hosts
    assert (host.name, host.port, host.addresses) == ("b.test", 587, ("192.0.2.3",))
    (host,) = (await destinations.of_relay("::1", port=25)).hosts
    assert host.addresses == ("::1",)
    # A relay that has gone is the operator's mistake: no mail is lost for it.
    with pytest.raises(NoSuchRelay) as caught:
        await destinations.of_relay("nowhere.test", port=25)
    assert caught.value.smtp == "451 4.3.5"
    dns.behave("a.test", Behaviour.SERVFAIL)
    with pytest.raises(LookupFailed):
        await destinations.of_relay("a.test", port=25)

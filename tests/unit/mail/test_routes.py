"""Routes: which hops a recipient domain's mail goes to, and in which order."""

from __future__ import annotations

import pytest

from mail.routes import (
    DIRECTLY,
    Credentials,
    Mx,
    NextHop,
    RouteTls,
    next_hops,
    order_by_preference,
    parse_route,
    parse_short_routes,
)

OPPORTUNISTIC = RouteTls.OPPORTUNISTIC


def hosts(domain: str, *routes: object) -> list[str]:
    return [hop.host or "direct" for hop in next_hops(domain, routes)]  # type: ignore[arg-type]


def test_without_a_route_mail_goes_to_the_domains_own_servers() -> None:
    assert next_hops("example.org", []) == (DIRECTLY,)
    assert next_hops("example.org", [parse_route(["example.net"], "relay.test")]) == (DIRECTLY,)
    assert DIRECTLY.is_direct


def test_the_most_specific_pattern_wins() -> None:
    routes = [
        parse_route(["*"], "everywhere.test"),
        parse_route(["*.example.org"], "below.test"),
        parse_route(["*.a.example.org"], "further-below.test"),
        parse_route(["b.a.example.org", "example.org"], "exact.test"),
    ]
    assert hosts("b.a.example.org", *routes) == ["exact.test"]
    assert hosts("Example.ORG.", *routes) == ["exact.test"]
    assert hosts("c.a.example.org", *routes) == ["further-below.test"]
    assert hosts("x.y.example.org", *routes) == ["below.test"]
    assert hosts("anexample.org", *routes) == ["everywhere.test"]
    assert hosts("[192.0.2.1]", *routes) == ["everywhere.test"]


def test_routes_for_one_domain_are_tried_in_their_order() -> None:
    routes = [
        parse_route(["example.org"], ["smart.test:587"], auth="me:secret"),
        parse_route(["*"], "elsewhere.test"),
        parse_route(["example.org"], "direct"),
        parse_route(["example.org"], "b.test", tls="none"),
    ]
    verified = NextHop("smart.test", 587, RouteTls.VERIFIED, Credentials("me", "secret"))
    assert next_hops("example.org", routes) == (
        verified,
        DIRECTLY,
        NextHop("b.test", 25, RouteTls.NONE),
    )
    one = [parse_route(["example.org"], ["smart.test:587", "direct", "b.test"])]
    assert hosts("example.org", *one) == ["smart.test", "direct", "b.test"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("relay.test", "relay.test", 2525),
        ("Relay.TEST:26", "relay.test", 26),
        ("127.0.0.1", "127.0.0.1", 2525),
        ("127.0.0.1:26", "127.0.0.1", 26),
        ("::1", "::1", 2525),
        ("[2001:DB8::1]", "2001:db8::1", 2525),
        ("[::1]:26", "::1", 26),
        ("bücher.example", "xn--bcher-kva.example", 2525),
    ],
)
def test_hops(text: str, host: str, port: int) -> None:
    (hop,) = parse_route(["*"], text, port=2525).hops
    assert (hop.host, hop.port) == (host, port)


@pytest.mark.parametrize(
    "arguments",
    [
        {"domains": []},
        {"domains": ["exa mple.org"]},
        {"domains": ["*.*.org"]},
        {"domains": ["a*.org"]},
        {"domains": ["*"], "via": []},
        {"domains": ["*"], "via": "relay.test:"[:-1] + ":port"},
        {"domains": ["*"], "via": "relay.test:70000"},
        {"domains": ["*"], "via": "relay test"},
        {"domains": ["*"], "via": [f"r{i}.test" for i in range(11)]},
        {"domains": ["*"], "via": "relay.test", "tls": "perhaps"},
        {"domains": ["*"], "via": "relay.test", "auth": "nameonly"},
        {"domains": ["*"], "via": "relay.test", "auth": "a:b", "tls": "opportunistic"},
    ],
)
def test_what_is_not_valid_is_refused_with_a_sentence(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a route|auth of|tls of"):
        parse_route(**arguments)  # type: ignore[arg-type]


def test_credentials_go_to_relays_only_and_into_no_log() -> None:
    direct, relay = parse_route(["*"], ["direct", "relay.test"], auth="me:a:b").hops
    assert direct.credentials is None
    assert relay.credentials == Credentials("me", "a:b")
    assert "a:b" not in repr(relay)


def test_port_465_begins_with_tls() -> None:
    assert parse_route(["*"], "relay.test:465").hops[0].implicit_tls
    assert not parse_route(["*"], "relay.test:587").hops[0].implicit_tls
    assert not parse_route(["*"], "relay.test:465", tls="none").hops[0].implicit_tls


def test_the_short_form() -> None:
    routes = parse_short_routes({"example.org": "127.0.0.1:2526", "*": "direct"})
    assert next_hops("example.org", routes) == (NextHop("127.0.0.1", 2526, OPPORTUNISTIC),)
    assert next_hops("example.net", routes) == (DIRECTLY,)


def test_hosts_come_by_preference_and_in_random_order_where_equal() -> None:
    records = [Mx(20, "c"), Mx(10, "a"), Mx(10, "b")]
    assert [mx.host for mx in order_by_preference(records, [0.1, 0.2, 0.3])] == ["a", "b", "c"]
    assert [mx.host for mx in order_by_preference(records, [0.1, 0.3, 0.2])] == ["b", "a", "c"]

"""Origins: addresses, their networks, and the networks that were named."""

from __future__ import annotations

import pytest

from gateways.smtp.origins import Origins

ORIGINS = Origins(("127.0.0.0/8", "::1/128", "2001:db8:1::/48"), ("198.51.100.0/24",))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.255", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "2001:db8::1", False),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    assert (ORIGINS.of(one).network == ORIGINS.of(other).network) is same


@pytest.mark.parametrize(
    ("ip", "trusted", "proxy"),
    [
        ("127.0.0.1", True, False),
        ("127.255.0.1", True, False),
        ("::1", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("2001:db8:1:ffff::1", True, False),
        ("2001:db8:2::1", False, False),
        ("198.51.100.9", False, True),
        ("192.0.2.1", False, False),
        ("fe80::1%eth0", False, False),
        ("", False, False),
        ("no address", False, False),
    ],
)
def test_who_is_what(ip: str, trusted: bool, proxy: bool) -> None:
    origin = ORIGINS.of(ip)
    assert (origin.trusted, origin.proxy) == (trusted, proxy)


def test_an_address_is_its_octets() -> None:
    assert ORIGINS.of("192.0.2.1").address == bytes((192, 0, 2, 1))
    assert ORIGINS.of("::ffff:192.0.2.1") == ORIGINS.of("192.0.2.1")


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="host bits"):
        Origins(("192.0.2.1/24",), ())

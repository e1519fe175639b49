"""What a connection must satisfy: every wish alone, and the strictest of several."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from mail.mta_sts import HostVerdict
from mail.routes import RouteTls
from mail.tls_demand import HostFacts, HostRefused, Level, SenderWish, TlsDemand, tls_demand
from mail.tlsa import Tlsa, TlsaSet

HOST, DOMAIN = "mx.example.org", "example.org"
USABLE = TlsaSet("mx.example.org", (Tlsa(3, 1, 1, bytes(32)),))
UNUSABLE = TlsaSet("mx.example.org", ())
FACTS = HostFacts(HOST, DOMAIN, named_by_mx=True)
SIGNED = dataclasses.replace(FACTS, mx_authenticated=True)
WITH_DANE = dataclasses.replace(SIGNED, tlsa=USABLE)
RELAY = HostFacts("relay.test")
PLAIN, NOTHING = RouteTls.OPPORTUNISTIC, SenderWish.NOTHING
REQUIRED, NOT_REQUIRED = SenderWish.REQUIRETLS, SenderWish.TLS_NOT_REQUIRED


def demand(facts: HostFacts, route: RouteTls = PLAIN, wish: SenderWish = NOTHING) -> TlsDemand:
    found = tls_demand(facts, route, wish)
    assert isinstance(found, TlsDemand)
    return found


def refusal(facts: HostFacts, wish: SenderWish = NOTHING) -> HostRefused:
    found = tls_demand(facts, PLAIN, wish)
    assert isinstance(found, HostRefused)
    return found


def with_policy(verdict: HostVerdict, facts: HostFacts = FACTS) -> HostFacts:
    return dataclasses.replace(facts, mta_sts=verdict)


def test_tls_is_used_where_offered() -> None:
    found = demand(FACTS)
    assert (found.level, found.names, found.tlsa) == (Level.OPPORTUNISTIC, (), None)
    assert found.why == f"{HOST} is spoken to with TLS if it offers that: nobody asks for more"


@pytest.mark.parametrize(
    ("route", "level"),
    [
        (RouteTls.NONE, Level.NONE),
        (RouteTls.ENCRYPTED, Level.ENCRYPTED),
        (RouteTls.VERIFIED, Level.VERIFIED),
    ],
)
def test_the_route(route: RouteTls, level: Level) -> None:
    found = demand(RELAY, route)
    assert found.level is level
    assert found.names == (("relay.test",) if level is Level.VERIFIED else ())
    assert f"tls = {route}" in found.why


def test_dane() -> None:
    found = demand(WITH_DANE)
    assert found.level is Level.DANE
    assert found.tlsa is USABLE
    assert found.names == (HOST, DOMAIN)
    assert "DANE" in found.why


def test_dane_at_the_end_of_a_cname_may_be_for_either_name() -> None:
    moved = TlsaSet("real.example.net", USABLE.records)
    assert demand(dataclasses.replace(SIGNED, tlsa=moved)).names == (
        "real.example.net",
        HOST,
        DOMAIN,
    )


def test_records_that_cannot_be_used_make_tls_mandatory() -> None:
    found = demand(dataclasses.replace(SIGNED, tlsa=UNUSABLE))
    assert (found.level, found.tlsa) == (Level.ENCRYPTED, None)
    assert "none of them usable" in found.why


def test_mta_sts() -> None:
    found = demand(with_policy(HostVerdict.VERIFY))
    assert (found.level, found.names) == (Level.VERIFIED, (HOST,))
    assert "MTA-STS" in found.why
    refused = refusal(with_policy(HostVerdict.REFUSE))
    assert refused.smtp == "451 4.7.5"
    assert "MTA-STS" in refused.why
    for verdict in (HostVerdict.TESTED, HostVerdict.TESTED_FOREIGN):
        assert demand(with_policy(verdict)).level is Level.OPPORTUNISTIC


def test_mta_sts_never_excuses_dane() -> None:
    assert demand(with_policy(HostVerdict.VERIFY, WITH_DANE)).level is Level.DANE
    refusal(with_policy(HostVerdict.REFUSE, WITH_DANE))
    unusable = dataclasses.replace(SIGNED, tlsa=UNUSABLE)
    assert demand(with_policy(HostVerdict.VERIFY, unusable)).level is Level.VERIFIED


def test_a_route_without_tls_does_not_lower_what_the_recipient_asks() -> None:
    assert demand(WITH_DANE, RouteTls.NONE).level is Level.DANE
    assert demand(with_policy(HostVerdict.VERIFY), RouteTls.NONE).level is Level.VERIFIED


def test_requiretls_needs_a_host_that_is_surely_the_domains() -> None:
    refused = refusal(FACTS, REQUIRED)
    assert refused.smtp == "550 5.7.30"
    for facts in (
        SIGNED,
        with_policy(HostVerdict.VERIFY),
        with_policy(HostVerdict.TESTED),
        RELAY,
        HostFacts(DOMAIN, DOMAIN),  # no MX record
    ):
        found = demand(facts, wish=REQUIRED)
        assert (found.level, found.names) == (Level.VERIFIED, (facts.host,))
        assert found.requiretls
        assert "REQUIRETLS" in found.why
    refusal(with_policy(HostVerdict.TESTED_FOREIGN), REQUIRED)


def test_requiretls_is_content_with_dane() -> None:
    found = demand(WITH_DANE, wish=REQUIRED)
    assert found.level is Level.DANE
    assert found.requiretls


def test_tls_not_required_sets_the_recipients_wishes_aside_but_not_the_operators() -> None:
    for facts in (WITH_DANE, with_policy(HostVerdict.VERIFY), with_policy(HostVerdict.REFUSE)):
        assert demand(facts, wish=NOT_REQUIRED).level is Level.OPPORTUNISTIC
        assert demand(facts, RouteTls.VERIFIED, NOT_REQUIRED).level is Level.VERIFIED
    assert "TLS-Required: No" in demand(WITH_DANE, wish=NOT_REQUIRED).why


def test_every_combination_is_at_least_what_each_wish_asks() -> None:
    tlsas = (None, USABLE, UNUSABLE)
    for tlsa, verdict, route, wish in itertools.product(tlsas, HostVerdict, RouteTls, SenderWish):
        facts = dataclasses.replace(SIGNED, tlsa=tlsa, mta_sts=verdict)
        found = tls_demand(facts, route, wish)
        if isinstance(found, HostRefused):
            assert verdict is HostVerdict.REFUSE
            continue
        if wish is not NOT_REQUIRED and tlsa is not None:
            assert found.level >= (Level.DANE if tlsa.is_usable else Level.ENCRYPTED)
        if wish is REQUIRED or route is RouteTls.VERIFIED:
            assert found.level >= Level.VERIFIED
        assert bool(found.names) == (found.level >= Level.VERIFIED)
        assert (found.tlsa is not None) == (found.level is Level.DANE)

"""TLSA records: which are usable, and which certificates they describe."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster.certificates import SERVER, Pair, issue, make_ca, names_of
from mail.tlsa import RECORDS_MAX, Tlsa, matches, usable

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
HOST = "mx.example.org"
CA = make_ca("A CA", NOW, 30)
SERVED = issue(CA, HOST, names_of(HOST), [SERVER], NOW, 10)
OTHER_CA = make_ca("Another CA", NOW, 30)


def der(pair: Pair) -> bytes:
    return pair.certificate.public_bytes(Encoding.DER)


def spki(pair: Pair) -> bytes:
    public = pair.certificate.public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


CHAIN = (der(SERVED), der(CA))


def described(pair: Pair, usage: int, selector: int, matching: int) -> Tlsa:
    octets = der(pair) if selector == 0 else spki(pair)
    if matching == 1:
        octets = hashlib.sha256(octets).digest()
    elif matching == 2:
        octets = hashlib.sha512(octets).digest()
    return Tlsa(usage, selector, matching, octets)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize(("usage", "pair"), [(3, SERVED), (2, CA)])
def test_every_form(usage: int, pair: Pair, selector: int, matching: int) -> None:
    record = described(pair, usage, selector, matching)
    assert record.is_usable
    assert matches([record], CHAIN, [HOST], NOW)
    stranger = issue(OTHER_CA, HOST, names_of(HOST), [SERVER], NOW, 10)
    assert not matches([record], [der(stranger), der(OTHER_CA)], [HOST], NOW)


@pytest.mark.parametrize(
    "record",
    [
        described(CA, 0, 0, 1),  # PKIX-TA
        described(SERVED, 1, 1, 1),  # PKIX-EE
        Tlsa(4, 1, 1, bytes(32)),
        Tlsa(255, 1, 1, bytes(32)),
        Tlsa(3, 2, 1, bytes(32)),
        Tlsa(3, 1, 3, bytes(32)),
        Tlsa(3, 1, 1, bytes(31)),
        Tlsa(3, 1, 2, bytes(32)),
        Tlsa(3, 1, 0, b""),
    ],
)
def test_what_smtp_cannot_use(record: Tlsa) -> None:
    assert not record.is_usable
    found = usable(HOST, [record])
    assert found.records == ()
    assert not found.is_usable


def test_the_servers_own_certificate_needs_neither_name_nor_date() -> None:
    late = NOW + datetime.timedelta(days=1000)
    assert matches([described(SERVED, 3, 1, 1)], [der(SERVED)], ["other.example"], late)


def test_a_certificate_below_a_ca_needs_name_and_date() -> None:
    record = described(CA, 2, 0, 1)
    assert matches([record], CHAIN, ["other.example", HOST], NOW)
    assert not matches([record], CHAIN, ["other.example"], NOW)
    assert not matches([record], CHAIN, [], NOW)
    assert not matches([record], CHAIN, [HOST], NOW + datetime.timedelta(days=20))
    wild = issue(CA, "a", names_of("*.example.org"), [SERVER], NOW, 10)
    assert matches([record], [der(wild), der(CA)], [HOST], NOW)


def test_a_ca_must_be_shown_unless_the_record_has_all_of_it() -> None:
    assert not matches([described(CA, 2, 0, 1)], [der(SERVED)], [HOST], NOW)
    assert matches([described(CA, 2, 0, 0)], [der(SERVED)], [HOST], NOW)


def test_a_servers_certificate_is_no_ca() -> None:
    forged = issue(SERVED, HOST, names_of(HOST), [SERVER], NOW, 10)
    chain = [der(forged), der(SERVED), der(CA)]
    assert not matches([described(CA, 2, 0, 1)], chain, [HOST], NOW)
    assert not matches([described(SERVED, 2, 0, 1)], chain, [HOST], NOW)


def test_a_ca_that_is_shown_but_did_not_sign_does_not_help() -> None:
    stranger = issue(OTHER_CA, HOST, names_of(HOST), [SERVER], NOW, 10)
    chain = [der(stranger), der(CA), der(OTHER_CA)]
    assert not matches([described(CA, 2, 0, 1)], chain, [HOST], NOW)


def test_one_of_several_records_is_enough() -> None:
    records = [described(OTHER_CA, 2, 0, 1), described(CA, 3, 1, 1), described(SERVED, 3, 0, 1)]
    assert matches(records, CHAIN, [HOST], NOW)


def test_the_strongest_digest_counts() -> None:
    weak, strong = described(SERVED, 3, 1, 1), described(CA, 3, 1, 2)
    whole, exact = described(SERVED, 3, 0, 1), described(SERVED, 3, 1, 0)
    assert usable(HOST, [weak, strong, whole, exact]).records == (strong, whole, exact)


def test_what_cannot_be_read_does_not_match() -> None:
    record = described(SERVED, 3, 1, 1)
    assert not matches([record], [], [HOST], NOW)
    assert not matches([record], [b"no certificate"], [HOST], NOW)
    assert not matches([Tlsa(2, 0, 0, b"nor this")], CHAIN, [HOST], NOW)


def test_bounds() -> None:
    many = [Tlsa(3, 1, 1, number.to_bytes(32, "big")) for number in range(500)]
    assert len(usable(HOST, many).records) == RECORDS_MAX


def test_a_name_in_another_form_matches_nothing() -> None:
    assert isinstance(SERVED.names, x509.SubjectAlternativeName)
    assert not matches([described(CA, 2, 0, 1)], CHAIN, ["not a name"], NOW)

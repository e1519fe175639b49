"""DNS records of a domain: all that it needs, and what is wrong with what it has."""

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence

import dns.rdata
import dns.zone
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mail import mta_sts, tlsa
from mail.dkim_keys import Algorithm, KeyRecord, State, load, make, public_text
from mail.dns_records import (
    ClientPorts,
    Difference,
    DmarcPolicy,
    DnsRecord,
    Kind,
    MailDomain,
    Purpose,
    differences,
    questions,
    records,
    sts_id,
    sts_policy,
    tlsa_value,
    zone_line,
    zone_text,
)
from mail.mta_sts import Mode
from tests.properties import EXAMPLES, examples

TEXTS = {algorithm: public_text(load(make(algorithm))) for algorithm in Algorithm}
KEYS = tuple(
    KeyRecord(f"{algorithm}-1", algorithm, text, 0, State.ACTIVE)
    for algorithm, text in TEXTS.items()
)
POLICY = sts_policy(["mx1.example.test", "mx2.example.test"], Mode.ENFORCE, 604800)


def certificate() -> tuple[bytes, x509.Certificate]:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx1.example.test")])
    begun = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1)
    builder = builder.not_valid_before(begun).not_valid_after(begun + datetime.timedelta(90))
    made = builder.sign(private, SHA256())
    return made.public_bytes(Encoding.DER), made


DER, CERTIFICATE = certificate()
FULL = MailDomain(
    "example.test",
    ["mx1.example.test", "mx2.example.test"],
    addresses={
        "mx1.example.test": ["192.0.2.1", "2001:DB8:0::1"],
        "mx2.example.test": ["192.0.2.2"],
        "web.example.test": ["192.0.2.3"],
    },
    keys=KEYS,
    reports="reports@example.test",
    senders=["ip4:192.0.2.7", "include:spf.example.org"],
    sts_policy=POLICY,
    web_host="web.example.test",
    has_autoconfig=True,
    certificates={"mx1.example.test": DER},
)


def facts(mail: MailDomain) -> list[tuple[str, str, str]]:
    return [(record.name, record.type, record.value) for record in records(mail)]


def as_found(wanted: Sequence[DnsRecord]) -> dict[tuple[str, str], list[str]]:
    """Return the DNS as it is when everything has been published."""
    found: dict[tuple[str, str], list[str]] = {question: [] for question in questions(wanted)}
    for record in wanted:
        found[record.name, record.type].append(record.value)
    return found


def changed(
    name: str, kind: str, values: Sequence[str], mail: MailDomain = FULL
) -> list[Difference]:
    wanted = records(mail)
    found: Mapping[tuple[str, str], Sequence[str]] = as_found(wanted) | {(name, kind): values}
    return differences(wanted, found)


# Records ------------------------------------------------------------------------------------


def test_every_record_of_a_domain() -> None:
    assert facts(FULL) == [
        ("example.test", "MX", "10 mx1.example.test"),
        ("example.test", "MX", "10 mx2.example.test"),
        ("mx1.example.test", "A", "192.0.2.1"),
        ("1.2.0.192.in-addr.arpa", "PTR", "mx1.example.test"),
        ("mx1.example.test", "AAAA", "2001:db8::1"),
        ("1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa", "PTR", "mx1.example.test"),
        ("mx2.example.test", "A", "192.0.2.2"),
        ("2.2.0.192.in-addr.arpa", "PTR", "mx2.example.test"),
        ("web.example.test", "A", "192.0.2.3"),
        ("example.test", "TXT", "v=spf1 mx ip4:192.0.2.7 include:spf.example.org -all"),
        ("mx1.example.test", "TXT", "v=spf1 a -all"),
        ("mx2.example.test", "TXT", "v=spf1 a -all"),
        ("rsa-1._domainkey.example.test", "TXT", TEXTS[Algorithm.RSA]),
        ("ed25519-1._domainkey.example.test", "TXT", TEXTS[Algorithm.ED25519]),
        (
            "_dmarc.example.test",
            "TXT",
            "v=DMARC1; p=quarantine; rua=mailto:reports@example.test",
        ),
        ("_mta-sts.example.test", "TXT", f"v=STSv1; id={sts_id(POLICY)}"),
        ("mta-sts.example.test", "CNAME", "web.example.test"),
        ("_smtp._tls.example.test", "TXT", "v=TLSRPTv1; rua=mailto:reports@example.test"),
        ("_submissions._tcp.example.test", "SRV", "0 1 465 mx1.example.test"),
        ("_imaps._tcp.example.test", "SRV", "0 1 993 mx1.example.test"),
        ("_pop3s._tcp.example.test", "SRV", "0 1 995 mx1.example.test"),
        ("_jmap._tcp.example.test", "SRV", "0 1 443 web.example.test"),
        ("autoconfig.example.test", "CNAME", "web.example.test"),
        ("_25._tcp.mx1.example.test", "TLSA", tlsa_value(DER)),
    ]


def test_a_domain_whose_mail_another_ones_host_takes() -> None:
    mail = MailDomain(
        "example.org",
        ["mx.example.test"],
        addresses={"mx.example.test": ["192.0.2.1"]},
        ports=ClientPorts(submissions=2465, imaps=None, pop3s=None, jmap=None),
        dmarc=DmarcPolicy.REJECT,
    )
    assert facts(mail) == [
        ("example.org", "MX", "10 mx.example.test"),
        ("1.2.0.192.in-addr.arpa", "PTR", "mx.example.test"),
        ("example.org", "TXT", "v=spf1 mx -all"),
        ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject"),
        ("_submissions._tcp.example.org", "SRV", "0 1 2465 mx.example.test"),
    ]


def test_a_domain_that_is_its_own_host() -> None:
    mail = MailDomain("example.test", ["example.test"], {"example.test": ["192.0.2.1"]})
    spf = [record.value for record in records(mail) if record.purpose is Purpose.SPF]
    assert spf == ["v=spf1 mx -all"]  # one, as a name may have


@pytest.mark.parametrize(
    "reports, name",
    [
        ("dmarc@example.org", "example.test._report._dmarc.example.org"),
        ("dmarc@notexample.test", "example.test._report._dmarc.notexample.test"),
        ("dmarc@example.test", None),
        ("dmarc@mail.example.test", None),
    ],
)
def test_who_gets_reports_about_others_must_agree(reports: str, name: str | None) -> None:
    mail = MailDomain("example.test", ["mx.example.test"], reports=reports)
    found = [r for r in records(mail) if r.purpose is Purpose.DMARC_REPORTS]
    assert [(r.name, r.value) for r in found] == ([] if name is None else [(name, "v=DMARC1")])
    parent = MailDomain("mail.example.test", ["mx.example.test"], reports="x@example.test")
    assert not [r for r in records(parent) if r.purpose is Purpose.DMARC_REPORTS]


def test_an_address_in_a_uri() -> None:
    mail = MailDomain("example.test", ["mx.example.test"], reports="a,b!c+d@example.test")
    assert "v=DMARC1; p=quarantine; rua=mailto:a%2Cb%21c+d@example.test" in [
        record.value for record in records(mail)
    ]


def test_every_record_says_why_in_a_sentence() -> None:
    keys = [KeyRecord(f"k{n}", Algorithm.RSA, "p=", 0, state) for n, state in enumerate(State)]
    mail = MailDomain("example.test", ["mx.example.org"], keys=keys, reports="x@example.org")
    for record in (*records(FULL), *records(mail)):
        assert re.fullmatch(r"\S.*[^.]\.", record.why), record
    reasons = {record.why for record in records(mail) if record.purpose is Purpose.DKIM}
    assert len(reasons) == len(State)


def test_the_policy_is_what_senders_read() -> None:
    policy = mta_sts.parse_policy(POLICY.encode())
    assert policy is not None
    assert policy.patterns == ("mx1.example.test", "mx2.example.test")
    assert (policy.mode, policy.max_age_s) == (Mode.ENFORCE, 604800)
    text = next(r.value for r in records(FULL) if r.purpose is Purpose.MTA_STS)
    assert mta_sts.parse_records([text.encode()]) == sts_id(POLICY)
    assert sts_id(POLICY) != sts_id(sts_policy(["mx1.example.test"], Mode.TESTING, 604800))


def test_the_tlsa_record_describes_the_certificate() -> None:
    numbers, digest = tlsa_value(DER).rsplit(" ", 1)
    assert numbers == "3 1 1"
    public = CERTIFICATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert digest == hashlib.sha256(public).hexdigest()
    record = tlsa.Tlsa(3, 1, 1, bytes.fromhex(digest))
    assert tlsa.matches([record], [DER], [], datetime.datetime.now(datetime.UTC))
    with pytest.raises(ValueError, match="parsing"):
        tlsa_value(b"no certificate")


# Zone files ---------------------------------------------------------------------------------


def test_another_implementation_reads_the_zone() -> None:
    wanted = records(FULL)
    lines = [zone_line(record) for record in wanted if not record.name.endswith(".arpa")]
    head = ["$ORIGIN example.test.", "@ 60 IN SOA ns. admin. 1 1 1 1 1", "@ 60 IN NS ns."]
    zone = dns.zone.from_text("\n".join([*head, *lines]), "example.test.", relativize=False)
    found = {
        (str(name).rstrip("."), dns.rdatatype.to_text(rdata.rdtype), _value(rdata))
        for name, ttl, rdata in zone.iterate_rdatas()
        if ttl == 3600
    }
    assert found == {f for f in facts(FULL) if not f[0].endswith(".arpa")}


def _value(rdata: dns.rdata.Rdata) -> str:
    if isinstance(strings := getattr(rdata, "strings", None), tuple):
        return b"".join(strings).decode()
    return rdata.to_text().rstrip(".")


def test_long_text_is_split() -> None:
    line = zone_line(next(r for r in records(FULL) if r.name.startswith("rsa-1.")), 60)
    strings = re.findall(r'"([^"]*)"', line)
    assert line.startswith("rsa-1._domainkey.example.test. 60 IN TXT ")
    assert "".join(strings) == TEXTS[Algorithm.RSA]
    assert [len(string) for string in strings] == [255, len(TEXTS[Algorithm.RSA]) - 255]


@examples(EXAMPLES)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_any_text_is_read_again(text: str) -> None:
    rdata = dns.rdata.from_text("IN", "TXT", zone_text(text))
    assert b"".join(rdata.strings) == text.encode()
    assert zone_text(text).isascii()


# Differences --------------------------------------------------------------------------------


def test_a_domain_that_has_everything() -> None:
    wanted = records(FULL)
    assert differences(wanted, as_found(wanted)) == []


def test_a_domain_that_has_nothing() -> None:
    wanted = records(FULL)
    found = differences(wanted, dict.fromkeys(questions(wanted), ()))
    assert {difference.kind for difference in found} == {Kind.MISSING}
    missing = [(d.name, d.type, value) for d in found for value in d.wanted]
    assert missing == facts(FULL)


def test_a_dns_that_does_not_answer() -> None:
    wanted = records(FULL)
    found = differences(wanted, {})
    assert {difference.kind for difference in found} == {Kind.UNKNOWN}
    assert [(d.name, d.type, value) for d in found for value in d.wanted] == facts(FULL)


def test_what_is_written_otherwise_is_the_same() -> None:
    wanted = records(FULL)
    found = as_found(wanted)
    for (_, kind), values in found.items():
        if kind in ("MX", "SRV", "CNAME", "PTR"):
            values[:] = [value.upper() + "." for value in values]
        elif kind == "TLSA":
            values[:] = [value.upper()[:40] + " " + value.upper()[40:] for value in values]
    found["example.test", "MX"] = ["20 MX2.example.test.", "5 mx1.example.test."]
    found["_imaps._tcp.example.test", "SRV"] = ["7 0 993 mx1.example.test."]
    found["mx1.example.test", "AAAA"] = ["2001:0db8:0:0:0:0:0:1"]
    found["_dmarc.example.test", "TXT"] = [
        "v=DMARC1;rua=mailto:reports@example.test ; p=quarantine;"
    ]
    found["example.test", "TXT"] = [
        "V=SPF1  MX ip4:192.0.2.7 include:spf.example.org -ALL",
        "some-site-verification=1",
        "v=spf10 is none",
    ]
    found["_mta-sts.example.test", "TXT"] = [f"v=STSv1;id={sts_id(POLICY)};"]
    assert differences(wanted, found) == []


def test_both_values_are_shown() -> None:
    (only,) = changed("example.test", "TXT", ["v=spf1 include:spf.example.org ~all"])
    assert (only.kind, only.purpose) == (Kind.DIFFERENT, Purpose.SPF)
    assert only.wanted == ("v=spf1 mx ip4:192.0.2.7 include:spf.example.org -all",)
    assert only.found == ("v=spf1 include:spf.example.org ~all",)
    assert only.why


@pytest.mark.parametrize(
    "name, kind, value",
    [
        ("rsa-1._domainkey.example.test", "TXT", TEXTS[Algorithm.ED25519]),
        ("rsa-1._domainkey.example.test", "TXT", "v=DKIM1; p="),
        ("rsa-1._domainkey.example.test", "TXT", TEXTS[Algorithm.RSA] + "; t=y"),
        ("rsa-1._domainkey.example.test", "TXT", "something else"),
        ("_dmarc.example.test", "TXT", "v=DMARC1; p=none; rua=mailto:reports@example.test"),
        ("_mta-sts.example.test", "TXT", "v=STSv1; id=1"),
        ("_smtp._tls.example.test", "TXT", "v=TLSRPTv1; rua=mailto:x@example.test"),
        ("mta-sts.example.test", "CNAME", "elsewhere.example.test"),
        ("web.example.test", "A", "192.0.2.99"),
        ("2.2.0.192.in-addr.arpa", "PTR", "host-2.example.net"),
        ("_imaps._tcp.example.test", "SRV", "0 1 143 mx1.example.test"),
        ("_25._tcp.mx1.example.test", "TLSA", "3 1 1 " + "00" * 32),
    ],
    ids=range(12),  # keys are made anew in every process
)
def test_what_is_different(name: str, kind: str, value: str) -> None:
    (only,) = changed(name, kind, [value])
    assert (only.kind, only.name, only.type, only.found) == (Kind.DIFFERENT, name, kind, (value,))
    assert only.wanted == tuple(as_found(records(FULL))[name, kind])


@pytest.mark.parametrize(
    "name, kind, value, purpose",
    [
        ("example.test", "TXT", "v=spf1 -all", Purpose.SPF),
        ("_dmarc.example.test", "TXT", "v=DMARC1; p=none", Purpose.DMARC),
        ("_mta-sts.example.test", "TXT", "v=STSv1; id=1;", Purpose.MTA_STS),
        ("_smtp._tls.example.test", "TXT", "v=TLSRPTv1; rua=mailto:x@y.test", Purpose.TLS_REPORTS),
        ("rsa-1._domainkey.example.test", "TXT", "v=DKIM1; p=", Purpose.DKIM),
        ("example.test", "MX", "10 mx.example.org", Purpose.MAIL_SERVER),
        ("mx2.example.test", "A", "192.0.2.99", Purpose.ADDRESS),
    ],
)
def test_what_is_superfluous(name: str, kind: str, value: str, purpose: Purpose) -> None:
    good = as_found(records(FULL))[name, kind]
    for values in ([*good, value], [value, *good]):
        (only,) = changed(name, kind, values)
        assert (only.kind, only.purpose) == (Kind.SUPERFLUOUS, purpose)
        assert (only.wanted, only.found) == ((), (value,))
        assert only.why


def test_the_same_twice_is_superfluous() -> None:
    (text,) = [r.value for r in records(FULL) if r.purpose is Purpose.DMARC]
    (only,) = changed("_dmarc.example.test", "TXT", [text, text])
    assert (only.kind, only.found) == (Kind.SUPERFLUOUS, (text,))


def test_two_wrong_ones_are_two_errors() -> None:
    wrong = ["v=spf1 a -all", "v=spf1 ?all"]
    different, superfluous = changed("example.test", "TXT", wrong)
    assert (different.kind, different.found) == (Kind.DIFFERENT, tuple(wrong))
    assert (superfluous.kind, superfluous.found) == (Kind.SUPERFLUOUS, ("v=spf1 ?all",))


def test_one_of_two_mail_servers_is_missing() -> None:
    (only,) = changed("example.test", "MX", ["10 mx1.example.test"])
    assert (only.kind, only.wanted) == (Kind.MISSING, ("10 mx2.example.test",))
    (only,) = changed("example.test", "MX", ["10 mx1.example.test", "10 mx3.example.test"])
    assert (only.kind, only.found) == (Kind.DIFFERENT, ("10 mx3.example.test",))
    (only,) = changed("example.test", "MX", ["0 "])  # null MX: no mail at all
    assert (only.kind, len(only.wanted)) == (Kind.DIFFERENT, 2)


def test_more_than_wanted_that_does_no_harm() -> None:
    next_key = "3 1 1 " + "00" * 32
    assert changed("_25._tcp.mx1.example.test", "TLSA", [next_key, tlsa_value(DER)]) == []
    srv = ["10 1 993 other.example.test", "0 1 993 mx1.example.test"]
    assert changed("_imaps._tcp.example.test", "SRV", srv) == []
    assert changed("1.2.0.192.in-addr.arpa", "PTR", ["a.test", "mx1.example.test"]) == []


def test_a_web_host_may_have_addresses_in_place_of_an_alias() -> None:
    wanted = records(FULL)
    found = as_found(wanted)
    found["mta-sts.example.test", "CNAME"] = []
    (only,) = differences(wanted, found)
    assert only.kind is Kind.MISSING
    assert differences(wanted, found | {("mta-sts.example.test", "AAAA"): ["2001:db8::9"]}) == []
    del found["mta-sts.example.test", "A"]
    (only,) = differences(wanted, found)
    assert only.kind is Kind.UNKNOWN
    # An alias that is there counts, whatever it leads to.
    found["mta-sts.example.test", "CNAME"] = ["x.test"]
    found["mta-sts.example.test", "A"] = ["192.0.2.9"]
    (only,) = differences(wanted, found)
    assert only.kind is Kind.DIFFERENT


VALUES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["v=spf1 -all", "v=DMARC1", "v=STSv1; id=1", "10 mx1.example.test", ""]),
    ),
    max_size=3,
)


@examples(EXAMPLES)
@given(st.dictionaries(st.sampled_from(questions(records(FULL))), VALUES))
def test_any_answers_can_be_compared(found: dict[tuple[str, str], list[str]]) -> None:
    wanted = records(FULL)
    for difference in differences(wanted, found):
        assert difference.why
        assert difference.wanted or difference.found
        if difference.kind is not Kind.UNKNOWN:
            assert (difference.name, difference.type) in found

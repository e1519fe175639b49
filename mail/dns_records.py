"""DnsRecords: every record that a mail domain needs, and what is wrong with those it has.

For `helio domain dns` and `helio domain check`. Pure: who asks the DNS is somebody else.

A record's value is written as in a zone file, with two exceptions that make it comparable: a
TXT record is its joined text without quotes, and names have no full stop at their end.
`zone_line` writes the real thing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mail import dkim_keys
from mail.dkim_keys import KeyRecord, State
from mail.mta_sts import Mode

TTL_S = 3600  # an hour: what is published wrongly is soon put right
PREFERENCE = 10  # of each mail server: the nodes of a cluster share the load
STS_ID_CHARS = 20  # of the 32 that RFC 8461 §3.1 allows


class Purpose(StrEnum):
    """What a record is for; it says how a record that was found is compared."""

    MAIL_SERVER = "mail server"
    ADDRESS = "address"
    REVERSE = "reverse name"
    SPF = "SPF"
    DKIM = "DKIM"
    DMARC = "DMARC"
    DMARC_REPORTS = "DMARC reports"
    MTA_STS = "MTA-STS"
    WEB_HOST = "web host"
    TLS_REPORTS = "TLS reports"
    SERVICE = "service"
    DANE = "DANE"


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One record that a domain should have; `why` is a sentence for the operator."""

    name: str
    type: str
    value: str
    purpose: Purpose
    why: str


class DmarcPolicy(StrEnum):
    """What receivers are asked to do with mail that only claims to be from here."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class ClientPorts:
    """Where programs of the domain's users find it; None for what is not offered."""

    submissions: int | None = 465
    imaps: int | None = 993
    pop3s: int | None = 995
    jmap: int | None = 443


@dataclass(frozen=True, slots=True)
class MailDomain:
    """What is to be published about a domain. Names are in lower case and in A-labels.

    `addresses` and `certificates` (DER) are by host; the former are published for hosts below
    the domain, the latter for mail servers. `reports` is an address. `senders` are SPF
    mechanisms of others who send for the domain, `ip4:…` or `include:…`. `sts_policy` is the
    text that is served, None while none is. `web_host` serves HTTPS, by default the first host.
    """

    domain: str
    hosts: Sequence[str]
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keys: Sequence[KeyRecord] = ()
    reports: str | None = None
    senders: Sequence[str] = ()
    dmarc: DmarcPolicy = DmarcPolicy.QUARANTINE
    sts_policy: str | None = None
    web_host: str | None = None
    ports: ClientPorts = field(default_factory=ClientPorts)
    has_autoconfig: bool = False
    certificates: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.hosts

    @property
    def web(self) -> str:
        """Return the host that serves HTTPS."""
        return self.web_host or self.hosts[0]

    def is_above(self, host: str) -> bool:
        """Say whether a host is the domain itself or stands below it: one operator's affair."""
        return host == self.domain or host.endswith(f".{self.domain}")


def records(mail: MailDomain) -> list[DnsRecord]:
    """Return every record that the domain needs, those without which no mail comes first."""
    return [
        *_servers(mail),
        *_spf(mail),
        *_dkim(mail),
        *_dmarc(mail),
        *_sts(mail),
        *_tls_reports(mail),
        *_services(mail),
        *_dane(mail),
    ]


def sts_policy(hosts: Sequence[str], mode: Mode, max_age_s: int) -> str:
    """Return the text of `mta-sts.txt` (RFC 8461 §3.2)."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts)]
    return "".join(f"{line}\r\n" for line in (*lines, f"max_age: {max_age_s}"))


def sts_id(policy: str) -> str:
    """Return the id that a policy is announced with: another policy, another id."""
    return hashlib.sha256(policy.encode()).hexdigest()[:STS_ID_CHARS]


def tlsa_value(certificate: bytes) -> str:
    """Return the TLSA record of a certificate in DER: DANE-EE, its key, SHA-256.

    RFC 7672 §3.1.1 asks for `3 1 1`: names and dates do not matter, and a certificate that is
    renewed with the same key leaves it alone. Raises ValueError.
    """
    public = x509.load_der_x509_certificate(certificate).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"3 1 1 {hashlib.sha256(octets).hexdigest()}"


def zone_line(record: DnsRecord, ttl_s: int = TTL_S) -> str:
    """Return a record as a line of a zone file (RFC 1035 §5.1), names absolute."""
    value = record.value
    if record.type == "TXT":
        value = zone_text(value)
    elif record.type in ("MX", "SRV", "CNAME", "PTR"):
        value += "."
    return f"{record.name}. {ttl_s} IN {record.type} {value}"


def zone_text(text: str) -> str:
    """Return the text of a TXT record in quoted strings of at most 255 octets each.

    What is not printable ASCII becomes `\\DDD`, an octet each (RFC 1035 §5.1).
    """
    # Latin-1 makes each octet one character, so that no string is cut within one.
    pieces = dkim_keys.strings(text.encode().decode("latin-1"))
    return " ".join(f'"{"".join(map(_zone_character, piece))}"' for piece in pieces)


def _zone_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\{ord(character):03d}"


# Each group ---------------------------------------------------------------------------------


def _servers(mail: MailDomain) -> Iterator[DnsRecord]:
    for host in mail.hosts:
        why = f"Mail for {mail.domain} is sent to {host}."
        yield DnsRecord(mail.domain, "MX", f"{PREFERENCE} {host}", Purpose.MAIL_SERVER, why)
    for host in dict.fromkeys([*mail.hosts, mail.web]):
        for text in mail.addresses.get(host, ()):
            address = ipaddress.ip_address(text)
            if mail.is_above(host):
                kind = "A" if address.version == 4 else "AAAA"
                why = f"{host} is reached at this address."
                yield DnsRecord(host, kind, str(address), Purpose.ADDRESS, why)
            if host in mail.hosts:
                why = (
                    f"Many servers refuse mail from an address without a name; whoever lends you "
                    f"{address} sets it."
                )
                name = address.reverse_pointer
                yield DnsRecord(name, "PTR", host, Purpose.REVERSE, why)


def _spf(mail: MailDomain) -> Iterator[DnsRecord]:
    terms = " ".join(["v=spf1", "mx", *mail.senders, "-all"])
    why = "Only these servers send mail from this domain; others may refuse what does not."
    yield DnsRecord(mail.domain, "TXT", terms, Purpose.SPF, why)
    for host in dict.fromkeys(mail.hosts):
        if mail.is_above(host) and host != mail.domain:
            # RFC 7208 §2.4: of a bounce, which has no sender, it is the name in EHLO.
            why = f"Bounces have no sender, so {host} is checked in its place."
            yield DnsRecord(host, "TXT", "v=spf1 a -all", Purpose.SPF, why)


def _dkim(mail: MailDomain) -> Iterator[DnsRecord]:
    reasons = {
        State.PENDING: "The next key: it must be here for some days before it signs.",
        State.ACTIVE: "Mail from this domain is signed with this key.",
        State.RETIRED: "This key signs no more, but mail signed with it is still on its way.",
    }
    for key in mail.keys:
        name = dkim_keys.record_name(key.selector, mail.domain)
        yield DnsRecord(name, "TXT", key.public_text, Purpose.DKIM, reasons[key.state])


def _dmarc(mail: MailDomain) -> Iterator[DnsRecord]:
    tags = f"v=DMARC1; p={mail.dmarc}"
    if mail.reports is not None:
        tags += f"; rua={_mailto(mail.reports)}"
    why = "Tells what to do with mail that only claims to be from here, and whom to tell."
    yield DnsRecord(f"_dmarc.{mail.domain}", "TXT", tags, Purpose.DMARC, why)
    if mail.reports is None:
        return
    receiver = mail.reports.rpartition("@")[2]
    if not mail.is_above(receiver) and not mail.domain.endswith(f".{receiver}"):
        name = f"{mail.domain}._report._dmarc.{receiver}"
        why = f"{receiver} must agree to get reports about another domain."  # RFC 7489 §7.1
        yield DnsRecord(name, "TXT", "v=DMARC1", Purpose.DMARC_REPORTS, why)


def _sts(mail: MailDomain) -> Iterator[DnsRecord]:
    if mail.sts_policy is None:
        return
    name, value = f"_mta-sts.{mail.domain}", f"v=STSv1; id={sts_id(mail.sts_policy)}"
    why = "Says that there is a policy by which mail comes over verified TLS only, and which."
    yield DnsRecord(name, "TXT", value, Purpose.MTA_STS, why)
    why = "The policy is fetched from this host, which needs a certificate for this name."
    yield DnsRecord(f"mta-sts.{mail.domain}", "CNAME", mail.web, Purpose.WEB_HOST, why)


def _tls_reports(mail: MailDomain) -> Iterator[DnsRecord]:
    if mail.reports is not None:
        value = f"v=TLSRPTv1; rua={_mailto(mail.reports)}"  # RFC 8460 §3
        why = "Senders report here when TLS to this domain's servers fails."
        yield DnsRecord(f"_smtp._tls.{mail.domain}", "TXT", value, Purpose.TLS_REPORTS, why)


def _services(mail: MailDomain) -> Iterator[DnsRecord]:
    # RFC 8314 §4.5.2, RFC 6186 §3, RFC 8620 §2.2.
    services = (
        ("submissions", mail.ports.submissions, mail.hosts[0], "send mail"),
        ("imaps", mail.ports.imaps, mail.hosts[0], "read mail over IMAP"),
        ("pop3s", mail.ports.pop3s, mail.hosts[0], "fetch mail over POP3"),
        ("jmap", mail.ports.jmap, mail.web, "read and send mail over JMAP"),
    )
    for service, port, host, what in services:
        if port is not None:
            name, value = f"_{service}._tcp.{mail.domain}", f"0 1 {port} {host}"
            why = f"Mail programs find out by themselves where to {what}."
            yield DnsRecord(name, "SRV", value, Purpose.SERVICE, why)
    if mail.has_autoconfig:
        name = f"autoconfig.{mail.domain}"
        why = "Mail programs that know no SRV records fetch their settings from here."
        yield DnsRecord(name, "CNAME", mail.web, Purpose.WEB_HOST, why)


def _dane(mail: MailDomain) -> Iterator[DnsRecord]:
    for host in dict.fromkeys(mail.hosts):
        if host in mail.certificates:
            value = tlsa_value(mail.certificates[host])
            why = (
                f"Says which key {host} has, if the zone is signed with DNSSEC; publish that of a "
                f"new key two days before it is used."
            )
            yield DnsRecord(f"_25._tcp.{host}", "TLSA", value, Purpose.DANE, why)


def _mailto(address: str) -> str:
    # RFC 7489 §6.2: a comma and an exclamation mark mean something in lists of addresses.
    return f"mailto:{quote(address, safe='@+')}"


# What was found -----------------------------------------------------------------------------


class Kind(StrEnum):
    """What is wrong with a record."""

    MISSING = "missing"
    DIFFERENT = "different"
    SUPERFLUOUS = "superfluous"  # it stands beside what is wanted, and does harm
    UNKNOWN = "unknown"  # the DNS gave no answer


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that an operator has to look at; values as in DnsRecord."""

    kind: Kind
    name: str
    type: str
    purpose: Purpose
    wanted: tuple[str, ...]
    found: tuple[str, ...]
    why: str  # what it does, a sentence


# What TXT records of a purpose begin with; others of the same name are none of our business.
_VERSIONS = {
    Purpose.SPF: re.compile(r"(?i)v=spf1(?: |$)"),  # RFC 7208 §4.5
    Purpose.DMARC: re.compile(r"(?i)v\s*=\s*DMARC1\s*(?:;|$)"),  # RFC 7489 §6.6.3
    Purpose.DMARC_REPORTS: re.compile(r"(?i)v\s*=\s*DMARC1\s*(?:;|$)"),
    Purpose.MTA_STS: re.compile(r"v=STSv1\s*(?:;|$)"),  # RFC 8461 §3.1
    Purpose.TLS_REPORTS: re.compile(r"v=TLSRPTv1\s*(?:;|$)"),  # RFC 8460 §3
}
# Of which a name has exactly one: with more, readers go by none of them, or by any.
_SINGLE = (*_VERSIONS, Purpose.DKIM, Purpose.WEB_HOST)
# Of which more than wanted does harm: mail, or a visitor, goes there too.
_EXACT = (Purpose.MAIL_SERVER, Purpose.ADDRESS)


def questions(wanted: Sequence[DnsRecord]) -> list[tuple[str, str]]:
    """Return each name and type to ask the DNS for, so that `differences` can answer."""
    asked = []
    for record in wanted:
        asked.append((record.name, record.type))
        if record.purpose is Purpose.WEB_HOST:
            asked += [(record.name, "A"), (record.name, "AAAA")]
    return list(dict.fromkeys(asked))


def differences(
    wanted: Sequence[DnsRecord], found: Mapping[tuple[str, str], Sequence[str]]
) -> list[Difference]:
    """Return what is wrong with a domain's records, in the order of `wanted`.

    `found` has the values, in the form of DnsRecord, for each of `questions`: none for a name
    that is not there, no entry where the DNS gave no answer. How something is written does not
    matter, where it says the same.
    """
    groups: dict[tuple[str, str, Purpose], list[DnsRecord]] = {}
    for record in wanted:
        groups.setdefault((record.name, record.type, record.purpose), []).append(record)
    result = []
    for (name, kind, purpose), group in groups.items():
        ours = tuple(record.value for record in group)
        theirs = found.get((name, kind))
        if purpose is Purpose.WEB_HOST and theirs is not None and not theirs:
            theirs = _aliased(name, ours, found)
        verdicts: Iterable[_Verdict] = [(Kind.UNKNOWN, ours, ())]
        if theirs is not None:
            verdicts = _compare(purpose, ours, theirs)
        for verdict, expected, actual in verdicts:
            why = group[0].why if expected else _HARM[purpose]
            result.append(Difference(verdict, name, kind, purpose, expected, actual, why))
    return result


_HARM = {
    Purpose.MAIL_SERVER: "Mail is also sent to this server, which is none of the cluster's.",
    Purpose.ADDRESS: "Some of the mail goes to this address, too.",
    Purpose.SPF: "With more than one, SPF fails for all mail of the domain.",
    Purpose.DKIM: "With more than one, it is chance by which of them a signature is checked.",
    Purpose.DMARC: "With more than one, none of them counts.",
    Purpose.DMARC_REPORTS: "With more than one, none of them may count.",
    Purpose.MTA_STS: "With more than one, none of them counts.",
    Purpose.TLS_REPORTS: "With more than one, none of them counts.",
    Purpose.WEB_HOST: "A name has one alias at most.",
}

_Verdict = tuple[Kind, tuple[str, ...], tuple[str, ...]]


def _aliased(
    name: str, target: tuple[str, ...], found: Mapping[tuple[str, str], Sequence[str]]
) -> Sequence[str] | None:
    """Return the target for a name with addresses of its own: they serve as well as an alias."""
    answers = [found.get((name, kind)) for kind in ("A", "AAAA")]
    if any(answers):
        return target
    return None if None in answers else ()


def _compare(purpose: Purpose, wanted: Sequence[str], found: Sequence[str]) -> Iterator[_Verdict]:
    """Yield what is wrong between the values of one name that are for one purpose."""
    version = _VERSIONS.get(purpose)
    theirs = [value for value in found if version is None or version.match(value.strip())]
    missing = tuple(value for value in wanted if not any(_same(purpose, value, v) for v in theirs))
    other = tuple(value for value in theirs if not any(_same(purpose, v, value) for v in wanted))
    if missing:
        yield (Kind.DIFFERENT if other else Kind.MISSING), missing, other
    if purpose in _SINGLE and len(theirs) > 1:
        theirs.remove(next((value for value in theirs if value not in other), theirs[0]))
        yield Kind.SUPERFLUOUS, (), tuple(theirs)
    elif purpose in _EXACT and other and not missing:
        yield Kind.SUPERFLUOUS, (), other


def _same(purpose: Purpose, wanted: str, found: str) -> bool:
    """Say whether two values mean the same to those who read them."""
    match purpose:
        case Purpose.DKIM:
            return dkim_keys.is_published(wanted, found)
        case Purpose.DMARC | Purpose.DMARC_REPORTS | Purpose.MTA_STS | Purpose.TLS_REPORTS:
            tags = dkim_keys.parse_tags(found)
            return tags is not None and tags == dkim_keys.parse_tags(wanted)
        case Purpose.SPF:
            return wanted.lower().split() == found.lower().split()
        case Purpose.ADDRESS:
            return _address(wanted) == _address(found)
        case Purpose.DANE:
            return _tlsa(wanted) == _tlsa(found)
        case Purpose.MAIL_SERVER:
            return _words(wanted)[1:] == _words(found)[1:]  # in whichever order they are tried
        case Purpose.SERVICE:
            return _words(wanted)[2:] == _words(found)[2:]
        case Purpose.REVERSE | Purpose.WEB_HOST:
            return _words(wanted) == _words(found)


def _words(value: str) -> list[str]:
    return value.lower().rstrip(".").split()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text


def _tlsa(value: str) -> tuple[list[str], str]:
    words = value.lower().split()
    return words[:3], "".join(words[3:])  # The data may stand in groups (RFC 6698 §2.2).

"""Tlsa: records that say which certificate a mail server has (RFC 6698, RFC 7671, RFC 7672).

Pure: records and a peer's certificates in, whether they match out. Of the four usages SMTP has
two, since nobody is there whom a CA could mean something to (RFC 7672 §3.1.3):

    3  DANE-EE  the server's own certificate or key; its names and dates do not matter
    2  DANE-TA  a CA in the chain that the server shows; names and dates matter
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification

DANE_TA, DANE_EE = 2, 3
WHOLE, KEY = 0, 1  # selector
EXACT = 0  # matching type
DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
CHAIN_MAX = 10  # certificates of a peer that are looked at
RECORDS_MAX = 100  # of one host: each may cost a path validation


class Tlsa(NamedTuple):
    """One record, its numbers as in RFC 6698 §2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def is_usable(self) -> bool:
        """Say whether SMTP can use the record (RFC 7672 §3.1)."""
        if self.usage not in (DANE_TA, DANE_EE) or self.selector not in (WHOLE, KEY):
            return False
        if self.matching in DIGESTS:
            return len(self.data) == DIGESTS[self.matching]().digest_size
        return self.matching == EXACT and bool(self.data)


@dataclass(frozen=True, slots=True)
class TlsaSet:
    """What a host has published securely, `records` only those that are usable.

    With no usable record, TLS is mandatory, but whose it is cannot be said (RFC 7672 §2.2).
    `base` is the name below which they were found, a reference name for DANE-TA.
    """

    base: str
    records: tuple[Tlsa, ...]

    @property
    def is_usable(self) -> bool:
        return bool(self.records)


def usable(base: str, records: Sequence[Tlsa]) -> TlsaSet:
    """Return the usable ones of records that were found, not more than RECORDS_MAX of them.

    RFC 7671 §9: where a usage and selector have several digests, the strongest counts.
    """
    found = [record for record in records if record.is_usable]
    strongest: dict[tuple[int, int], int] = {}
    for record in found:
        kind = record.usage, record.selector
        strongest[kind] = max(strongest.get(kind, EXACT), record.matching)
    kept = (r for r in found if r.matching in (EXACT, strongest[r.usage, r.selector]))
    return TlsaSet(base, tuple(kept)[:RECORDS_MAX])


def matches(
    records: Sequence[Tlsa],
    chain: Sequence[bytes],
    names: Sequence[str],
    now: datetime.datetime,
) -> bool:
    """Say whether a peer is the one that usable records describe.

    `chain` is what the peer showed, in DER, its own certificate first; `names` are those of
    which a certificate below a DANE-TA record must have one (RFC 7672 §3.2.2). What cannot be
    read does not match.
    """
    try:
        peer, *others = [x509.load_der_x509_certificate(der) for der in chain[:CHAIN_MAX]]
        if any(_describes(record, peer) for record in records if record.usage == DANE_EE):
            return True
        authorities = [record for record in records if record.usage == DANE_TA]
        anchors = [c for c in others if any(_describes(r, c) for r in authorities)]
        anchors += [
            x509.load_der_x509_certificate(record.data)
            for record in authorities
            if (record.selector, record.matching) == (WHOLE, EXACT)  # It need not be shown.
        ]
        return any(_is_below(peer, others, anchors, name, now) for name in names if anchors)
    except ValueError:
        return False


def _describes(record: Tlsa, certificate: x509.Certificate) -> bool:
    if record.selector == WHOLE:
        octets = certificate.public_bytes(Encoding.DER)
    else:
        public = certificate.public_key()
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if record.matching in DIGESTS:
        octets = DIGESTS[record.matching](octets).digest()
    return octets == record.data


def _is_below(
    peer: x509.Certificate,
    others: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    name: str,
    now: datetime.datetime,
) -> bool:
    """Say whether a certificate is for this name, valid now, and issued below an anchor."""
    # A private CA's certificates need not have all that the public ones must: a CA has to be
    # one, and names are looked for in the subject's alternative names only.
    authorities = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, _is_authority
    )
    servers = verification.ExtensionPolicy.permit_all().require_present(
        x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
    )
    builder = verification.PolicyBuilder().store(verification.Store(list(anchors))).time(now)
    builder = builder.extension_policies(ca_policy=authorities, ee_policy=servers)
    try:
        verifier = builder.build_server_verifier(x509.DNSName(name))
        verifier.verify(peer, list(others))
    except verification.VerificationError:
        return False
    return True


def _is_authority(
    policy: verification.Policy, certificate: x509.Certificate, found: x509.BasicConstraints
) -> None:
    if not found.ca:
        raise ValueError("not a CA's certificate")

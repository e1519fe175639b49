"""Certificates: X.509 certificates and their P-256 keys, made, read, and written as PEM (RFC 5280).

Keys are readable by their owner only. A file is replaced as a whole, the key before its
certificate; who reads between the two sees that they do not fit.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.refusal import Refused

CLOCK_SKEW_HOURS = 1
NAME_CHARS_MAX = 64  # RFC 5280 appendix A.1: ub-common-name
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def parse(cls, certificate: bytes, key: bytes) -> Self | None:
        """Return the pair in two PEM texts, None when it is none that we made."""
        try:
            public = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError):
            return None
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            return None
        return cls(public, private) if private.public_key() == public.public_key() else None

    @classmethod
    def read(cls, file: Path, key_file: Path) -> Self | None:
        """Return the pair in two files, None when it is not there."""
        try:
            return cls.parse(file.read_bytes(), key_file.read_bytes())
        except OSError:
            return None

    def write(self, file: Path, key_file: Path) -> None:
        """Replace two files. Raises Refused."""
        write_file(key_file, self.key_pem, 0o600)
        write_file(file, self.certificate_pem, 0o644)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def names(self) -> x509.SubjectAlternativeName:
        """What the certificate is for; empty when it does not say."""
        found = self.certificate.extensions
        try:
            return found.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return x509.SubjectAlternativeName([])

    def lasts(self, now: datetime.datetime, days: int) -> bool:
        """Say whether the certificate is valid for so many days more."""
        return self.certificate.not_valid_after_utc - now >= datetime.timedelta(days=days)

    def is_of(self, ca: x509.Certificate) -> bool:
        """Say whether a CA has issued the certificate."""
        try:
            self.certificate.verify_directly_issued_by(ca)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def make_ca(common_name: str, now: datetime.datetime, days: int) -> Pair:
    """Return a new CA, which may issue certificates but no other CA's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issue(
    ca: Pair,
    common_name: str,
    names: x509.SubjectAlternativeName,
    usages: Iterable[x509.ObjectIdentifier],
    now: datetime.datetime,
    days: int,
) -> Pair:
    """Return a new certificate for these names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    subject = _name(common_name[:NAME_CHARS_MAX])
    certificate = (
        _builder(subject, ca.certificate.subject, key.public_key(), now, days)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def names_of(*hosts: str) -> x509.SubjectAlternativeName:
    """Return host names and addresses as a certificate has them, each once."""
    names: dict[x509.GeneralName, None] = {}
    for host in hosts:
        try:
            names[x509.IPAddress(ipaddress.ip_address(host))] = None
        except ValueError:
            if host.isascii():
                names[x509.DNSName(host)] = None
    return x509.SubjectAlternativeName(names)


def write_file(file: Path, octets: bytes, mode: int) -> None:
    """Replace a file as a whole. Raises Refused."""
    draft = file.with_name(f"{file.name}.new")
    try:
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(octets)
        draft.rename(file)
    except OSError as error:
        raise Refused(f"tls: {file} cannot be written: {error.strerror}") from None


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=CLOCK_SKEW_HOURS))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )

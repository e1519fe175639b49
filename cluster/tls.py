"""Tls: a CA and a certificate for localhost, for those who have not set one.

    tls/ca.pem  tls/ca-key.pem          trust the first, guard the second
    tls/server.pem  tls/server-key.pem  what the listeners use; made anew before it runs out

The keys are P-256 and readable by their owner only. Gateways read the files again when they
change, so a renewed certificate needs no restart.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.refusal import Refused

CA_DAYS = 3650
SERVER_DAYS = 397  # What browsers take from a public CA; some hold private ones to it as well.
RENEW_DAYS = 30
CLOCK_SKEW_HOURS = 1
LOCAL_ADDRESSES = ("127.0.0.1", "::1")
NAME_CHARS_MAX = 64  # RFC 5280 appendix A.1: ub-common-name


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files that the listeners use; `ca` when we made them."""

    certificate: Path
    key: Path
    ca: Path | None = None


def ensure(directory: Path, hostname: str, now: datetime.datetime) -> TlsFiles:
    """Return the files below `directory`, made or renewed where needed."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, ca_key = directory / "ca.pem", directory / "ca-key.pem"
    server, server_key = directory / "server.pem", directory / "server-key.pem"
    renewed = not _serves(ca, ca_key, now, None)
    if renewed:
        _make_ca(ca, ca_key, now)
    if renewed or not _serves(server, server_key, now, hostname):
        _make_server(server, server_key, ca, ca_key, hostname, now)
    return TlsFiles(server, server_key, ca)


def check(certificate: Path, key: Path) -> TlsFiles:
    """Return the configured files. Raises Refused when they are not a certificate and its key."""
    try:
        public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except OSError as error:
        raise Refused(f"tls: {error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise Refused(f"tls: {certificate} or {key} is not a PEM file without password") from None
    if private.public_key() != public:
        raise Refused(f"tls: {key} is not the key of {certificate}")
    return TlsFiles(certificate.absolute(), key.absolute())


def _serves(file: Path, key_file: Path, now: datetime.datetime, hostname: str | None) -> bool:
    """Say whether a certificate is there, fits its key and the name, and is not about to end."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return False
    if key.public_key() != certificate.public_key():
        return False
    if certificate.not_valid_after_utc - now < datetime.timedelta(days=RENEW_DAYS):
        return False
    if hostname is None:
        return True
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names == x509.SubjectAlternativeName(_names(hostname))


def _names(hostname: str) -> list[x509.GeneralName]:
    names: dict[x509.GeneralName, None] = {x509.DNSName("localhost"): None}
    try:
        names[x509.IPAddress(ipaddress.ip_address(hostname))] = None
    except ValueError:
        if hostname.isascii():
            names[x509.DNSName(hostname)] = None
    for address in LOCAL_ADDRESSES:
        names[x509.IPAddress(ipaddress.ip_address(address))] = None
    return list(names)


def _make_ca(file: Path, key_file: Path, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Heliograph local CA")
    certificate = (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(file, key_file, certificate, key)


def _make_server(
    file: Path, key_file: Path, ca: Path, ca_key: Path, hostname: str, now: datetime.datetime
) -> None:
    issuer = x509.load_pem_x509_certificate(ca.read_bytes())
    issuer_key = serialization.load_pem_private_key(ca_key.read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey), "we made it, on P-256"
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(hostname[:NAME_CHARS_MAX])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(_names(hostname)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write_pair(file, key_file, certificate, key)


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


def _write_pair(
    file: Path, key_file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    octets = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key_file, octets, 0o600)
    _write(file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(file: Path, octets: bytes, mode: int) -> None:
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(octets)
        draft.rename(file)
    except OSError as error:
        raise Refused(f"tls: {file} cannot be written: {error.strerror}") from None

"""Tls: a CA and a certificate for localhost, for those who have not set one.

    tls/ca.pem  tls/ca-key.pem          trust the first, guard the second
    tls/server.pem  tls/server-key.pem  what the listeners use; made anew before it runs out

Gateways read the files again when they change, so a renewed certificate needs no restart.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cluster.certificates import SERVER, Pair, issue, make_ca, names_of
from cluster.refusal import Refused

CA_DAYS = 3650
SERVER_DAYS = 397  # What browsers take from a public CA; some hold private ones to it as well.
RENEW_DAYS = 30
LOCAL_ADDRESSES = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files that the listeners use; `ca` when we made them."""

    certificate: Path
    key: Path
    ca: Path | None = None


def ensure(directory: Path, hostname: str, now: datetime.datetime) -> TlsFiles:
    """Return the files below `directory`, made or renewed where needed."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_files = directory / "ca.pem", directory / "ca-key.pem"
    server_files = directory / "server.pem", directory / "server-key.pem"
    names = names_of("localhost", hostname, *LOCAL_ADDRESSES)
    ca, server = Pair.read(*ca_files), Pair.read(*server_files)
    if ca is None or not ca.lasts(now, RENEW_DAYS):
        ca, server = make_ca("Heliograph local CA", now, CA_DAYS), None
        ca.write(*ca_files)
    if server is None or not server.lasts(now, RENEW_DAYS) or server.names != names:
        issue(ca, hostname, names, [SERVER], now, SERVER_DAYS).write(*server_files)
    return TlsFiles(*server_files, ca_files[0])


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

"""Tls: what is made, what is kept, what is renewed."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from cluster import tls
from cluster.refusal import Refused

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


def later(days: int) -> datetime.datetime:
    return NOW + datetime.timedelta(days=days)


def test_certificate_serves_localhost(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path / "tls", "mx.example.test", NOW)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "mx.example.test"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["127.0.0.1", "::1"]
    assert files.ca is not None
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    certificate.verify_directly_issued_by(ca)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    ssl.create_default_context(cafile=str(files.ca))


def test_keys_are_the_owners(tmp_path: Path) -> None:
    tls.ensure(tmp_path, "x", NOW)
    for name in ("ca-key.pem", "server-key.pem"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_what_serves_is_kept(tmp_path: Path) -> None:
    tls.ensure(tmp_path, "x", NOW)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    tls.ensure(tmp_path, "x", later(tls.SERVER_DAYS - tls.RENEW_DAYS - 1))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "hostname, days, renewed",
    [
        ("x", tls.SERVER_DAYS - tls.RENEW_DAYS + 1, {"server.pem", "server-key.pem"}),
        ("y", 0, {"server.pem", "server-key.pem"}),
        (
            "x",
            tls.CA_DAYS - tls.RENEW_DAYS + 1,
            {"ca.pem", "ca-key.pem", "server.pem", "server-key.pem"},
        ),
    ],
)
def test_what_does_not_is_made_anew(
    tmp_path: Path, hostname: str, days: int, renewed: set[str]
) -> None:
    tls.ensure(tmp_path, "x", NOW)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    tls.ensure(tmp_path, hostname, later(days))
    changed = {file.name for file in tmp_path.iterdir() if before[file.name] != file.read_bytes()}
    assert changed == renewed


def test_lost_key_is_made_anew(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, "x", NOW)
    files.key.write_text("nonsense")
    files = tls.ensure(tmp_path, "x", NOW)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)


def test_configured_files_are_checked(tmp_path: Path) -> None:
    one = tls.ensure(tmp_path / "one", "x", NOW)
    two = tls.ensure(tmp_path / "two", "x", NOW)
    assert tls.check(one.certificate, one.key).ca is None
    with pytest.raises(Refused, match="is not the key of"):
        tls.check(one.certificate, two.key)
    with pytest.raises(Refused, match="cannot be read"):
        tls.check(tmp_path / "missing", one.key)
    one.key.write_text("nonsense")
    with pytest.raises(Refused, match="not a PEM file"):
        tls.check(one.certificate, one.key)

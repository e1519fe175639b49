"""Peers, hosts and origins of a request, from its scope alone."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from gateways.http.origin import (
    is_loopback,
    may_sign_in,
    own_base_url,
    redirect_target,
    require_own_origin,
)
from gateways.http.problem import Problem
from gateways.http.settings import HttpSettings

SETTINGS = HttpSettings(hostname="mx.example.test")


def connection(
    *, scheme: str = "http", client: str | None = "192.0.2.7", path: str = "/", **headers: str
) -> HTTPConnection:
    raw = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": scheme,
        "client": (client, 1) if client is not None else None,
        "server": ("192.0.2.1", 8080),
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": raw,
    }
    return HTTPConnection(scope)


@pytest.mark.parametrize(
    "host, expected",
    [
        ("127.0.0.1", True),
        ("127.255.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("fe80::1%lo", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
    assert may_sign_in(connection(client=host)) is expected
    assert may_sign_in(connection(client=host, scheme="https"))
    assert may_sign_in(connection(client=host, scheme="wss"))


def test_no_peer_is_not_loopback() -> None:
    assert not may_sign_in(connection(client=None))


@pytest.mark.parametrize(
    "host, expected",
    [
        ("a.test", "http://a.test"),
        ("a.test:81", "http://a.test:81"),
        ("[2001:db8::1]:81", "http://[2001:db8::1]:81"),
        ("a.test:port", "http://mx.example.test:8080"),
        ("a@b", "http://mx.example.test:8080"),
        ("a\nb", "http://mx.example.test:8080"),
        ("", "http://mx.example.test:8080"),
    ],
)
def test_base_url(host: str, expected: str) -> None:
    assert own_base_url(connection(host=host), SETTINGS) == expected


@pytest.mark.parametrize("origin", ["http://b.test", "https://a.test", "null", "http://a.test:81"])
def test_foreign_origins(origin: str) -> None:
    require_own_origin(connection(host="a.test"), SETTINGS)
    require_own_origin(connection(host="a.test", origin="http://a.test"), SETTINGS)
    with pytest.raises(Problem, match="forbidden"):
        require_own_origin(connection(host="a.test", origin=origin), SETTINGS)


@pytest.mark.parametrize(
    "host, port, expected",
    [
        ("a.test:8080", 8443, "https://a.test:8443/x%20y"),
        ("a.test", 443, "https://a.test/x%20y"),
        ("[::1]:80", 8443, "https://[::1]:8443/x%20y"),
        ("bad host", 8443, "https://mx.example.test:8443/x%20y"),
    ],
)
def test_redirects(host: str, port: int, expected: str) -> None:
    assert redirect_target(connection(host=host, path="/x%20y"), SETTINGS, port) == expected


def test_what_is_not_redirected() -> None:
    assert redirect_target(connection(client="127.0.0.1"), SETTINGS, 8443) is None
    assert redirect_target(connection(scheme="https"), SETTINGS, 8443) is None
    assert redirect_target(connection(path="/metrics"), SETTINGS, 8443) is None
    assert redirect_target(connection(path="/metrics", authorization="x"), SETTINGS, 8443)

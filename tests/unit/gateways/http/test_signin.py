"""Basic credentials (RFC 7617): what is one, what is none, and what is never shown."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.http.signin import Credentials, parse_basic, parse_bearer


def encode(text: str, encoding: str = "utf-8") -> str:
    return base64.b64encode(text.encode(encoding)).decode()


@pytest.mark.parametrize(
    "header, credentials",
    [
        ("Basic " + encode("a:b"), Credentials("a", "b")),
        ("bAsIc   " + encode("a:b:c"), Credentials("a", "b:c")),
        ("Basic " + encode("ünï:pässwörd £"), Credentials("ünï", "pässwörd £")),
        ("Basic " + encode("a:"), Credentials("a", "")),
        ("Basic " + encode(":b"), None),
        ("Basic " + encode("ab"), None),
        ("Basic " + encode("ü:b", "latin-1"), None),
        ("Basic " + encode("a:b\0"), None),
        ("Basic " + encode("a\n:b"), None),
        ("Basic a:b", None),
        ("Bearer " + encode("a:b"), None),
        ("Basic", None),
        ("", None),
        ("Basic " + encode("a:" + "b" * 2_000), None),
    ],
)
def test_headers(header: str, credentials: Credentials | None) -> None:
    assert parse_basic(header) == credentials


@settings(deadline=None)
@given(st.text())
def test_nothing_raises(header: str) -> None:
    parse_basic(header)
    parse_basic("Basic " + header)


def test_a_password_is_in_no_repr() -> None:
    assert "secret" not in repr(Credentials("name", "secret"))


@pytest.mark.parametrize(
    "header, token",
    [
        ("Bearer hla_x", "hla_x"),
        ("bEARER   hla_x ", "hla_x"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearerhla_x", None),
        ("Basic hla_x", None),
        ("Bearer " + "x" * 3_000, None),
        ("", None),
    ],
)
def test_bearer(header: str, token: str | None) -> None:
    assert parse_bearer(header) == token

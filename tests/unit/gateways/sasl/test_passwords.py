"""PLAIN and LOGIN: names and passwords as they come."""

from __future__ import annotations

import pytest

from gateways.sasl.passwords import Login, Plain
from gateways.sasl.steps import Challenge, CheckPassword, Malformed
from mail.errors import SignInRefused


@pytest.mark.parametrize(
    ("response", "name", "password"),
    [
        (b"\0tim\0tanstaaftanstaaf", "tim", "tanstaaftanstaaf"),  # RFC 4616 §4
        (b"a@b.test\0a@b.test\0x y", "a@b.test", "x y"),
        (b"A@B.test\0a@b.test\0x", "a@b.test", "x"),
        ("\0가@b.test\0비밀".encode(), "가@b.test", "비밀"),
    ],
)
def test_plain(response: bytes, name: str, password: str) -> None:
    assert Plain().respond(response) == CheckPassword(name, password)


def test_plain_asks_when_nothing_came() -> None:
    plain = Plain()
    assert plain.respond(None) == Challenge(b"")
    assert plain.respond(b"\0a\0b") == CheckPassword("a", "b")


@pytest.mark.parametrize("response", [b"", b"a", b"a\0b", b"\0a\0b\0", b"\0\xff\0b", b"\0a\0\xff"])
def test_what_is_not_plain(response: bytes) -> None:
    with pytest.raises(Malformed):
        Plain().respond(response)


@pytest.mark.parametrize("response", [b"\0\0b", b"\0a\0", b"root\0a\0b", b"b@x.test\0a@x.test\0p"])
def test_what_plain_refuses(response: bytes) -> None:
    with pytest.raises(SignInRefused):
        Plain().respond(response)


@pytest.mark.parametrize("along", [False, True])
def test_login(along: bool) -> None:
    login = Login()
    if not along:
        assert login.respond(None) == Challenge(b"Username:")
    assert login.respond(b"a@b.test") == Challenge(b"Password:")
    assert login.respond("비밀".encode()) == CheckPassword("a@b.test", "비밀")


def test_what_login_refuses() -> None:
    for name, password in ((b"", b"x"), (b"x", b"")):
        login = Login()
        login.respond(name)
        with pytest.raises(SignInRefused):
            login.respond(password)
    with pytest.raises(Malformed):
        Login().respond(b"\xff")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(CheckPassword("a", "secret"))

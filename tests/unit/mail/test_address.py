"""Addresses: what is valid, what is one mailbox, and the way back to the wire."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.address import (
    Address,
    display_domain,
    parse_address,
    parse_domain,
    parse_path,
)
from mail.errors import InvalidAddress


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("alice@example.test", "alice", "example.test"),
        ("Alice@EXAMPLE.Test", "Alice", "example.test"),
        ("a!#$%&'*+-/=?^_`{|}~z@x", "a!#$%&'*+-/=?^_`{|}~z", "x"),
        ('"john doe"@example.test', "john doe", "example.test"),
        (
            r'"a\"b\\c"@example.test',
            r"a\"b\\c".replace("\\\\", "\\").replace('\\"', '"'),
            "example.test",
        ),
        ('"alice"@example.test', "alice", "example.test"),
        ('"a@b"@example.test', "a@b", "example.test"),
        ("홍길동@예시.한국", "홍길동", "xn--vv4b11d.xn--3e0b707e"),
        ("a@bücher。example", "a", "xn--bcher-kva.example"),
        ("a@faß.de", "a", "xn--fa-hia.de"),  # IDNA 2003 would say fass.de
        ("a@XN--BCHER-KVA.example", "a", "xn--bcher-kva.example"),
        ("a@[127.0.0.1]", "a", "[127.0.0.1]"),
        ("a@[ipv6:2001:DB8:0::1]", "a", "[IPv6:2001:db8::1]"),
        ("x" * 64 + "@e", "x" * 64, "e"),
        ("a@b_c.example", "a", "b_c.example"),  # hosts with an underscore send mail
    ],
)
def test_valid(text: str, local: str, domain: str) -> None:
    assert parse_address(text) == Address(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "alice", "alice@", "@example.test", "a..b@x", ".a@x", "a.@x", "a b@x", "a@b c",
        "a@b@c", "a@-b", "a@b-", "a@b..c", "a@.b", "a@b.", '""@x', '"a@x', '"a"b@x',
        '"a\nb"@x', "a\x00@x", "\ud800@x", '"\ud800"@x', "a@\ud800", "<a@b>", " a@b", "a@b ",
        "x" * 65 + "@e", "한" * 22 + "@e", "a@" + "x" * 64, "a@" + "x." * 130 + "y",
        "x" * 64 + "@" + "y" * 63 + "." + "z" * 63 + "." + "w" * 62, "a@[127.0.0]", "a@[1.2.3.4",
        "a@[IPv6:g::1]", "a@[x]", "a@☃.example", "a\u00a0b@x", "a(c)@x", "a@b(c)", "x" * 100_000,
    ],
)  # fmt: skip
def test_invalid(text: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        parse_address(text)
    assert caught.value.smtp == "501 5.1.3"


def test_utf8_can_be_refused() -> None:
    with pytest.raises(InvalidAddress):
        parse_address("홍@example.test", allow_utf8=False)
    with pytest.raises(InvalidAddress):
        parse_path("<홍@example.test>", allow_utf8=False)
    assert parse_address("홍@example.test").needs_smtputf8
    assert not parse_address("a@예시.한국").needs_smtputf8  # It has an ASCII form.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Alice@Example.test", "aLICE@eXAMPLE.TEST"),
        ("É@x", "e\u0301@x"),
        ("한글@x", unicodedata.normalize("NFD", "한글") + "@x"),
        ("STRASSE@x", "straße@x"),
        ('"alice"@x', "alice@x"),
        ("a@예시.한국", "a@xn--vv4b11d.xn--3e0b707e"),
        ("a@[IPv6:::1]", "a@[IPv6:0:0:0:0:0:0:0:1]"),
    ],
)
def test_keys_are_equal(one: str, other: str) -> None:
    assert parse_address(one).key == parse_address(other).key


@pytest.mark.parametrize(
    ("text", "base_key", "detail"),
    [
        ("alice@d", "alice@d", None),
        ("Alice+News@d", "alice@d", "News"),
        ("alice+a+b@d", "alice@d", "a+b"),
        ("alice+@d", "alice@d", ""),
        ("+alice@d", "+alice@d", None),
        ("+a+b@d", "+a@d", "b"),
    ],
)
def test_detail(text: str, base_key: str, detail: str | None) -> None:
    address = parse_address(text)
    assert (address.base_key, address.detail) == (base_key, detail)
    assert address.key == f"{address.local.lower()}@d"


def test_paths() -> None:
    assert parse_path("<>") is None
    assert parse_path("<postmaster>") == Address("postmaster", "")
    assert str(Address("Postmaster", "")) == "Postmaster"
    assert parse_path("<a@b>") == Address("a", "b")
    assert parse_path("<@one.test,@two.test:a@b>") == Address("a", "b")
    assert parse_path('<"a b"@c>') == Address("a b", "c")
    for text in ("", "a@b", "<a@b", "a@b>", "<a>", "<@a>", "<@a:>", "<@:a@b>", "<a@b>>", "< a@b>"):
        with pytest.raises(InvalidAddress):
            parse_path(text)


def test_domains() -> None:
    assert parse_domain("Example.TEST") == "example.test"
    assert display_domain("xn--vv4b11d.xn--3e0b707e") == "예시.한국"
    assert display_domain("xn--a-.test") == "xn--a-.test"
    assert display_domain("[127.0.0.1]") == "[127.0.0.1]"


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for parse in (parse_address, parse_path):
        try:
            address = parse(text)
        except InvalidAddress:
            continue
        assert address is None or address.key


LOCALS = st.text(
    st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("한글éß漢"),
    min_size=1,
    max_size=20,
)


@given(LOCALS, st.sampled_from(["example.test", "xn--3e0b707e", "[127.0.0.1]"]))
def test_the_wire_form_leads_back(local: str, domain: str) -> None:
    address = Address(local, domain)
    assert parse_address(str(address)) == address
    assert parse_path(f"<{address}>") == address
    assert address.base_key == parse_address(str(address)).base_key

"""Header forms of RFC 8621 §4.1.2."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mail.headers import (
    as_addresses,
    as_date,
    as_grouped_addresses,
    as_message_ids,
    as_raw,
    as_text,
    as_urls,
)


def test_raw() -> None:
    assert as_raw(b" a\r\n\tb") == " a\r\n\tb"
    assert as_raw(b"\xed\x95\x9c\xff\x00.") == "한\ufffd."


def test_text() -> None:
    assert as_text(b" a\r\n\tb ") == "a\tb "
    assert as_text(b" =?utf-8?B?7ZWc?=\r\n =?utf-8?B?6riA?=") == "한글"
    assert as_text("한글 제목".encode("cp949")) == "한글 제목"


def test_the_example_of_the_rfc() -> None:
    value = (
        b'  "  James Smythe" <james@example.com>, Friends:\r\n'
        b"  jane@example.com, =?UTF-8?Q?John_Sm=C3=AEth?=\r\n  <john@example.com>;"
    )
    assert [(a.name, a.email) for a in as_addresses(value)] == [
        ("James Smythe", "james@example.com"),
        (None, "jane@example.com"),
        ("John Smîth", "john@example.com"),
    ]
    assert [(g.name, len(g.addresses)) for g in as_grouped_addresses(value)] == [
        (None, 1),
        ("Friends", 2),
    ]


def test_raw_korean_names() -> None:
    value = '홍길동 <hong@example.kr>, "김, 철수" <kim@example.kr>'
    for codec in ("utf-8", "cp949"):
        names = [address.name for address in as_addresses(value.encode(codec))]
        assert names == ["홍길동", "김, 철수"]


def test_a_comma_that_is_half_a_letter() -> None:
    # Shift_JIS trail octets reach into ASCII; the charset goes before the grammar.
    value = "ソ表示 <a@b>".encode("cp932")
    assert [a.name for a in as_addresses(value, "shift_jis")] == ["ソ表示"]


def test_message_ids() -> None:
    assert as_message_ids(b" <a@b>\r\n <c\r\n  d@e>") == ("a@b", "cd@e")
    assert as_message_ids(b"Your mail of Monday <a@b>") == ("a@b",)
    assert as_message_ids(b"<1234   @   local(blah)  .machine .example>") == (
        "1234@local.machine.example",
    )
    assert as_message_ids(b" a@b ") == ("a@b",)
    for value in (b"", b"<>", b"no id", b"<" + b"x" * 2000 + b">"):
        assert as_message_ids(value) is None
    assert len(as_message_ids(b"<a@b> " * 5000) or ()) == 1000


def test_urls() -> None:
    assert as_urls(b" <mailto:a@b>, (by web) <http://x/\r\n y>") == ("mailto:a@b", "http://x/y")
    assert as_urls(b"NO") is None


def test_date() -> None:
    assert as_date(b" Fri, 21 Nov 1997\r\n 09:55:06 -0600") == "1997-11-21T09:55:06-06:00"
    assert as_date(b"\xff") is None


@given(st.binary(max_size=80), st.sampled_from([None, "euc-kr", "iso-2022-jp", "utf-7", "x"]))
def test_any_octets_have_every_form(value: bytes, hint: str | None) -> None:
    forms = (
        as_raw(value), as_text(value, hint), as_addresses(value, hint),
        as_grouped_addresses(value, hint), as_message_ids(value), as_date(value), as_urls(value),
    )  # fmt: skip
    msgspec.json.encode(forms)
    assert "\x00" not in str(forms)

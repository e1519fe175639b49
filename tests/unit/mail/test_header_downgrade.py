"""Headers as ASCII: the same to read, or a refusal that says what stands in the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.address import parse_domain
from mail.errors import ConversionRefused, NeedsSmtputf8, smtp_reply
from mail.header_downgrade import downgrade
from mail.message import Message, parse
from tests.properties import EXAMPLES, examples


def downgraded(*fields: str | bytes) -> bytes:
    """Return the header of a message of these fields, as ASCII."""
    octets = [field.encode() if isinstance(field, str) else field for field in fields]
    parsed = parse(b"".join(field + b"\r\n" for field in octets) + b"\r\n")
    done = downgrade(parsed.root, parsed.charset_hint, encoding=None, is_message=True)
    assert done.isascii()
    assert done.endswith(b"\r\n\r\n")
    return done


def read(*fields: str | bytes) -> Message:
    return parse(downgraded(*fields))


def test_ascii_fields_stay() -> None:
    kept = b"From:a@b  (x)\r\nX-Odd:\t\r\n\tfolded\r\nno field\r\nDate: never\r\n"
    done = downgraded(*kept.rstrip().split(b"\r\n"), "Subject: 안녕")
    assert done == kept + b"Subject: =?utf-8?B?7JWI64WV?=\r\n\r\n"


def test_free_text() -> None:
    text = "Re: 안녕하세요 and " + "긴 제목 " * 40 + "end"
    found = read(f"Subject: {text}", "X-Anything: é", "Comments: ü")
    assert found.summary.subject == text
    assert found.header("x-anything") == b" =?utf-8?B?w6k=?="


def test_octets_that_are_not_utf8() -> None:
    assert read(b"Subject: caf\xe9", b"X: =?iso-8859-1?q?=e9?=").summary.subject == "café"


def test_addresses() -> None:
    summary = read(
        'From: "홍, 길동" <hong@b.test>, a@b.test',
        "To: 친구들: 이 <lee@b.test>, c@d.test;, 나 <na@예시.한국>",
        "Cc: a@b.test (주석)",
    ).summary
    assert [(a.name, a.email) for a in summary.from_ or ()] == [
        ("홍, 길동", "hong@b.test"),
        (None, "a@b.test"),
    ]
    assert [(a.name, a.email) for a in summary.to or ()] == [
        ("이", "lee@b.test"),
        (None, "c@d.test"),
        ("나", f"na@{parse_domain('예시.한국')}"),
    ]
    assert [(a.name, a.email) for a in summary.cc or ()] == [("주석", "a@b.test")]
    listed = downgraded("List-Id: 목록 <news.b.test>")
    assert listed == b"List-Id: =?utf-8?B?66qp66Gd?= <news.b.test>\r\n\r\n"


def test_a_nul_is_dropped_where_it_says_nothing() -> None:
    assert read(b"Subject: a\0b").header("subject") == b" ab"
    with pytest.raises(ConversionRefused):
        read(b"Content-Type: image\0/png")


def test_parameters() -> None:
    name = "보고서, 최종 " * 10 + ".hwp"
    done = downgraded(
        f'Content-Type: application/x; charset=utf-8; name="{name}"; x="a;b"',
        'Content-Disposition: attachment; filename="é.txt"; size=5',
    )
    part = parse(done).root
    assert part.type == "application/x"
    assert part.declared_charset == "utf-8"
    assert part.name == "é.txt"
    assert b"; filename*=utf-8''%C3%A9.txt;\r\n size=5" in done.replace(b";\r\n f", b"; f")
    assert all(len(line) <= 78 for line in done.split(b"\r\n"))
    alone = downgraded(f'Content-Type: application/x; name="{name}"')
    assert parse(alone).root.name == name.strip()


@pytest.mark.parametrize(
    "field",
    ["From: 홍@b.test", "To: a@b.test, B <é@b.test>", "Message-ID: <é@b>", "References: <é@b>",
     "Received: by é", "DKIM-Signature: i=é@b", "List-Unsubscribe: <mailto:é@b>"],
)  # fmt: skip
def test_what_only_smtputf8_can_carry(field: str) -> None:
    with pytest.raises(NeedsSmtputf8) as refused:
        downgraded(field)
    assert smtp_reply(refused.value).startswith("550 5.6.7 ")
    assert smtp_reply(refused.value).isascii()


@pytest.mark.parametrize(
    "field",
    ["n\u00f6 field", "From: é <no@@address>", "Content-Type: té/x",
     "Content-Type: multipart/mixed; boundary=é", "To: " + "é <a@b>, " * 6000,
     "Subject: " + "é" * 80_000, "Content-Type: a/b; x=" + "é" * 9000,
     "X: y\r\n" * 200_000 + "Subject: é"],
)  # fmt: skip
def test_what_cannot_be_converted(field: str) -> None:
    with pytest.raises(ConversionRefused) as refused:
        downgraded(field, "Subject: x")
    assert smtp_reply(refused.value).startswith("554 5.6.3 ")


NAMES = st.sampled_from(
    ["Subject", "From", "To", "Content-Type", "Content-Disposition", "X-Y", "Message-ID", "List-Id"]
)


@given(
    st.lists(st.tuples(NAMES, st.one_of(st.text(max_size=60), st.binary(max_size=60))), max_size=4)
)
@examples(EXAMPLES)
def test_any_fields(fields: list[tuple[str, str | bytes]]) -> None:
    raw = b""
    for name, value in fields:
        octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
        raw += name.encode() + b": " + octets.replace(b"\n", b"\n ") + b"\r\n"
    part = parse(raw + b"\r\n").root
    try:
        done = downgrade(part, None, encoding=None, is_message=True)
    except ConversionRefused:
        return
    assert done.isascii()
    assert [name for name, _ in parse(done).root.headers] == [name for name, _ in part.headers]


def test_many_parameters_take_linear_time() -> None:
    field = "Content-Type: a/b" + "".join(f"; {n}*0=é" for n in range(1500))
    assert downgraded(field).count(b"*=utf-8") == 1500

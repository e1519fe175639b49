"""Address lists: standard, obsolete and broken ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.address_list import ADDRESSES_MAX, parse_address_list

GIVEN = [
    ("", []),
    ("a@b", [(None, "a@b")]),
    ("<a@b>", [(None, "a@b")]),
    ("A <a@b>", [("A", "a@b")]),
    ('"Doe, J. (x)" <a@b>', [("Doe, J. (x)", "a@b")]),
    (r'"a\"b\\c" <a@b>', [('a"b\\c', "a@b")]),
    ("  '  James' <a@b>", [("' James'", "a@b")]),
    ("a@b (Ann (x) Lee)", [("Ann (x) Lee", "a@b")]),
    ("A (no) <a@b>", [("A", "a@b")]),
    ("Joe Q. Public <j.q@example.test>", [("Joe Q. Public", "j.q@example.test")]),
    ("a@b,, c@d ,", [(None, "a@b"), (None, "c@d")]),
    ("<@one.test,@two.test:a@b>", [(None, "a@b")]),
    ('"john doe"@b', [(None, '"john doe"@b')]),
    ('<"john doe"@b>', [(None, '"john doe"@b')]),
    ("a . b @ c . d", [(None, "a.b@c.d")]),
    ("< a @ b >", [(None, "a@b")]),
    ("Pete(x \\) y) <pete(his account)@silly.test(host)>", [("Pete", "pete@silly.test")]),
    ("a@[IPv6:2001::1], <b@[IPv6:::1]>", [(None, "a@[IPv6:2001::1]"), (None, "b@[IPv6:::1]")]),
    ("=?utf-8?Q?Kim=2C_Lee?= <a@b>", [("Kim, Lee", "a@b")]),
    ("=?utf-8?Q?Kim, Lee?= <a@b>", [("Kim, Lee", "a@b")]),
    ('"=?utf-8?B?7ZmN?=" <a@b>', [("홍", "a@b")]),
    ("=?utf-8?B?7ZmN?==?utf-8?B?6ri4?= <a@b>", [("홍길", "a@b")]),
    ("=?utf-8?B?7ZmN?= =?utf-8?B?6ri4?= x <a@b>", [("홍길 x", "a@b")]),
    ("홍길동 <홍@예시.한국>", [("홍길동", "홍@예시.한국")]),
    # Broken.
    ("MAILER-DAEMON", [(None, "MAILER-DAEMON")]),
    ("John Smith", [(None, "John Smith")]),
    ("John a@b", [("John", "a@b")]),
    ("a@b c@d", [(None, "a@b"), (None, "c@d")]),
    ('"A" <a@b> "B" <c@d>', [("A", "a@b"), ("B", "c@d")]),
    ("<a@b> John", [("John", "a@b")]),
    ("<<a@b>>", [(None, "a@b")]),
    ("A <a@b", [("A", "a@b")]),
    ("A <>", [("A", "")]),
    ("<>", []),
    ('"Foo <a@b>, c@d', [("Foo", "a@b"), (None, "c@d")]),
    ("(unclosed a@b", [("unclosed", "a@b")]),
    ("a@b; c@d", [(None, "a@b"), (None, "c@d")]),
    (")>,a@b", [(None, "a@b")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GIVEN)
def test_addresses(text: str, expected: list[tuple[str | None, str]]) -> None:
    groups = parse_address_list(text)
    assert [(a.name, a.email) for group in groups for a in group.addresses] == expected


def test_groups() -> None:
    text = '" James Smythe" <james@example.com>, Friends: jane@example.com, x <y@z>;, last@e'
    groups = [(g.name, [a.email for a in g.addresses]) for g in parse_address_list(text)]
    assert groups == [
        (None, ["james@example.com"]),
        ("Friends", ["jane@example.com", "y@z"]),
        (None, ["last@e"]),
    ]
    assert [g.name for g in parse_address_list("undisclosed-recipients:;")] == [
        "undisclosed-recipients"
    ]
    assert parse_address_list("undisclosed-recipients:;")[0].addresses == ()


def test_many_addresses_are_bounded() -> None:
    groups = parse_address_list("a@b," * (ADDRESSES_MAX + 100))
    assert sum(len(group.addresses) for group in groups) == ADDRESSES_MAX


@pytest.mark.parametrize("unit", ["(", '"', "<", '"\\', "=?a?q?", "a@[", "()", "a:b;", "@", ". "])
def test_hostile_lists_take_linear_time(unit: str) -> None:
    parse_address_list(unit * (100_000 // len(unit)))


@given(st.text(st.sampled_from('ab@.,:;<>()"\\ []=?QB\t가') | st.characters(), max_size=50))
def test_any_text_is_a_list(text: str) -> None:
    for group in parse_address_list(text):
        for address in group.addresses:
            assert address.name != ""

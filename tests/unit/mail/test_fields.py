"""Fields written here say, when they are read, what was given, and are one field each."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import fields
from mail.headers import as_addresses, as_grouped_addresses, as_message_ids, as_text
from mail.summary import EmailAddress
from tests.properties import EXAMPLES, examples


def value_of(field: bytes, name: bytes) -> bytes:
    """Return the value; assert that the field is one, of lines that are not too long."""
    assert field.startswith(name + b":")
    assert field.endswith(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    assert all(line[:1] == b" " for line in lines[1:])
    assert all(line.strip() for line in lines)
    assert all(b"\r" not in line and b"\n" not in line and b"\0" not in line for line in lines)
    assert all(len(line.lstrip()) <= 76 or line.count(b" ") <= 2 for line in lines)
    return field[len(name) + 1 : -2]


WORDS = st.lists(
    st.sampled_from(["a", "word", "안녕하세요", "=?utf-8?q?x?=", "é" * 50, "x" * 300, "\t",
                     "😀" * 20, "\r\nBcc: x", "\0", "  ", "a,b", '"', "\\", "(c)", "<d>",
                     "\ud800", "="]),
    max_size=15,
).map(" ".join)  # fmt: skip
TEXTS = st.one_of(WORDS, st.text(max_size=100))


def shown(text: str) -> str:
    """Return a text as a reader sees it, blanks in a row as one."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029 ]+", " ", text.replace("\0", ""))
    return unicodedata.normalize("NFC", text).strip()


@given(TEXTS)
@examples(EXAMPLES)
def test_free_text(text: str) -> None:
    field = fields.unstructured("Subject", text)
    assert field.isascii()
    assert shown(as_text(value_of(field, b"Subject"))) == shown(text)


@given(st.lists(TEXTS, min_size=1, max_size=4))
@examples(EXAMPLES)
def test_names_of_addresses(names: list[str]) -> None:
    given_ = [EmailAddress(name, f"a{i}@b.test") for i, name in enumerate(names)]
    field = fields.address_list("To", given_)
    assert field.isascii()
    found = as_addresses(value_of(field, b"To"))
    assert [address.email for address in found] == [address.email for address in given_]
    for address, name in zip(found, names, strict=True):
        expected = " ".join(shown(name).split())
        assert " ".join((address.name or "").split()) == expected


@given(st.lists(st.tuples(st.one_of(st.none(), st.sampled_from(["G", "친구들", "a, b"])),
                          st.integers(0, 3)), max_size=4))  # fmt: skip
@examples(EXAMPLES)
def test_groups(groups: list[tuple[str | None, int]]) -> None:
    given_ = [
        (name, tuple(EmailAddress("N", f"a{i}@b.test") for i in range(count)))
        for name, count in groups
        if name is not None or count
    ]
    field = fields.grouped_address_list("To", given_)
    found = as_grouped_addresses(value_of(field, b"To") if given_ else b"")
    flat = [address for _, addresses in given_ for address in addresses]
    assert [address for group in found for address in group.addresses] == flat
    names = [name for name, _ in given_ if name is not None]
    assert [group.name for group in found if group.name is not None] == names


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("hello world", b"Subject: hello world\r\n"),
        ("Re: 안녕", b"Subject: Re: =?utf-8?B?7JWI64WV?=\r\n"),
        ("", b"Subject:\r\n"),
        ("a\r\nBcc: x", b"Subject: a Bcc: x\r\n"),
        ("word " * 20, b"Subject: " + b"word " * 12 + b"word\r\n" + b" word" * 7 + b"\r\n"),
    ],
)
def test_subjects(text: str, field: bytes) -> None:
    assert fields.unstructured("Subject", text) == field


def test_an_address_beyond_ascii_stays() -> None:
    field = fields.address_list("To", [EmailAddress("홍", "홍@b.test")])
    assert field == "To: =?utf-8?B?7ZmN?= <홍@b.test>\r\n".encode()


def test_message_ids() -> None:
    ids = tuple(f"{i}{'x' * 30}@b.test" for i in range(5))
    assert as_message_ids(value_of(fields.message_ids("References", ids), b"References")) == ids


def test_dates() -> None:
    assert fields.date_time(0) == "Thu, 01 Jan 1970 00:00:00 +0000"
    assert fields.date_time(1_795_564_091_999) == "Tue, 24 Nov 2026 23:48:11 +0000"

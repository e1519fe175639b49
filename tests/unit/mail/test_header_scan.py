"""Header scan: a field, a date, without parsing; never beyond the header."""

import pytest

from mail.header_scan import date_ms, field, header_end, received_ms


@pytest.mark.parametrize(
    "octets, body",
    [
        (b"A: b\r\n\r\nbody", b"body"),
        (b"A: b\n\nbody", b"body"),
        (b"\nbody", b"body"),
        (b"A: b\n", b""),
        (b"", b""),
    ],
)
def test_where_the_body_begins(octets: bytes, body: bytes) -> None:
    assert octets[header_end(octets) :] == body


def test_fields() -> None:
    octets = b"Subject: a\r\n b\r\n\tc\r\nsubject: second\r\nX-Subject: no\r\n\r\nTo: body\r\n"
    assert field(octets, b"Subject") == b"a b c"
    assert field(octets, b"X-SUBJECT") == b"no"
    assert field(octets, b"To") is None
    assert field(b"Empty:\nNext: x\n\n", b"Empty") == b""


def test_when_a_message_was_received() -> None:
    newest = b"Received: from x\r\n by y; Tue, 2 Jan 2024 10:00:00 +0100\r\n"
    older = b"Received: from a by b; Mon, 1 Jan 2024 10:00:00 +0000\r\n"
    date = b"Date: Sun, 31 Dec 2023 10:00:00 GMT\r\n"
    assert received_ms(newest + older + date) == 1704186000_000
    assert received_ms(b"Received: from x by y\r\n" + date) == 1704016800_000
    assert received_ms(b"Subject: x\r\n\r\n" + date) is None
    assert date_ms("1 Jan 1960 00:00:00 GMT") is None
    assert date_ms("no date") is None

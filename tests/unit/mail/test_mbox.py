"""Mbox: every dialect is read, at any chunk size; what is written is read back the same."""

import pytest

from mail import mbox
from mail.errors import Invalid
from mail.mbox import Marked, MboxMessage, MboxSplitter

FROM = b"From a@x.test Tue Jan  2 10:00:00 2024\n"
ONE = b"Subject: one\n\nfirst\n"
TWO = b"Subject: two\n\nsecond\n"
LIMIT = 10_000


def split(octets: bytes, chunk: int = 1 << 20, limit: int = LIMIT) -> list[MboxMessage]:
    splitter = MboxSplitter(limit)
    found: list[MboxMessage] = []
    for start in range(0, len(octets), chunk):
        found.extend(splitter.receive_data(octets[start : start + chunk]))
    found.extend(splitter.close())
    return found


def bodies(octets: bytes, chunk: int = 1 << 20) -> list[bytes]:
    return [mbox.read(message).octets for message in split(octets, chunk)]


def crlf(octets: bytes) -> bytes:
    return octets.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
def test_messages_in_chunks_of_any_size(chunk: int) -> None:
    octets = FROM + ONE + b"\n" + FROM + TWO + b"\n" + FROM + ONE + b"\n"
    assert bodies(octets, chunk) == [crlf(ONE), crlf(TWO), crlf(ONE)]
    assert [message.offset for message in split(octets, chunk)] == [
        0,
        len(FROM + ONE) + 1,
        len(FROM + ONE + FROM + TWO) + 2,
    ]


def test_an_empty_file_and_one_that_is_no_mbox() -> None:
    assert split(b"") == split(b"\n\n") == []
    with pytest.raises(Invalid):
        split(ONE)
    with pytest.raises(Invalid):
        split(b"Fro")


@pytest.mark.parametrize(
    "line",
    [
        b"From - Mon Jan  1 00:00:00 2024",
        b"From 1791@xxx Tue Jan 02 10:00:00 +0000 2024",
        b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011 remote from x",
        b"From \r",
        b"From ",
        b"From -",
    ],
)
def test_lines_that_begin_a_message(line: bytes) -> None:
    octets = FROM + ONE + b"\n" + line + b"\n" + TWO
    assert bodies(octets) == [crlf(ONE), crlf(TWO)]


@pytest.mark.parametrize(
    "line", [b"From here on it rains.", b"From Monday to Friday", b"From \n\nlines", b"From"]
)
def test_lines_that_do_not(line: bytes) -> None:
    message = ONE + b"\n" + line + b"\nmore\n"
    assert bodies(FROM + message + b"\n") == [crlf(message)]


def test_quoted_lines() -> None:
    octets = FROM + ONE + b">From me\n>>From you\n> From them\n\n"
    assert bodies(octets) == [crlf(ONE + b"From me\n>From you\n> From them\n")]


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_content_length(chunk: int) -> None:
    body = b"quoted:\n\n" + FROM + b">From nobody\n"
    message = b"Content-Length: %d\nSubject: x\n\n" % len(body) + body
    octets = FROM + message + b"\n" + FROM + TWO + b"\n"
    assert bodies(octets, chunk) == [crlf(message), crlf(TWO)]
    assert bodies(FROM + message, chunk) == [crlf(message)]


@pytest.mark.parametrize("length", [b"0", b"3", b"8", b"9999", b"99999999999999", b"x", b"-1"])
def test_a_content_length_that_is_wrong(length: bytes) -> None:
    message = b"Content-Length: " + length + b"\n\nfirst\n"
    octets = FROM + message + b"\n" + FROM + TWO + b"\n"
    assert bodies(octets) == [crlf(message), crlf(TWO)]


def test_crlf_stays_and_the_empty_line_between_goes() -> None:
    octets = crlf(FROM + ONE + b"\n" + FROM + TWO + b"\n")
    assert bodies(octets) == [crlf(ONE), crlf(TWO)]


@pytest.mark.parametrize("chunk", [100, 1 << 20])
def test_a_message_that_is_too_large_is_told_and_the_next_is_read(chunk: int) -> None:
    large = b"Subject: large\n\n" + b"0123456789\n" * 5000
    octets = FROM + ONE + b"\n" + FROM + large + b"\n" + FROM + TWO + b"\n"
    first, second, third = split(octets, chunk, limit=1000)
    assert second.octets is None
    assert second.size_bytes == len(large) + 1
    assert second.offset == len(FROM + ONE) + 1
    assert second.from_line == FROM
    assert [mbox.read(one).octets for one in (first, third)] == [crlf(ONE), crlf(TWO)]


def read(header: bytes) -> Marked:
    (message,) = split(FROM + header + b"\nbody\n")
    return mbox.read(message)


def test_what_a_message_is_marked_with() -> None:
    assert read(b"Subject: x\n").keywords == ()
    assert read(b"Status: RO\n").keywords == ("$seen",)
    marked = read(b"Status: O\nX-Status: AFT\nX-Keywords: Work  $Forwarded bad*\n")
    assert marked.keywords == ("$answered", "$draft", "$flagged", "$forwarded", "work")
    assert not marked.deleted
    assert read(b"X-Mozilla-Status: 1007\n").keywords == (
        "$answered",
        "$flagged",
        "$forwarded",
        "$seen",
    )
    assert read(b"X-Mozilla-Status: 0009\n").deleted
    assert read(b"X-Status: D\n").deleted
    assert read(b"Subject: x\nStatus: RO\n").octets.startswith(b"Subject: x\r\nStatus: RO\r\n")


def test_the_date_of_a_from_line() -> None:
    assert mbox.from_line_ms(FROM) == 1704189600_000
    assert mbox.from_line_ms(b"From 1@xxx Tue Jan 02 10:00:00 +0900 2024\n") == 1704157200_000
    assert mbox.from_line_ms(b"From \n") is None


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: x\r\n\r\nbody\r\n",
        b"Subject: x\r\n\r\nbody\r\n\r\n\r\n",
        b"Subject: x\r\n\r\n",
        b"Subject: x\r\n\r\nFrom me\r\n>From you\r\n\r\nFrom a Tue Jan  2 10:00:00 2024\r\n",
        b"Subject: x\r\n\r\nbare\nFrom me\n\r\n",
        b"Subject: x\r\n\r\na\r\r\nb\r\n",
        b"Status: RO\r\nX-Status: \r\nX-Keywords: \r\nSubject: x\r\n\r\nbody\r\n",
        b"X-Gmail-Labels: Inbox\r\nStatus: RO\r\n\r\nbody\r\n",
        "Subject: 한글\r\n\r\n본문\r\n".encode(),
    ],
)
def test_what_is_written_is_read_back(octets: bytes) -> None:
    keywords = ("$answered", "$forwarded", "$seen", "label")
    written = mbox.entry(
        octets, sender="a b@x\n.test", received_at_ms=1704189600_123, keywords=keywords
    )
    found = split(written + written)
    assert [mbox.read(one) for one in found] == [Marked(octets, keywords, False, True)] * 2
    assert [mbox.from_line_ms(one.from_line) for one in found] == [1704189600_000] * 2

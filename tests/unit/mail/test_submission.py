"""Submission: fields added and taken out, all else exact; whose name a message may bear."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.address import parse_address
from mail.errors import ForbiddenFrom, ForbiddenMailFrom, MailError, smtp_reply
from mail.headers import VALUE_BYTES_MAX
from mail.message import parse
from mail.submission import AUTHOR_FIELDS_MAX, AUTHORS_MAX, authors, complete, may_send
from tests.properties import EXAMPLES, examples
from tests.unit.mail.samples import message, multipart

AT_MS = 1_795_564_091_999
ID = "id1@example.test"
DATE_LINE = b"Date: Tue, 24 Nov 2026 23:48:11 +0000\r\n"
ID_LINE = b"Message-ID: <id1@example.test>\r\n"


def completed(raw: bytes) -> bytes:
    return complete(raw, message_id=ID, sent_at_ms=AT_MS)


def test_what_is_missing_is_added_at_the_top() -> None:
    raw = message(b"From: a@b.test", b"Subject: hi", body=b"text\r\n")
    assert completed(raw) == DATE_LINE + ID_LINE + raw
    parsed = parse(completed(raw)).summary
    assert parsed.message_id == (ID,)
    assert parsed.sent_at == "2026-11-24T23:48:11Z"


@pytest.mark.parametrize("name", [b"Message-ID", b"MESSAGE-id", b"message-id "])
@pytest.mark.parametrize("date", [b"Date", b"dATE\t"])
def test_what_is_there_stays(name: bytes, date: bytes) -> None:
    raw = message(name + b": <x@y>", date + b": whenever", body=b"\xff\r \n\0")
    assert completed(raw) == raw


def test_one_of_both_is_added() -> None:
    dated, named = message(b"Date: x"), message(b"Message-ID: x")
    assert completed(dated) == ID_LINE + dated
    assert completed(named) == DATE_LINE + named
    # Names of others that only begin or end alike, and what is only in the body.
    raw = message(b"Resent-Date: x", b"X-Message-ID: x", b" Date: y", body=b"Date: z\r\n")
    assert completed(raw) == DATE_LINE + ID_LINE + raw


@pytest.mark.parametrize(
    "bcc",
    [
        b"Bcc: secret@b.test\r\n",
        b"bcc: secret@b.test,\r\n\tother@b.test\r\n",
        b"BCC \t: secret@b.test\r\n \r\n more\r\n",
        b"Bcc:\r\n",
        b"Resent-Bcc: secret@b.test\n",
        b"Bcc: secret@b.test\r\nbcc: again@b.test\r\n",
    ],
)
def test_bcc_is_taken_out(bcc: bytes) -> None:
    before, after = ID_LINE + DATE_LINE, b"To: \xff@x\r\nno field\r\n\r\nBcc: body\r\n"
    assert completed(before + bcc + after) == before + after
    assert completed(bcc + before + after) == before + after
    assert completed(before + b"no field\n" + bcc + b"\r\nbody") == before + b"no field\n\r\nbody"
    assert completed(before + bcc.rstrip()) == before


def test_bcc_elsewhere_stays() -> None:
    inner = b"Content-Type: message/rfc822\r\n\r\nBcc: x@y\r\n\r\nforwarded"
    for raw in (
        ID_LINE + DATE_LINE + b"X-Bcc: a\r\nSubject: x\r\n Bcc: folded\rBcc: bare\r\n\r\nb",
        ID_LINE + DATE_LINE + multipart(inner),
    ):
        assert completed(raw) == raw


@pytest.mark.parametrize(
    ("raw", "before"),
    [
        (b"", b""),
        (b"\r\nbody", b""),
        (b"\nbody", b""),
        (b"\r\nBcc: body\r\n\r\n", b""),
        (b"no header at all", b""),
        (b"From me Mon Jan 1\r\nTo: x\r\n\r\n", b"From me Mon Jan 1\r\n"),
        (b"From : a@b\r\n\r\n", b""),
        (b" begins with a blank\r\n too\r\nTo: x\r\n\r\n", b" begins with a blank\r\n too\r\n"),
    ],
)
def test_odd_beginnings(raw: bytes, before: bytes) -> None:
    assert completed(raw) == before + DATE_LINE + ID_LINE + raw[len(before) :]


def test_a_lonely_continuation_is_ended_first() -> None:
    assert completed(b" lonely") == b" lonely\r\n" + DATE_LINE + ID_LINE


LINES = st.lists(
    st.sampled_from(
        [
            b"From: a@b", b"Bcc: s@b", b" folded", b"\tBcc: x", b"Subject: \xec\x95\x88",
            b"Date: d", b"resent-BCC :s@b", b"no field", b"a\rBcc: y", b"", b"\0",
            b"Message-ID: i", b":",
        ]
    ),
    max_size=12,
)  # fmt: skip


@given(LINES, st.sampled_from([b"\r\n", b"\n"]))
@examples(EXAMPLES)
def test_every_other_octet_stays(lines: list[bytes], line_end: bytes) -> None:
    raw = b"".join(line + line_end for line in lines)
    done = completed(raw)
    kept = done.replace(DATE_LINE, b"", 1).replace(ID_LINE, b"", 1)
    header, blank, body = raw.partition(line_end + line_end)
    if raw.startswith(line_end):
        header, blank, body = b"", b"", raw
    expected: list[bytes] = []
    dropping = False
    for line in (header + blank[: len(line_end)]).splitlines(keepends=True) if header else []:
        expected.append(line)
    text = b"".join(expected)
    unfolded: list[bytes] = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", text):
        if line[:1] not in b" \t":
            dropping = line.lower().startswith((b"bcc:", b"resent-bcc :"))
        if not dropping:
            unfolded.append(line)
    assert kept == b"".join(unfolded) + blank[len(line_end) :] + body
    assert completed(done) == done


@given(st.binary(max_size=200))
@examples(EXAMPLES)
def test_any_octets(raw: bytes) -> None:
    done = completed(raw)
    assert completed(done) == done
    authors_or_refusal(raw)


def authors_or_refusal(raw: bytes) -> None:
    try:
        authors(raw)
    except ForbiddenFrom:
        return


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"From: A <a@b.test>\r\n\r\nFrom: no@b.test\r\n", ("a@b.test",)),
        (b'From: "x@y" <a@b.test>, c@d.test\r\nSender: e@f.test\r\n', "a@b.test c@d.test e@f.test"),
        (b"Resent-From: a@b.test\r\nresent-sender : c@d.test\r\n", ("a@b.test", "c@d.test")),
        (b"From: a@b.test\r\nFROM:\r\n c@d.test\r\n", ("a@b.test", "c@d.test")),
        (b"From: a@b.test\nno field\nFrom: c@d.test\n", ("a@b.test", "c@d.test")),
        (b"Subject: x\rFrom: c@d.test\r\n", ("c@d.test",)),
        (b"From: \xed\x99\x8d@\xec\x98\x88\xec\x8b\x9c.test\r\n", ("홍@예시.test",)),
        (b"From: G: a@b.test, c@d.test;\r\n", ("a@b.test", "c@d.test")),
        (b"X-From: a@b.test\r\nSubject: From: b@c\r\n From: d@e\r\n", ()),
        (b"From: nobody\r\n", ("nobody",)),
        (b"From: <>\r\n", ()),
    ],
)
def test_authors(header: bytes, found: tuple[str, ...] | str) -> None:
    assert authors(header) == (tuple(found.split()) if isinstance(found, str) else found)


def test_what_cannot_be_checked_is_refused() -> None:
    for raw in (
        b"From: a@b.test\r\n" * (AUTHOR_FIELDS_MAX + 1),
        b"From: a@b.test" + b" " * VALUE_BYTES_MAX + b", hidden@b.test\r\n",
        b"From: " + b", ".join(b"a%d@b.test" % n for n in range(AUTHORS_MAX + 1)) + b"\r\n",
    ):
        with pytest.raises(ForbiddenFrom, match="too many"):
            authors(raw)


OWNED = ("Me@Example.test", "alias@other.test", "홍@예시.test", "tagged+list@example.test")


@pytest.mark.parametrize(
    "author",
    ["me@example.test", "ME@EXAMPLE.TEST", "me+news@example.test", "alias+x@other.test",
     "홍+가@예시.test", "tagged+list@example.test"],
)  # fmt: skip
def test_own_addresses(author: str) -> None:
    may_send([author], parse_address(author), OWNED)
    may_send([author, "me@example.test"], None, OWNED)


@pytest.mark.parametrize(
    "author",
    ["you@example.test", "me@other.test", "tagged@example.test", "tagged+other@example.test",
     "me@sub.example.test", "me", "", "me@example.test\r\nX: y", "홍@example.test"],
)  # fmt: skip
def test_addresses_of_others(author: str) -> None:
    with pytest.raises(ForbiddenFrom) as refused:
        may_send(["me@example.test", author], None, OWNED)
    assert smtp_reply(refused.value).startswith("550 5.7.1 ")
    assert "\n" not in smtp_reply(refused.value)
    assert "\r" not in smtp_reply(refused.value)


def test_the_envelope_is_checked_too() -> None:
    with pytest.raises(ForbiddenMailFrom, match=r"you@example\.test") as refused:
        may_send(["me@example.test"], parse_address("you@example.test"), OWNED)
    assert refused.value.jmap == "forbiddenMailFrom"
    with pytest.raises(ForbiddenFrom, match="no author"):
        may_send([], None, OWNED)
    assert issubclass(ForbiddenFrom, MailError)


@pytest.mark.parametrize("unit", [b"Bcc: \r\n ", b"From: ", b"From\t", b"\r\n ", b" \n", b"a\r"])
def test_hostile_headers_take_linear_time(unit: bytes) -> None:
    raw = b"To: x\r\n" + unit * (4_000_000 // len(unit))
    completed(raw)
    authors_or_refusal(raw)
    completed(unit * (4_000_000 // len(unit)))

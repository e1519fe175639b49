"""Automatic answers: to people who wrote to this account, now and then, and to nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.address import Address, parse_address
from mail.message import Message, parse
from mail.reencode import is_7bit
from mail.summary import EmailAddress
from mail.vacation import (
    DEFAULT_SUBJECT,
    DEFAULT_TEXT,
    PERIOD_MS,
    REFERENCES_MAX,
    Silence,
    Vacation,
    answer,
    silence,
)
from tests.properties import EXAMPLES, examples
from tests.unit.mail.samples import message

NOW_MS = 1_795_564_091_000
AWAY = Vacation(is_enabled=True, text_body="I am away.")
ANN = parse_address("ann@sender.test")
OWN = ("me@here.test", "alias@here.test")
BASIC = (b"From: Ann <ann@sender.test>", b"To: me@here.test", b"Subject: hi")


def why(
    *fields: bytes,
    vacation: Vacation = AWAY,
    mail_from: Address | None = ANN,
    is_spam: bool = False,
    answered_at_ms: int | None = None,
) -> Silence | None:
    return silence(
        vacation,
        parse(message(*(fields or BASIC), body=b"text")),
        mail_from=mail_from,
        own_addresses=OWN,
        is_spam=is_spam,
        answered_at_ms=answered_at_ms,
        now_ms=NOW_MS,
    )


def test_a_person_gets_an_answer() -> None:
    assert why() is None
    assert why(*BASIC, b"Auto-Submitted: no (I promise)", b"Precedence: first-class") is None
    assert why(b"Cc: x@y.test, Alias+tag@HERE.test") is None
    assert why(b"Bcc: me@here.test") is None
    assert why(b"Resent-To: me@here.test") is None
    assert why(b"To: Team: x@y.test, me@here.test;") is None


@pytest.mark.parametrize(
    ("vacation", "expected"),
    [
        (Vacation(), Silence.NOT_ENABLED),
        (replace(AWAY, from_ms=NOW_MS + 1), Silence.NOT_YET),
        (replace(AWAY, from_ms=NOW_MS), None),
        (replace(AWAY, to_ms=NOW_MS), Silence.OVER),
        (replace(AWAY, to_ms=NOW_MS + 1), None),
    ],
)
def test_the_time_of_the_vacation(vacation: Vacation, expected: Silence | None) -> None:
    assert why(vacation=vacation) is expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"Auto-Submitted: auto-replied", Silence.AUTOMATIC),
        (b"auto-submitted: AUTO-GENERATED; x=y", Silence.AUTOMATIC),
        (b"Auto-Submitted:", Silence.AUTOMATIC),
        (b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\n--b--", Silence.AUTOMATIC),
        (b"Return-Path: <>", Silence.AUTOMATIC),
        (b"X-Autoreply: yes", Silence.AUTOMATIC),
        (b"List-Id: <x.y>", Silence.LIST),
        (b"LIST-UNSUBSCRIBE: <mailto:x@y>", Silence.LIST),
        (b"List-Post: NO", Silence.LIST),
        (b"Precedence: Bulk", Silence.BULK),
        (b"Precedence: list", Silence.BULK),
        (b"Precedence: junk (x)", Silence.BULK),
        (b"X-Auto-Response-Suppress: DR, OOF", Silence.SUPPRESSED),
        (b"X-Auto-Response-Suppress: All", Silence.SUPPRESSED),
        (b"X-Auto-Response-Suppress: DR", None),
    ],
)
def test_machines_and_lists_get_none(field: bytes, expected: Silence | None) -> None:
    assert why(*BASIC, field) is expected


@pytest.mark.parametrize(
    "local",
    ["MAILER-DAEMON", "noreply", "No-Reply", "no_reply", "do-not-reply", "donotreply", "owner-list",
     "list-owner", "list-request", "list-bounces", "bounce", "bounces+x=y", "bounce-1234",
     "noreply+tag", "noreply-news", "news-noreply", "LISTSERV", "majordomo", "postmaster", "root"],
)  # fmt: skip
def test_robots_get_none(local: str) -> None:
    assert why(mail_from=Address(local, "sender.test")) is Silence.ROBOT


@pytest.mark.parametrize(
    "local", ["ann", "owner", "norely", "ann.root", "request", "reply", "notary"]
)
def test_people_with_odd_names_get_one(local: str) -> None:
    assert why(mail_from=Address(local, "sender.test")) is None


def test_other_reasons() -> None:
    assert why(mail_from=None) is Silence.NULL_SENDER
    assert why(mail_from=Address("Postmaster", "")) is Silence.NULL_SENDER
    assert why(mail_from=parse_address("ALIAS+x@here.test")) is Silence.OWN_MESSAGE
    assert why(b"From: me@here.test", b"To: me@here.test") is Silence.OWN_MESSAGE
    assert why(is_spam=True) is Silence.SPAM
    for field in (b"To: undisclosed-recipients:;", b"X-To: me@here.test", b"To: me@other.test"):
        assert why(b"From: ann@sender.test", field) is Silence.NOT_NAMED


def test_one_answer_in_a_period() -> None:
    assert why(answered_at_ms=NOW_MS - PERIOD_MS + 1) is Silence.ANSWERED
    assert why(answered_at_ms=NOW_MS - PERIOD_MS) is None


def answered(vacation: Vacation, *fields: bytes) -> tuple[bytes, Message]:
    raw = answer(
        vacation,
        parse(message(*fields)),
        author=EmailAddress("Me Myself", "alias@here.test"),
        recipient=ANN,
        message_id="new@here.test",
        now_ms=NOW_MS,
    )
    assert is_7bit(raw)
    assert raw.count(b"\n") == raw.count(b"\r\n")
    parsed = parse(raw)
    names = [name for name, _ in parsed.root.headers]
    assert len(names) == len(set(names))
    assert set(names) <= {
        "Date", "From", "To", "Subject", "Message-ID", "In-Reply-To", "References",
        "Auto-Submitted", "X-Auto-Response-Suppress", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding",
    }  # fmt: skip
    assert parsed.header("auto-submitted") == b" auto-replied"
    return raw, parsed


def test_the_answer() -> None:
    vacation = replace(AWAY, subject="부재중", text_body="자리에\n없음", html_body="<p>없음</p>")
    _, parsed = answered(vacation, b"Message-ID: <m@x>", b"References: <a@x> <b@x>", b"Subject: hi")
    summary = parsed.summary
    assert summary.subject == "부재중"
    assert summary.from_ == (EmailAddress("Me Myself", "alias@here.test"),)
    assert summary.to == (EmailAddress(None, "ann@sender.test"),)
    assert summary.message_id == ("new@here.test",)
    assert summary.in_reply_to == ("m@x",)
    assert summary.references == ("a@x", "b@x", "m@x")
    assert summary.sent_at == "2026-11-24T23:48:11Z"
    assert parsed.root.type == "multipart/alternative"
    assert [(part.type, part.text()[0]) for part in parsed.root.subparts] == [
        ("text/plain", "자리에\n없음\n"),
        ("text/html", "<p>없음</p>\n"),
    ]


def test_what_is_not_configured_has_a_default() -> None:
    _, parsed = answered(Vacation(is_enabled=True), b"Subject: =?utf-8?B?7JWI64WV?=\r\n more")
    assert parsed.summary.subject == "Auto: 안녕 more"
    assert parsed.root.text()[0] == DEFAULT_TEXT
    assert parsed.summary.in_reply_to is None
    assert answered(Vacation(is_enabled=True))[1].summary.subject == DEFAULT_SUBJECT
    _, parsed = answered(Vacation(is_enabled=True, html_body="<p>I am <b>away</b></p>"))
    assert parsed.root.subparts[0].text()[0] == "I am away"


def test_references_have_a_bound() -> None:
    many = b" ".join(b"<%d@x>" % i for i in range(100))
    _, parsed = answered(AWAY, b"Message-ID: <m@x>", b"References: " + many)
    references = parsed.summary.references or ()
    assert len(references) == REFERENCES_MAX
    assert (references[0], references[-2:]) == ("0@x", ("99@x", "m@x"))
    _, parsed = answered(AWAY, b"Message-ID: <m@x>", b"In-Reply-To: <p@x>")
    assert parsed.summary.references == ("p@x", "m@x")
    _, parsed = answered(AWAY, b"Message-ID: <\xed\x99\x8d@x>", b"References: <a@x>")
    assert parsed.summary.references is None


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["\r\n", "\n", "Bcc: x@y", "\r\n\r\n", "--=_vacation--", "\0", "가",
                              "\ud800", "--", "From ", "<>", ">", "=?utf-8?B?DQo=?=", "\u2028",
                              "x" * 1200]), max_size=8).map("".join),
)  # fmt: skip


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.booleans())
@examples(EXAMPLES)
def test_nothing_is_injected(
    subject: str, text: str, html: str, original: str, configured: bool
) -> None:
    octets = original.encode("utf-8", "replace")
    vacation = Vacation(
        is_enabled=True, subject=subject if configured else None, text_body=text, html_body=html
    )
    _, parsed = answered(
        vacation, b"Subject: " + octets, b"Message-ID: <" + octets + b">", b"References: " + octets
    )
    assert [part.type for part in parsed.parts()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert why(*BASIC, octets) in set(Silence) | {None}


@given(st.lists(st.binary(max_size=60), max_size=6))
@examples(EXAMPLES)
def test_any_message_gets_a_decision(fields: list[bytes]) -> None:
    assert why(b"To: me@here.test", *fields) in set(Silence) | {None}
    answered(AWAY, *fields)

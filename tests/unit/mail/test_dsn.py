"""Delivery status notifications, read by the parser of the standard library."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import replace
from email.message import EmailMessage, Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.dsn import (
    FULL_BYTES_MAX,
    HEADERS_BYTES_MAX,
    RECIPIENTS_MAX,
    Action,
    RecipientReport,
    Report,
    build,
    is_wanted,
)
from mail.dsn_options import Notify, NotifyWish, OriginalRecipient, Ret
from mail.errors import InvalidAddress

NOW_MS = 1_700_000_000_000
HEADER = (
    b"From: alice@a.test\r\nTo: bob@b.test\r\nSubject: Lunch on Friday\r\n"
    b"Message-ID: <m1@a.test>\r\n"
)
ORIGINAL = HEADER + b"\r\nAt noon?\r\n"

FAILED = RecipientReport(
    final_recipient="bob@b.test",
    action=Action.FAILED,
    status="5.1.1",
    original_recipient=OriginalRecipient("rfc822", "robert@b.test"),
    remote_mta="mx.b.test",
    diagnostic="550 5.1.1 <bob@b.test>: no such user",
    last_attempt_ms=NOW_MS,
)
REPORT = Report(
    reporting_host="mail.a.test",
    sender="alice@a.test",
    recipients=(FAILED,),
    original=ORIGINAL,
    unique="0123456789abcdef",
    now_ms=NOW_MS,
    arrived_at_ms=NOW_MS - 60_000,
    envid="env 1",
)


def parse(octets: bytes) -> EmailMessage:
    """Return the notification, after what must be true of every one."""
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\0" not in octets
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert not message.defects
    for part in message.walk():
        assert not part.defects, (part.get_content_type(), part.defects)
    return message


def parts(octets: bytes) -> list[EmailMessage]:
    return list(parse(octets).iter_parts())  # type: ignore[arg-type]


def status_blocks(octets: bytes) -> list[dict[str, str]]:
    """Return the fields of the second part, a mapping for each of its blocks."""
    found = re.search(rb"Content-Type: message/(?:global-)?delivery-status\r\n", octets)
    assert found is not None
    body = octets[found.end() :].partition(b"\r\n\r\n")[2].partition(b"\r\n--=_")[0].decode()
    blocks = re.sub(r"\r\n ", " ", body).split("\r\n\r\n")
    return [dict(line.split(": ", 1) for line in b.split("\r\n") if line) for b in blocks]


def test_a_failure() -> None:
    octets = build(REPORT)
    message = parse(octets)
    assert octets.isascii()
    assert message["From"] == "Mail Delivery System <mailer-daemon@mail.a.test>"
    assert message["To"] == "alice@a.test"
    assert message["Subject"] == "Not delivered: Lunch on Friday"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert message["Message-ID"] == "<0123456789abcdef@mail.a.test>"
    assert message["In-Reply-To"] == message["References"] == "<m1@a.test>"
    assert message["MIME-Version"] == "1.0"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    people, status, headers = message.iter_parts()
    assert people.get_content_type() == "text/plain"
    assert people["Content-Language"] == "en"
    text = people.get_content()
    assert "There is no such address." in text
    assert "robert@b.test" in text
    assert "The other server said:" in text
    assert status.get_content_type() == "message/delivery-status"
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    assert [dict(block.items()) for block in blocks if isinstance(block, EmailMessage)] == [
        {
            "Original-Envelope-Id": "env 1",
            "Reporting-MTA": "dns; mail.a.test",
            "Arrival-Date": "Tue, 14 Nov 2023 22:12:20 +0000",
        },
        {
            "Original-Recipient": "rfc822; robert@b.test",
            "Final-Recipient": "rfc822; bob@b.test",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.b.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 <bob@b.test>: no such user",
            "Last-Attempt-Date": "Tue, 14 Nov 2023 22:13:20 +0000",
        },
    ]
    assert headers.get_content_type() == "text/rfc822-headers"
    assert headers.get_payload(decode=True) == HEADER


def test_several_recipients_with_several_fates() -> None:
    recipients = (
        FAILED,
        RecipientReport(
            "carol@c.test",
            Action.DELAYED,
            "4.4.1",
            diagnostic="connection timed out",
            will_retry_until_ms=NOW_MS + 86_400_000,
        ),
        RecipientReport("dave@d.test", Action.DELIVERED, "2.1.5"),
        RecipientReport("erin@e.test", Action.RELAYED, "2.1.9"),
        RecipientReport("list@f.test", Action.EXPANDED, "2.0.0"),
    )
    octets = build(replace(REPORT, recipients=recipients))
    blocks = status_blocks(octets)[1:]
    assert [block["Action"] for block in blocks] == [str(r.action) for r in recipients]
    assert blocks[1]["Diagnostic-Code"] == "x-heliograph; connection timed out"
    assert blocks[1]["Will-Retry-Until"] == "Wed, 15 Nov 2023 22:13:20 +0000"
    assert "Will-Retry-Until" not in blocks[0]
    message = parse(octets)
    assert message["Subject"].startswith("Not delivered:")
    text = next(message.iter_parts()).get_content()
    assert all(r.final_recipient in text for r in recipients[1:])
    assert "2023-11-15 22:13 UTC" in text


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        (Action.DELAYED, "Delayed: Lunch on Friday"),
        (Action.DELIVERED, "Delivered: Lunch on Friday"),
        (Action.RELAYED, "Delivered: Lunch on Friday"),
        (Action.EXPANDED, "Delivered: Lunch on Friday"),
    ],
)
def test_what_is_no_failure_carries_headers_only(action: Action, subject: str) -> None:
    report = replace(REPORT, recipients=(replace(FAILED, action=action),), ret=Ret.FULL)
    message = parse(build(report))
    assert message["Subject"] == subject
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


@pytest.mark.parametrize(
    ("action", "status", "written"),
    [
        (Action.FAILED, "4.4.7", "4.4.7"),
        (Action.FAILED, "2.0.0", "5.0.0"),
        (Action.FAILED, "5.1.1\r\nX: y", "5.0.0"),
        (Action.DELAYED, "5.1.1", "4.0.0"),
        (Action.DELIVERED, "", "2.0.0"),
    ],
)
def test_the_status_agrees_with_the_action(action: Action, status: str, written: str) -> None:
    recipient = replace(FAILED, action=action, status=status)
    assert status_blocks(build(replace(REPORT, recipients=(recipient,))))[1]["Status"] == written


def test_korean() -> None:
    header = b"Subject: =?utf-8?B?7KCQ7Ius?=\r\n\r\n"
    octets = build(replace(REPORT, language="ko-KR", original=header))
    assert octets.isascii()
    message = parse(octets)
    assert message["Subject"] == "배달 실패: 점심"
    assert message["From"].addresses[0].display_name == "메일 배달 시스템"
    people = next(message.iter_parts())
    assert people["Content-Language"] == "ko"
    assert people.get_content_charset() == "utf-8"
    text = people.get_content()
    assert "없는 주소입니다." in text
    assert "“점심”" in text


def test_beyond_ascii_with_smtputf8() -> None:
    recipient = replace(
        FAILED,
        final_recipient="길동@b.test",
        original_recipient=OriginalRecipient("utf-8", "홍+길동@b.test"),
        diagnostic="550 5.1.1 그런 사람 없음",
    )
    header = "Subject: 점심\r\nTo: 길동@b.test\r\n".encode()
    report = replace(
        REPORT, recipients=(recipient,), original=header, smtputf8=True, sender="영희@a.test"
    )
    octets = build(report)
    message = parse(octets)
    assert "\r\nTo: 영희@a.test\r\n".encode() in octets
    assert message["Content-Type"].params["report-type"] == "global-delivery-status"
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global-headers",
    ]
    block = status_blocks(octets)[1]
    assert block["Original-Recipient"] == "utf-8; 홍+길동@b.test"
    assert block["Final-Recipient"] == "utf-8; 길동@b.test"
    assert block["Diagnostic-Code"] == "smtp; 550 5.1.1 그런 사람 없음"
    assert b"\r\n\r\n" + header + b"\r\n--" in octets


def test_ascii_addresses_need_no_global_report() -> None:
    header = "Subject: 점심\r\n".encode()
    report = replace(REPORT, original=header, smtputf8=True)
    kinds = [part.get_content_type() for part in parts(build(report))]
    assert kinds == ["text/plain", "message/delivery-status", "message/global-headers"]


def test_beyond_ascii_without_smtputf8() -> None:
    recipient = replace(
        FAILED,
        original_recipient=OriginalRecipient("utf-8", "홍+길동@b.test"),
        diagnostic="550 없음",
    )
    header = "Subject: 점심\r\n".encode()
    octets = build(replace(REPORT, recipients=(recipient,), original=header))
    assert octets.isascii()
    block = status_blocks(octets)[1]
    assert block["Original-Recipient"] == r"utf-8; \x{D64D}\x{2B}\x{AE38}\x{B3D9}@b.test"
    assert block["Diagnostic-Code"] == r"smtp; 550 \x{C5C6}\x{C74C}"
    people, status, headers = parts(octets)
    assert status.get_content_type() == "message/delivery-status"
    assert headers.get_content_type() == "text/rfc822-headers"
    assert headers.get_content_charset() == "utf-8"
    assert headers.get_payload(decode=True) == header
    assert "홍+길동@b.test" in people.get_content()


def test_the_whole_message() -> None:
    octets = build(replace(REPORT, ret=Ret.FULL))
    returned = parts(octets)[2]
    assert returned.get_content_type() == "message/rfc822"
    assert ORIGINAL in octets
    assert parts(build(replace(REPORT, ret=Ret.HDRS)))[2].get_payload(decode=True) == HEADER


def test_the_whole_message_in_utf8() -> None:
    original = "Subject: 점심\r\n\r\n정오에?\r\n".encode()
    octets = build(replace(REPORT, ret=Ret.FULL, original=original))
    assert parts(octets)[2].get_content_type() == "message/rfc822"
    assert parse(octets)["Content-Transfer-Encoding"] == "8bit"
    octets = build(replace(REPORT, ret=Ret.FULL, original=original, smtputf8=True))
    assert b"Content-Type: message/global\r\n" in octets


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n" * (FULL_BYTES_MAX // 3),
        b"x" * 999,
        b"a\0b",
        b"bare\rCR",
        b"bare\nLF",
    ],
)
def test_what_cannot_come_back_whole_comes_as_headers(body: bytes) -> None:
    octets = build(replace(REPORT, ret=Ret.FULL, original=HEADER + b"\r\n" + body))
    assert parts(octets)[2].get_payload(decode=True) == HEADER
    assert len(octets) < 4000


def test_no_original_no_third_part() -> None:
    for original in (b"", b"\r\n", b"\r\nSubject: body\r\n"):
        octets = build(replace(REPORT, original=original))
        assert len(parts(octets)) == 2
        assert parse(octets)["Subject"] == "Not delivered: (no subject)"


@pytest.mark.parametrize(
    "line", [b"X: \xff\xfe\r\n", b"X: " + b"y" * 5000 + b"\r\n", b"X: a\rb\r\n"]
)
def test_malformed_headers_come_back_unchanged(line: bytes) -> None:
    assert (
        parts(build(replace(REPORT, original=HEADER + line)))[2].get_payload(decode=True)
        == HEADER + line
    )


def test_huge_headers_are_cut_at_a_line() -> None:
    line = b"X-Trace: " + b"y" * 60 + b"\r\n"
    returned = parts(build(replace(REPORT, original=HEADER + line * 5000)))[2]
    payload = returned.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert HEADERS_BYTES_MAX - 100 < len(payload) <= HEADERS_BYTES_MAX
    assert payload.endswith(line)


def test_the_boundary_is_in_no_part() -> None:
    original = ORIGINAL + b"--=_0123456789abcdef\r\nContent-Type: text/html\r\n\r\nforged\r\n"
    message = parse(build(replace(REPORT, original=original, ret=Ret.FULL)))
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]


def test_a_reply_of_a_megabyte() -> None:
    for diagnostic in ("550 " + "x" * 1_000_000, "550 " + "é\r\n" * 400_000):
        octets = build(replace(REPORT, recipients=(replace(FAILED, diagnostic=diagnostic),)))
        parse(octets)
        assert len(octets) < 20_000


def test_the_most_recipients() -> None:
    recipients = tuple(
        replace(FAILED, final_recipient=f"r{i}@b.test") for i in range(RECIPIENTS_MAX)
    )
    assert len(status_blocks(build(replace(REPORT, recipients=recipients)))) == RECIPIENTS_MAX + 1


def test_the_reporting_host() -> None:
    octets = build(replace(REPORT, reporting_host="우편.test"))
    assert status_blocks(octets)[0]["Reporting-MTA"].startswith("dns; xn--")
    with pytest.raises(InvalidAddress):
        build(replace(REPORT, reporting_host="a.test\r\nBcc: x"))


def test_odd_senders() -> None:
    assert parse(build(replace(REPORT, sender='"a b"@a.test')))["To"] == '"a b"@a.test'
    for sender in ("x\r\nBcc: y@z.test", "a@b.test>\r\nX: y", "nobody"):
        message = parse(build(replace(REPORT, sender=sender)))
        assert message["To"] == "undisclosed-recipients:;"
        assert message["Bcc"] is None


HOSTILE = st.text(
    st.sampled_from('\r\n\t \0:;<>@"()=?\u2028\u202e\x85é한📧\ud800.-') | st.characters(),
    max_size=80,
) | st.sampled_from(
    [
        "550 x\r\nBcc: victim@b.test",
        "\r\n\r\n--=_0123456789abcdef--\r\n",
        "550 " + "y" * 3000,
        "=?utf-8?Q?a=0D=0ABcc:_x?=",
    ]
)
HOSTILE_OCTETS = st.binary(max_size=200) | st.sampled_from(
    [
        b"Subject: =?utf-8?B?DQpCY2M6IHg=?=\r\n",
        b"Subject: a\r\n" + b" b\r\n" * 300,
        b"Message-ID: <a b>\r\nSubject:\r\n\r\n",
        b"--=_0123456789abcdef--\r\n",
    ]
)
RECIPIENTS = st.builds(
    RecipientReport,
    final_recipient=HOSTILE,
    action=st.sampled_from(Action),
    status=HOSTILE | st.sampled_from(["5.1.1", "4.4.7", "2.0.0"]),
    original_recipient=st.none() | st.builds(OriginalRecipient, HOSTILE, HOSTILE),
    remote_mta=HOSTILE,
    diagnostic=HOSTILE,
    last_attempt_ms=st.none() | st.just(NOW_MS),
    will_retry_until_ms=st.none() | st.just(NOW_MS),
)
TOP_FIELDS = {
    "from", "to", "subject", "date", "message-id", "in-reply-to", "references", "auto-submitted",
    "mime-version", "content-type", "content-transfer-encoding",
}  # fmt: skip
STATUS_FIELDS = {
    "Original-Envelope-Id", "Reporting-MTA", "Original-Recipient", "Final-Recipient", "Action",
    "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date", "Will-Retry-Until",
}  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    sender=HOSTILE.filter(bool),
    recipients=st.lists(RECIPIENTS, min_size=1, max_size=3).map(tuple),
    original=HOSTILE_OCTETS,
    prefix=st.sampled_from([b"", HEADER, b"Subject: "]),
    envid=HOSTILE,
    language=st.sampled_from(["en", "ko", "\r\n"]),
    ret=st.none() | st.sampled_from(Ret),
    smtputf8=st.booleans(),
)
def test_hostile_input(
    sender: str, recipients: tuple[RecipientReport, ...], original: bytes, prefix: bytes,
    envid: str, language: str, ret: Ret | None, smtputf8: bool,
) -> None:  # fmt: skip
    told = replace(REPORT, sender=sender, recipients=recipients, original=prefix + original)
    octets = build(replace(told, envid=envid, language=language, ret=ret, smtputf8=smtputf8))
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\0" not in octets
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    message = email.message_from_bytes(octets)
    names = [name.lower() for name in message]
    assert set(names) <= TOP_FIELDS
    assert len(names) == len(set(names))
    found = message.get_payload()
    assert isinstance(found, list)
    kinds = [part.get_content_type() for part in found if isinstance(part, Message)]
    assert kinds[0] == "text/plain"
    assert kinds[1] in ("message/delivery-status", "message/global-delivery-status")
    assert len(kinds) in (2, 3)
    blocks = status_blocks(octets)
    assert len(blocks) == len(recipients) + 1
    for block, recipient in zip(blocks[1:], recipients, strict=True):
        assert set(block) <= STATUS_FIELDS
        assert block["Action"] == recipient.action
    if not smtputf8:
        status = octets.partition(b"message/delivery-status")[2].partition(b"\r\n--=_")[0]
        assert status.isascii()


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        (None, {Action.FAILED, Action.DELAYED}),
        ((), set()),
        ((Notify.FAILURE,), {Action.FAILED}),
        ((Notify.DELAY,), {Action.DELAYED}),
        ((Notify.SUCCESS,), {Action.DELIVERED, Action.RELAYED, Action.EXPANDED}),
        (tuple(Notify), set(Action)),
    ],
)
def test_who_is_told_of_what(notify: NotifyWish, wanted: set[Action]) -> None:
    assert {a for a in Action if is_wanted(a, sender="a@a.test", notify=notify)} == wanted
    for sender in ("", "<>"):
        assert not any(is_wanted(a, sender=sender, notify=notify) for a in Action)


def test_nothing_is_reported_to_the_null_sender() -> None:
    with pytest.raises(AssertionError):
        replace(REPORT, sender="")

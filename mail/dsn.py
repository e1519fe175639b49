"""Dsn: delivery status notifications, what becomes of a message told to who sent it (RFC 3464).

Pure. `is_wanted` says whether one may be sent at all; `build` writes it. It travels with the null
reverse path, so that nothing ever answers it (RFC 5321 §4.5.5).

    multipart/report (RFC 6522)
      text/plain                           for people, in their language: `mail.dsn_texts`
      message/delivery-status              for programs, RFC 3464 §2
      text/rfc822-headers, message/rfc822  what was sent, so that they recognise it

Beyond ASCII  what came with SMTPUTF8 is answered with message/global-delivery-status and
              message/global-headers where UTF-8 is in them (RFC 6533 §4); all others get ASCII,
              with addresses in their 7-bit form (RFC 6533 §3).
Hostile text  of peers, senders and headers stays within its field: `mail.dsn_fields`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mail import dsn_people, fields
from mail.address import parse_domain, parse_path
from mail.content_encoding import encode_quoted_printable, encode_shorter
from mail.dsn_fields import one_line, status_field, to_ascii
from mail.dsn_options import Notify, NotifyWish, OriginalRecipient, Ret, encode_utf8_address
from mail.dsn_texts import Texts, texts_for
from mail.errors import InvalidAddress
from mail.header_scan import field, header_end
from mail.headers import as_text
from mail.summary import EmailAddress

# A message has fewer (RFC 5321 §4.5.3.1.8 wants 100 to be possible).
RECIPIENTS_MAX = 1000
ADDRESS_CHARS_MAX = 500  # RFC 3461 §4.2: no original recipient is longer.
HOST_CHARS_MAX = 255  # RFC 5321 §4.5.3.1.2.
DIAGNOSTIC_CHARS_MAX = 1000  # Two lines of a reply (RFC 5321 §4.5.3.1.5).
SAID_CHARS_MAX = 500  # Of that for people: one word of this length still fits a line.
SUBJECT_CHARS_MAX = 100  # Of the original, to recognise it by.
HEADERS_BYTES_MAX = 65_536  # More trace fields than hops are allowed fit.
# RET=FULL, RFC 3461 §4.3 leaves the limit to us: a letter fits, its photographs do not; who
# forges senders must not have our queue and our line for it.
FULL_BYTES_MAX = 262_144


class Action(StrEnum):
    """What was done (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


# The class of a status code must agree with the action (RFC 3464 §2.3.4); 4 with `failed` is a
# trouble that was to pass and did not.
_STATUS_CLASSES = {Action.FAILED: "54", Action.DELAYED: "4"}
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_REPLY_CODE = re.compile(r"[2-5][0-9]{2}(?![0-9])")
_NOT_ADDRESS_TYPE = re.compile(r"[^A-Za-z0-9-]")
_MESSAGE_ID = re.compile(rb"<([!-;=?-~]{1,250})>")
_UNIQUE = re.compile(r"[A-Za-z0-9._-]{8,60}")
_LINE_END = re.compile(rb"\r?\n")
# What 7bit and 8bit do not allow (RFC 2045 §2.7, §2.8).
_UNFIT = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n|(?<![^\r\n])[^\r\n]{999}")


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What became of one recipient (RFC 3464 §2.3).

    `final_recipient` is the address that was tried last, `status` a code of RFC 3463.
    `diagnostic` is the reply of `remote_mta`, its code first, or our own words when there was
    none. Times are Unix time; `will_retry_until_ms` counts for `delayed` only.
    """

    final_recipient: str
    action: Action
    status: str
    original_recipient: OriginalRecipient | None = None
    remote_mta: str = ""
    diagnostic: str = ""
    last_attempt_ms: int | None = None
    will_retry_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that one notification tells.

    `sender` is the reverse path of the message, who gets this; `original` its octets, of which
    the header suffices unless `ret` is FULL. `unique` makes the Message-ID and must differ from
    that of every other; `language` is a language tag. `smtputf8` says that the message came with
    SMTPUTF8, so that its sender can read UTF-8.
    """

    reporting_host: str
    sender: str
    recipients: tuple[RecipientReport, ...]
    original: bytes
    unique: str
    now_ms: int
    arrived_at_ms: int | None = None
    envid: str = ""
    ret: Ret | None = None
    smtputf8: bool = False
    language: str = "en"

    def __post_init__(self) -> None:
        assert self.sender, "nothing is reported to the null sender"
        assert 1 <= len(self.recipients) <= RECIPIENTS_MAX
        assert _UNIQUE.fullmatch(self.unique) is not None

    @property
    def actions(self) -> frozenset[Action]:
        return frozenset(recipient.action for recipient in self.recipients)


class _Part(NamedTuple):
    """One part of the report."""

    content_type: str
    encoding: str
    body: bytes
    language: str = ""


def is_wanted(action: Action, *, sender: str, notify: NotifyWish) -> bool:
    """Say whether the sender is to be told of this (RFC 3461 §4.1, §5.2).

    Never to the null sender, lest notifications answer each other (RFC 3464 §2). Who said
    nothing (`notify` is None) hears of failures and of delays.
    """
    if sender in ("", "<>"):
        return False
    wishes = (Notify.FAILURE, Notify.DELAY) if notify is None else notify
    match action:
        case Action.FAILED:
            return Notify.FAILURE in wishes
        case Action.DELAYED:
            return Notify.DELAY in wishes
        case Action.DELIVERED | Action.RELAYED | Action.EXPANDED:
            return Notify.SUCCESS in wishes


def build(report: Report) -> bytes:
    """Return the notification: octets with CRLF, no line beyond 998 octets.

    It needs SMTPUTF8 only if the sender's address does. Raises InvalidAddress if
    `reporting_host` is no domain, nothing else.
    """
    host = parse_domain(report.reporting_host)
    texts = texts_for(report.language)
    subject = _subject(report, texts)
    parts = [_people_part(report, texts, host, subject), _status_part(report, host)]
    if (returned := _returned_part(report)) is not None:
        parts.append(returned)
    boundary = f"=_{report.unique}"
    while any(boundary.encode() in part.body for part in parts):
        boundary += "="  # Ends: no part has all of them.
    out = [_header(report, texts, host, subject)]
    # RFC 6522 §3: the type of the report is the subtype of its second part.
    report_type = parts[1].content_type.partition("/")[2]
    out.append(
        f"MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type={report_type};\r\n"
        f'\tboundary="{boundary}"\r\n'.encode()
    )
    if any(part.encoding == "8bit" for part in parts):
        out.append(b"Content-Transfer-Encoding: 8bit\r\n")
    for part in parts:
        out.append(f"\r\n--{boundary}\r\nContent-Type: {part.content_type}\r\n".encode())
        if part.language:
            out.append(fields.plain("Content-Language", part.language))
        out.append(fields.plain("Content-Transfer-Encoding", part.encoding))
        out.append(b"\r\n" + part.body)
    out.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(out)


def _subject(report: Report, texts: Texts) -> str:
    value = field(_header_of(report.original), b"Subject")
    found = "" if value is None else one_line(as_text(value), SUBJECT_CHARS_MAX)
    return found or texts.no_subject


def _header(report: Report, texts: Texts, host: str, subject: str) -> bytes:
    if Action.FAILED in report.actions:
        text = texts.subject_failed
    elif Action.DELAYED in report.actions:
        text = texts.subject_delayed
    else:
        text = texts.subject_done
    daemon = EmailAddress(texts.sender_name, f"mailer-daemon@{host}")
    out = [
        fields.address_list("From", [daemon]),
        _to_field(report.sender),
        fields.unstructured("Subject", text.format(subject=subject)),
        fields.plain("Date", fields.date_time(report.now_ms)),
        fields.message_ids("Message-ID", [f"{report.unique}@{host}"]),
    ]
    # The notification joins the conversation (RFC 3834 §3.1.6).
    value = field(_header_of(report.original), b"Message-ID")
    if value is not None and (match := _MESSAGE_ID.fullmatch(value)) is not None:
        original_id = match[1].decode()
        out += (fields.message_ids(name, [original_id]) for name in ("In-Reply-To", "References"))
    out.append(fields.plain("Auto-Submitted", "auto-replied"))  # RFC 3834 §5.
    return b"".join(out)


def _to_field(sender: str) -> bytes:
    try:
        address = parse_path(f"<{sender}>")
    except InvalidAddress:
        address = None  # What cannot be written cannot be sent to, either.
    if address is None:
        return fields.plain("To", "undisclosed-recipients:;")
    return fields.address_list("To", [EmailAddress(None, str(address))])


def _people_part(report: Report, texts: Texts, host: str, subject: str) -> _Part:
    notes = [
        dsn_people.Note(
            action=str(recipient.action),
            address=_shown_address(recipient),
            status=_status(recipient),
            remote_mta=one_line(recipient.remote_mta, HOST_CHARS_MAX),
            said=one_line(recipient.diagnostic, SAID_CHARS_MAX)
            if _is_reply(recipient.diagnostic)
            else "",
        )
        for recipient in report.recipients
    ]
    until = [r.will_retry_until_ms for r in report.recipients if r.action is Action.DELAYED]
    until_ms = max((until_ms for until_ms in until if until_ms is not None), default=None)
    text = dsn_people.write(texts, host=host, subject=subject, notes=notes, until_ms=until_ms)
    octets = text.encode()
    if octets.isascii():
        return _Part("text/plain; charset=us-ascii", "7bit", octets, texts.language)
    return _Part("text/plain; charset=utf-8", *encode_shorter(octets), texts.language)


def _shown_address(recipient: RecipientReport) -> str:
    """Return the address that the sender wrote, which need not be where it led to."""
    original = recipient.original_recipient
    shown = recipient.final_recipient if original is None else original.address
    return one_line(shown, ADDRESS_CHARS_MAX)


def _is_reply(diagnostic: str) -> bool:
    return _REPLY_CODE.match(diagnostic) is not None


def _status(recipient: RecipientReport) -> str:
    classes = _STATUS_CLASSES.get(recipient.action, "2")
    if _STATUS.fullmatch(recipient.status) is not None and recipient.status[0] in classes:
        return recipient.status
    return f"{classes[0]}.0.0"


def _status_part(report: Report, host: str) -> _Part:
    is_global = report.smtputf8 and not all(
        address.isascii() for recipient in report.recipients for address in _addresses(recipient)
    )
    blocks = [b"".join(_message_fields(report, host))]
    blocks += (b"".join(_recipient_fields(r, is_global=is_global)) for r in report.recipients)
    kind = "global-delivery-status" if is_global else "delivery-status"
    # RFC 6533 §6.4: 8bit wherever it is possible.
    return _Part(f"message/{kind}", "8bit" if is_global else "7bit", b"\r\n".join(blocks))


def _addresses(recipient: RecipientReport) -> Iterable[str]:
    yield recipient.final_recipient
    if recipient.original_recipient is not None:
        yield recipient.original_recipient.address


def _message_fields(report: Report, host: str) -> Iterable[bytes]:
    """Yield the fields of RFC 3464 §2.2."""
    if envid := one_line(to_ascii(report.envid), ADDRESS_CHARS_MAX):
        yield status_field("Original-Envelope-Id", to_ascii(envid))
    yield status_field("Reporting-MTA", f"dns; {host}")
    if report.arrived_at_ms is not None:
        yield fields.plain("Arrival-Date", fields.date_time(report.arrived_at_ms))


def _recipient_fields(recipient: RecipientReport, *, is_global: bool) -> Iterable[bytes]:
    """Yield the fields of RFC 3464 §2.3."""
    if (original := recipient.original_recipient) is not None:
        value = _typed_address(original.address_type, original.address, is_global=is_global)
        yield status_field("Original-Recipient", value)
    value = _typed_address("rfc822", recipient.final_recipient, is_global=is_global)
    yield status_field("Final-Recipient", value)
    yield fields.plain("Action", recipient.action)
    yield fields.plain("Status", _status(recipient))
    if host := one_line(recipient.remote_mta, HOST_CHARS_MAX):
        yield status_field("Remote-MTA", f"dns; {to_ascii(host)}")
    if said := one_line(recipient.diagnostic, DIAGNOSTIC_CHARS_MAX):
        kind = "smtp" if _is_reply(said) else "x-heliograph"
        said = said if is_global else to_ascii(said)
        yield status_field("Diagnostic-Code", f"{kind}; {said}")
    if recipient.last_attempt_ms is not None:
        yield fields.plain("Last-Attempt-Date", fields.date_time(recipient.last_attempt_ms))
    if recipient.action is Action.DELAYED and recipient.will_retry_until_ms is not None:
        yield fields.plain("Will-Retry-Until", fields.date_time(recipient.will_retry_until_ms))


def _typed_address(address_type: str, address: str, *, is_global: bool) -> str:
    """Return `type; address`; the type `utf-8` stands for all beyond ASCII (RFC 6533 §4)."""
    address_type = _NOT_ADDRESS_TYPE.sub("", address_type)[:60] or "unknown"
    address = one_line(address, ADDRESS_CHARS_MAX)
    if address.isascii() and address_type.lower() != "utf-8":
        return f"{address_type}; {address}"
    return f"utf-8; {address if is_global else encode_utf8_address(address)}"


def _returned_part(report: Report) -> _Part | None:
    """Return what comes back of the message, None if there is nothing of it."""
    original = report.original
    # RFC 3461 §4.3: RET is about failures; other notifications carry no more than the header.
    if (
        original
        and report.ret is Ret.FULL
        and Action.FAILED in report.actions
        and len(original) <= FULL_BYTES_MAX
        and _UNFIT.search(original) is None  # RFC 2046 §5.2.1: no encoding helps there.
    ):
        header = original[: header_end(original)]
        kind = "global" if report.smtputf8 and not header.isascii() else "rfc822"
        return _Part(f"message/{kind}", "7bit" if original.isascii() else "8bit", original)
    return _header_part(_header_of(original), smtputf8=report.smtputf8)


def _header_of(original: bytes) -> bytes:
    """Return the header, which is empty if the body begins at once; a huge one cut at a line."""
    if original.startswith((b"\r", b"\n")):
        return b""
    head = original[:HEADERS_BYTES_MAX]
    end = header_end(head)
    if end == HEADERS_BYTES_MAX < len(original):
        end = head.rfind(b"\n") + 1 or end
    return head[:end]


def _header_part(header: bytes, *, smtputf8: bool) -> _Part | None:
    header = _LINE_END.sub(b"\r\n", header).strip(b"\r\n")
    if not header:
        return None
    header += b"\r\n"
    fits = _UNFIT.search(header) is None
    if fits and header.isascii():
        return _Part("text/rfc822-headers; charset=us-ascii", "7bit", header)
    charset = "utf-8" if _is_utf8(header) else "unknown-8bit"  # RFC 1428 §3.
    if fits and smtputf8 and charset == "utf-8":
        return _Part("message/global-headers", "8bit", header)
    encoded = encode_quoted_printable(header)
    return _Part(f"text/rfc822-headers; charset={charset}", "quoted-printable", encoded)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True

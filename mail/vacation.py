"""Vacation: whether a message gets an automatic answer, and the answer (RFC 3834, RFC 8621 §8).

Pure. Silence is the rule's default: whatever looks like a machine, a list, a stranger's copy or
spam gets no answer, and nobody gets a second one within a period. The answer goes to the reverse
path, and to nothing else (RFC 3834 §4); the caller sends it with a null reverse path of its own,
so that nothing answers it, and remembers the correspondent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from mail import fields
from mail.address import Address, parse_address
from mail.charset import clean
from mail.content_encoding import encode_shorter
from mail.encoded import parse_parameters
from mail.errors import InvalidAddress
from mail.headers import as_addresses, as_message_ids, as_text
from mail.message import Message
from mail.summary import EmailAddress
from mail.text import html_to_text

PERIOD_MS = 7 * 86_400_000  # As RFC 5230 §4.1 has it where nothing else is said.
FIELDS_LOOKED_AT_MAX = 20  # Of one name; there is one, as a rule.
REFERENCES_MAX = 20  # Kept of a thread: the first and the last ones (RFC 5322 §3.6.4).
ID_CHARS_MAX = 250  # A longer message id is somebody's experiment.
SUBJECT_CHARS_MAX = 500  # Of the original's; its reader has it anyway.

DEFAULT_SUBJECT = "Automatic reply"
DEFAULT_TEXT = (
    "This is an automatic reply: your message has arrived. The person to whom you wrote is away"
    " and will read it later.\n"
)

# RFC 3834 §2, RFC 5230 §4.6, and what machines sign with. Asked of the local part without detail.
_ROBOT = re.compile(
    r"(?:owner-.*|.*-(?:request|owner|bounces?|errors|noreply|no-reply)|bounces?|bounces?[-=].*"
    r"|mailer[-_.]?daemon|listserv|majordomo|mailman|postmaster|root|daemon|nobody"
    r"|(?:do[-_.]?)?not?[-_.]?reply(?:[-_.].*)?|auto[-_.]?(?:reply|responder|confirm))",
    re.IGNORECASE,
)
_BULK = frozenset(("bulk", "list", "junk"))
_SUPPRESSED = frozenset(("all", "oof", "autoreply"))  # What Exchange writes for its own kind.
_RECIPIENT_FIELDS = ("to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc")
_ID = re.compile(r"[!-;=?-~]+")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Vacation:
    """What the account wants (RFC 8621 §8); times are Unix time, None is no limit."""

    is_enabled: bool = False
    from_ms: int | None = None
    to_ms: int | None = None
    subject: str | None = None
    text_body: str | None = None
    html_body: str | None = None


class Silence(Enum):
    """Why a message gets no answer, in words for an operator."""

    NOT_ENABLED = "no vacation response is enabled"
    NOT_YET = "the vacation has not begun"
    OVER = "the vacation is over"
    NULL_SENDER = "the message has no return address"
    OWN_MESSAGE = "the account wrote it"
    ROBOT = "the sender is no person"
    AUTOMATIC = "the message is an automatic one"
    LIST = "the message came by a list"
    BULK = "the message is bulk mail"
    SUPPRESSED = "the message asks for no automatic answers"
    SPAM = "the message is spam"
    NOT_NAMED = "the account is not among the recipients that the message names"
    ANSWERED = "the sender has had an answer lately"


def silence(
    vacation: Vacation,
    message: Message,
    *,
    mail_from: Address | None,
    own_addresses: Iterable[str],
    is_spam: bool,
    answered_at_ms: int | None,
    now_ms: int,
    period_ms: int = PERIOD_MS,
) -> Silence | None:
    """Return why the message gets no automatic answer, None when it gets one.

    `mail_from` is the reverse path, `own_addresses` the account's address and aliases, each with
    every detail; `answered_at_ms` when this correspondent, `mail_from.key`, was last answered.
    """
    if not vacation.is_enabled:
        return Silence.NOT_ENABLED
    if vacation.from_ms is not None and now_ms < vacation.from_ms:
        return Silence.NOT_YET
    if vacation.to_ms is not None and now_ms >= vacation.to_ms:
        return Silence.OVER
    if mail_from is None or not mail_from.domain:
        return Silence.NULL_SENDER
    own = {parse_address(address).key for address in own_addresses}
    if _is_own(mail_from, own) or _names_any(message, ("from",), own):
        return Silence.OWN_MESSAGE
    if is_spam:
        return Silence.SPAM
    if (kind := _machine_made(message, mail_from)) is not None:
        return kind
    if not _names_any(message, _RECIPIENT_FIELDS, own):
        return Silence.NOT_NAMED
    if answered_at_ms is not None and now_ms - answered_at_ms < period_ms:
        return Silence.ANSWERED
    return None


def _machine_made(message: Message, mail_from: Address) -> Silence | None:
    if _ROBOT.fullmatch(mail_from.local) or _ROBOT.fullmatch(mail_from.base_key.rpartition("@")[0]):
        return Silence.ROBOT
    if any(word != "no" for word in _words(message, "auto-submitted")):
        return Silence.AUTOMATIC
    if message.root.type == "multipart/report" or _returns_to_nobody(message):
        return Silence.AUTOMATIC
    if message.header("x-autoreply") is not None or message.header("x-autorespond") is not None:
        return Silence.AUTOMATIC
    if any(name[:5].lower() == "list-" for name, _ in message.root.headers):
        return Silence.LIST  # RFC 3834 §2, of the fields of RFC 2369 §3 and RFC 2919 §3.
    if any(word in _BULK for word in _words(message, "precedence")):
        return Silence.BULK
    asked = ",".join(_words(message, "x-auto-response-suppress"))
    if not _SUPPRESSED.isdisjoint(asked.split(",")):
        return Silence.SUPPRESSED
    return None


def _returns_to_nobody(message: Message) -> bool:
    values = message.header_all("return-path")[:1]
    return any(value.strip() == b"<>" for value in values)


def _words(message: Message, name: str) -> list[str]:
    """Return the values of all fields of a name, in lower case, without comments and blanks."""
    values = message.header_all(name)[:FIELDS_LOOKED_AT_MAX]
    return [parse_parameters(value)[0] for value in values]


def _names_any(message: Message, names: Iterable[str], own: set[str]) -> bool:
    """Say whether one of the fields holds one of the addresses."""
    for name in names:
        for value in message.header_all(name)[:FIELDS_LOOKED_AT_MAX]:
            for address in as_addresses(value, message.charset_hint):
                try:
                    if _is_own(parse_address(address.email), own):
                        return True
                except InvalidAddress:
                    continue
    return False


def _is_own(address: Address, own: set[str]) -> bool:
    return address.key in own or address.base_key in own


def answer(
    vacation: Vacation,
    message: Message,
    *,
    author: EmailAddress,
    recipient: Address,
    message_id: str,
    now_ms: int,
) -> bytes:
    """Return the answer as a message with CRLF, in 7-bit lines but for addresses in UTF-8.

    `author` is the account, by the address that the message was for; `recipient` the reverse path
    of the message; `message_id` is without angle brackets.
    """
    out = [
        fields.plain("Date", fields.date_time(now_ms)),
        fields.address_list("From", (author,)),
        fields.address_list("To", (EmailAddress(None, str(recipient)),)),
        fields.unstructured("Subject", _subject(vacation, message)),
        fields.message_ids("Message-ID", (message_id,)),
    ]
    answered, references = _thread(message)
    if answered is not None:
        out.append(fields.message_ids("In-Reply-To", (answered,)))
        out.append(fields.message_ids("References", references))
    out += (
        fields.plain("Auto-Submitted", "auto-replied"),  # RFC 3834 §5.1
        fields.plain("X-Auto-Response-Suppress", "All"),
        fields.plain("MIME-Version", "1.0"),
        _body(vacation),
    )
    return b"".join(out)


def _subject(vacation: Vacation, message: Message) -> str:
    if vacation.subject is not None and vacation.subject.strip():
        return vacation.subject
    value = message.header("subject")
    original = "" if value is None else as_text(value, message.charset_hint).strip()
    return f"Auto: {original[:SUBJECT_CHARS_MAX]}" if original else DEFAULT_SUBJECT


def _thread(message: Message) -> tuple[str | None, list[str]]:
    """Return the id of the message and the references of an answer (RFC 5322 §3.6.4)."""
    own = _ids(message, "message-id")
    if not own:
        return None, []
    parents = _ids(message, "references")
    if not parents:
        replied = _ids(message, "in-reply-to")
        parents = replied if len(replied) == 1 else []
    references = [item for item in dict.fromkeys(parents) if item != own[0]] + [own[0]]
    if len(references) > REFERENCES_MAX:
        references = references[:1] + references[1 - REFERENCES_MAX :]
    return own[0], references


def _ids(message: Message, name: str) -> list[str]:
    value = message.header(name)
    found = (None if value is None else as_message_ids(value)) or ()
    return [item for item in found if len(item) <= ID_CHARS_MAX and _ID.fullmatch(item)]


def _body(vacation: Vacation) -> bytes:
    """Return the fields of the content, a blank line and the content."""
    text, html = vacation.text_body, vacation.html_body
    if text is None:
        text = DEFAULT_TEXT if html is None else html_to_text(html).strip() + "\n"
    plain = _leaf("plain", text)
    if html is None:
        return plain
    # Neither quoted-printable nor base64 can hold it (RFC 2045 §6.7).
    boundary = b"=_vacation"
    delimiter = b"--" + boundary
    parts = b"".join(delimiter + b"\r\n" + part for part in (plain, _leaf("html", html)))
    content_type = fields.plain(
        "Content-Type", f'multipart/alternative; boundary="{boundary.decode()}"'
    )
    return content_type + b"\r\n" + parts + delimiter + b"--\r\n"


def _leaf(subtype: str, text: str) -> bytes:
    octets = _LINE_END.sub("\r\n", clean(text)).encode()
    if not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    encoding, encoded = encode_shorter(octets)
    return (
        fields.plain("Content-Type", f"text/{subtype}; charset=utf-8")
        + fields.plain("Content-Transfer-Encoding", encoding)
        + b"\r\n"
        + encoded.removesuffix(b"\r\n")
        + b"\r\n"
    )

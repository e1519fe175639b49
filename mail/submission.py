"""Submission: what a submission agent may do to a message, and whose name it may bear (RFC 6409).

Pure. `complete` adds Message-ID and Date where there is none and takes Bcc out; every other octet
stays as it came, however odd: malformed lines, 8-bit text, lines that end with a bare LF.

Header      everything before the first blank line, as whoever reads the message may see it.
Authors     every address of From, Sender, Resent-From and Resent-Sender, of every field of those
            names; for them a bare CR begins a line, too, since some readers think so.
Refused     550 5.7.1: an author or an envelope address that is not the account's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mail.address import Address, parse_address
from mail.errors import ForbiddenFrom, ForbiddenMailFrom, InvalidAddress
from mail.fields import date_time, message_ids, plain
from mail.header_scan import header_end
from mail.headers import VALUE_BYTES_MAX, as_addresses

AUTHOR_FIELDS_MAX = 20  # Four names, once each; resent some times over (RFC 5322 §3.6.6).
AUTHORS_MAX = 100  # Of one message; people write alone.
ADDRESS_SHOWN_CHARS_MAX = 254  # Of a refused one, in the text of the error.

_BCC = re.compile(rb"(?im)^(?:resent-)?bcc[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+\n?")
_HAS_ID = re.compile(rb"(?im)^message-id[ \t]*+:")
_HAS_DATE = re.compile(rb"(?im)^date[ \t]*+:")
# What may stand before the first field: a line of mbox, and what would be taken for a
# continuation of a field written before it.
_BEFORE_FIELDS = re.compile(rb"(?:>?From (?![ \t]*:)[^\n]*+\n?)?(?:[ \t][^\n]*+\n?)*+")
_AUTHOR = re.compile(
    rb"(?i)(?:(?<=[\r\n])|\A)(?:resent-)?(?:from|sender)[ \t]*+:"
    rb"([^\r\n]*+(?:\r*\n?[ \t][^\r\n]*+)*+)"
)
_ID = re.compile(r"[!-;=?-~]+")


def complete(raw: bytes, *, message_id: str, sent_at_ms: int) -> bytes:
    """Return the message with Message-ID and Date and without Bcc and Resent-Bcc (RFC 6409 §8).

    `message_id` is without angle brackets, `sent_at_ms` Unix time; a field that is there stays,
    whatever its value. What is added stands at the top.
    """
    assert _ID.fullmatch(message_id) is not None
    end = header_end(raw)
    header = _BCC.sub(b"", raw[:end])
    added = b""
    if _HAS_DATE.search(header) is None:
        added += plain("Date", date_time(sent_at_ms))
    if _HAS_ID.search(header) is None:
        added += message_ids("Message-ID", (message_id,))
    if not added:
        return header + raw[end:]
    before = _BEFORE_FIELDS.match(header)
    begin = 0 if before is None else before.end()
    line_end = b"" if begin == 0 or header[begin - 1 : begin] == b"\n" else b"\r\n"
    return header[:begin] + line_end + added + header[begin:] + raw[end:]


def authors(raw: bytes) -> tuple[str, ...]:
    """Return the addresses that the message names as its authors and senders, each once.

    They are as written, valid or not. Raises ForbiddenFrom when there are so many, or so
    long fields of them, that they cannot be checked.
    """
    found: dict[str, None] = {}
    header = raw[: header_end(raw)]
    for count, match in enumerate(_AUTHOR.finditer(header)):
        if count >= AUTHOR_FIELDS_MAX or len(match[1]) > VALUE_BYTES_MAX:
            raise ForbiddenFrom("The message names too many authors")
        found.update((address.email, None) for address in as_addresses(match[1]))
    if len(found) > AUTHORS_MAX:
        raise ForbiddenFrom("The message names too many authors")
    return tuple(found)


def may_send(
    named: Iterable[str], mail_from: Address | None, owned_addresses: Iterable[str]
) -> None:
    """Refuse a message whose authors or whose reverse path are not the account's (RFC 6409 §6.1).

    `named` is what `authors` found, `mail_from` None for the null reverse path, which belongs to
    everyone (RFC 8098 §2.1); `owned_addresses` are the account's own, its aliases and those
    that it may send as, each with every detail after a plus. Raises ForbiddenMailFrom,
    ForbiddenFrom.
    """
    owned = {parse_address(address).key for address in owned_addresses}
    if mail_from is not None and not _is_owned(mail_from, owned):
        raise ForbiddenMailFrom(f"<{mail_from}> does not belong to the account")
    named = tuple(named)
    if not named:
        raise ForbiddenFrom("The message names no author: the From field is missing or empty")
    for text in named:
        try:
            author = parse_address(text)
        except InvalidAddress:
            raise ForbiddenFrom(f"<{_shown(text)}> is not a valid author") from None
        if not _is_owned(author, owned):
            raise ForbiddenFrom(f"<{author}> does not belong to the account")


def _is_owned(address: Address, owned: set[str]) -> bool:
    return address.key in owned or address.base_key in owned


def _shown(text: str) -> str:
    """Return the text as one line that a reply may hold."""
    return "".join(c if c.isprintable() else "?" for c in text[:ADDRESS_SHOWN_CHARS_MAX])

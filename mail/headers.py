"""Headers: a field's raw octets in the forms that JMAP offers (RFC 8621 §4.1.2).

Every function takes the value from the octet after the colon up to, without, the end of
line, folded as it came. None of them raises, and every string can be written as UTF-8.
`hint` is the charset that raw octets beyond ASCII are likely to be in.
"""

from __future__ import annotations

import re

from mail.address_list import EmailAddressGroup, parse_address_list
from mail.charset import decode
from mail.dates import to_rfc3339
from mail.encoded import decode_text, unfold
from mail.summary import EmailAddress

VALUE_BYTES_MAX = 131_072  # Decoded of one field; 5,000 addresses fit, the raw form keeps all.
IDS_MAX = 1000  # Message ids of one field; References of real threads stay below 100.
ID_CHARS_MAX = 998  # RFC 5322 §2.1.1: longer than a line may be.
URLS_MAX = 100

_ANGLE = re.compile(r"<([^<>]*)>")
_COMMENT = re.compile(r"\([^()]*\)")
_BLANKS = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def as_raw(value: bytes) -> str:
    """Return the value with its folds; U+FFFD for what is not UTF-8 (RFC 8621 §4.1.2.1)."""
    return value.decode("utf-8", "replace").replace("\x00", "")


def as_text(value: bytes, hint: str | None = None) -> str:
    """Return the value unfolded, decoded, in NFC (RFC 8621 §4.1.2.2)."""
    return decode_text(unfold(value[:VALUE_BYTES_MAX]), hint).lstrip(" \t")


def as_addresses(value: bytes, hint: str | None = None) -> tuple[EmailAddress, ...]:
    """Return every mailbox of an address list, groups flattened (RFC 8621 §4.1.2.3)."""
    groups = as_grouped_addresses(value, hint)
    return tuple(address for group in groups for address in group.addresses)


def as_grouped_addresses(value: bytes, hint: str | None = None) -> tuple[EmailAddressGroup, ...]:
    """Return an address list with its groups (RFC 8621 §4.1.2.4)."""
    value = unfold(value[:VALUE_BYTES_MAX])
    # The charset goes first: in Shift_JIS and ISO-2022 a comma or a quote may be half a letter.
    plain = value.isascii() and b"\x1b" not in value
    text = value.decode("ascii") if plain else decode(value, None, hint=hint)[0]
    return parse_address_list(text)


def as_message_ids(value: bytes) -> tuple[str, ...] | None:
    """Return message ids without angle brackets, None if there is none (RFC 8621 §4.1.2.5).

    Text around the ids, as old senders write into In-Reply-To, is skipped; one bare id
    without brackets is accepted.
    """
    text = as_raw(unfold(value[:VALUE_BYTES_MAX]))
    if "(" in text:
        text = _COMMENT.sub("", text)
    found = _ANGLE.findall(text)
    if not found and "@" in text and len(words := text.split()) == 1:
        found = words
    ids = (_BLANKS.sub("", _CONTROL.sub("", item)) for item in found[:IDS_MAX])
    return tuple(item for item in ids if item and len(item) <= ID_CHARS_MAX) or None


def as_date(value: bytes) -> str | None:
    """Return a date-time as RFC 3339 with the sender's offset (RFC 8621 §4.1.2.6)."""
    return to_rfc3339(as_raw(unfold(value[:VALUE_BYTES_MAX])))


def as_urls(value: bytes) -> tuple[str, ...] | None:
    """Return the URLs of a List-… field (RFC 2369 §2), None if none (RFC 8621 §4.1.2.7)."""
    text = as_raw(unfold(value[:VALUE_BYTES_MAX]))
    urls = (_BLANKS.sub("", _CONTROL.sub("", item)) for item in _ANGLE.findall(text)[:URLS_MAX])
    return tuple(url for url in urls if url) or None


__all__ = [
    "EmailAddressGroup",
    "as_addresses",
    "as_date",
    "as_grouped_addresses",
    "as_message_ids",
    "as_raw",
    "as_text",
    "as_urls",
]

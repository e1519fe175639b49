"""Summary and SearchText: what the store keeps of a message beside its bytes.

Both are made once, by `mail.message.parse`, and travel and rest as msgspec arrays:
fields are only ever appended, each with a default, so that old and new releases read
each other's.
"""

from __future__ import annotations

import msgspec


class EmailAddress(msgspec.Struct, frozen=True, array_like=True):
    """One address of a header field (RFC 8621 §4.1.2.3)."""

    name: str | None
    email: str


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What a list of messages shows (RFC 8621 §4.1.3). Absent fields are None, as JMAP has it."""

    subject: str | None = None
    from_: tuple[EmailAddress, ...] | None = None
    to: tuple[EmailAddress, ...] | None = None
    cc: tuple[EmailAddress, ...] | None = None
    bcc: tuple[EmailAddress, ...] | None = None
    reply_to: tuple[EmailAddress, ...] | None = None
    sender: tuple[EmailAddress, ...] | None = None
    message_id: tuple[str, ...] | None = None  # without angle brackets
    in_reply_to: tuple[str, ...] | None = None
    references: tuple[str, ...] | None = None
    sent_at: str | None = None  # RFC 3339 date-time with the sender's offset
    preview: str = ""  # at most 256 characters of plain text
    has_attachment: bool = False


class SearchText(msgspec.Struct, frozen=True, array_like=True):
    """Decoded text of a message by searchable field; bounded by `SEARCH_TEXT_CHARS_MAX`."""

    subject: str = ""
    from_: str = ""
    to: str = ""  # To, Cc and Bcc
    body: str = ""  # text parts, HTML as text, nested messages
    names: str = ""  # attachment names, one a line

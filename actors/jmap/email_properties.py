"""Email properties: what they are made from, and what that costs (RFC 8621 §4.1).

Most come from the records that the store keeps; only header fields and bodies need the
octets of the message, and a header alone only their beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.jmap.email_body import BodyValues, PartProperties, Source
from actors.jmap.email_headers import (
    HeaderProperty,
    Reading,
    address_json,
    headers_json,
    parse_header_property,
)
from actors.jmap.email_rows import read_header
from actors.jmap.ids import blob_id_of, email_id_of, folder_id_of, thread_id_of
from actors.jmap.problems import invalid
from mail.message import Message, parse
from mail.summary import EmailAddress
from storage.mailbox_reader import Blobs
from storage.records import EmailRecord, EmailState

# RFC 8621 §4.2.
DEFAULT_PROPERTIES = (
    "id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt", "messageId",
    "inReplyTo", "references", "sender", "from", "to", "cc", "bcc", "replyTo", "subject",
    "sentAt", "hasAttachment", "preview", "bodyValues", "textBody", "htmlBody", "attachments",
)  # fmt: skip


def utc_date(unix_ms: int) -> str:
    """Return a UTCDate; a fraction only where it is not zero (RFC 8620 §1.4)."""
    seconds, ms = divmod(unix_ms, 1000)
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    return f"{text}.{ms:03}".rstrip("0") + "Z" if ms else text + "Z"


def _addresses(addresses: tuple[EmailAddress, ...] | None) -> list[dict[str, str | None]] | None:
    return None if addresses is None else [address_json(address) for address in addresses]


FromRecord = Callable[[EmailRecord, EmailState], object]

RECORD_PROPERTIES: Mapping[str, FromRecord] = {
    "id": lambda email, state: email_id_of(email.email_id),
    "blobId": lambda email, state: blob_id_of(email.digest),
    "threadId": lambda email, state: thread_id_of(email.thread_id),
    "mailboxIds": lambda email, state: {folder_id_of(p.folder): True for p in state.places},
    "keywords": lambda email, state: dict.fromkeys(state.keywords, True),
    "size": lambda email, state: email.size_bytes,
    "receivedAt": lambda email, state: utc_date(email.received_at_ms),
    "messageId": lambda email, state: email.summary.message_id,
    "inReplyTo": lambda email, state: email.summary.in_reply_to,
    "references": lambda email, state: email.summary.references,
    "sender": lambda email, state: _addresses(email.summary.sender),
    "from": lambda email, state: _addresses(email.summary.from_),
    "to": lambda email, state: _addresses(email.summary.to),
    "cc": lambda email, state: _addresses(email.summary.cc),
    "bcc": lambda email, state: _addresses(email.summary.bcc),
    "replyTo": lambda email, state: _addresses(email.summary.reply_to),
    "subject": lambda email, state: email.summary.subject,
    "sentAt": lambda email, state: email.summary.sent_at,
    "hasAttachment": lambda email, state: email.summary.has_attachment,
    "preview": lambda email, state: email.summary.preview,
}

BODY_PROPERTIES = ("bodyStructure", "bodyValues", "textBody", "htmlBody", "attachments")


@dataclass(frozen=True, slots=True)
class EmailProperties:
    """Which properties of an email are asked for."""

    from_record: tuple[tuple[str, FromRecord], ...]
    from_header: tuple[tuple[str, HeaderProperty], ...]
    headers: bool
    from_body: tuple[str, ...]
    part_properties: PartProperties
    body_values: BodyValues

    @property
    def reads_message(self) -> bool:
        """Say whether the octets of the message are needed."""
        return bool(self.from_header or self.headers or self.from_body)

    @property
    def reads_forms(self) -> bool:
        """Say whether any header field is put into a form."""
        return bool(self.from_header or self.part_properties.from_header)

    def of(self, email: EmailRecord, state: EmailState, blobs: Blobs) -> dict[str, object]:
        """Return an Email object."""
        value = {name: make(email, state) for name, make in self.from_record}
        if not self.reads_message:
            return value
        if self.from_body:
            message = parse(blobs.read(email.digest))
        else:
            message = read_header(blobs, email.digest)
        if self.headers:
            value["headers"] = headers_json(message.root.headers)
        reading = Reading(message.charset_hint if self.reads_forms else None)
        for name, header in self.from_header:
            value[name] = header.value(message.root, reading)
        source = Source(message, email.digest, reading)
        for name in self.from_body:
            value[name] = self._body(name, source)
        return value

    def _body(self, name: str, source: Source) -> object:
        message: Message = source.message
        match name:
            case "bodyStructure":
                return self.part_properties.tree(source, message.root)
            case "bodyValues":
                return self.body_values.of(message)
            case "textBody":
                return self.part_properties.parts(source, message.text_body)
            case "htmlBody":
                return self.part_properties.parts(source, message.html_body)
            case _:
                return self.part_properties.parts(source, message.attachments)


def parse_properties(
    names: Sequence[str] | None, part_properties: PartProperties, body_values: BodyValues
) -> EmailProperties:
    """Return the properties to fetch; null for the default. Raises invalidArguments."""
    from_record: dict[str, FromRecord] = {"id": RECORD_PROPERTIES["id"]}
    from_header = []
    from_body = []
    for name in DEFAULT_PROPERTIES if names is None else names:
        if name in RECORD_PROPERTIES:
            from_record[name] = RECORD_PROPERTIES[name]
        elif name in BODY_PROPERTIES:
            from_body.append(name)
        elif name.startswith("header:"):
            from_header.append((name, parse_header_property(name)))
        elif name != "headers":
            raise invalid(f"properties: there is no property {name[:100]}")
    return EmailProperties(
        tuple(from_record.items()),
        tuple(from_header),
        names is not None and "headers" in names,
        tuple(from_body),
        part_properties,
        body_values,
    )

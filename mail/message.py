"""Message: one message's octets, parsed once, and what everyone else asks of it.

`parse` takes any octets and never raises; the octets stay as they came. Only the structure
is read at once, everything else when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from mail import headers
from mail.mime import MESSAGE_TYPES, Part, Tree
from mail.summary import EmailAddress, SearchText, Summary
from mail.text import PREVIEW_CHARS_MAX, collapse, html_to_text, preview

# A million characters are a thick book; what comes later in a text is a log file or a dump,
# and would cost more to index than it is ever worth.
SEARCH_TEXT_CHARS_MAX = 1_000_000
SEARCH_PART_BYTES_MAX = 4 * SEARCH_TEXT_CHARS_MAX  # Encoded octets of one part read for it.
SEARCH_BYTES_MAX = 2 * SEARCH_PART_BYTES_MAX  # Of all parts; markup is slow to read.
NESTED_BYTES = 10_000  # What looking at one nested message costs, in octets of text.
SEARCH_DEPTH_MAX = 5  # Forwarded messages within forwarded messages whose text is found.
PREVIEW_BYTES_MAX = 65_536  # Read of a large body; markup may precede the first words.

# Parts that a client handles by itself, RFC 8621 §4.1.4 on `hasAttachment`.
_SIGNATURE_TYPES = frozenset(
    ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature")
)
# Reports that people search although their type is not text (RFC 3464, RFC 8098).
_REPORT_TYPES = frozenset(
    ("message/delivery-status", "message/disposition-notification", "message/feedback-report")
)

_T = TypeVar("_T")


@dataclass(slots=True)
class _Budget:
    """What the search text of one message may still use; nested messages share it."""

    depth: int = SEARCH_DEPTH_MAX
    chars: int = SEARCH_TEXT_CHARS_MAX
    bytes: int = SEARCH_BYTES_MAX


class Message:
    """A parsed message (RFC 5322, RFC 8621 §4.1). Make it with `parse`."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._tree = Tree(raw)
        self.root: Part = self._tree.root
        self._visible_texts: dict[str, str] = {}  # Of HTML parts by part id.

    def parts(self) -> Iterator[Part]:
        """Yield every part, depth first, multiparts included."""
        return self.root.walk()

    def part(self, part_id: str) -> Part | None:
        """Return the part with that id, None when there is none."""
        return self._parts_by_id.get(part_id)

    def header(self, name: str) -> bytes | None:
        """Return the raw value of the last field of that name (RFC 8621 §4.1.3)."""
        values = self._fields.get(name.lower())
        return values[-1] if values else None

    def header_all(self, name: str) -> tuple[bytes, ...]:
        """Return the raw values of all fields of that name, in the order of the message."""
        return tuple(self._fields.get(name.lower(), ()))

    @property
    def charset_hint(self) -> str | None:
        """Return the charset that raw octets in header fields are likely to be in."""
        return self._tree.hint

    @property
    def received_count(self) -> int:
        """Return the number of hops so far (RFC 5321 §6.3)."""
        return len(self._fields.get("received", ()))

    @property
    def text_body(self) -> list[Part]:
        """Return the parts to show in turn as plain text (RFC 8621 §4.1.4 `textBody`)."""
        return list(self._bodies[0])

    @property
    def html_body(self) -> list[Part]:
        """Return the parts to show in turn as HTML (RFC 8621 §4.1.4 `htmlBody`)."""
        return list(self._bodies[1])

    @property
    def attachments(self) -> list[Part]:
        """Return the parts to offer as files (RFC 8621 §4.1.4 `attachments`)."""
        return list(self._bodies[2])

    @cached_property
    def summary(self) -> Summary:
        """Return what a list of messages shows."""
        ids = headers.as_message_ids
        return Summary(
            subject=self._form("subject", self._as_text),
            from_=self._form("from", self._as_addresses),
            to=self._form("to", self._as_addresses),
            cc=self._form("cc", self._as_addresses),
            bcc=self._form("bcc", self._as_addresses),
            reply_to=self._form("reply-to", self._as_addresses),
            sender=self._form("sender", self._as_addresses),
            message_id=self._form("message-id", ids),
            in_reply_to=self._form("in-reply-to", ids),
            references=self._form("references", ids),
            sent_at=self._form("date", headers.as_date),
            preview=self._preview(),
            has_attachment=self._has_attachment(),
        )

    @cached_property
    def search_text(self) -> SearchText:
        """Return the decoded text by searchable field, bounded."""
        return self._search_text(_Budget())

    @cached_property
    def _fields(self) -> dict[str, list[bytes]]:
        fields: dict[str, list[bytes]] = {}
        for name, value in self.root.headers:
            fields.setdefault(name.lower(), []).append(value)
        return fields

    @cached_property
    def _parts_by_id(self) -> dict[str, Part]:
        return {part.part_id: part for part in self.parts() if part.part_id is not None}

    @cached_property
    def _bodies(self) -> tuple[list[Part], list[Part], list[Part]]:
        text_body: list[Part] = []
        html_body: list[Part] = []
        attachments: list[Part] = []
        _decompose((self.root,), "mixed", False, text_body, html_body, attachments)
        return text_body, html_body, attachments

    def _form(self, name: str, form: Callable[[bytes], _T]) -> _T | None:
        value = self.header(name)
        return None if value is None else form(value)

    def _as_text(self, value: bytes) -> str:
        return headers.as_text(value, None if value.isascii() else self._tree.hint)

    def _as_addresses(self, value: bytes) -> tuple[EmailAddress, ...]:
        return headers.as_addresses(value, None if value.isascii() else self._tree.hint)

    def _preview(self) -> str:
        words = ""
        for part in self._bodies[0]:
            if part.type.startswith("text/"):
                words += " " + preview(self._readable(part, PREVIEW_BYTES_MAX))
                if len(words) > PREVIEW_CHARS_MAX:
                    break
        return collapse(words)[:PREVIEW_CHARS_MAX].rstrip()

    def _readable(self, part: Part, bytes_max: int) -> str:
        """Return the text of a text part as people read it, of markup only the visible text."""
        if part.type != "text/html":
            return part.text(bytes_max)[0]
        key = part.part_id or ""
        text = self._visible_texts.get(key)
        if text is None:
            text = html_to_text(part.text(bytes_max)[0])
            if part.encoded_size <= bytes_max:
                self._visible_texts[key] = text
        return text

    def _has_attachment(self) -> bool:
        html = any(part.type == "text/html" for part in self._bodies[1])
        return any(
            part.disposition != "inline"
            and part.type not in _SIGNATURE_TYPES
            and not (html and part.is_inline_media and part.cid is not None)
            for part in self._bodies[2]
        )

    def _search_text(self, budget: _Budget) -> SearchText:
        summary = self.summary
        recipients = (*(summary.to or ()), *(summary.cc or ()), *(summary.bcc or ()))
        names = (part.name for part in self.parts() if not part.is_multipart)
        return SearchText(
            subject=summary.subject or "",
            from_=_join_addresses(summary.from_ or ()),
            to=_join_addresses(recipients),
            body=self._search_body(budget),
            names="\n".join(name for name in names if name),
        )

    def _search_body(self, budget: _Budget) -> str:
        texts: list[str] = []
        for part in self.parts():
            if budget.chars <= 0 or budget.bytes <= 0:
                break
            text = self._searchable(part, budget)
            if part.type == "text/html" and texts and _repeats(text, texts[-1]):
                continue
            if text:
                texts.append(text[: budget.chars])
                budget.chars -= len(text) + 1
        return "\n".join(texts)

    def _searchable(self, part: Part, budget: _Budget) -> str:
        """Return the text of one part that is worth finding, "" if there is none."""
        if part.type.startswith("text/") or part.type in _REPORT_TYPES:
            bytes_max = min(SEARCH_PART_BYTES_MAX, budget.bytes)
            budget.bytes -= min(part.encoded_size, bytes_max)
            return self._readable(part, bytes_max).strip()
        if part.type in MESSAGE_TYPES and budget.depth > 0:
            inner = _Budget(budget.depth - 1, budget.chars, budget.bytes)
            nested = Message(part.decoded())._search_text(inner)
            budget.bytes = inner.bytes - NESTED_BYTES
            fields = (nested.subject, nested.from_, nested.to, nested.body, nested.names)
            return "\n".join(text for text in fields if text)
        return ""


def parse(raw: bytes) -> Message:
    """Return the message in `raw`. Never raises, takes linear time, copies nothing."""
    return Message(raw)


def _repeats(text: str, other: str) -> bool:
    """Say whether HTML says nothing that the plain alternative has not said."""
    return "".join(text.split()) in "".join(other.split())


def _join_addresses(addresses: tuple[EmailAddress, ...]) -> str:
    return "\n".join(
        f"{address.name} {address.email}" if address.name else address.email
        for address in addresses
    )


def _decompose(
    parts: tuple[Part, ...],
    multipart_type: str,
    in_alternative: bool,
    text_body: list[Part] | None,
    html_body: list[Part] | None,
    attachments: list[Part],
) -> None:
    """Divide parts into bodies and attachments: the algorithm of RFC 8621 §4.1.4.

    A body that is None is one whose alternative has been chosen already.
    """
    text_before = len(text_body) if text_body is not None else -1
    html_before = len(html_body) if html_body is not None else -1
    for i, part in enumerate(parts):
        if part.is_multipart:
            subtype = part.type.partition("/")[2]
            _decompose(
                part.subparts, subtype, in_alternative or subtype == "alternative",
                text_body, html_body, attachments,
            )  # fmt: skip
            continue
        if not _is_body(part, i, multipart_type):
            attachments.append(part)
            continue
        if multipart_type == "alternative":
            if part.type == "text/plain" and text_body is not None:
                text_body.append(part)
            elif part.type == "text/html" and html_body is not None:
                html_body.append(part)
            else:
                attachments.append(part)
            continue
        if in_alternative and part.type == "text/plain":
            html_body = None
        if in_alternative and part.type == "text/html":
            text_body = None
        if text_body is not None:
            text_body.append(part)
        if html_body is not None:
            html_body.append(part)
        if (text_body is None or html_body is None) and part.is_inline_media:
            attachments.append(part)
    if multipart_type == "alternative" and text_body is not None and html_body is not None:
        if len(text_body) == text_before and len(html_body) != html_before:
            text_body += html_body[html_before:]
        elif len(html_body) == html_before and len(text_body) != text_before:
            html_body += text_body[text_before:]


def _is_body(part: Part, position: int, multipart_type: str) -> bool:
    """Say whether a part is to be shown in the body rather than offered as a file."""
    if part.is_attachment:
        return False
    if part.type not in ("text/plain", "text/html") and not part.is_inline_media:
        return False
    return position == 0 or (
        multipart_type != "related" and (part.is_inline_media or part.name is None)
    )

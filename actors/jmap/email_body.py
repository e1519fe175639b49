"""Email body: body parts and their text as JMAP has them (RFC 8621 §4.1.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from actors.jmap.email_headers import (
    HeaderProperty,
    Reading,
    headers_json,
    parse_header_property,
)
from actors.jmap.ids import blob_id_of
from actors.jmap.problems import invalid
from mail.message import Message
from mail.mime import Part

DEFAULT_PROPERTIES = (
    "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
    "location",
)  # fmt: skip

# Encoded octets read for a truncated text: enough for what every octet of the text may take
# (base64 in UTF-32), and for the markup in front of it.
_ENCODED_BYTES_PER_BYTE = 6
_ENCODED_BYTES_MORE = 1 << 16

_TAG_START = re.compile(r"<(?:[A-Za-z/!?]|\Z)")


@dataclass(frozen=True, slots=True)
class Source:
    """The message that parts belong to."""

    message: Message
    digest: bytes
    reading: Reading


def _blob_id(source: Source, part: Part) -> str | None:
    return None if part.part_id is None else blob_id_of(source.digest, part.part_id)


_PROPERTIES: Mapping[str, Callable[[Source, Part], object]] = {
    "partId": lambda source, part: part.part_id,
    "blobId": _blob_id,
    "size": lambda source, part: part.size,
    "headers": lambda source, part: headers_json(part.headers),
    "name": lambda source, part: part.name,
    "type": lambda source, part: part.type,
    "charset": lambda source, part: part.charset,
    "disposition": lambda source, part: part.disposition,
    "cid": lambda source, part: part.cid,
    "language": lambda source, part: part.language,
    "location": lambda source, part: part.location,
}


@dataclass(frozen=True, slots=True)
class PartProperties:
    """Which properties of a body part are asked for."""

    plain: tuple[str, ...]
    from_header: tuple[tuple[str, HeaderProperty], ...]
    sub_parts: bool

    def part(self, source: Source, part: Part) -> dict[str, object]:
        """Return an EmailBodyPart without what is below it."""
        value = {name: _PROPERTIES[name](source, part) for name in self.plain}
        for name, header in self.from_header:
            value[name] = header.value(part, source.reading)
        return value

    def tree(self, source: Source, part: Part) -> dict[str, object]:
        """Return an EmailBodyPart with its subParts, where those are asked for."""
        value = self.part(source, part)
        if self.sub_parts:
            below = [self.tree(source, subpart) for subpart in part.subparts]
            value["subParts"] = below if part.is_multipart else None
        return value

    def parts(self, source: Source, parts: Iterable[Part]) -> list[dict[str, object]]:
        """Return the EmailBodyParts of a flat list."""
        return [self.part(source, part) for part in parts]


def parse_part_properties(names: Sequence[str] | None) -> PartProperties:
    """Return the properties to fetch; null for the default. Raises invalidArguments.

    The default has no subParts (RFC 8621 §4.2), without which a bodyStructure tells nothing;
    it gets them all the same.
    """
    if names is None:
        return PartProperties(DEFAULT_PROPERTIES, (), True)
    plain = []
    from_header = []
    for name in names:
        if name in _PROPERTIES:
            plain.append(name)
        elif name.startswith("header:"):
            from_header.append((name, parse_header_property(name)))
        elif name != "subParts":
            raise invalid(f"bodyProperties: there is no property {name[:100]}")
    return PartProperties(tuple(plain), tuple(from_header), "subParts" in names)


@dataclass(frozen=True, slots=True)
class BodyValues:
    """Which texts go into `bodyValues`, and how much of each (RFC 8621 §4.2)."""

    text: bool
    html: bool
    all: bool
    bytes_max: int  # octets of UTF-8; 0 for no limit

    def of(self, message: Message) -> dict[str, object]:
        """Return EmailBodyValue objects by part id."""
        parts: dict[str, Part] = {}
        if self.all:
            self._add(parts, message.root.walk())
        if self.text:
            self._add(parts, message.text_body)
        if self.html:
            self._add(parts, message.html_body)
        return {part_id: self._value(part) for part_id, part in parts.items()}

    def _add(self, parts: dict[str, Part], more: Iterable[Part]) -> None:
        for part in more:
            if part.part_id is not None and part.type.startswith("text/"):
                parts[part.part_id] = part

    def _value(self, part: Part) -> dict[str, object]:
        text, problem, truncated = self._text(part)
        return {"value": text, "isEncodingProblem": problem, "isTruncated": truncated}

    def _text(self, part: Part) -> tuple[str, bool, bool]:
        is_html = part.type == "text/html"
        if not self.bytes_max:
            return (*part.text(), False)
        enough = self.bytes_max * _ENCODED_BYTES_PER_BYTE + _ENCODED_BYTES_MORE
        if part.encoded_size > enough:
            text, problem = part.text(enough)
            cut, truncated = truncate(text, self.bytes_max, is_html=is_html)
            if truncated:
                return cut, problem, True
        text, problem = part.text()
        cut, truncated = truncate(text, self.bytes_max, is_html=is_html)
        return cut, problem, truncated


def truncate(text: str, bytes_max: int, *, is_html: bool) -> tuple[str, bool]:
    """Return the beginning of `text` in at most so many octets of UTF-8, and whether it is cut.

    No character is split, and of HTML no tag (RFC 8621 §4.2).
    """
    if len(text) <= bytes_max // 4:
        return text, False
    octets = text[: bytes_max + 1].encode()
    if len(octets) <= bytes_max:
        return text, False
    cut = octets[:bytes_max].decode("utf-8", "ignore")
    if is_html and (tag := _TAG_START.search(cut, cut.rfind(">") + 1)) is not None:
        cut = cut[: tag.start()]
    return cut, True

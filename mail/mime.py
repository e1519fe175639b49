"""MIME: the tree of body parts over one message's octets (RFC 2045, RFC 2046).

The octets are never changed or copied: a part is three offsets. Whatever they are, there is
a tree, and building it takes linear time: delimiters are searched, lines are not walked.

Broken input   a multipart whose boundary is missing or never occurs is one text/plain leaf;
               a delimiter that looks like the boundary stands in for a missing parameter;
               a lost closing delimiter ends with the parent; a line in a header that is no
               field is skipped when fields follow, else the body begins with it.
Bounds         depth and number of parts; what lies deeper or later is one leaf.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from mail import charset as charsets
from mail import transfer
from mail.encoded import charset_hint, decode_parameter, decode_text, parse_parameters, unfold

DEPTH_MAX = 50  # Mail nests 5 deep; each level costs one search over its octets.
PARTS_MAX = 1000  # A digest has 100; each part costs some 20 µs.
FIELDS_MAX = 5000  # Of one header; a trace has 50.
BROKEN_HEADER_BYTES_MAX = 1_048_576  # Looked through for fields after a line that is none.
SEARCHED_SHARE_MAX = 8  # Octets searched for delimiters, as a multiple of the message's size,
SEARCHED_BYTES_SPARE = 1_048_576  # with so much for small ones; mail nests 5 deep.
BOUNDARY_BYTES_MAX = 512  # RFC 2046 §5.1.1 allows 70, senders use more.
LOOKALIKES_MAX = 1000  # Lines that only begin like a delimiter, looked at one by one.
PLAIN_BYTES_MAX = 8192  # Read of Content-ID, Content-Language and Content-Location.
TEXT_CACHE_BYTES_MAX = 1_048_576  # Decoded text up to this is kept for the next reader.

TEXT_PLAIN = "text/plain"
OCTETS = "application/octet-stream"
MESSAGE_TYPES = ("message/rfc822", "message/global")

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*+(?:\n[ \t][^\n]*+)*+)\n?")
_KNOWN_FIELD = re.compile(
    rb"\n(?:content-[a-z]+|mime-version|from|to|cc|subject|date|message-id|received|sender"
    rb"|reply-to|return-path|references|in-reply-to|x-[a-z-]+)[ \t]*:",
    re.IGNORECASE,
)
_NEXT_FIELD = re.compile(rb"\n(?=[!-9;-~]+[ \t]*:)")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_TOKEN = r"""[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+"""
_TYPE = re.compile(f"{_TOKEN}/{_TOKEN}")
_DELIMITER_TAIL = re.compile(rb"(--)?[ \t]*+(?:\r?\n|\Z)")
_GUESSED_BOUNDARY = re.compile(rb"(?:\A|\n)--([0-9A-Za-z'()+_,./:=?-]{4,200}+)(?<!--)[ \t]*\r?\n")
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]{1,64})""", re.I)
_ANGLED = re.compile(r"<([^<>]*)>")

Headers = tuple[tuple[str, bytes], ...]


class Tree:
    """What the parts of one message share: its octets and the charset it is likely to use."""

    __slots__ = ("_hint", "_hint_known", "count", "raw", "root", "searched_bytes_left")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.count = 0
        self.searched_bytes_left = len(raw) * SEARCHED_SHARE_MAX + SEARCHED_BYTES_SPARE
        self._hint: str | None = None
        self._hint_known = False
        self.root = _build(self, 0, len(raw), depth=0, number="", in_digest=False)

    @property
    def hint(self) -> str | None:
        """Return the charset that unlabelled octets are likely to be in.

        The first one that a text part declares, else that of an encoded-word in the header.
        """
        if not self._hint_known:
            self._hint_known = True
            declared = (part.declared_charset for part in self.root.walk())
            words = (charset_hint(value) for _name, value in self.root.headers)
            labels = itertools.chain(declared, words)
            self._hint = next((label for label in labels if _says_something(label)), None)
        return self._hint


def _says_something(label: str | None) -> bool:
    return charsets.codec_of(label) not in (None, "ascii", "utf_8")


class Part:
    """One body part (RFC 8621 §4.1.4 `EmailBodyPart`); the root stands for the message.

    Decoding happens when it is asked for, at every call; texts of moderate size are kept.
    """

    __slots__ = (
        "_body_start", "_disposition", "_end", "_first", "_name", "_parameters", "_size",
        "_start", "_text", "_tree", "headers", "part_id", "subparts", "type",
    )  # fmt: skip

    def __init__(self, tree: Tree, start: int, end: int, *, in_digest: bool = False) -> None:
        self._tree = tree
        self._start, self._end = start, end
        self.headers, self._body_start = _parse_header(tree.raw, start, end)
        self._first: dict[str, bytes] = {}
        for name, value in self.headers:
            self._first.setdefault(name.lower(), value)
        self.part_id: str | None = None
        self.subparts: tuple[Part, ...] = ()
        content_type = self._first.get("content-type")
        self._parameters: dict[str, bytes] = {}
        if content_type is None:  # RFC 2046 §5.1.5: the default inside multipart/digest.
            self.type = "message/rfc822" if in_digest else TEXT_PLAIN
        else:
            declared, self._parameters = parse_parameters(content_type)
            self.type = _valid_type(declared)
        self._disposition: tuple[str | None, dict[str, bytes]] | None = None
        self._name: tuple[str | None] | None = None
        self._size: int | None = None
        self._text: tuple[str, bool] | None = None

    def __repr__(self) -> str:
        return f"<Part {self.part_id} {self.type} [{self._start}:{self._end}]>"

    def header(self, name: str) -> bytes | None:
        """Return the raw value of the first field of that name, None if there is none."""
        return self._first.get(name.lower())

    def header_all(self, name: str) -> tuple[bytes, ...]:
        """Return the raw values of all fields of that name, in the order of the header."""
        wanted = name.lower()
        if wanted not in self._first:
            return ()
        return tuple(value for name, value in self.headers if name.lower() == wanted)

    @property
    def is_multipart(self) -> bool:
        """Say whether the part is a node of the tree; only then `part_id` is None."""
        return self.type.startswith("multipart/")

    @property
    def is_inline_media(self) -> bool:
        """Say whether a body may show the part itself (RFC 8621 §4.1.4 `isInlineMediaType`)."""
        return self.type.startswith(("image/", "audio/", "video/"))

    @property
    def is_attachment(self) -> bool:
        """Say whether the sender declared it an attachment (RFC 2183 §2.2)."""
        return self.disposition == "attachment"

    @property
    def declared_charset(self) -> str | None:
        """Return the charset parameter of Content-Type, None when absent."""
        if "charset" not in self._parameters and "charset*" not in self._parameters:
            return None
        return decode_parameter(self._parameters, "charset")

    @property
    def charset(self) -> str | None:
        """Return the declared charset, or `us-ascii` for text without one (RFC 8621 §4.1.4)."""
        implicit = "us-ascii" if self.type.startswith("text/") else None
        return self.declared_charset or implicit

    @property
    def disposition(self) -> str | None:
        """Return `inline`, `attachment` or another word, None without the field."""
        return self._content_disposition()[0]

    @property
    def name(self) -> str | None:
        """Return the file name: `filename`, else `name` (RFC 8621 §4.1.4), decoded, in NFC."""
        if self._name is None:
            _, parameters = self._content_disposition()
            name = None
            if parameters or self._parameters:
                hint = self.declared_charset if self.type.startswith("text/") else None
                hint = hint if _says_something(hint) else None
                for holder, parameter in ((parameters, "filename"), (self._parameters, "name")):
                    if any(key.startswith(parameter) for key in holder):
                        name = decode_parameter(holder, parameter, hint or self._tree.hint)
                    if name:
                        break
            self._name = (name or None,)
        return self._name[0]

    @property
    def cid(self) -> str | None:
        """Return the Content-ID without angle brackets (RFC 2392 §2)."""
        text = self._plain("content-id")
        if text is None:
            return None
        angled = _ANGLED.search(text)
        return (angled[1] if angled else text).strip() or None

    @property
    def language(self) -> tuple[str, ...] | None:
        """Return the tags of Content-Language (RFC 3282 §2)."""
        text = self._plain("content-language")
        if text is None:
            return None
        return tuple(tag for tag in (tag.strip() for tag in text.split(",")) if tag) or None

    @property
    def location(self) -> str | None:
        """Return the Content-Location (RFC 2557 §4.2)."""
        text = self._plain("content-location")
        return None if text is None else "".join(text.split()) or None

    @property
    def encoding(self) -> str:
        """Return the content-transfer-encoding in lower case, "" when there is none."""
        value = self._first.get("content-transfer-encoding")
        if value is None or self.is_multipart:  # RFC 2045 §6.4: multiparts have none.
            return ""
        return parse_parameters(value)[0].strip("\"'")

    @property
    def header_bytes(self) -> bytes:
        """Return the header as it came, with the blank line."""
        return self._tree.raw[self._start : self._body_start]

    @property
    def body_bytes(self) -> bytes:
        """Return the body as it came, still encoded."""
        return self._tree.raw[self._body_start : self._end]

    @property
    def encoded_size(self) -> int:
        """Return the number of octets of `body_bytes`."""
        return self._end - self._body_start

    @property
    def size(self) -> int:
        """Return the number of decoded octets; the first call may decode."""
        if self._size is None:
            known = self.encoding in transfer.IDENTITY or not transfer.is_known(self.encoding)
            self._size = self.encoded_size if known else len(self.decoded())
        return self._size

    def decoded(self) -> bytes:
        """Return the body with its transfer encoding undone; exact for well-formed input."""
        return transfer.decode(self.body_bytes, self.encoding)

    def text(self, bytes_max: int | None = None) -> tuple[str, bool]:
        """Return the body as text with LF line ends, and whether there was a problem.

        With `bytes_max` only about that many encoded octets are looked at. For the problem see
        `mail.charset.decode`; an unknown transfer encoding is one, too (RFC 8621 §4.1.4).
        """
        if self._text is not None:
            return self._text
        whole = self.encoded_size
        length = whole if bytes_max is None else min(whole, bytes_max)
        cut = length < whole
        body = self._tree.raw[self._body_start : self._body_start + length]
        encoding = self.encoding
        if cut and encoding == "quoted-printable":
            body = body[: body.rfind(b"=", -3)] if b"=" in body[-3:] else body
        data = transfer.decode(body, encoding)
        label = self.declared_charset
        text, problem = charsets.decode(data, label, cut=cut)
        if (problem or label is None) and not data.isascii():
            meta = _META_CHARSET.search(data, 0, 2048) if self.type == "text/html" else None
            hint = self._tree.hint if meta is None else meta[1].decode("ascii", "replace")
            text, problem = charsets.decode(data, label, hint=hint, cut=cut)
        text = text.removeprefix("\ufeff")
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        result = text, problem or not transfer.is_known(encoding)
        if not cut and length <= TEXT_CACHE_BYTES_MAX:
            self._text = result
        return result

    def walk(self) -> Iterator[Part]:
        """Yield this part and all below it, depth first."""
        yield self
        for part in self.subparts:
            yield from part.walk()

    def _plain(self, name: str) -> str | None:
        value = self._first.get(name)
        if value is None:
            return None
        return decode_text(unfold(value[:PLAIN_BYTES_MAX]), self._tree.hint).strip()

    def _content_disposition(self) -> tuple[str | None, dict[str, bytes]]:
        if self._disposition is None:
            value = self._first.get("content-disposition")
            self._disposition = (None, {}) if value is None else parse_parameters(value)
        return self._disposition


def _valid_type(declared: str) -> str:
    if _TYPE.fullmatch(declared) is not None:
        return declared
    # RFC 2045 §5.2: what is not valid counts as text; a lone word that names another
    # medium had better be offered as a file.
    return OCTETS if declared in ("application", "image", "audio", "video") else TEXT_PLAIN


def _parse_header(raw: bytes, start: int, end: int) -> tuple[Headers, int]:
    """Return the fields of a header and the offset where the body begins."""
    fields: list[tuple[str, bytes]] = []
    pos = start
    last_known = -1  # Where the last well-known field begins; -1 is not yet looked for.
    while pos < end and len(fields) < FIELDS_MAX:
        match = _FIELD.match(raw, pos, end)
        if match is not None:
            name, value = match.groups()
            if value.endswith(b"\r"):
                value = value[:-1]
            fields.append((name.decode("ascii"), value))
            pos = match.end()
            continue
        if raw.startswith((b"\n", b"\r\n"), pos, end):
            return tuple(fields), pos + (1 if raw[pos] == 10 else 2)
        if last_known < 0:
            last_known = _last_known_field(raw, pos, end)
        line_end = raw.find(b"\n", pos, end)
        is_envelope = not fields and raw.startswith((b"From ", b">From "), pos, end)
        if line_end < 0 or (not is_envelope and pos >= last_known):
            return tuple(fields), pos
        if not is_envelope and line_end < last_known:
            pos = _next_field(raw, line_end, last_known)
        else:
            pos = line_end + 1
    if pos < end:
        blank = _BLANK_LINE.search(raw, pos - 1, end)
        pos = blank.end() if blank is not None else end
    return tuple(fields), pos


def _last_known_field(raw: bytes, start: int, end: int) -> int:
    """Return the offset of the last well-known field before the next blank line, or 0."""
    limit = min(end, start + BROKEN_HEADER_BYTES_MAX)
    blank = _BLANK_LINE.search(raw, start, limit)
    block_end = blank.start() + 1 if blank is not None else limit
    last = 0
    for match in _KNOWN_FIELD.finditer(raw, max(start - 1, 0), block_end):
        last = match.start() + 1
    return last


def _next_field(raw: bytes, start: int, last_known: int) -> int:
    """Return the offset of the first field at or after the line end at `start`."""
    match = _NEXT_FIELD.search(raw, start, last_known + 1)
    return match.end() if match is not None else last_known


def _build(tree: Tree, start: int, end: int, *, depth: int, number: str, in_digest: bool) -> Part:
    """Return the part in `raw[start:end]` with everything below it."""
    part = Part(tree, start, end, in_digest=in_digest)
    tree.count += 1
    if part.is_multipart:
        tree.searched_bytes_left -= part.encoded_size
        if depth < DEPTH_MAX and tree.count < PARTS_MAX and tree.searched_bytes_left >= 0:
            part.subparts = _build_subparts(tree, part, depth=depth, number=number)
            if not part.subparts:
                part.type = TEXT_PLAIN
        else:
            part.type = OCTETS
    if not part.is_multipart:
        part.part_id = number or "1"
    return part


def _build_subparts(tree: Tree, part: Part, *, depth: int, number: str) -> tuple[Part, ...]:
    subparts: list[Part] = []
    prefix = f"{number}." if number else ""
    in_digest = part.type == "multipart/digest"
    for start, end in _body_ranges(tree, part):
        subparts.append(
            _build(
                tree, start, end, depth=depth + 1, number=f"{prefix}{len(subparts) + 1}",
                in_digest=in_digest,
            )
        )  # fmt: skip
    return tuple(subparts)


def _body_ranges(tree: Tree, part: Part) -> Iterator[tuple[int, int]]:
    """Yield the offsets of the body parts of a multipart (RFC 2046 §5.1.1).

    The caller may add to `tree.count` between two of them; when the bound is reached, the
    last range takes the rest.
    """
    raw, begin, end = tree.raw, part._body_start, part._end
    boundary = part._parameters.get("boundary", b"").rstrip()[:BOUNDARY_BYTES_MAX]
    delimiters = _delimiters(raw, begin, end, boundary) if boundary else iter(())
    first = next(delimiters, None)
    if first is None or first[2]:
        guessed = _GUESSED_BOUNDARY.search(raw, max(begin - 1, 0), end)
        if guessed is None or guessed[1] == boundary:
            return
        delimiters = _delimiters(raw, begin, end, guessed[1])
        first = next(delimiters, None)
        if first is None or first[2]:
            return
    start = first[1]
    for stop, following, is_last in delimiters:
        if tree.count >= PARTS_MAX:
            break
        yield start, max(stop, start)
        if is_last:
            return
        start = following
    yield start, end


def _delimiters(
    raw: bytes, begin: int, end: int, boundary: bytes
) -> Iterator[tuple[int, int, bool]]:
    """Yield (end of what came before, start of what comes after, is closing) of delimiters.

    The line end before a delimiter belongs to it.
    """
    marker = b"\n--" + boundary
    pos = begin
    lookalikes = 0
    # A body may begin with the delimiter; its line end then lies one octet before.
    at_start = raw.startswith(marker[1:], begin, end)
    found = begin - 1 if at_start else raw.find(marker, begin, end)
    while at_start or found >= 0:
        at_start = False
        tail = _DELIMITER_TAIL.match(raw, found + len(marker), end)
        if tail is None:  # Only the beginning of a longer line.
            lookalikes += 1
            if lookalikes < LOOKALIKES_MAX:
                found = raw.find(marker, found + 1, end)
            else:
                found = _find_exact(raw, marker, found + 1, end)
            continue
        is_closing = tail[1] is not None
        stop = found - 1 if found > pos and raw[found - 1] == 13 else found
        yield max(stop, begin), tail.end(), is_closing
        if is_closing:
            return
        pos = max(tail.end() - 1, begin)  # Its line end may also begin the next delimiter.
        found = raw.find(marker, pos, end)


def _find_exact(raw: bytes, marker: bytes, begin: int, end: int) -> int:
    """Find the next delimiter line in one go, however many lines only begin like it."""
    pattern = re.compile(re.escape(marker) + _DELIMITER_TAIL.pattern)
    match = pattern.search(raw, begin, end)
    return -1 if match is None else match.start()

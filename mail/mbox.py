"""Mbox: many messages in one file, as different programs have written them.

A message begins with a line `From sender date` (RFC 4155). Lines of its body that look like one
are quoted with `>` (mboxo, mboxrd), or the field Content-Length says where the body ends
(mboxcl2): it is believed when a message begins there or the file ends. What a message is marked
with is in Status, X-Status and X-Keywords, or X-Mozilla-Status.

What is written here is mboxrd with those three fields first, which are taken off again when it
is read: the message between them is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from mail.errors import Invalid
from mail.header_scan import HEADER_BYTES_MAX, HEADER_END, date_ms, field, header_end
from mail.keywords import ANSWERED, DRAFT, FLAGGED, FORWARDED, SEEN, check_keyword
from mail.line_ends import to_crlf, to_lf

LINE_BYTES_MAX = 1024  # Of a `From ` line that is one.
SLACK_BYTES = 4096  # Read beyond a body to see whether a message begins there.

_FROM = b"\nFrom "
_FROM_LINE = re.compile(
    rb"From (?:[^\n]{0,900}?\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b[^\n]{0,60}\d:\d\d[^\n]{0,60}"
    rb"\r?\n|-?[ \t]*\r?\n[!-9;-~]{1,200}:)"
)
_BLANK = re.compile(rb"(?:\r?\n)*")
_QUOTED = re.compile(rb"(?m)^>(>*From )")
_TO_QUOTE = re.compile(rb"(?m)^(>*From )")
_OUR_FIELDS = re.compile(rb"Status:([^\n]*)\nX-Status:([^\n]*)\nX-Keywords:([^\n]*)\n")

# X-Mozilla-Status, nsMsgMessageFlags.
_MOZILLA = ((0x1, SEEN), (0x2, ANSWERED), (0x4, FLAGGED), (0x1000, FORWARDED))
_MOZILLA_EXPUNGED = 0x8


@dataclass(frozen=True, slots=True)
class MboxMessage:
    """One message as it stands in the file, or that it was too large (`octets` None)."""

    offset: int  # of its `From ` line
    from_line: bytes
    octets: bytes | None
    size_bytes: int
    measured: bool = False  # Content-Length was right: nothing is quoted


@dataclass(frozen=True, slots=True)
class Marked:
    """A message as it was before it was put into a mbox, and what it was marked with."""

    octets: bytes
    keywords: tuple[str, ...]
    deleted: bool
    ours: bool  # written by `entry`: nothing else in it is to be obeyed


class MboxSplitter:
    """Octets of a mbox in, messages out; holds no more than one message and a chunk."""

    def __init__(self, message_bytes_max: int) -> None:
        self._bytes_max = message_bytes_max
        self._buffer = bytearray()
        self._offset = 0  # of the buffer in the file
        self._scanned = 0  # no message begins in the buffer before this
        self._dropped = 0  # octets of the present message that were too many
        self._dropped_line = b""
        self._body_end: int | None = None  # by Content-Length; -1: not to be believed
        self._ended = False

    def receive_data(self, data: bytes) -> Iterator[MboxMessage]:
        """Yield the messages that `data` completes. Raises Invalid when this is no mbox."""
        self._buffer += data
        return self._messages()

    def close(self) -> Iterator[MboxMessage]:
        """Yield the last message."""
        self._ended = True
        return self._messages()

    def _messages(self) -> Iterator[MboxMessage]:
        while True:
            if not self._dropped and not self._begin():
                return
            end = self._find_end()
            if end is not None:
                yield self._take(end)
                continue
            if self._ended:
                if self._buffer or self._dropped:
                    yield self._take(len(self._buffer))
                return
            self._drop_too_much()
            return

    def _begin(self) -> bool:
        """Come to the `From ` line of the next message; say whether it is there."""
        blank = _BLANK.match(self._buffer)
        assert blank is not None
        if blank.end():
            self._consume(blank.end())
        start = bytes(self._buffer[:5])
        if start != b"From " and (len(start) == 5 or (start and self._ended)):
            raise Invalid("not a mbox: no message begins with a From line")
        return bool(start) and b"\n" in self._buffer

    def _find_end(self) -> int | None:
        if not self._dropped and self._body_end is None and not self._measure():
            return None
        if self._body_end is not None and self._body_end >= 0 and not self._dropped:
            if len(self._buffer) < self._body_end + SLACK_BYTES and not self._ended:
                return None
            if self._is_boundary(self._body_end):
                return self._body_end
        self._body_end = -1
        return self._find_separator()

    def _measure(self) -> bool:
        """Read Content-Length, once the header is there; say whether that was possible."""
        start = self._buffer.index(b"\n") + 1
        match = HEADER_END.search(self._buffer, start - 1, start + HEADER_BYTES_MAX)
        if match is None and not self._ended and len(self._buffer) < start + HEADER_BYTES_MAX:
            if self._find_separator() is None:
                return False
            self._scanned = 0
        self._body_end = -1
        end = start if match is None else match.end()
        value = field(bytes(self._buffer[start:end]), b"Content-Length")
        if value is not None and value.isdigit() and len(value) < 12:
            length = int(value)
            if length <= self._bytes_max:
                self._body_end = end + length
        return True

    def _is_boundary(self, position: int) -> bool:
        if position > len(self._buffer):
            return False
        blank = _BLANK.match(self._buffer, position)
        assert blank is not None
        if blank.end() == len(self._buffer) and self._ended:
            return True
        before = self._buffer[position - 1 : position]
        if blank.end() == position and before != b"\n":
            return False
        return _FROM_LINE.match(self._buffer, blank.end()) is not None

    def _find_separator(self) -> int | None:
        """Return where the next `From ` line begins, None when it is not there yet."""
        while (found := self._buffer.find(_FROM, self._scanned)) >= 0:
            line = found + 1
            if len(self._buffer) - line < LINE_BYTES_MAX and not self._ended:
                return None
            if _FROM_LINE.match(self._buffer, line) is not None:
                return line
            self._scanned = line
        self._scanned = max(self._scanned, len(self._buffer) - len(_FROM))
        return None

    def _take(self, end: int) -> MboxMessage:
        line_end = 0 if self._dropped else self._buffer.find(b"\n") + 1
        with memoryview(self._buffer) as view:
            line = bytes(view[:line_end])
            octets = None if self._dropped else bytes(view[line_end:end])
        message = MboxMessage(
            offset=self._offset - self._dropped,
            from_line=self._dropped_line or line,
            octets=octets,
            size_bytes=self._dropped + end - (line_end or len(self._dropped_line)),
            measured=self._body_end == end,
        )
        if octets is not None and len(octets) > self._bytes_max:
            message = MboxMessage(message.offset, line, None, message.size_bytes)
        self._dropped, self._dropped_line = 0, b""
        self._consume(end)
        return message

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count
        self._scanned = 0
        self._body_end = None

    def _drop_too_much(self) -> None:
        """Let go of a message that is too large, as far as it was looked through."""
        keep = LINE_BYTES_MAX + len(_FROM)
        if len(self._buffer) <= self._bytes_max + SLACK_BYTES + keep and not self._dropped:
            return
        if not self._dropped:
            self._dropped_line = bytes(self._buffer[: self._buffer.find(b"\n") + 1])
        count = max(0, min(self._scanned, len(self._buffer) - keep))
        del self._buffer[:count]
        self._offset += count
        self._dropped += count
        self._scanned -= count


def read(message: MboxMessage) -> Marked:
    """Return a message as it was before it was put into the mbox."""
    octets = message.octets
    assert octets is not None
    ours = _OUR_FIELDS.match(octets)
    if ours is not None:
        octets = octets[ours.end() :]
    if not message.measured:
        octets = _without_separator(octets)
        end = header_end(octets)
        if octets.find(b">From ", end) >= 0:
            octets = octets[:end] + _QUOTED.sub(rb"\1", octets[end:])
    status, x_status, words = ours.groups() if ours is not None else _fields(octets)
    keywords, deleted = _keywords(status, x_status, words)
    if ours is None and (mozilla := field(octets, b"X-Mozilla-Status")) is not None:
        flags = _hexadecimal(mozilla)
        keywords.update(keyword for bit, keyword in _MOZILLA if flags & bit)
        deleted = deleted or bool(flags & _MOZILLA_EXPUNGED)
    return Marked(to_crlf(octets), tuple(sorted(keywords)), deleted, ours is not None)


def _without_separator(octets: bytes) -> bytes:
    """Take off the empty line that stands between messages."""
    if octets.endswith(b"\r\n\r\n"):
        return octets[:-2]
    return octets[:-1] if octets.endswith(b"\n\n") else octets


def _fields(octets: bytes) -> tuple[bytes, bytes, bytes]:
    names = (b"Status", b"X-Status", b"X-Keywords")
    status, x_status, words = (field(octets, name) or b"" for name in names)
    return status, x_status, words


def _keywords(status: bytes, x_status: bytes, words: bytes) -> tuple[set[str], bool]:
    keywords = {SEEN} if b"R" in status else set()
    for letter, keyword in ((b"A", ANSWERED), (b"F", FLAGGED), (b"T", DRAFT)):
        if letter in x_status:
            keywords.add(keyword)
    for word in words.replace(b",", b" ").split():
        try:
            keywords.add(check_keyword(word.decode("ascii", "replace")))
        except Invalid:
            continue
    return keywords, b"D" in x_status or b"D" in status


def _hexadecimal(value: bytes) -> int:
    try:
        return int(value[:8], 16)
    except ValueError:
        return 0


def from_line_ms(line: bytes) -> int | None:
    """Return the date of a `From ` line, which is in UTC unless it says otherwise."""
    text = line.decode("ascii", "replace").strip()
    match = re.search(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b.*", text)
    return None if match is None else date_ms(match[0])


def entry(octets: bytes, *, sender: str, received_at_ms: int, keywords: Iterable[str]) -> bytes:
    """Return a message as it is put into a mbox (mboxrd), with the empty line after it."""
    when = datetime.fromtimestamp(received_at_ms // 1000, UTC).ctime()
    author = re.sub(r"[^!-~]", "", sender) or "MAILER-DAEMON"
    words = set(keywords)
    status = "RO" if SEEN in words else "O"
    pairs = ((ANSWERED, "A"), (FLAGGED, "F"), (DRAFT, "T"))
    x_status = "".join(letter for keyword, letter in pairs if keyword in words)
    others = " ".join(sorted(words - {SEEN, ANSWERED, FLAGGED, DRAFT}))
    head = f"From {author} {when}\nStatus: {status}\nX-Status: {x_status}\nX-Keywords: {others}\n"
    body = to_lf(octets)
    end = header_end(body)
    body = body[:end] + _TO_QUOTE.sub(rb">\1", body[end:])
    line_end = b"\r\n" if b"\r\n" in body[:end] else b"\n"
    if not body.endswith(b"\n"):
        body += line_end
    return head.encode() + body + line_end

"""ContentEncoding: octets as quoted-printable or base64, to travel as 7-bit lines (RFC 2045 §6).

Pure, and exact: what `mail.transfer.decode` makes of the result is what was given, octet for
octet. Lines end with CRLF and have at most 76 characters. No line of quoted-printable begins
like a delimiter of a multipart, with a dot, or with `From ` (RFC 2049 §3).
"""

from __future__ import annotations

import binascii
import re

LINE_CHARS_MAX = 76  # RFC 2045 §6.7 rule 5, §6.8.
_BASE64_LINE_OCTETS = 57

# What stands for itself: printable ASCII but "=", blanks, and CRLF as the end of a line.
_UNSAFE = re.compile(rb"[^\t\r\n -<>-~]+")
_UNSAFE_OR_BARE = re.compile(rb"[^\t\r\n -<>-~]+|\r+(?!\n)|(?<!\r)\n+")
_SAFE_OCTETS = bytes((9, 10, 13, *range(32, 61), *range(62, 127)))
_AWKWARD_START = re.compile(rb"(?m)^(?:-(?=-)|\.|F(?=rom ))")
_LONG_LINE = re.compile(rb"[^\r\n]{77,}")


def encode_shorter(data: bytes) -> tuple[str, bytes]:
    """Return `quoted-printable` or `base64`, whichever is shorter, with the octets in it."""
    breaks = max(len(data) - 1, 0) // _BASE64_LINE_OCTETS
    base64_size = -(-len(data) // 3) * 4 + 2 * breaks
    # Two more octets for each escaped one is the least that quoted-printable takes.
    if len(data) + 2 * len(data.translate(None, _SAFE_OCTETS)) <= base64_size:
        quoted = encode_quoted_printable(data)
        if len(quoted) <= base64_size:
            return "quoted-printable", quoted
    return "base64", encode_base64(data)


def encode_base64(data: bytes) -> bytes:
    """Return the octets as base64, without a line end after the last line (RFC 2045 §6.8)."""
    letters = binascii.b2a_base64(data, newline=False)
    starts = range(0, len(letters), LINE_CHARS_MAX)
    return b"\r\n".join(letters[start : start + LINE_CHARS_MAX] for start in starts)


def encode_quoted_printable(data: bytes) -> bytes:
    """Return the octets as quoted-printable; a bare CR or LF is no line end (RFC 2045 §6.7)."""
    lines = data.count(b"\r\n")
    has_bare = data.count(b"\r") != lines or data.count(b"\n") != lines
    # Looking for bare ones is three times as slow.
    text = (_UNSAFE_OR_BARE if has_bare else _UNSAFE).sub(_escape, data)
    if text.endswith((b" ", b"\t")):
        text = text[:-1] + (b"=20" if text.endswith(b" ") else b"=09")
    text = text.replace(b" \r\n", b"=20\r\n").replace(b"\t\r\n", b"=09\r\n")
    text = _AWKWARD_START.sub(_escape, text)
    return _LONG_LINE.sub(_wrap, text)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"=" + match[0].hex("=").upper().encode()


def _wrap(match: re.Match[bytes]) -> bytes:
    """Return one line as several, with soft line breaks, no escape being cut."""
    line = match[0]
    out: list[bytes] = []
    pos = 0
    while True:
        start = b""
        if (awkward := _AWKWARD_START.match(line[pos : pos + 5])) is not None:
            start = _escape(awkward)
            pos += 1
        room = LINE_CHARS_MAX - len(start)
        if len(line) - pos <= room:
            out.append(start + line[pos:])
            return b"=\r\n".join(out)
        end = pos + room - 1
        if line[end - 1] == 0x3D:
            end -= 1
        elif line[end - 2] == 0x3D:
            end -= 2
        out.append(start + line[pos:end])
        pos = end

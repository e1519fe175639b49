"""Reencode: a message with 8-bit parts as one of 7-bit lines, for a peer without 8BITMIME.

Pure; done before signing (RFC 6152 §3). What the parts hold is the same afterwards, octet for
octet; parts that need nothing are copied as they are.

Parts       a leaf with 8-bit octets, NUL or lines beyond 998 becomes quoted-printable or base64,
            text whichever is shorter, all else base64; messages in messages are done likewise.
Headers     raw UTF-8 becomes encoded-words (RFC 2047) in free text and names, RFC 2231 in
            parameters, A-labels in domains. Long lines of ASCII are left alone.
Preamble    and epilogue, which nobody shows (RFC 2046 §5.1.1): lines that do not fit are emptied.
Refused     NeedsSmtputf8 (5.6.7): UTF-8 where only SMTPUTF8 can carry it. ConversionRefused
            (5.6.3): signed parts (RFC 1847 §2.1), and what is too deep or too broken to be sure.
"""

from __future__ import annotations

import re

from mail import transfer
from mail.content_encoding import encode_base64, encode_quoted_printable, encode_shorter
from mail.encoded import parse_parameters
from mail.errors import ConversionRefused
from mail.header_downgrade import downgrade
from mail.mime import MESSAGE_TYPES, Part, Tree

LINE_OCTETS_MAX = 998  # RFC 5322 §2.1.1
MESSAGES_DEPTH_MAX = 10  # Messages in messages; each level is read once more.

_LONG_LINE = re.compile(rb"[^\n]{%d}" % (LINE_OCTETS_MAX + 2))  # One octet may be the CR.
_LINE = re.compile(rb"([^\n]*?)(\r?\n|\Z)")
_SEVEN_BIT_ONLY = ("message/partial", "message/external-body")  # RFC 2046 §5.2.2, §5.2.3.


def is_7bit(raw: bytes) -> bool:
    """Say whether any server takes these octets: ASCII without NUL, in lines of at most 998."""
    return raw.isascii() and b"\0" not in raw and _LONG_LINE.search(raw) is None


def reencode(raw: bytes) -> bytes:
    """Return the message with ASCII octets only, and bodies whose lines have at most 998.

    Linear time. Raises ConversionRefused or its kind NeedsSmtputf8, nothing else.
    """
    return raw if is_7bit(raw) else _message(raw, depth=0)


def _message(raw: bytes, *, depth: int) -> bytes:
    if depth > MESSAGES_DEPTH_MAX:
        raise ConversionRefused("Messages are nested too deep to be converted")
    tree = Tree(raw)
    out: list[bytes] = []
    _part(raw, tree.root, out, hint=tree.hint, depth=depth)
    return b"".join(out)


def _span(part: Part) -> tuple[int, int, int]:
    """Return the offsets in the message of header, body and end of a part."""
    return part._start, part._body_start, part._end


def _part(raw: bytes, part: Part, out: list[bytes], *, hint: str | None, depth: int) -> None:
    """Write one part of `raw` with everything below it."""
    start, body_start, end = _span(part)
    is_message = start == 0
    if part.is_multipart:
        signed = part.type == "multipart/signed"
        out.append(downgrade(part, hint, encoding="7bit", is_message=is_message))
        pos = body_start
        for child in part.subparts:
            child_start, _, child_end = _span(child)
            out.append(_gap(raw[pos:child_start]))
            if signed:
                out.append(_signed(raw[child_start:child_end]))
            else:
                _part(raw, child, out, hint=hint, depth=depth)
            pos = child_end
        out.append(_gap(raw[pos:end]))
        return
    body = part.body_bytes
    if is_7bit(body):
        out += (downgrade(part, hint, encoding=None, is_message=is_message), body)
        return
    if part.type == "message/rfc822" and part.encoding in transfer.IDENTITY:
        out.append(downgrade(part, hint, encoding="7bit", is_message=is_message))
        out.append(_message(body, depth=depth + 1))
        return
    encoding, encoded = _leaf(part, body)
    out += (downgrade(part, hint, encoding=encoding, is_message=is_message, body=body), encoded)
    if encoding == "base64" and end == len(raw):
        out.append(b"\r\n")


def _leaf(part: Part, body: bytes) -> tuple[str, bytes]:
    """Return the transfer encoding of a leaf that needs one, and its body in it."""
    declared = parse_parameters(part.header("content-type") or b"")[0]
    if declared.startswith("multipart/"):
        raise ConversionRefused("A multipart is too deep or too broken to be converted")
    if declared in _SEVEN_BIT_ONLY:
        raise ConversionRefused(f"A part of type {declared} must not be converted")
    encoding = part.encoding
    if encoding not in (*transfer.IDENTITY, "quoted-printable", "base64"):
        raise ConversionRefused("A part has 8-bit octets in an encoding that has none")
    data = part.decoded()
    if part.type.startswith("text/") or part.type in MESSAGE_TYPES:
        return encode_shorter(data)
    if encoding == "quoted-printable":
        return encoding, encode_quoted_printable(data)
    return "base64", encode_base64(data)


def _signed(octets: bytes) -> bytes:
    """Return what is signed, or the signature, untouched (RFC 1847 §2.1)."""
    # Long lines alone are not worth a refusal: most servers take them.
    if not octets.isascii() or b"\0" in octets:
        raise ConversionRefused("A signed part must not be converted")
    return octets


def _gap(octets: bytes) -> bytes:
    """Return what stands between parts, delimiters included, without lines that do not fit.

    A line is emptied, not mended: what is mended could come to look like a delimiter.
    """
    if is_7bit(octets):
        return octets
    return _LINE.sub(lambda line: line[0] if is_7bit(line[0]) else line[2], octets)

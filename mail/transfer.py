"""Transfer: content-transfer-encodings undone (RFC 2045 §6), tolerant of what senders do.

Nothing here raises. Well-formed input comes out exactly; malformed input loses as little
as possible.
"""

from __future__ import annotations

import binascii
import re

IDENTITY = frozenset(("", "7bit", "8bit", "binary"))
_UUENCODE = frozenset(("x-uuencode", "x-uue", "uuencode", "uue"))

_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _BASE64_ALPHABET)
_TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n)")
_UU_BEGIN = re.compile(rb"(?:^|\n)begin(?:-base64)?[ \t]+[0-7]{3,4}[ \t][^\n]*\n")


def is_known(encoding: str) -> bool:
    """Say whether `decode` undoes this encoding; if not, it returns the data as it is."""
    return (
        encoding in IDENTITY
        or encoding in ("base64", "quoted-printable")
        or (encoding in _UUENCODE)
    )


def decode(data: bytes, encoding: str) -> bytes:
    """Return `data` with a content-transfer-encoding undone. Never raises.

    `encoding` is in lower case. Data in an unknown encoding is returned as it is, as
    RFC 8621 §4.1.4 asks for `blobId`.
    """
    if encoding == "base64":
        return decode_base64(data)
    if encoding == "quoted-printable":
        return decode_quoted_printable(data)
    if encoding in _UUENCODE:
        return decode_uuencode(data)
    return data


def decode_base64(data: bytes) -> bytes:
    """Undo base64; skip junk, supply padding that is missing.

    The first padding ends the data: RFC 2045 §6.8 takes it as evidence of the end, and
    what mailing lists append after it is not part of the file.
    """
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        letters = data.partition(b"=")[0].translate(None, _NOT_BASE64)
        letters = letters[: len(letters) - (len(letters) % 4 == 1)]
        return binascii.a2b_base64(letters + b"==")


def decode_quoted_printable(data: bytes) -> bytes:
    """Undo quoted-printable; what is not an escape stays as it is (RFC 2045 §6.7)."""
    if b" \n" in data or b" \r\n" in data or b"\t\n" in data or b"\t\r\n" in data:
        data = _TRAILING_BLANKS.sub(b"", data)  # Rule 3: added by transport agents.
    return binascii.a2b_qp(data)


def decode_uuencode(data: bytes) -> bytes:
    """Undo uuencode; return the data as it is when there is no `begin` line."""
    begin = _UU_BEGIN.search(data)
    if begin is None:
        return data
    out: list[bytes] = []
    for line in data[begin.end() :].split(b"\n"):
        line = line.rstrip(b"\r")
        if line in (b"end", b"`", b""):
            break
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:  # Blanks lost or junk added at the end of the line.
            octets = ((line[0] - 32) & 63) * 4 // 3 + 3
            try:
                out.append(binascii.a2b_uu(line[: octets // 4 * 4 + 1]))
            except binascii.Error:
                break
    return b"".join(out)

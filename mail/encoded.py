"""Encoded: header text decoded: encoded-words (RFC 2047), parameters (RFC 2231), raw octets.

More is decoded than the grammar allows: encoded-words inside quoted strings, glued to other
text, or split in the middle of a character are all common and all readable.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from mail import charset as charsets
from mail.transfer import decode_base64

PARAMETERS_BYTES_MAX = 16_384  # A longer Content-Type is an attack; names and boundary come early.
PARAMETER_BYTES_MAX = 4096  # Decoded of one; file systems take names of 255 octets.

_WORD = re.compile(rb"=\?([^?\s]{1,64})\?([BbQq])\?([^?]*)\?=")
_FOLD = re.compile(rb"\r*\n(?=[ \t])|[\r\n]+\Z")
_LINE_END = re.compile(rb"[\r\n]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*+"?|[^;]*)', re.DOTALL)
_QUOTED_PAIR = re.compile(rb'\\(["\\])')
_COMMENT = re.compile(rb"\([^()]*\)")


def unfold(value: bytes) -> bytes:
    """Return a header value on one line, its end of line removed (RFC 5322 §2.2.3)."""
    if b"\n" in value or b"\r" in value:
        value = _LINE_END.sub(b" ", _FOLD.sub(b"", value))
    return value


def decode_text(value: bytes, hint: str | None = None) -> str:
    """Return an unfolded header value as text in NFC. Never raises.

    Adjacent encoded-words of one charset are joined before the charset is decoded, because
    senders split characters between them although RFC 2047 §5 forbids it. Octets beyond
    ASCII are UTF-8 (RFC 6532 §3.2) or else guessed, `hint` being the likely charset.
    """
    if b"=?" not in value:
        return _decode_raw(value, hint)
    out: list[str] = []
    words: list[tuple[str, bool, bytes]] = []  # (charset, is base64, encoded text)
    pos = 0
    for match in _WORD.finditer(value):
        gap = value[pos : match.start()]
        if gap and not (words and gap.isspace()):
            out.append(_decode_words(words, hint))
            words = []
            out.append(_decode_raw(gap, hint))
        label = match[1].partition(b"*")[0].decode("ascii", "replace")  # RFC 2231 §5: language.
        words.append((label, match[2] in b"Bb", match[3]))
        pos = match.end()
    out.append(_decode_words(words, hint))
    out.append(_decode_raw(value[pos:], hint))
    return unicodedata.normalize("NFC", "".join(out))


def charset_hint(value: bytes) -> str | None:
    """Return the charset of the first encoded-word in a header value, None if there is none."""
    match = _WORD.search(value)
    return None if match is None else match[1].partition(b"*")[0].decode("ascii", "replace")


def _decode_raw(value: bytes, hint: str | None) -> str:
    if value.isascii() and b"\x1b" not in value:
        text = value.decode("ascii")
        return text.replace("\x00", "") if "\x00" in text else text
    return unicodedata.normalize("NFC", charsets.decode(value, None, hint=hint)[0])


def _decode_words(words: list[tuple[str, bool, bytes]], hint: str | None) -> str:
    """Decode a run of adjacent encoded-words."""
    out: list[str] = []
    octets = b""
    base64_rest = b""  # A word whose base64 goes on in the next one.
    for i, (label, is_base64, encoded) in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else None
        joins = following is not None and following[0].lower() == label.lower()
        if is_base64:
            encoded = base64_rest + encoded
            base64_rest = b""
            if joins and following is not None and following[1] and _is_open(encoded):
                base64_rest = encoded
                continue
            octets += decode_base64(encoded)
        else:
            octets += binascii.a2b_qp(encoded, header=True)
        if not joins:
            text = charsets.decode(octets, label, hint=hint)[0]
            # RFC 8621 §4.1.2.2: encoded control characters are dropped.
            out.append(_CONTROL.sub("", text))
            octets = b""
    return "".join(out)


def _is_open(encoded: bytes) -> bool:
    return len(encoded) % 4 != 0 and b"=" not in encoded


def parse_parameters(value: bytes) -> tuple[str, dict[str, bytes]]:
    """Split a Content-Type or Content-Disposition value (RFC 2045 §5.1, RFC 2183 §2).

    Returns the main value in lower case without comments, and the parameters by lower-case
    name, quotes removed, undecoded; of a repeated parameter the first counts.
    """
    value = unfold(value[:PARAMETERS_BYTES_MAX])
    main, semicolon, _rest = value.partition(b";")
    if b"(" in main:
        main = _COMMENT.sub(b" ", main)
    parameters: dict[str, bytes] = {}
    if semicolon:
        for match in _PARAMETER.finditer(value, len(value.partition(b";")[0])):
            name = match[1].decode("latin-1").lower()
            if name not in parameters:
                parameters[name] = _parameter_value(name, match[2])
    return "".join(main.decode("latin-1").lower().split()), parameters


def _parameter_value(name: str, value: bytes) -> bytes:
    if value.startswith(b'"'):
        value = value[1:-1] if len(value) > 1 and value.endswith(b'"') else value[1:]
        # Only these two are unescaped: senders write Windows paths, and the second
        # octet of a Shift_JIS or GBK character may be a backslash.
        return _QUOTED_PAIR.sub(rb"\1", value) if b"\\" in value else value
    value = value.strip()
    if name.startswith(("name", "filename")):
        return value  # Unquoted names with blanks are common.
    return value.split(None, 1)[0].partition(b"(")[0] if value else value


def decode_parameter(
    parameters: Mapping[str, bytes], name: str, hint: str | None = None
) -> str | None:
    """Return a parameter's text, None when absent.

    Reads, in this order, the extended form, continuations (RFC 2231 §3, §4) and the plain
    form with encoded-words or raw octets.
    """
    extended = parameters.get(f"{name}*")
    if extended is not None:
        return _decode_extended([(extended[:PARAMETER_BYTES_MAX], True)], hint)
    pieces: list[tuple[bytes, bool]] = []
    size = 0
    for i in range(len(parameters)):
        if size >= PARAMETER_BYTES_MAX:
            break
        if (piece := parameters.get(f"{name}*{i}*")) is not None:
            pieces.append((piece, True))
        elif (piece := parameters.get(f"{name}*{i}")) is not None:
            pieces.append((piece, False))
        else:
            break
        size += len(piece)
    if any(is_extended for _piece, is_extended in pieces):
        return _decode_extended(pieces, hint)
    if pieces:
        return _tidy(decode_text(b"".join(piece for piece, _ in pieces), hint))
    plain = parameters.get(name)
    return None if plain is None else _tidy(decode_text(plain[:PARAMETER_BYTES_MAX], hint))


def _decode_extended(pieces: list[tuple[bytes, bool]], hint: str | None) -> str:
    """Decode `charset'language'text`; the charset covers all pieces (RFC 2231 §4.1)."""
    label: str | None = None
    first, is_extended = pieces[0]
    if is_extended and first.count(b"'") >= 2:
        raw_label, _language, text = first.split(b"'", 2)
        label = raw_label.decode("latin-1") or None
        pieces = [(text, True), *pieces[1:]]
    octets = b"".join(unquote_to_bytes(piece) if extended else piece for piece, extended in pieces)
    text_, _problem = charsets.decode(octets, label, hint=hint)
    return _tidy(unicodedata.normalize("NFC", text_))


def _tidy(text: str) -> str:
    return _CONTROL.sub("", text).strip()

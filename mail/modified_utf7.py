"""ModifiedUtf7: how IMAP servers, and Maildirs, write folder names (RFC 3501 §5.1.3)."""

from __future__ import annotations

import base64
import binascii
import re

_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")


def decode(text: str) -> str:
    """Return the name that `text` stands for; what is no modified UTF-7 stands for itself."""
    position = 0
    pieces: list[str] = []
    for match in _SHIFTED.finditer(text):
        pieces.append(text[position : match.start()])
        position = match.end()
        try:
            pieces.append(_shifted(match[1]))
        except (binascii.Error, UnicodeDecodeError):
            return text
    pieces.append(text[position:])
    return text if any("&" in piece for piece in pieces[::2]) else "".join(pieces)


def _shifted(letters: str) -> str:
    if not letters:
        return "&"
    padded = letters.replace(",", "/") + "=" * (-len(letters) % 4)
    return base64.b64decode(padded, validate=True).decode("utf-16-be")


def encode(text: str, *, also: str = "") -> str:
    """Return the modified UTF-7 of a name.

    `also` are ASCII characters that are to be encoded too, because they mean something where
    the name is going to stand; `decode` reads them back.
    """
    pieces: list[str] = []
    waiting = ""
    for character in text:
        if " " <= character <= "~" and character not in also:
            pieces.append(_encoded(waiting))
            waiting = ""
            pieces.append("&-" if character == "&" else character)
        else:
            waiting += character
    return "".join((*pieces, _encoded(waiting)))


def _encoded(text: str) -> str:
    if not text:
        return ""
    octets = text.encode("utf-16-be", "surrogatepass")
    return f"&{base64.b64encode(octets).decode().rstrip('=').replace('/', ',')}-"

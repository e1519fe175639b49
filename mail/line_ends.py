"""LineEnds: messages kept in files of Unix have lines that end with LF, mail has CRLF.

What is served has the line ends of RFC 5322 §2.1; a file that has them already is left alone.
"""

from __future__ import annotations

import re

_BARE_LF = re.compile(rb"(?<!\r)\n")


def to_crlf(octets: bytes) -> bytes:
    """Return the message as mail; unchanged when its first line ends with CRLF."""
    end = octets.find(b"\n")
    if end < 0 or (end > 0 and octets[end - 1] == 0x0D):
        return octets
    if b"\r" not in octets:
        return octets.replace(b"\n", b"\r\n")
    return _BARE_LF.sub(b"\r\n", octets)


def to_lf(octets: bytes) -> bytes:
    """Return the message as a file of Unix; unchanged when `to_crlf` could not undo it."""
    short = octets.replace(b"\r\n", b"\n")
    return short if to_crlf(short) == octets else octets

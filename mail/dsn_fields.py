r"""DsnFields: lines of a delivery status notification, whatever the text came from (RFC 3464 §2).

Pure. A peer's reply, an address and a subject are hostile: they may hold line ends, control
characters, marks that turn the direction of writing, halves of characters, a megabyte without a
blank. What is written here is one field or one line, of bounded length, in lines of at most 998
octets.
"""

from __future__ import annotations

import re

from mail.charset import clean

FOLD_AT = 78  # RFC 5322 §2.1.1: what a line should have at most.
# Without its blanks a word stays whole up to here, which no address exceeds; with the longest
# field name before it the line is still within the 998 octets of RFC 5322 §2.1.1.
WORD_OCTETS_MAX = 900
_PIECE_CHARS_MAX = WORD_OCTETS_MAX // 4  # of at most four octets each

# Line ends of Unicode are controls here, and so are the marks that make text look reversed.
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_DIRECTION = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


def one_line(text: str, chars_max: int) -> str:
    """Return `text` as one line of at most `chars_max` characters, `…` for what is cut off."""
    head = text[: 2 * chars_max]  # Blanks shrink; more than this of them are not looked at.
    line = _DIRECTION.sub("", _CONTROL.sub(" ", clean(head))).strip()
    if len(line) > chars_max or len(head) < len(text):
        line = line[: chars_max - 1].rstrip() + "…"
    return line


def to_ascii(text: str) -> str:
    r"""Return `text` with `\x{AC00}` for a character beyond ASCII (RFC 6533 §3)."""
    text = text.replace("…", "...")
    return _BEYOND_ASCII.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", text)


def status_field(name: str, value: str) -> bytes:
    """Return a field of a status part, folded at blanks; a blank may be added to a huge word.

    `value` is one line. What is not ASCII becomes UTF-8 (RFC 6533 §4).
    """
    lines: list[str] = []
    line = f"{name}:"
    is_empty = True  # The first word stays beside the name.
    for word in value.split(" "):
        for piece in _pieces(word):
            if not is_empty and len(line) + 1 + len(piece) > FOLD_AT:
                lines.append(line)
                line = ""
            line += " " + piece
            is_empty = False
    return "".join(f"{line}\r\n" for line in [*lines, line]).encode()


def _pieces(word: str) -> list[str]:
    if len(word.encode()) <= WORD_OCTETS_MAX:
        return [word] if word else []
    step = _PIECE_CHARS_MAX
    return [word[start : start + step] for start in range(0, len(word), step)]

"""Fields: header fields of messages that this server writes, as octets with CRLF (RFC 5322 §2.2).

Pure. Text beyond ASCII becomes encoded-words (RFC 2047); an address beyond ASCII stays raw UTF-8,
since nothing else can carry it (RFC 6532 §3.2). No text brings in a line of its own: control
characters become blanks. Lines are folded at 76 characters where the words allow it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from mail.charset import clean
from mail.summary import EmailAddress

FOLD_AT = 76  # RFC 2047 §2: no line with an encoded-word is longer.
WORD_OCTETS_MAX = 45  # 72 characters of encoded-word; RFC 2047 §2 allows 75.
WORD_OCTETS_MIN = 12  # Less room than for these four letters is left empty.
PLAIN_CHARS_MAX = 200  # A longer word without a blank is encoded, since it can be cut there.
GAP_CHARS_MAX = 20  # More blanks in a row say nothing.

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_PLAIN = re.compile(rf"[!-~]{{1,{PLAIN_CHARS_MAX}}}")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_WORD_OVERHEAD = len("=?utf-8?B??=")


def date_time(unix_ms: int) -> str:
    """Return a date-time in UTC, in English whatever the locale (RFC 5322 §3.3)."""
    at = datetime.fromtimestamp(unix_ms // 1000, UTC)
    return (
        f"{DAYS[at.weekday()]}, {at.day:02} {MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} +0000"
    )


def unstructured(name: str, text: str) -> bytes:
    """Return a field of free text: Subject, Comments and their like (RFC 5322 §3.6.5)."""
    return _field(name, _text_tokens(_tidy(text), len(name) + 2))


def address_list(name: str, addresses: Iterable[EmailAddress]) -> bytes:
    """Return a field of addresses; each `email` is an addr-spec that was checked."""
    return _field(name, _address_tokens(tuple(addresses), len(name) + 2))


def grouped_address_list(
    name: str, groups: Iterable[tuple[str | None, tuple[EmailAddress, ...]]]
) -> bytes:
    """Return a field of addresses with groups, those with name None being none."""
    tokens: list[tuple[str, str]] = []
    column = len(name) + 2
    for group, addresses in groups:
        if tokens:
            tokens[-1] = (tokens[-1][0], tokens[-1][1] + ",")
        if group is not None:
            # An empty name is no phrase: it is given one, lest the group be lost.
            tokens += phrase_tokens(group or "undisclosed-recipients", column)
            tokens[-1] = (tokens[-1][0], tokens[-1][1] + ":")
        tokens += _address_tokens(addresses, FOLD_AT)
        if group is not None:
            tokens[-1] = (tokens[-1][0], tokens[-1][1] + ";")
        column = FOLD_AT  # Where a later name begins is not known yet: its words fit a new line.
    return _field(name, tokens)


def message_ids(name: str, ids: Iterable[str]) -> bytes:
    """Return a field of message ids, which are given without angle brackets (RFC 5322 §3.6.4)."""
    return _field(name, ((" ", f"<{item}>") for item in ids))


def plain(name: str, value: str) -> bytes:
    """Return a field whose value is ASCII and short enough for its line."""
    assert value.isascii()
    assert _CONTROL.search(value) is None
    return f"{name}: {value}\r\n".encode()


def phrase_tokens(text: str, column: int) -> list[tuple[str, str]]:
    """Return the (blank, word) pairs of a display name (RFC 5322 §3.2.5)."""
    text = _tidy(text)
    if text.isascii() and "=?" not in text and len(text) <= PLAIN_CHARS_MAX:
        if _ATOMS.fullmatch(text) is not None and "  " not in text:
            return [(" ", word) for word in text.split(" ") if word]
        return [(" ", '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')]
    return [(" ", word) for word in _encoded_words(text, column)]


def _address_tokens(addresses: tuple[EmailAddress, ...], column: int) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    for i, address in enumerate(addresses):
        assert address.email
        assert _CONTROL.search(address.email) is None
        comma = "," if i + 1 < len(addresses) else ""
        if address.name and _tidy(address.name):
            tokens += phrase_tokens(address.name, column)
            tokens.append((" ", f"<{address.email}>{comma}"))
        else:
            tokens.append((" ", address.email + comma))
        column = FOLD_AT
    return tokens


def _tidy(text: str) -> str:
    return _CONTROL.sub(" ", clean(text)).strip()


def _text_tokens(text: str, column: int) -> Iterator[tuple[str, str]]:
    """Yield (blanks, word) pairs; words in a row that need it share their encoded-words."""
    pieces = re.split(r"( +)", text)
    run: list[str] = []
    run_gap, gap = " ", " "
    for i in range(0, len(pieces), 2):
        word = pieces[i]
        is_plain = _PLAIN.fullmatch(word) is not None and "=?" not in word
        if is_plain:
            if run:
                yield from _run_tokens(run_gap, "".join(run), column)
                column, run = FOLD_AT, []
            yield gap, word
            column += len(gap) + len(word)
        elif word:
            if run:
                run.append(gap)
            else:
                run_gap = gap
            run.append(word)
        if i + 1 < len(pieces):
            gap = pieces[i + 1][:GAP_CHARS_MAX]
    if run:
        yield from _run_tokens(run_gap, "".join(run), column)


def _run_tokens(gap: str, text: str, column: int) -> Iterator[tuple[str, str]]:
    for word in _encoded_words(text, column):
        yield gap, word
        gap = " "


def _encoded_words(text: str, column: int) -> Iterator[str]:
    """Yield encoded-words, each of whole characters (RFC 2047 §5), the first one to fit a line."""
    octets = text.encode()
    room = (FOLD_AT - column - _WORD_OVERHEAD) // 4 * 3
    size = room if WORD_OCTETS_MIN <= room < WORD_OCTETS_MAX else WORD_OCTETS_MAX
    pos = 0
    while pos < len(octets):
        end = min(pos + size, len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        encoded = binascii.b2a_base64(octets[pos:end], newline=False).decode()
        yield f"=?utf-8?B?{encoded}?="
        pos, size = end, WORD_OCTETS_MAX


def _field(name: str, tokens: Iterable[tuple[str, str]]) -> bytes:
    """Return the field, a line end before the blanks of every word that would not fit."""
    out = [f"{name}:"]
    column = len(name) + 1
    for i, (gap, word) in enumerate(tokens):
        gap = " " if i == 0 else gap
        width = len(gap) + len(word)
        # The first word stays beside the name, where every reader looks for it, if it can.
        if column + width > FOLD_AT and (i > 0 or width < FOLD_AT):
            out.append("\r\n")
            column = 0
        out += (gap, word)
        column += width
    out.append("\r\n")
    return "".join(out).encode()

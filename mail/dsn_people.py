"""DsnPeople: the part of a delivery status notification that people read.

Pure. The words are those of `mail.dsn_texts`; every text that comes in is one line already
(`mail.dsn_fields.one_line`). Lines end with CRLF and are short.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mail.dsn_texts import Texts, reason_for

WIDTH = 76
NOTES_MAX = 50  # With one action; whoever wrote to more reads the report of the next part.


class Note(NamedTuple):
    """What is said of one recipient; `action` is a word of RFC 3464 §2.3.3."""

    action: str
    address: str
    status: str
    remote_mta: str
    said: str  # The reply of the other server, empty if there was none.


def write(
    texts: Texts, *, host: str, subject: str, notes: Sequence[Note], until_ms: int | None
) -> str:
    """Return the text: greeting, the recipients by what became of them, what comes next."""
    out = [_paragraph(texts.greeting.format(host=host, subject=subject))]
    for action, heading in (
        ("failed", texts.failed),
        ("delayed", texts.delayed),
        ("delivered", texts.delivered),
        ("relayed", texts.relayed),
        ("expanded", texts.expanded),
    ):
        mine = [note for note in notes if note.action == action]
        if not mine:
            continue
        out.append(_paragraph(heading))
        out += (_recipient(texts, note) for note in mine[:NOTES_MAX])
        if len(mine) > NOTES_MAX:
            out.append(_paragraph(texts.others.format(count=len(mine) - NOTES_MAX)))
        if action == "failed":
            out.append(_paragraph(texts.failed_end))
        elif action == "delayed":
            out.append(_paragraph(_delayed_end(texts, until_ms)))
    return "\r\n".join(out)


def _recipient(texts: Texts, note: Note) -> str:
    lines = _lines(note.address, "  ")
    if note.action in ("failed", "delayed"):
        what, advice = reason_for(texts, note.status)
        # Whose message is only late has nothing to do.
        lines += _lines(what if note.action == "delayed" else f"{what} {advice}", "    ")
        if note.said:
            server = f" ({note.remote_mta})" if note.remote_mta else ""
            lines += _lines(f"{texts.said} {note.said}{server}", "    ")
    return _joined(lines)


def _delayed_end(texts: Texts, until_ms: int | None) -> str:
    if until_ms is None:
        return texts.delayed_end
    until = datetime.fromtimestamp(until_ms // 1000, UTC)
    return f"{texts.delayed_end} {texts.delayed_until.format(until=f'{until:%Y-%m-%d %H:%M} UTC')}"


def _paragraph(text: str) -> str:
    return _joined(_lines(text, ""))


def _lines(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,  # An address stays whole.
        break_on_hyphens=False,
    )


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)

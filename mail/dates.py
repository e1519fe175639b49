"""Dates: the date-time of header fields as RFC 3339, however it was written (RFC 5322 §3.3)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

DATE_CHARS_MAX = 200  # The longest sensible date with comments.

_MONTHS = {
    name: i
    for i, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
# RFC 5322 §4.3 and the zones that mail in our part of the world carries by name.
_ZONES_MIN = {
    "ut": 0, "utc": 0, "gmt": 0, "z": 0, "est": -300, "edt": -240, "cst": -360, "cdt": -300,
    "mst": -420, "mdt": -360, "pst": -480, "pdt": -420, "kst": 540, "jst": 540, "cet": 60,
    "cest": 120, "bst": 60, "msk": 180, "hkt": 480, "sgt": 480,
}  # fmt: skip

_CLOCK = r"(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2}))?(?:[.,]\d+)?"
_ZONE = r"\s*(?:(?:gmt|utc)?\s*([+-])(\d{1,2}):?(\d{2})|([a-z]{1,5}))?"
_RFC = re.compile(
    rf"(?:[a-z]+\.?\s*,?\s*)?(\d{{1,2}})[\s/-]+([a-z]{{3}})[a-z]*\.?,?[\s/-]+(\d{{2,4}}),?"
    rf"(?:[\s:]+{_CLOCK}(?:\s*([ap])m\b)?{_ZONE})?",
    re.ASCII,
)
_ASCTIME = re.compile(
    rf"(?:[a-z]+\.?,?\s+)?([a-z]{{3}})[a-z]*\.?\s+(\d{{1,2}}),?\s+{_CLOCK}{_ZONE}\s+(\d{{4}}){_ZONE}",
    re.ASCII,
)
_ISO = re.compile(
    rf"(?:[a-z]+\.?,?\s+)?(\d{{4}})[-/](\d{{1,2}})[-/](\d{{1,2}})(?:[t\s]+{_CLOCK}{_ZONE})?",
    re.ASCII,
)
_COMMENT = re.compile(r"\([^()]*\)?")


def to_rfc3339(text: str) -> str | None:
    """Return the date-time in RFC 3339 form with the sender's offset, None if unreadable.

    Two and three digit years are read as RFC 5322 §4.3 says, an unknown zone as UTC. Never
    raises.
    """
    text = text[:DATE_CHARS_MAX]
    if "(" in text:
        text = _COMMENT.sub(" ", text)
    text = text.strip().lower()
    if (m := _RFC.match(text)) is not None:
        month = _MONTHS.get(m[2])
        hour = _hour(m[4], m[7])
        return _format(_year(m[3]), month, m[1], hour, m[5], m[6], _offset_min(*m.groups()[7:11]))
    if (m := _ISO.match(text)) is not None:
        return _format(
            int(m[1]), int(m[2]), m[3], _hour(m[4], None), m[5], m[6],
            _offset_min(*m.groups()[6:10]),
        )  # fmt: skip
    if (m := _ASCTIME.match(text)) is not None:
        zone = m.groups()[5:9] if any(m.groups()[5:9]) else m.groups()[10:14]
        month = _MONTHS.get(m[1])
        return _format(int(m[10]), month, m[2], _hour(m[3], None), m[4], m[5], _offset_min(*zone))
    return None


def _year(digits: str) -> int:
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year


def _hour(digits: str | None, half: str | None) -> int:
    hour = int(digits or 0)
    if half is not None and 1 <= hour <= 12:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour


def _offset_min(sign: str | None, hours: str | None, minutes: str | None, name: str | None) -> int:
    if sign is None or hours is None:
        return _ZONES_MIN.get(name or "", 0)
    offset = int(hours) * 60 + int(minutes or 0)
    if offset >= 24 * 60:
        return 0
    return -offset if sign == "-" else offset


def _format(
    year: int, month: int | None, day: str, hour: int, minute: str | None, second: str | None,
    offset_min: int,
) -> str | None:  # fmt: skip
    if month is None:
        return None
    try:
        when = datetime(
            year, month, int(day), hour, int(minute or 0), min(int(second or 0), 59),
            tzinfo=timezone(timedelta(minutes=offset_min)),
        )  # fmt: skip
    except ValueError:
        return None
    text = when.isoformat(timespec="seconds")
    return text[:-6] + "Z" if offset_min == 0 else text

"""HeaderScan: single fields of a message's header, without parsing the message.

For those who look through many messages for a date or a flag.
"""

from __future__ import annotations

import re
from datetime import datetime

from mail.dates import to_rfc3339
from mail.headers import as_text

# Longer headers exist; what is looked for stands near the top, or is not worth the search.
HEADER_BYTES_MAX = 1 << 17

HEADER_END = re.compile(rb"\n\r?\n")


def header_end(octets: bytes) -> int:
    """Return where the body begins; the length of the message when it has none."""
    for line_end in (b"\n", b"\r\n"):
        if octets.startswith(line_end):
            return len(line_end)
    match = HEADER_END.search(octets)
    return len(octets) if match is None else match.end()


def field(octets: bytes, name: bytes) -> bytes | None:
    """Return the unfolded value of the first field of that name, None when there is none."""
    end = min(header_end(octets), HEADER_BYTES_MAX)
    pattern = rb"(?im)^" + re.escape(name) + rb"[ \t]*:((?:.*\n[ \t])*.*)$"
    match = re.compile(pattern).search(octets, 0, end)
    return None if match is None else b" ".join(match[1].split())


def received_ms(octets: bytes) -> int | None:
    """Return when a message was received: by its first Received field, else by its Date."""
    trace = field(octets, b"Received")
    found = None if trace is None else date_ms(as_text(trace.rpartition(b";")[2]))
    if found is None and (date := field(octets, b"Date")) is not None:
        found = date_ms(as_text(date))
    return found


def date_ms(text: str) -> int | None:
    """Return a date of any form as Unix time, None when it cannot be read or lies before 1970."""
    written = to_rfc3339(text)
    if written is None:
        return None
    found = int(datetime.fromisoformat(written).timestamp() * 1000)
    return found if found >= 0 else None

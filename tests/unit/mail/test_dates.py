"""Dates: standard, obsolete and broken forms."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.dates import to_rfc3339


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06-06:00"),
        ("Tue, 1 Jul 2003 10:52:37 +0200 (CEST)", "2003-07-01T10:52:37+02:00"),
        ("Thu, 13 Feb 1969 23:32 -0330 (Newfoundland Time)", "1969-02-13T23:32:00-03:30"),
        ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06Z"),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
        ("1 Jan 49 00:00 EST", "2049-01-01T00:00:00-05:00"),
        ("1 Jan 103 00:00 +0000", "2003-01-01T00:00:00Z"),
        ("Mon, 22 Jan 2018 10:00:00 GMT+0900", "2018-01-22T10:00:00+09:00"),
        ("Mon, 22 January 2018 10:00:00 KST", "2018-01-22T10:00:00+09:00"),
        ("Wed, 01-Jan-2020 1:02:03 PM", "2020-01-01T13:02:03Z"),
        ("Mon Jan  2 15:04:05 2006", "2006-01-02T15:04:05Z"),
        ("Mon Jan  2 15:04:05 KST 2006", "2006-01-02T15:04:05+09:00"),
        ("2011-02-03 04:05:06 +0900", "2011-02-03T04:05:06+09:00"),
        ("2011-02-03T04:05:06Z", "2011-02-03T04:05:06Z"),
        ("Thu, 1 Jan 2015 23:59:60 +0000", "2015-01-01T23:59:59Z"),
        ("Thu, 1 Jan 2015 23:59:59 +9999", "2015-01-01T23:59:59Z"),
        ("Fri, 21 Nov 1997", "1997-11-21T00:00:00Z"),
        ("Thu, 32 Jan 2011 10:00:00", None),
        ("Sat, 29 Feb 2019 10:00:00 +0000", None),
        ("Mon, 1 Foo 2019 10:00:00 +0000", None),
        ("yesterday", None),
        ("", None),
        ("(" * 1000, None),
    ],
)
def test_dates(text: str, expected: str | None) -> None:
    assert to_rfc3339(text) == expected


@given(
    st.datetimes(min_value=datetime(1000, 1, 1)),  # noqa: DTZ001
    st.integers(-23 * 60, 23 * 60),
)
def test_well_formed_dates_are_exact(when: datetime, offset_min: int) -> None:
    sign, (hours, minutes) = "-" if offset_min < 0 else "+", divmod(abs(offset_min), 60)
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[when.month * 3 - 3 : when.month * 3]
    text = f"{when.day} {month} {when.year:04} {when:%H:%M:%S} {sign}{hours:02}{minutes:02}"
    zone = f"{sign}{hours:02}:{minutes:02}" if offset_min else "Z"
    assert to_rfc3339(text) == f"{when:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + zone


@given(st.text(max_size=60) | st.from_regex(r"[0-9a-zA-Z:+, -]{0,40}"))
def test_any_text_is_a_date_or_none(text: str) -> None:
    result = to_rfc3339(text)
    assert result is None or datetime.fromisoformat(result)

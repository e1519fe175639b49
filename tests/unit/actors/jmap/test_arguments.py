"""Types of arguments (RFC 8620 §1.3, §1.4)."""

from __future__ import annotations

import pytest

from actors.jmap.arguments import INT_MAX, check_unsigned, check_utc_date
from actors.jmap.problems import MethodError


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01T00:00:00.0001Z", 1),
        ("1970-01-01T00:00:00.000Z", 0),
        ("1969-12-31T23:59:59.5Z", -500),
        ("2000-02-29T12:00:00Z", 951_825_600_000),
        ("1998-12-31T23:59:60Z", 915_148_800_000),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
    ],
)
def test_utc_dates(text: str, ms: int) -> None:
    assert check_utc_date("before", text) == ms


@pytest.mark.parametrize(
    "value",
    [
        "", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01t00:00:00z", "1970-1-1T00:00:00Z",
        "1970-01-01T00:00:00.Z", "1970-01-01T00:00:61Z", "1970-01-01T24:00:00Z",
        "1970-13-01T00:00:00Z", "2001-02-29T00:00:00Z", "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00+00:00", "1970-01-01 00:00:00Z", "1970-01-01T00:00:00Z\n", 0, None,
        "１970-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_utc_date(value: object) -> None:
    with pytest.raises(MethodError, match="invalidArguments"):
        check_utc_date("before", value)


def test_unsigned() -> None:
    assert check_unsigned("limit", 0) == 0
    assert check_unsigned("limit", INT_MAX) == INT_MAX == 9007199254740991
    for value in (-1, INT_MAX + 1, 1.0, True, "1", None, [], {}):
        with pytest.raises(MethodError, match="invalidArguments"):
            check_unsigned("limit", value)

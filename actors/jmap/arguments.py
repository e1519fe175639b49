"""Arguments: what a method was called with, taken out one by one and checked.

A wrong type, a number out of range, a missing or an unknown argument is `invalidArguments`
(RFC 8620 §3.6.2); null stands for an argument that was left out (RFC 8620 §3.5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.jmap.context import Context
from actors.jmap.ids import is_id, parse_account_id
from actors.jmap.limits import PROPERTIES_MAX
from actors.jmap.problems import MethodError, invalid

INT_MAX = 2**53 - 1  # RFC 8620 §1.3
_UTC_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Arguments:
    """The arguments of one call. Each is taken once; `close` refuses what is left."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._left = dict(values)

    def account(self, context: Context) -> None:
        """Take `accountId`, which must be the account of this mailbox."""
        text = self._left.pop("accountId", None)
        if not isinstance(text, str) or not is_id(text):
            raise invalid("accountId: an Id is required")
        if parse_account_id(text) != context.access.mailbox_id:
            raise MethodError("accountNotFound")

    def close(self) -> None:
        """Refuse the arguments that nobody has asked for."""
        if self._left:
            raise invalid(f"unknown argument {min(self._left)[:100]}")

    def all(self) -> dict[str, Any]:
        """Take everything that is left."""
        left, self._left = self._left, {}
        return left

    def any(self, name: str) -> Any:
        """Take an argument of any type; None when absent."""
        return self._left.pop(name, None)

    def flag(self, name: str) -> bool:
        """Take a Boolean whose default is false."""
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise invalid(f"{name}: a Boolean is expected")
        return value

    def text(self, name: str) -> str:
        """Take a String that is required."""
        value = self._left.pop(name, None)
        if not isinstance(value, str):
            raise invalid(f"{name}: a String is required")
        return value

    def optional_text(self, name: str) -> str | None:
        """Take a String or null."""
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise invalid(f"{name}: a String is expected")
        return value

    def optional_id(self, name: str) -> str | None:
        """Take an Id or null."""
        value = self.optional_text(name)
        if value is not None and not is_id(value):
            raise invalid(f"{name}: an Id is expected")
        return value

    def integer(self, name: str, default: int) -> int:
        """Take an Int (RFC 8620 §1.3)."""
        value = self._left.pop(name, default)
        if not is_integer(value) or not -INT_MAX <= value <= INT_MAX:
            raise invalid(f"{name}: an Int is expected")
        return int(value)

    def unsigned(self, name: str, default: int) -> int:
        """Take an UnsignedInt (RFC 8620 §1.3)."""
        return check_unsigned(name, self._left.pop(name, default))

    def optional_unsigned(self, name: str, *, least: int = 0) -> int | None:
        """Take an UnsignedInt of at least `least`, or null."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        number = check_unsigned(name, value)
        if number < least:
            raise invalid(f"{name}: at least {least} is expected")
        return number

    def optional_ids(self, name: str) -> list[str] | None:
        """Take an array of Ids or null; every id once, in the order given."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not is_strings(value) or not all(map(is_id, value)):
            raise invalid(f"{name}: an array of Ids is expected")
        return list(dict.fromkeys(value))

    def optional_references(self, name: str) -> list[str]:
        """Take an array of Ids or `#` creation ids, or null for an empty one; each once."""
        value = self._left.pop(name, None)
        if value is None:
            return []
        if not is_strings(value):
            raise invalid(f"{name}: an array of Ids is expected")
        return list(dict.fromkeys(value))

    def optional_properties(self, name: str) -> list[str] | None:
        """Take an array of property names or null; every name once."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not is_strings(value) or len(value) > PROPERTIES_MAX:
            raise invalid(f"{name}: an array of up to {PROPERTIES_MAX} Strings is expected")
        return list(dict.fromkeys(value))

    def objects(self, name: str) -> dict[str, dict[str, Any]]:
        """Take a map of Id, creation id or `#` creation id to object, or null for an empty one."""
        value = self._left.pop(name, None)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
            raise invalid(f"{name}: a map of Id to object is expected")
        return value


def is_integer(value: object) -> bool:
    """Say whether a JSON value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_strings(value: object) -> bool:
    """Say whether a JSON value is an array of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def check_unsigned(name: str, value: object) -> int:
    """Return `value` if it is an UnsignedInt (RFC 8620 §1.3). Raises invalidArguments."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= INT_MAX:
        raise invalid(f"{name[:100]}: an UnsignedInt is expected")
    return value


def check_utc_date(name: str, value: object) -> int:
    """Return the Unix time of a UTCDate (RFC 8620 §1.4), rounded up to a millisecond.

    For times in whole milliseconds, being before or not before it is then exact.
    """
    match = _UTC_DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise invalid(f"{name[:100]}: a UTCDate is expected")
    *fields, fraction = match.groups()
    year, month, day, hour, minute, second = map(int, fields)
    try:
        # RFC 3339 §5.6: a leap second is written as 60.
        start = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        raise invalid(f"{name[:100]}: there is no such date") from None
    if second > 60:
        raise invalid(f"{name[:100]}: there is no such date")
    ms = (start - _EPOCH) // timedelta(milliseconds=1) + (1000 if second == 60 else 0)
    if fraction:
        ms += -(-int(fraction) * 1000 // 10 ** len(fraction))
    return ms

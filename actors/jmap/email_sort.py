"""Email sort: the comparators of Email/query (RFC 8621 §4.4.2)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from actors.jmap.context import pause
from actors.jmap.email_rows import Row
from actors.jmap.limits import EMAIL_SORT_PROPERTIES, ROWS_PER_STEP
from actors.jmap.problems import invalid
from actors.jmap.query import Comparator, parse_sort
from mail.keywords import check_keyword
from mail.summary import EmailAddress, Summary
from mail.threads import base_subject

_BY_KEYWORD = ("hasKeyword", "allInThreadHaveKeyword", "someInThreadHaveKeyword")
_NOTHING = Summary()


def parse_email_sort(value: object) -> tuple[Comparator, ...]:
    """Return the comparators, newest first where none is given.

    Raises invalidArguments, unsupportedSort.
    """
    comparators = parse_sort(value, EMAIL_SORT_PROPERTIES)
    for comparator in comparators:
        if comparator.property in _BY_KEYWORD:
            if comparator.keyword is None:
                raise invalid(f"sort: {comparator.property} needs a keyword")
            check_keyword(comparator.keyword)
    return comparators or (Comparator("receivedAt", ascending=False),)


def is_by_arrival(sort: tuple[Comparator, ...]) -> bool:
    """Say whether the listing of a folder is in this order already."""
    return sort[0].property == "receivedAt" and len(sort) == 1


def is_mutable(sort: tuple[Comparator, ...]) -> bool:
    """Say whether an email's place may change."""
    return any(comparator.property in _BY_KEYWORD for comparator in sort)


def is_by_thread(sort: tuple[Comparator, ...]) -> bool:
    """Say whether it may do so for what another email of its thread is."""
    return any(comparator.property in _BY_KEYWORD[1:] for comparator in sort)


async def sort_rows(rows: list[Row], sort: tuple[Comparator, ...]) -> list[Row]:
    """Return rows in order; where all comparators find them equal they stay as they came."""
    order = list(range(len(rows)))
    for comparator in reversed(sort):
        keys = []
        for i, row in enumerate(rows):
            keys.append(_key(row, comparator))
            if i % ROWS_PER_STEP == 0:
                await pause()
        order.sort(key=keys.__getitem__, reverse=not comparator.ascending)
    return [rows[i] for i in order]


def _key(row: Row, comparator: Comparator) -> Any:
    match comparator.property:
        case "receivedAt":
            return row.received_at_ms
        case "size":
            return row.size_bytes
        case "hasKeyword":
            return _keyword(comparator) in row.keywords
        case "allInThreadHaveKeyword":
            keyword = _keyword(comparator)
            return all(keyword in keywords for keywords in row.thread_keywords)
        case "someInThreadHaveKeyword":
            keyword = _keyword(comparator)
            return any(keyword in keywords for keywords in row.thread_keywords)
    summary = row.email.summary if row.email is not None else _NOTHING
    match comparator.property:
        case "sentAt":
            return _sent_at_ms(summary.sent_at, row.received_at_ms)
        case "from":
            return comparator.collate(_first_name(summary.from_))
        case "to":
            return comparator.collate(_first_name(summary.to))
        case _:
            return comparator.collate(base_subject(summary.subject))


def _keyword(comparator: Comparator) -> str:
    return (comparator.keyword or "").lower()


def _first_name(addresses: tuple[EmailAddress, ...] | None) -> str:
    """Return the name of the first address, else its email, else ""."""
    if not addresses:
        return ""
    return addresses[0].name or addresses[0].email


def _sent_at_ms(sent_at: str | None, received_at_ms: int) -> int:
    """Return when it was sent; without a date, when it arrived (RFC 5256 §2.2)."""
    if sent_at is None:
        return received_at_ms
    return int(datetime.fromisoformat(sent_at).timestamp() * 1000)

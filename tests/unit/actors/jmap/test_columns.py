"""Columns: they hold what the mailbox holds, whatever happened to it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jmap import columns as columns_module
from actors.jmap.columns import ColumnCache, Columns, bits_of, numbers_of
from storage import mailbox_writer
from tests.properties import examples
from tests.unit.actors.jmap.memory_access import ARCHIVE, INBOX, MemoryAccess, message
from tests.unit.actors.jmap.test_query_changes import ACTS, act

KEYWORDS = ("$seen", "$flagged", "x")


def held(access: MemoryAccess) -> Any:
    """Return what the columns say, and what the records do."""
    columns, reader = access.columns, access.reader()
    everything = columns.everything
    said = (
        [email for email, _ in columns.walk(everything) if email],
        [email for email, _ in columns.walk(everything, newest_first=False) if email],
        {email: thread for email, thread in columns.walk(everything) if email},
        {folder: set(numbers_of(columns.folder(folder))) for folder in (INBOX, ARCHIVE)},
        set(numbers_of(everything & ~columns.attached)),
        [
            None if (found := columns.keyword(keyword)) is None else set(numbers_of(found))
            for keyword in KEYWORDS
        ],
    )
    lines = list(reader.listing())
    emails = [line.email_id for line in lines]
    true = (
        emails,
        emails[::-1],
        {line.email_id: line.record.thread_id for line in lines},
        {folder: {line.email_id for line in reader.listing(folder)} for folder in (INBOX, ARCHIVE)},
        {line.email_id for line in lines if not line.record.has_attachment},
        [{line.email_id for line in lines if keyword in line.record.keywords}
         for keyword in KEYWORDS],
    )  # fmt: skip
    return said, true


@examples(100)
@given(st.lists(st.lists(ACTS, max_size=6), max_size=4), st.integers(0, 3))
async def test_they_follow_the_mailbox(steps: Any, inserted_max: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_module, "INSERTED_MAX", inserted_max)
        patch.setattr(columns_module, "ROWS_PER_STEP", 2)
        access = MemoryAccess()
        for acts in [*steps, []]:
            for what in acts:
                act(access, what)
            await access.columns.refresh(access.reader(), (INBOX, ARCHIVE))
            said, true = held(access)
            assert said == true


async def test_too_many_keywords_are_looked_up(
    access: MemoryAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns_module, "KEYWORD_COLUMNS_MAX", 1)
    access.add(message("a"), keywords=("$seen",))
    access.add(message("b"), keywords=("other",))
    await access.columns.refresh(access.reader(), ())
    assert access.columns.keyword("$seen") == 1 << 1
    assert access.columns.keyword("other") is None
    for keyword, found in (("$seen", ["M1"]), ("other", ["M2"]), ("none", [])):
        result = await access.call("Email/query", filter={"hasKeyword": keyword})
        assert result["ids"] == found


async def test_forgotten_changes_are_no_loss(
    access: MemoryAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_writer, "CHANGES_KEPT_MAX", 2)
    access.add(message("a"))
    await access.columns.refresh(access.reader(), (INBOX, ARCHIVE))
    for n in range(5):
        access.add(message(str(n)), keywords=("x",))
    await access.columns.refresh(access.reader(), (INBOX, ARCHIVE))
    said, true = held(access)
    assert said == true


async def test_a_second_query_reads_no_listing(access: MemoryAccess) -> None:
    for n in range(50):
        access.add(message(str(n)), keywords=("$seen",) if n % 2 else ())
    query: Any = {"filter": {"inMailbox": "F1", "notKeyword": "$seen"}, "calculateTotal": True}
    assert (await access.call("Email/query", **query))["total"] == 25
    access.add(message("more"))
    access.state.scanned = 0
    assert (await access.call("Email/query", **query))["total"] == 26
    assert access.state.scanned < 10


def test_the_least_recently_used_make_room() -> None:
    cache = ColumnCache(bytes_max=100)
    for mailbox in (1, 2, 3):
        columns = cache.of(mailbox)
        columns.received.extend([1, 2])
        columns.order.extend([1, 2])
        columns.threads.extend([1, 2])
        assert columns.size_bytes == 48
    assert len(cache.of(1).order) == 2
    assert len(cache.of(3).order) == 2
    assert len(cache.of(2).order) == 0
    cache.forget(3)
    assert len(cache.of(3).order) == 0


@given(st.sets(st.integers(0, 500)))
def test_bits(emails: set[int]) -> None:
    assert list(numbers_of(bits_of(emails))) == sorted(emails)
    assert bits_of(emails).bit_count() == len(emails)


async def test_walk_of_nothing() -> None:
    assert [one for one in Columns().walk(0) if one[0]] == []

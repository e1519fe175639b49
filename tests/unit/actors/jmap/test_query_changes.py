"""Email/queryChanges and Mailbox/queryChanges (RFC 8620 §5.6, RFC 8621 §2.4, §4.5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jmap import columns, email_search
from storage import mailbox_writer
from tests.properties import examples
from tests.unit.actors.jmap.memory_access import ARCHIVE, INBOX, TRASH, MemoryAccess, message

NEWEST_FIRST = [{"property": "receivedAt", "isAscending": False}]
IN_INBOX = {"inMailbox": "F1"}


def splice(old: list[str], changes: Any) -> list[str]:
    """Do what RFC 8620 §5.6 tells a client to do with an answer."""
    new = [one for one in old if one not in changes["removed"]]
    for item in changes["added"]:
        assert item["index"] <= len(new)
        assert item["id"] not in new
        new.insert(item["index"], item["id"])
    return new


async def old_results(access: MemoryAccess, **query: Any) -> tuple[str, list[str]]:
    result = await access.call("Email/query", **query)
    assert result["canCalculateChanges"] is True
    return result["queryState"], result["ids"]


def add(access: MemoryAccess, *names: str, **more: Any) -> None:
    for name in names:
        access.add(message(name), **more)


async def test_new_mail_is_one_added_item_and_nothing_is_removed(access: MemoryAccess) -> None:
    for n in range(3):
        add(access, str(n), received_at_ms=n)
    query: Any = {"filter": IN_INBOX, "sort": NEWEST_FIRST}
    state, _ = await old_results(access, **query)
    add(access, "new", received_at_ms=9)
    add(access, "elsewhere", received_at_ms=10, folders=(ARCHIVE,))
    changes = await access.call(
        "Email/queryChanges", sinceQueryState=state, calculateTotal=True, **query
    )
    assert changes == {
        "accountId": "A2a", "oldQueryState": state,
        "newQueryState": str(access.reader().info.email_modseq),
        "removed": [], "added": [{"id": "M4", "index": 0}], "total": 4,
    }  # fmt: skip


async def test_nothing_happened(access: MemoryAccess) -> None:
    add(access, "one")
    state, _ = await old_results(access)
    changes = await access.call("Email/queryChanges", sinceQueryState=state)
    assert (changes["removed"], changes["added"]) == ([], [])
    assert changes["newQueryState"] == changes["oldQueryState"] == state
    assert "total" not in changes


async def test_a_flag_does_not_move_mail_in_a_query_that_is_not_about_flags(
    access: MemoryAccess,
) -> None:
    add(access, "apple", "apple pie")
    query = {"filter": {"subject": "apple"}, "sort": NEWEST_FIRST}
    state, _ = await old_results(access, **query)
    access.run(lambda writer: writer.update_email(1, keywords=["$seen"], folders=None))
    changes = await access.call("Email/queryChanges", sinceQueryState=state, **query)
    assert (changes["removed"], changes["added"]) == ([], [])
    query["filter"] = {"subject": "apple", "notKeyword": "$seen"}
    changes = await access.call("Email/queryChanges", sinceQueryState=state, **query)
    assert (changes["removed"], changes["added"]) == (["M1"], [])


async def test_up_to_id_leaves_out_what_comes_after_it(access: MemoryAccess) -> None:
    for when in (50, 40, 30):
        add(access, str(when), received_at_ms=when)
    state, old = await old_results(access, sort=NEWEST_FIRST)
    add(access, "first", received_at_ms=60)
    add(access, "last", received_at_ms=10)

    async def added(**more: Any) -> list[int]:
        changes = await access.call(
            "Email/queryChanges", sinceQueryState=state, sort=NEWEST_FIRST, **more
        )
        return [item["index"] for item in changes["added"]]

    assert await added() == [0, 4]
    assert await added(upToId=old[1]) == [0]
    assert await added(upToId=old[1], calculateTotal=True) == [0]
    assert await added(upToId="M99") == [0, 4]
    assert await added(upToId=old[1], filter=IN_INBOX) == [0, 4]  # mutable: not looked at


async def test_too_many_changes(access: MemoryAccess) -> None:
    add(access, "one", "two")
    query: Any = {"filter": {"notKeyword": "x"}}
    state, _ = await old_results(access, **query)
    access.run(lambda writer: writer.update_email(1, keywords=["y"], folders=None))
    query["sinceQueryState"] = state
    assert await access.refusal("Email/queryChanges", maxChanges=1, **query) == "tooManyChanges"
    changes = await access.call("Email/queryChanges", maxChanges=2, **query)
    assert changes["removed"] == ["M1"]
    assert changes["added"] == [{"id": "M1", "index": 1}]


async def test_states_from_which_nothing_can_be_told(
    access: MemoryAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(access, "one")
    for method in ("Email/queryChanges", "Mailbox/queryChanges"):
        for state in ("x", "999", "01", "-1", ""):
            refused = await access.refusal(method, sinceQueryState=state)
            assert refused == "cannotCalculateChanges"
        assert await access.refusal(method) == "invalidArguments"
        assert await access.refusal(method, sinceQueryState=1) == "invalidArguments"
        refused = await access.refusal(method, sinceQueryState="0", maxChanges=-1)
        assert refused == "invalidArguments"
        assert await access.refusal(method, sinceQueryState="0", limit=1) == "invalidArguments"
    monkeypatch.setattr(mailbox_writer, "CHANGES_KEPT_MAX", 2)
    state, _ = await old_results(access)
    add(access, "two", "three", "four")
    refused = await access.refusal("Email/queryChanges", sinceQueryState=state)
    assert refused == "cannotCalculateChanges"


async def test_mail_that_arrives_during_a_query_is_in_the_changes_after_it(
    access: MemoryAccess,
) -> None:
    add(access, "apple one", received_at_ms=1)
    search = access.search

    async def meanwhile(fields: Any, text: str) -> set[int] | None:
        add(access, "apple two", received_at_ms=2)
        access.search = search  # type: ignore[method-assign]
        return await search(fields, text)

    access.search = meanwhile  # type: ignore[method-assign]
    query: Any = {"filter": {"text": "apple"}, "sort": NEWEST_FIRST}
    state, old = await old_results(access, **query)
    changes = await access.call("Email/queryChanges", sinceQueryState=state, **query)
    assert changes["removed"] == []
    assert splice(old, changes) == ["M2", "M1"]


# Against a model ------------------------------------------------------------------------------

KEYWORDS = ("$seen", "$flagged")
CONDITIONS = st.sampled_from(
    [
        {}, {"inMailbox": "F1"}, {"inMailboxOtherThan": ["F5"]}, {"hasKeyword": "$seen"},
        {"notKeyword": "$seen"}, {"someInThreadHaveKeyword": "$flagged"},
        {"allInThreadHaveKeyword": "$seen"}, {"noneInThreadHaveKeyword": "$flagged"},
        {"text": "apple"}, {"before": "1970-01-01T00:00:00.003Z"},
        {"after": "1970-01-01T00:00:00.002Z"}, {"minSize": 190}, {"hasAttachment": False},
        {"to": "bob"}, {"header": ["Subject", "pear"]},
    ]
)  # fmt: skip
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: st.fixed_dictionaries(
        {
            "operator": st.sampled_from(["AND", "OR", "NOT"]),
            "conditions": st.lists(inner, min_size=1, max_size=3),
        }
    ),
    max_leaves=4,
)
SORTS = st.sampled_from(
    [
        NEWEST_FIRST, [{"property": "receivedAt"}], [{"property": "subject"}], None,
        [{"property": "hasKeyword", "keyword": "$seen"}],
        [{"property": "someInThreadHaveKeyword", "keyword": "$flagged"}],
        [{"property": "size"}, {"property": "receivedAt"}],
    ]
)  # fmt: skip
NUMBERS = st.integers(1, 10)
ACTS = st.one_of(
    st.tuples(
        st.just("add"), st.sampled_from(["apple", "pear", "apple pear"]), st.integers(0, 4),
        st.integers(0, 2), st.sampled_from([(INBOX,), (TRASH,), (INBOX, ARCHIVE)]),
        st.lists(st.sampled_from(KEYWORDS), unique=True),
    ),
    st.tuples(st.just("keywords"), NUMBERS, st.lists(st.sampled_from(KEYWORDS), unique=True)),
    st.tuples(st.just("move"), NUMBERS, st.sampled_from([(INBOX,), (TRASH,), (INBOX, TRASH)])),
    st.tuples(st.just("destroy"), NUMBERS),
)  # fmt: skip


def act(access: MemoryAccess, what: Any) -> None:
    match what:
        case ("add", subject, when, thread, folders, keywords):
            number = access.reader().info.next_email
            raw = message(subject, message_id=f"{number}@x", reply_to_id=f"thread{thread}@x")
            access.add(raw, folders=folders, keywords=tuple(keywords), received_at_ms=when)
        case ("keywords", number, keywords) if access.reader().email(number):
            access.run(lambda writer: writer.update_email(number, keywords=keywords, folders=None))
        case ("move", number, folders) if access.reader().email(number):
            access.run(lambda writer: writer.update_email(number, keywords=None, folders=folders))
        case ("destroy", number) if access.reader().email(number):
            access.run(lambda writer: writer.destroy_email(number))


@examples(250)
@given(
    st.lists(ACTS, max_size=12), st.lists(ACTS, max_size=8), FILTERS, SORTS, st.booleans(),
    st.booleans(),
)  # fmt: skip
async def test_a_client_that_splices_has_what_a_query_finds(
    before: Any, after: Any, wanted: Any, sort: Any, collapse: bool, by_columns: bool
) -> None:
    """For every filter and sort, and whichever way the results are found."""
    with pytest.MonkeyPatch.context() as patch:
        if by_columns:
            patch.setattr(email_search, "HITS_READ_MAX", -1)
            patch.setattr(columns, "COLUMN_ROWS_PER_STEP", 2)
            patch.setattr(columns, "KEYWORD_COLUMNS_MAX", 1)
            patch.setattr(columns, "INSERTED_MAX", 1)
        access = MemoryAccess()
        for what in before:
            act(access, what)
        query = {"filter": wanted, "sort": sort, "collapseThreads": collapse}
        state, old = await old_results(access, **query)
        for what in after:
            act(access, what)
        changes = await access.call(
            "Email/queryChanges", sinceQueryState=state, calculateTotal=True, **query
        )
        now = await access.call("Email/query", calculateTotal=True, **query)
        assert splice(old, changes) == now["ids"]
        assert changes["total"] == now["total"] == len(now["ids"])
        assert changes["newQueryState"] == now["queryState"]
        assert len(set(changes["removed"])) == len(changes["removed"])
        indexes = [item["index"] for item in changes["added"]]
        assert indexes == sorted(indexes)
        # Whichever way they are found, they are the same.
        other = MemoryAccess()
        for what in (*before, *after):
            act(other, what)
        patch.undo()
        assert (await other.call("Email/query", **query))["ids"] == now["ids"]


# Folders --------------------------------------------------------------------------------------

FOLDER_QUERIES = st.fixed_dictionaries(
    {
        "filter": st.sampled_from([None, {"hasAnyRole": False}, {"name": "a"}, {"parentId": None}]),
        "sort": st.sampled_from([None, [{"property": "name"}], [{"property": "sortOrder"}]]),
        "sortAsTree": st.booleans(),
        "filterAsTree": st.booleans(),
    }
)
FOLDERS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "ab"]), st.sampled_from([None, 1, 7, 8])), max_size=5
)


@examples(100)
@given(FOLDERS, FOLDERS, FOLDER_QUERIES)
async def test_folders_too(before: Any, after: Any, query: Any) -> None:
    access = MemoryAccess()

    def make(name: str, parent: int | None) -> None:
        if parent is None or access.reader().folder(parent) is not None:
            access.run(
                lambda writer: writer.add_folder(name, role=None, parent=parent, sort_order=1)
            )

    for name, parent in before:
        make(name, parent)
    old = await access.call("Mailbox/query", **query)
    for name, parent in after:
        make(name, parent)
    access.add(message("counted"))
    changes = await access.call(
        "Mailbox/queryChanges", sinceQueryState=old["queryState"], calculateTotal=True, **query
    )
    now = await access.call("Mailbox/query", **query)
    assert splice(old["ids"], changes) == now["ids"]
    assert changes["total"] == len(now["ids"])
    assert changes["newQueryState"] == now["queryState"]
    assert changes["removed"] == []

"""Mailbox/get and Mailbox/query (RFC 8621 §2)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from storage import keys, records
from storage.mailbox_writer import MailboxWriter
from tests.unit.actors.jmap.memory_access import INBOX, TRASH, MemoryAccess, message

ALL = ["F1", "F2", "F3", "F4", "F5", "F6"]


def _add_folder(
    access: MemoryAccess, name: str, parent: int | None = None, *, sort_order: int = 0
) -> int:
    number: int = access.run(
        lambda writer: writer.add_folder(name, role=None, parent=parent, sort_order=sort_order)
    )
    return number


async def test_all_properties(access: MemoryAccess) -> None:
    access.add(message())
    result = await access.call("Mailbox/get", ids=None)
    assert result["accountId"] == "A2a"
    assert result["state"] == str(access.reader().info.folder_modseq)
    assert [folder["id"] for folder in result["list"]] == ALL
    assert result["notFound"] == []
    inbox = result["list"][0]
    rights = inbox.pop("myRights")
    assert inbox == {
        "id": "F1", "name": "Inbox", "parentId": None, "role": "inbox", "sortOrder": 10,
        "totalEmails": 1, "unreadEmails": 1, "totalThreads": 1, "unreadThreads": 1,
        "isSubscribed": True,
    }  # fmt: skip
    assert len(rights) == 9
    assert [name for name, may in rights.items() if not may] == ["mayDelete"]
    assert all(result["list"][1]["myRights"].values())


async def test_get_some_properties_of_some(access: MemoryAccess) -> None:
    result = await access.call(
        "Mailbox/get", ids=["F6", "F99", "x", "F6", "F1"], properties=["role", "role"]
    )
    assert result["list"] == [{"id": "F6", "role": "archive"}, {"id": "F1", "role": "inbox"}]
    assert result["notFound"] == ["F99", "x"]


async def test_get_refuses(access: MemoryAccess) -> None:
    for arguments in ({"properties": ["nope"]}, {"ids": "F1"}, {"ids": [1]}, {"ids": ["a b"]}):
        assert await access.refusal("Mailbox/get", **arguments) == "invalidArguments"
    too_many = [f"F{n:x}" for n in range(501)]
    assert await access.refusal("Mailbox/get", ids=too_many) == "requestTooLarge"


async def test_thread_counters_set_the_trash_apart(access: MemoryAccess) -> None:
    """The example of RFC 8621 §2: unread in the trash, read in the inbox."""
    access.add(message("a", message_id="1@x"), folders=(TRASH,))
    access.add(message("Re: a", reply_to_id="1@x"), folders=(INBOX,), keywords=("$seen",))
    result = await access.call("Mailbox/get", ids=["F1", "F5"], properties=["unreadThreads"])
    assert [folder["unreadThreads"] for folder in result["list"]] == [0, 1]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, [*ALL, "F7", "F8"]),
        ({}, [*ALL, "F7", "F8"]),
        ({"role": "inbox"}, ["F1"]),
        ({"role": None}, ["F7", "F8"]),
        ({"hasAnyRole": False}, ["F7", "F8"]),
        ({"hasAnyRole": True}, ALL),
        ({"parentId": None}, [*ALL, "F7"]),
        ({"parentId": "F7"}, ["F8"]),
        ({"parentId": "F99"}, []),
        ({"parentId": "nonsense"}, []),
        ({"name": "r"}, ["F2", "F5", "F6", "F7"]),
        ({"name": "PRO"}, ["F7"]),
        ({"isSubscribed": False}, ["F8"]),
        ({"hasAnyRole": False, "parentId": None}, ["F7"]),
        ({"operator": "NOT", "conditions": [{"hasAnyRole": True}, {"parentId": "F7"}]}, ["F7"]),
        ({"operator": "OR", "conditions": [{"role": "sent"}, {"role": "junk"}]}, ["F3", "F4"]),
        ({"operator": "AND", "conditions": []}, [*ALL, "F7", "F8"]),
        ({"operator": "OR", "conditions": []}, []),
    ],
)
async def test_filters(access: MemoryAccess, wanted: Any, found: list[str]) -> None:
    project = _add_folder(access, "Projects")
    child = _add_folder(access, "Alpha", project)

    def unsubscribe(writer: MailboxWriter) -> None:
        record = writer.folder(child)
        assert record is not None
        key = keys.folder(access.mailbox_id, child)
        writer._overlay.put(key, records.encode(replace(record, subscribed=False)))

    access.run(unsubscribe)
    result = await access.call("Mailbox/query", filter=wanted)
    assert result["ids"] == found


async def test_query_response(access: MemoryAccess) -> None:
    result = await access.call("Mailbox/query", position=2, limit=2, calculateTotal=True)
    assert result == {
        "accountId": "A2a", "queryState": str(access.reader().info.folder_modseq),
        "canCalculateChanges": True, "position": 2, "ids": ["F3", "F4"], "total": 6,
    }  # fmt: skip


async def test_sorts(access: MemoryAccess) -> None:
    result = await access.call("Mailbox/query", sort=[{"property": "name"}])
    assert result["ids"] == ["F6", "F2", "F1", "F4", "F3", "F5"]
    by_order = [{"property": "sortOrder", "isAscending": False}]
    assert (await access.call("Mailbox/query", sort=by_order))["ids"] == ALL[::-1]
    child = _add_folder(access, "a", INBOX)
    by_parent = [{"property": "parentId", "isAscending": False}]
    assert (await access.call("Mailbox/query", sort=by_parent))["ids"][0] == f"F{child:x}"


async def test_sort_as_tree(access: MemoryAccess) -> None:
    """Ancestors first; others by their nearest ancestors that are siblings."""
    b = _add_folder(access, "b")
    a = _add_folder(access, "a")
    b_z = _add_folder(access, "z", b)
    b_c = _add_folder(access, "c", b)
    a_y = _add_folder(access, "y", a)
    b_z_a = _add_folder(access, "a", b_z)
    arguments = {"filter": {"hasAnyRole": False}, "sort": [{"property": "name"}]}
    flat = await access.call("Mailbox/query", **arguments)
    assert flat["ids"] == [f"F{n:x}" for n in (a, b_z_a, b, b_c, a_y, b_z)]
    tree = await access.call("Mailbox/query", sortAsTree=True, **arguments)
    assert tree["ids"] == [f"F{n:x}" for n in (a, a_y, b, b_c, b_z, b_z_a)]
    arguments["sort"] = [{"property": "name", "isAscending": False}]
    tree = await access.call("Mailbox/query", sortAsTree=True, **arguments)
    assert tree["ids"] == [f"F{n:x}" for n in (b, b_z, b_z_a, b_c, a, a_y)]


async def test_filter_as_tree(access: MemoryAccess) -> None:
    outer = _add_folder(access, "outer")
    middle = _add_folder(access, "xx", outer)
    _add_folder(access, "outer too", middle)
    child = _add_folder(access, "outer three", outer)
    result = await access.call("Mailbox/query", filter={"name": "outer"}, filterAsTree=True)
    assert result["ids"] == [f"F{outer:x}", f"F{child:x}"]


async def test_query_refuses(access: MemoryAccess) -> None:
    for arguments, kind in (
        ({"filter": {"nope": 1}}, "unsupportedFilter"),
        ({"filter": {"name": 1}}, "invalidArguments"),
        ({"filter": {"role": 1}}, "invalidArguments"),
        ({"filter": [1]}, "invalidArguments"),
        ({"filter": {"operator": "XOR", "conditions": []}}, "invalidArguments"),
        ({"filter": {"operator": "AND"}}, "invalidArguments"),
        ({"filter": {"operator": "AND", "conditions": [], "role": "x"}}, "invalidArguments"),
        ({"sort": [{"property": "colour"}]}, "unsupportedSort"),
        ({"sort": [{"property": "name", "collation": "i;klingon"}]}, "unsupportedSort"),
        ({"sort": [{"isAscending": True}]}, "invalidArguments"),
        ({"sort": {"property": "name"}}, "invalidArguments"),
        ({"sort": ["name"]}, "invalidArguments"),
        ({"sortAsTree": 1}, "invalidArguments"),
        ({"anchor": "F99"}, "anchorNotFound"),
        ({"limit": -1}, "invalidArguments"),
    ):
        assert await access.refusal("Mailbox/query", **arguments) == kind, arguments

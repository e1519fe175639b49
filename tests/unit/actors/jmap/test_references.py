"""Result references (RFC 8620 §3.7) and their JSON pointers (RFC 6901 §5)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.jmap.references import Unresolved, evaluate
from tests.unit.actors.jmap.memory_access import ACCOUNT, MemoryAccess, message

EXAMPLE = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6,
    " ": 7, "m~n": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", EXAMPLE), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1),
        ("/c%d", 2), ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_pointers_of_the_rfc(path: str, value: Any) -> None:
    assert evaluate(EXAMPLE, path) == value


@pytest.mark.parametrize(
    "path",
    [
        "foo", "/bar", "/foo/2", "/foo/-", "/foo/01", "/foo/-1", "/foo/bar", "/foo/0/x", "/a/b",
        "/m~n", "/foo/", "/*", "/foo/*/x", "/" * 50, "/foo/9999999999", "/foo/１",
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(Unresolved):
        evaluate(EXAMPLE, path)


def test_star_maps_and_flattens() -> None:
    value = {"list": [{"id": 1, "to": [[2], 3]}, {"id": 4, "to": []}]}
    assert evaluate(value, "/list/*/id") == [1, 4]
    assert evaluate(value, "/list/*/to") == [[2], 3]
    assert evaluate(value, "/list/*/to/*") == [2, 3]
    assert evaluate({"list": []}, "/list/*/id") == []
    assert evaluate({"*": {"*": 1}}, "/*/*") == 1


async def test_the_chain_of_the_rfc(access: MemoryAccess) -> None:
    """Query, threads of what was found, emails of the threads: the example of RFC 8620 §3.7."""
    one = access.add(message("a", message_id="1@x"), received_at_ms=1000)
    two = access.add(message("Re: a", reply_to_id="1@x"), received_at_ms=2000)
    access.add(message("b"), received_at_ms=500)
    responses = await access.request(
        ("Email/query", {
            "accountId": ACCOUNT, "collapseThreads": True, "limit": 1,
            "sort": [{"property": "receivedAt", "isAscending": False}],
        }),
        ("Email/get", {
            "accountId": ACCOUNT, "properties": ["threadId"],
            "#ids": {"resultOf": "c0", "name": "Email/query", "path": "/ids"},
        }),
        ("Thread/get", {
            "accountId": ACCOUNT,
            "#ids": {"resultOf": "c1", "name": "Email/get", "path": "/list/*/threadId"},
        }),
        ("Email/get", {
            "accountId": ACCOUNT, "properties": ["subject"],
            "#ids": {"resultOf": "c2", "name": "Thread/get", "path": "/list/*/emailIds"},
        }),
    )  # fmt: skip
    assert responses[0][1]["ids"] == [two]
    assert [email["id"] for email in responses[3][1]["list"]] == [one, two]


@pytest.mark.parametrize(
    "reference",
    [
        {"resultOf": "c9", "name": "Core/echo", "path": "/a"},
        {"resultOf": "c0", "name": "Core/other", "path": "/a"},
        {"resultOf": "c0", "name": "Core/echo", "path": "/b"},
        {"resultOf": "c1", "name": "Core/echo", "path": "/a"},
        {"resultOf": "c0", "name": "Core/echo"},
        {"resultOf": "c0", "name": "Core/echo", "path": 1},
        "c0",
        None,
        [],
    ],
)
async def test_unresolved(access: MemoryAccess, reference: object) -> None:
    responses = await access.request(("Core/echo", {"a": 1}), ("Core/echo", {"#x": reference}))
    assert responses[1][0] == "error"
    assert responses[1][1]["type"] == "invalidResultReference"


async def test_error_response_is_named_error(access: MemoryAccess) -> None:
    reference = {"resultOf": "c0", "name": "error", "path": "/type"}
    responses = await access.request(("No/such", {}), ("Core/echo", {"#x": reference}))
    assert responses[1][1] == {"x": "unknownMethod"}


async def test_given_both_ways(access: MemoryAccess) -> None:
    reference = {"resultOf": "c0", "name": "Core/echo", "path": "/a"}
    responses = await access.request(
        ("Core/echo", {"a": 1}), ("Core/echo", {"x": 1, "#x": reference})
    )
    assert responses[1][1]["type"] == "invalidArguments"


async def test_mailbox_changes_then_get(access: MemoryAccess) -> None:
    """Properties that are null by reference are all of them (RFC 8621 §2.6)."""
    state = (await access.call("Mailbox/get", ids=[]))["state"]
    access.add(message())
    changed = {"resultOf": "c0", "name": "Mailbox/changes"}
    _, (_, result, _) = await access.request(
        ("Mailbox/changes", {"accountId": ACCOUNT, "sinceState": state}),
        ("Mailbox/get", {
            "accountId": ACCOUNT,
            "#ids": {**changed, "path": "/updated"},
            "#properties": {**changed, "path": "/updatedProperties"},
        }),
    )  # fmt: skip
    assert result["list"] == [
        {"id": "F1", "totalEmails": 1, "unreadEmails": 1, "totalThreads": 1, "unreadThreads": 1}
    ]

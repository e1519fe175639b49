"""Email/set (RFC 8621 §4.6, RFC 8620 §5.3)."""

from __future__ import annotations

from typing import Any

import pytest

from mail.errors import MailError
from storage.mailbox_writer import MailboxWriter
from storage.transaction import Overlay
from tests.unit.actors.jmap.memory_access import (
    ACCOUNT,
    INBOX,
    MAILBOX,
    TRASH,
    MemoryAccess,
    message,
)


@pytest.fixture
def email(access: MemoryAccess) -> str:
    return access.add(message(), keywords=("x",))


async def _email(access: MemoryAccess, email: str) -> tuple[list[str], list[str]]:
    result = await access.call("Email/get", ids=[email], properties=["keywords", "mailboxIds"])
    [found] = result["list"]
    assert set(found["keywords"].values()) | set(found["mailboxIds"].values()) <= {True}
    return sorted(found["keywords"]), sorted(found["mailboxIds"])


async def _patched(access: MemoryAccess, email: str, patch: dict[str, Any]) -> Any:
    result = await access.call("Email/set", update={email: patch})
    if result["updated"] is not None:
        assert result["updated"] == {email: None}
        assert result["notUpdated"] is None
        return None
    return result["notUpdated"][email]


@pytest.mark.parametrize(
    ("patch", "keywords", "folders"),
    [
        ({}, ["x"], ["F1"]),
        ({"keywords/$seen": True}, ["$seen", "x"], ["F1"]),
        ({"keywords/$Seen": True}, ["$seen", "x"], ["F1"]),
        ({"keywords/x": None}, [], ["F1"]),
        ({"keywords/X": None}, [], ["F1"]),
        ({"keywords/absent": None}, ["x"], ["F1"]),
        ({"keywords/a~1b": True}, ["a/b", "x"], ["F1"]),
        ({"keywords/a~0b": True}, ["a~b", "x"], ["F1"]),
        ({"keywords": {"$flagged": True}}, ["$flagged"], ["F1"]),
        ({"keywords": None}, [], ["F1"]),
        ({"keywords": {}}, [], ["F1"]),
        ({"mailboxIds/F6": True}, ["x"], ["F1", "F6"]),
        ({"mailboxIds/F6": True, "mailboxIds/F1": None}, ["x"], ["F6"]),
        ({"mailboxIds": {"F5": True, "F6": True}}, ["x"], ["F5", "F6"]),
        ({"mailboxIds/F99": None}, ["x"], ["F1"]),
        ({"keywords/$seen": True, "mailboxIds": {"F5": True}}, ["$seen", "x"], ["F5"]),
    ],
)
async def test_patches(
    access: MemoryAccess, email: str, patch: dict[str, Any], keywords: list[str], folders: list[str]
) -> None:
    assert await _patched(access, email, patch) is None
    assert await _email(access, email) == (keywords, folders)


@pytest.mark.parametrize(
    ("patch", "kind", "properties"),
    [
        ({"keywords/$seen": False}, "invalidProperties", ["keywords"]),
        ({"keywords/$seen": 1}, "invalidProperties", ["keywords"]),
        ({"keywords/a b": True}, "invalidProperties", ["keywords"]),
        ({"keywords/": True}, "invalidProperties", ["keywords"]),
        ({"keywords": {"(": True}}, "invalidProperties", ["keywords"]),
        ({"keywords": {"a": False}}, "invalidProperties", ["keywords"]),
        ({"keywords": ["a"]}, "invalidProperties", ["keywords"]),
        ({"mailboxIds": None}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds": {}}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds/F1": None}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds/F1": False}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds/F99": True}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds/nonsense": True}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds": {"F1": True, "F99": True}}, "invalidProperties", ["mailboxIds"]),
        ({"subject": "new"}, "invalidProperties", ["subject"]),
        ({"nonsense": 1}, "invalidProperties", ["nonsense"]),
        ({"textBody": []}, "invalidProperties", ["textBody"]),
        ({"size": 1, "keywords": 1}, "invalidProperties", ["keywords", "size"]),
        ({"keywords": {}, "keywords/a": True}, "invalidPatch", None),
        ({"keywords/a/b": True}, "invalidPatch", None),
        ({"keywords/a": True, "keywords/a/b": True}, "invalidPatch", None),
        ({"keywords/~": True}, "invalidPatch", None),
        ({"from/0/name": "x"}, "invalidPatch", None),
        ({"nonsense/x": "x"}, "invalidPatch", None),
    ],
)
async def test_refused_patches(
    access: MemoryAccess, email: str, patch: dict[str, Any], kind: str, properties: list[str] | None
) -> None:
    error = await _patched(access, email, {"keywords/good": True, **patch})
    if "keywords" in patch:
        error = await _patched(access, email, patch)
    assert error["type"] == kind
    assert sorted(error.get("properties", [])) == (properties or [])
    # RFC 8620 §5.3: never a part of one update.
    assert await _email(access, email) == (["x"], ["F1"])


async def test_whole_object_is_a_patch(access: MemoryAccess, email: str) -> None:
    result = await access.call("Email/get", ids=[email])
    [whole] = result["list"]
    for name in ("bodyValues", "textBody", "htmlBody", "attachments"):
        del whole[name]
    whole["keywords"]["$seen"] = True
    assert await _patched(access, email, whole) is None
    assert await _email(access, email) == (["$seen", "x"], ["F1"])


async def test_too_many(access: MemoryAccess, email: str) -> None:
    keywords = {f"k{n}": True for n in range(101)}
    assert (await _patched(access, email, {"keywords": keywords}))["type"] == "tooManyKeywords"
    for n in range(100):
        access.run(
            lambda writer, n=n: writer.add_folder(f"{n}", role=None, parent=None, sort_order=0)
        )
    folders = {f"F{n:x}": True for n in range(1, 102)}
    error = await _patched(access, email, {"mailboxIds": folders})
    assert error["type"] == "tooManyMailboxes"


async def test_states_and_atomicity(access: MemoryAccess, email: str) -> None:
    other = access.add(message("other"))
    before = await access.call("Email/get", ids=[])
    result = await access.call(
        "Email/set",
        ifInState=before["state"],
        update={email: {"keywords/$seen": True}, "M99": {}, "x": {}, other: {}},
        destroy=[other, "M98", other],
        create={"k": {"mailboxIds": {"F1": True}}},
    )
    assert result["oldState"] == before["state"]
    assert result["newState"] == str(access.reader().info.email_modseq) != before["state"]
    assert result["updated"] == {email: None}
    assert result["destroyed"] == [other]
    assert result["created"] is None
    assert {i: e["type"] for i, e in result["notUpdated"].items()} == {
        "M99": "notFound", "x": "notFound", other: "willDestroy",
    }  # fmt: skip
    assert {i: e["type"] for i, e in result["notDestroyed"].items()} == {"M98": "notFound"}
    assert result["notCreated"]["k"]["type"] == "forbidden"
    assert access.plans_run == 1
    changes = await access.call("Email/changes", sinceState=before["state"])
    assert (changes["updated"], changes["destroyed"]) == ([email], [other])
    assert changes["newState"] == result["newState"]
    assert access.blobs.size(bytes(32)) is None


async def test_nothing_changed_is_the_same_state(access: MemoryAccess, email: str) -> None:
    result = await access.call("Email/set", update={email: {"keywords/x": True}}, destroy=["M9"])
    assert result["updated"] == {email: None}
    assert result["oldState"] == result["newState"] == str(access.reader().info.email_modseq)


async def test_if_in_state(access: MemoryAccess, email: str) -> None:
    for arguments in ({"destroy": [email]}, {"update": {email: {}}}, {"create": {"k": {}}}, {}):
        assert await access.refusal("Email/set", ifInState="0", **arguments) == "stateMismatch"
    assert (await access.call("Email/get", ids=[email]))["notFound"] == []
    state = (await access.call("Email/get", ids=[]))["state"]
    result = await access.call("Email/set", ifInState=state)
    assert result["oldState"] == result["newState"] == state


async def test_state_mismatch_is_decided_within_the_turn(access: MemoryAccess, email: str) -> None:
    """Mail that arrives between the request and its turn is seen by `ifInState`."""
    state = (await access.call("Email/get", ids=[]))["state"]
    turn = access.turn

    async def later(request_id: bytes, plan: Any) -> bytes:
        access.add(message("meanwhile"))
        return await turn(request_id, plan)

    access.turn = later  # type: ignore[method-assign]
    arguments = {"accountId": ACCOUNT, "ifInState": state, "destroy": [email]}
    [(_, result, _)] = await access.request(("Email/set", arguments))
    assert result["type"] == "stateMismatch"
    assert (await access.call("Email/get", ids=[email]))["notFound"] == []


async def test_refusals(access: MemoryAccess, email: str) -> None:
    for arguments, kind in (
        ({"update": []}, "invalidArguments"),
        ({"update": {email: 1}}, "invalidArguments"),
        ({"destroy": email}, "invalidArguments"),
        ({"destroy": [1]}, "invalidArguments"),
        ({"ifInState": 1}, "invalidArguments"),
        ({"remove": [email]}, "invalidArguments"),
        ({"destroy": [f"M{n:x}" for n in range(501)]}, "requestTooLarge"),
        ({"update": {f"M{n:x}": {} for n in range(501)}}, "requestTooLarge"),
    ):
        assert await access.refusal("Email/set", **arguments) == kind
    assert access.plans_run == 0


async def test_destroy_all_there_is(access: MemoryAccess) -> None:
    emails = [access.add(message(f"{n}"), folders=(INBOX, TRASH)) for n in range(20)]
    await access.call("Email/set", destroy=emails)
    result = await access.call("Mailbox/get", ids=None, properties=["totalEmails", "totalThreads"])
    assert {(f["totalEmails"], f["totalThreads"]) for f in result["list"]} == {(0, 0)}
    assert (await access.call("Email/query"))["ids"] == []
    info = access.reader().info
    assert (info.emails, info.size_bytes) == (0, 0)


@pytest.mark.parametrize("kind", ["emails", "folders", "threads"])
async def test_modseq_after_is_what_finish_makes(
    access: MemoryAccess, email: str, kind: str
) -> None:
    number = int(email[1:], 16)
    for act in (
        lambda writer: None,
        lambda writer: writer.update_email(number, keywords=("y",), folders=None),
        lambda writer: writer.update_email(number, keywords=("$seen",), folders=None),
        lambda writer: writer.add_folder("f", role=None, parent=None, sort_order=0),
        lambda writer: writer.destroy_email(number),
    ):
        overlay = Overlay(access.state)
        writer = MailboxWriter(MAILBOX, overlay)
        act(writer)
        expected = writer.modseq_after(kind)
        writer.finish()
        access.state.write(overlay)
        info = access.reader().info
        states = {
            "emails": info.email_modseq, "folders": info.folder_modseq,
            "threads": info.thread_modseq,
        }  # fmt: skip
        assert states[kind] == expected


async def test_failed_turn_changes_nothing(access: MemoryAccess, email: str) -> None:
    access.failure = MailError("no")
    assert await access.refusal("Email/set", destroy=[email]) == "serverFail"
    assert (await access.call("Email/get", ids=[email]))["notFound"] == []

"""Email/changes, Mailbox/changes, Thread/changes against a naive model (RFC 8620 §5.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.folders import Counters, count_thread
from mail.summary import Summary
from storage.mailbox_writer import MailboxWriter
from tests.properties import examples
from tests.unit.actors.jmap.memory_access import INBOX, TRASH, MemoryAccess, message

TYPES = ("Email", "Mailbox", "Thread")
COUNTERS = ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"]


@dataclass
class Client:
    """What a client knows: objects by type, and the state they were fetched in."""

    access: MemoryAccess
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, str]] = field(default_factory=dict)  # last news of every id

    async def fetch(self) -> None:
        for name in TYPES:
            found = await _fetched(self.access, name)
            self.states[name] = found["state"]
            self.objects[name] = {item["id"]: item for item in found["list"]}
            self.told[name] = {}

    async def sync(self, name: str, pages_of: int | None) -> None:
        """Follow the changes page by page; fetch what is named, as a client does."""
        for _ in range(1000):
            old_state = self.states[name]
            page = await self.access.call(
                f"{name}/changes", sinceState=old_state, maxChanges=pages_of
            )
            assert page["oldState"] == old_state
            ids = [*page["created"], *page["updated"], *page["destroyed"]]
            assert len(ids) == len(set(ids))
            assert pages_of is None or len(ids) <= pages_of
            await self._take_over(name, page)
            self.states[name] = page["newState"]
            if not page["hasMoreChanges"]:
                return
            assert page["newState"] != old_state
        pytest.fail("the changes have no end")

    async def _take_over(self, name: str, page: dict[str, Any]) -> None:
        known, told = self.objects[name], self.told[name]
        for email_id in page["created"]:
            assert told.get(email_id) is None, "created after other news of it"
            told[email_id] = "created"
        for email_id in page["updated"]:
            assert told.get(email_id) != "destroyed"
            told[email_id] = "updated"
        for email_id in page["destroyed"]:
            assert email_id in known or told.get(email_id) is not None
            told[email_id] = "destroyed"
            known.pop(email_id, None)
        wanted = [*page["created"], *page["updated"]]
        properties = page.get("updatedProperties")
        if properties is not None and not page["created"]:
            found = await _fetched(self.access, name, wanted, properties)
            for item in found["list"]:
                known[item["id"]] = {**known[item["id"]], **item}
            return
        found = await _fetched(self.access, name, wanted)
        known.update({item["id"]: item for item in found["list"]})


async def _fetched(
    access: MemoryAccess, name: str, ids: list[str] | None = None, properties: Any = None
) -> Any:
    if name == "Email" and properties is None:
        properties = ["keywords", "mailboxIds", "threadId"]
    return await access.call(f"{name}/get", ids=ids, properties=properties)


class Deeds:
    """Random turns on one mailbox; several operations each."""

    def __init__(self, access: MemoryAccess) -> None:
        self.access = access
        self.emails: list[int] = []

    def turn(self, operations: list[tuple[int, int, int]]) -> None:
        added: list[int] = []

        def act(writer: MailboxWriter) -> None:
            for what, which, how in operations:
                self._one(writer, what, which, how, added)

        self.access.run(act)

    def _one(
        self, writer: MailboxWriter, what: int, which: int, how: int, added: list[int]
    ) -> None:
        if what == 0 or not self.emails:
            folders = tuple({how % 6 + 1, which % 6 + 1})
            self.emails.append(_added(writer, which % 4, folders, how))
        elif what == 1:
            keywords = [k for i, k in enumerate(("$seen", "$draft", "x")) if how >> i & 1]
            writer.update_email(self._email(which), keywords=keywords, folders=None)
        elif what == 2:
            folders = tuple({how % 6 + 1, how // 6 + 1})
            writer.update_email(self._email(which), keywords=None, folders=folders)
        elif what == 3:
            number = self._email(which)
            self.emails.remove(number)
            writer.destroy_email(number)
        else:
            writer.add_folder(f"folder {which}", role=None, parent=None, sort_order=0)

    def _email(self, which: int) -> int:
        return self.emails[which % len(self.emails)]


def _added(writer: MailboxWriter, topic: int, folders: tuple[int, ...], how: int) -> int:
    return writer.add_email(
        digest=bytes([how]) * 32,
        size_bytes=100,
        summary=Summary(subject=f"topic {topic}", message_id=(f"{topic}@x",)),
        received_at_ms=1000 + how,
        folders=folders,
        keywords=("$seen",) if how % 2 else (),
    )


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 3, 4]), st.integers(0, 40), st.integers(0, 35)
    ),
    min_size=1,
    max_size=6,
)


@examples(60)
@given(
    st.lists(OPERATIONS, max_size=5),
    st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), min_size=1, max_size=3),
    st.sampled_from([None, 1, 2, 3, 7]),
)
async def test_a_client_that_follows_the_changes_knows_everything(
    before: list[Any], rounds: list[list[Any]], pages_of: int | None
) -> None:
    access = MemoryAccess()
    deeds = Deeds(access)
    for operations in before:
        deeds.turn(operations)
    client = Client(access)
    await client.fetch()
    for turns in rounds:
        for operations in turns:
            deeds.turn(operations)
        for name in TYPES:
            await client.sync(name, pages_of)
            now = await _fetched(access, name)
            assert client.states[name] == now["state"]
            assert client.objects[name] == {item["id"]: item for item in now["list"]}
    _check_counters(access)


def _check_counters(access: MemoryAccess) -> None:
    """Compare the counters with a recount over all emails (R9)."""
    reader = access.reader()
    threads = {line.record.thread_id for line in reader.listing()}
    counted: dict[int, Counters] = {}
    for thread_id in threads:
        thread = reader.thread(thread_id)
        assert thread is not None
        for folder, counters in count_thread(thread.members, trash=TRASH).items():
            counted[folder] = counted.get(folder, Counters()) + counters
    for folder in reader.folders():
        assert reader.counters(folder) == counted.get(folder, Counters())
        emails = list(reader.listing(folder))
        unread = [k for k in (e.record.keywords for e in emails) if not {"$seen", "$draft"} & {*k}]
        assert reader.counters(folder).total_emails == len(emails)
        assert reader.counters(folder).unread_emails == len(unread)


async def test_one_turn_larger_than_a_page(access: MemoryAccess) -> None:
    """An answer may end inside a turn: its state leads on from there."""
    state = (await access.call("Email/get", ids=[]))["state"]
    access.run(lambda writer: [_added(writer, n, (INBOX,), n) for n in range(5)])
    seen: list[str] = []
    for _ in range(3):
        page = await access.call("Email/changes", sinceState=state, maxChanges=2)
        seen += page["created"]
        state = page["newState"]
    assert seen == ["M1", "M2", "M3", "M4", "M5"]
    assert not page["hasMoreChanges"]
    assert state == str(access.reader().info.email_modseq)


async def test_created_and_destroyed_between_is_left_out(access: MemoryAccess) -> None:
    state = (await access.call("Email/get", ids=[]))["state"]
    email = access.add(message())
    await access.call("Email/set", destroy=[email])
    page = await access.call("Email/changes", sinceState=state)
    assert (page["created"], page["updated"], page["destroyed"]) == ([], [], [])
    assert page["newState"] != state


async def test_updated_properties(access: MemoryAccess) -> None:
    """Only counters, or more than that (RFC 8621 §2.2)."""
    state = (await access.call("Mailbox/get", ids=[]))["state"]
    unchanged = await access.call("Mailbox/changes", sinceState=state)
    assert unchanged["updatedProperties"] is None
    assert unchanged["newState"] == state
    access.add(message())
    counted = await access.call("Mailbox/changes", sinceState=state)
    assert counted["updated"] == ["F1"]
    assert counted["updatedProperties"] == COUNTERS
    access.run(lambda writer: writer._note("folders_updated", INBOX))
    more = await access.call("Mailbox/changes", sinceState=state)
    assert more["updated"] == ["F1"]
    assert more["updatedProperties"] is None


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(
    "state", ["", "x", "-1", "01", "1.0", "1.", "999", "999.5", "7.3", "1e3", "٣", "1" * 40]
)
async def test_states_that_are_none(access: MemoryAccess, name: str, state: str) -> None:
    assert await access.refusal(f"{name}/changes", sinceState=state) == "cannotCalculateChanges"


async def test_forgotten_changes(access: MemoryAccess) -> None:
    access.add(message())
    access.run(lambda writer: writer._update_info(oldest_change=2))
    assert await access.refusal("Email/changes", sinceState="0") == "cannotCalculateChanges"
    assert (await access.call("Email/changes", sinceState="1"))["created"] == ["M1"]


async def test_refusals(access: MemoryAccess) -> None:
    for arguments in (
        {},
        {"sinceState": 1},
        {"sinceState": "0", "maxChanges": 0},
        {"sinceState": "0", "maxChanges": -1},
        {"sinceState": "0", "maxChanges": 2**53},
        {"sinceState": "0", "maxChanges": "1"},
        {"sinceState": "0", "upTo": 1},
    ):
        assert await access.refusal("Email/changes", **arguments) == "invalidArguments"

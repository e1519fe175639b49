"""Trash and Junk empty themselves, and a removed mailbox is destroyed, a little at a time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from actors import mailbox_turns
from actors.commands import Account, Deliver, Delivered, MailboxState, RemoveMailbox
from actors.expiry import DAY_MS, Expiry
from actors.expiry_turns import EXPIRED_AT_ONCE, due
from actors.request_ids import new_request_id
from storage import keys
from storage.mailbox_reader import MailboxReader
from tests.contract.house import House, house, letter
from tests.contract.test_router import eventually

NOW_MS = time.time_ns() // 1_000_000
OLD_MS = NOW_MS - 400 * DAY_MS


async def store(built: House, account: Account, role: str, number: int = 0) -> int:
    """Put a message that was received long ago into a folder, now; return its number."""
    raw = b"Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\nbody\r\n" % (number, number)
    found = letter(raw)
    command = Deliver(
        account.mailbox,
        new_request_id(),
        raw,
        found.summary,
        found.search_text,
        OLD_MS,
        role=role,
    )
    (reply,) = await built.tell(account, command)
    assert isinstance(reply, Delivered)
    return reply.email_id


def expiry(built: House, account: Account, after_days: float, **days: int) -> Expiry:
    """Return the sweep of the account's shard at a time from now."""
    now_ms = NOW_MS + int(after_days * DAY_MS)
    shard = built.mailboxes[account.shard].shard
    return Expiry(shard, days or {"trash": 30, "junk": 30}, clock_ms=lambda: now_ms)


def count(built: House, account: Account, role: str) -> int:
    reader = built.mailboxes[account.shard].reader(account.mailbox)
    folder = reader.folder_with_role(role)
    assert folder is not None
    return reader.counters(folder).total_emails


async def jmap(built: House, account: Account, name: str, **arguments: Any) -> Any:
    request = {
        "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
        "methodCalls": [[name, {"accountId": f"A{account.mailbox:x}", **arguments}, "c"]],
    }
    answer = await built.router.jmap(account, json.dumps(request).encode())
    response = json.loads(answer.body)["methodResponses"][0]
    assert response[0] == name, response
    return response[1]


async def test_what_was_put_into_trash_or_junk_is_destroyed_after_its_time(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        for number, role in enumerate(("trash", "junk", "inbox")):
            await store(built, alice, role, number)
        heard: list[MailboxState] = []
        await built.router.subscribe(alice, heard.append)
        before = heard[-1].email
        await expiry(built, alice, 29.9).sweep()
        assert [count(built, alice, role) for role in ("trash", "junk", "inbox")] == [1, 1, 1]
        await expiry(built, alice, 30.1, trash=30, junk=31).sweep()
        assert [count(built, alice, role) for role in ("trash", "junk", "inbox")] == [0, 1, 1]
        await expiry(built, alice, 1000, trash=30, junk=0).sweep()
        assert count(built, alice, "junk") == 1, "0 is never"
        await expiry(built, alice, 31.1, trash=30, junk=31).sweep()
        assert count(built, alice, "junk") == 0
        assert built.mailboxes[alice.shard].reader(alice.mailbox).info.emails == 1

        async def told() -> bool:
            return heard[-1].email == before + 2

        await eventually(told, True)


async def test_the_time_counts_from_when_it_was_put_there(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        email = await store(built, alice, "inbox")
        reader = built.mailboxes[alice.shard].reader(alice.mailbox)
        trash = f"F{reader.folder_with_role('trash'):x}"
        update = {f"M{email:x}": {"mailboxIds": {trash: True}}}
        await jmap(built, alice, "Email/set", update=update)
        await expiry(built, alice, 1).sweep()
        assert count(built, alice, "trash") == 1, "received 400 days ago, put there today"
        seen = {f"M{email:x}": {"keywords/$seen": True}}
        await jmap(built, alice, "Email/set", update=seen)
        await expiry(built, alice, 31).sweep()
        assert count(built, alice, "trash") == 0


async def test_what_is_in_another_folder_too_stays_there(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        email = await store(built, alice, "inbox")
        reader = built.mailboxes[alice.shard].reader(alice.mailbox)
        trash = f"F{reader.folder_with_role('trash'):x}"
        update = {f"M{email:x}": {f"mailboxIds/{trash}": True}}
        await jmap(built, alice, "Email/set", update=update)
        assert (count(built, alice, "inbox"), count(built, alice, "trash")) == (1, 1)
        await expiry(built, alice, 31).sweep()
        assert (count(built, alice, "inbox"), count(built, alice, "trash")) == (1, 0)


async def test_much_goes_in_small_turns_and_the_young_stays(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob", mailbox_actors_per_node=1) as (built, accounts):
        alice, bob = accounts
        for number in range(2 * EXPIRED_AT_ONCE + 7):
            await store(built, alice, "trash", number)
        await store(built, bob, "trash")
        reader = built.mailboxes[alice.shard].reader(alice.mailbox)
        assert len(due(reader, "trash", NOW_MS + DAY_MS)) == EXPIRED_AT_ONCE
        before = reader.info.modseq
        await expiry(built, alice, 31).sweep()
        assert reader.info.modseq == before + 3
        assert count(built, alice, "trash") == count(built, bob, "trash") == 0


async def test_placements_of_an_older_release_count_by_their_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        with monkeypatch.context() as older:
            made = mailbox_turns.MailboxWriter
            older.setattr(
                mailbox_turns, "MailboxWriter", lambda mailbox, overlay, now: made(mailbox, overlay)
            )
            await store(built, alice, "trash", 1)
        await store(built, alice, "trash", 2)
        await expiry(built, alice, 1).sweep()
        assert count(built, alice, "trash") == 1


async def test_a_removed_mailbox_is_destroyed_in_pieces_even_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_turns, "KEYS_REMOVED_AT_ONCE", 10)
    async with house(tmp_path, "alice", "bob", mailbox_actors_per_node=1) as (built, accounts):
        alice, bob = accounts
        for number in range(20):
            await store(built, alice, "inbox", number)
        await store(built, bob, "inbox")
        with monkeypatch.context() as lame:
            lame.setattr(Expiry, "remove", lambda self, mailbox: None)
            await built.tell(alice, RemoveMailbox(alice.mailbox, new_request_id()))
        await built.stop_shard(alice.shard)
        mailbox = await built.start_shard(alice.shard)
        assert not MailboxReader(alice.mailbox, mailbox.shard.state).exists

        async def left() -> int:
            prefix = keys.mailbox(alice.mailbox)
            return sum(1 for _ in mailbox.shard.state.scan(prefix, keys.after(prefix)))

        assert await left() > 100
        await mailbox.expiry.sweep()
        await eventually(left, 1)
        assert count(built, bob, "inbox") == 1

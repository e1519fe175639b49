"""A mailbox holds what its quota says: nothing is lost, nothing doubled, at its border."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.commands import (
    Account,
    Deliver,
    Delivered,
    Failed,
    MailboxShown,
    SetProfile,
    ShowMailbox,
)
from actors.request_ids import new_request_id
from mail.errors import MailboxFull, OverQuota, Unavailable
from storage import keys, records
from storage.mailbox_reader import MailboxReader
from storage.records import MailboxRecord
from storage.shard import Planned
from storage.transaction import Overlay
from tests.contract.house import House, house, letter

RAW = b"From: a@x.test\r\nSubject: hello\r\n\r\n" + b"0123456789\r\n" * 100


async def shown(built: House, account: Account) -> MailboxShown:
    (reply,) = await built.tell(account, ShowMailbox(account.mailbox))
    assert isinstance(reply, MailboxShown)
    return reply


async def limit(built: House, account: Account, quota_bytes: int) -> Account:
    """Give an account a quota and return it as the directory has it now."""
    command = SetProfile(new_request_id(), account.address, quota_bytes=quota_bytes)
    return await built.ask(command, Account)


async def test_what_does_not_fit_is_refused_for_good_and_smaller_mail_fits(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        alice = await limit(built, alice, 2 * len(RAW))
        await built.deliver(RAW, alice)
        with pytest.raises(OverQuota) as refused:
            await built.deliver(RAW + b"second", alice)
        assert refused.value.smtp == "552 5.2.2"
        await built.deliver(b"Subject: small\r\n\r\n", alice)
        assert (await shown(built, alice)).messages == 2
        assert (await shown(built, alice)).size_bytes <= alice.quota_bytes


async def test_what_fits_to_the_octet(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        trace = f"Delivered-To: {alice.address}\r\n".encode()
        alice = await limit(built, alice, len(trace) + len(RAW))
        await built.router.expect_room(alice, len(trace) + len(RAW))
        with pytest.raises(MailboxFull) as full:
            await built.router.expect_room(alice, len(trace) + len(RAW) + 1)
        assert full.value.smtp == "452 4.2.2"
        await built.deliver(RAW, alice)
        with pytest.raises(MailboxFull):
            await built.router.expect_room(alice, 0)


async def test_a_repeat_is_not_refused_although_the_mailbox_is_full_now(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        found = letter(RAW)
        command = Deliver(
            alice.mailbox,
            new_request_id(),
            RAW,
            found.summary,
            found.search_text,
            1,
            quota_bytes=len(RAW),
        )
        assert await built.tell(alice, command) == await built.tell(alice, command)
        (other,) = await built.tell(alice, replace(command, request_id=new_request_id()))
        assert isinstance(other, Failed)
        assert other.error == "OverQuota"
        assert (await shown(built, alice)).messages == 1


async def test_two_recipients_of_whom_one_is_full(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        bob = await limit(built, bob, 10)
        with pytest.raises(Unavailable):  # 451: the peer keeps the message.
            await built.deliver(RAW, alice, bob)
        await asyncio.gather(*built.router._tasks)
        # The peer's repeat: the full one is refused at RCPT, the message goes to the other.
        with pytest.raises(MailboxFull):
            await built.router.expect_room(bob, len(RAW))
        await built.deliver(RAW, alice)
        assert (await shown(built, alice)).messages == 1, "doubled"
        assert (await shown(built, bob)).messages == 0
        # Its owner makes room, and the peer comes a third time, for the other one.
        bob = await limit(built, bob, 0)
        await built.deliver(RAW, bob)
        assert (await shown(built, bob)).messages == 1


async def test_deliveries_at_once_do_not_go_over_together(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        alice = await limit(built, alice, 10 * (len(RAW) + 100))
        results = await asyncio.gather(
            *(built.deliver(RAW + b"%d" % n, alice) for n in range(50)), return_exceptions=True
        )
        refused = sum(isinstance(result, OverQuota) for result in results)
        found = await shown(built, alice)
        assert found.messages == 50 - refused == 10
        assert found.size_bytes <= alice.quota_bytes


async def test_unread_mail_is_counted_without_looking_through_the_mailbox(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        for number in range(5):
            await built.deliver(RAW + b"%d" % number, alice)
        mailbox = built.mailboxes[alice.shard]
        found = letter(RAW)
        (reply,) = await built.tell(
            alice,
            Deliver(
                alice.mailbox,
                new_request_id(),
                RAW,
                found.summary,
                found.search_text,
                1,
                keywords=("$seen",),
            ),
        )
        assert isinstance(reply, Delivered)
        assert (await shown(built, alice)).unread == 5
        before = MailboxReader(alice.mailbox, mailbox.shard.state).info

        def forget(overlay: Overlay, now_ms: int) -> Planned:  # As an older release has written it.
            record: MailboxRecord = replace(before, unread=-1)
            overlay.put(keys.info(alice.mailbox), records.encode(record))
            return Planned(b"")

        await mailbox.shard.run(alice.mailbox, b"", forget)
        assert (await shown(built, alice)).unread == 5
        assert MailboxReader(alice.mailbox, mailbox.shard.state).info.unread == 5
        await built.deliver(RAW + b"more", alice)
        assert (await shown(built, alice)).unread == 6

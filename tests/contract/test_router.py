"""The gateways' ports over real actors in one process: what a gateway may rely on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from actors import lane as lane_module
from actors.commands import (
    Account,
    AddAlias,
    Deliver,
    Done,
    ExpectRepeat,
    Failed,
    MailboxShown,
    MailboxState,
    RemoveAccount,
    RemoveMailbox,
    SetPassword,
    ShardShown,
    ShowMailbox,
    ShowShard,
)
from actors.request_ids import new_request_id
from mail.address import parse_path
from mail.errors import (
    NoSuchMailbox,
    NotFound,
    RelayDenied,
    ShardDamaged,
    SignInRefused,
    Unavailable,
)
from tests.contract.house import House, house, letter

RAW = b"From: a@x.test\r\nSubject: hello\r\nMessage-ID: <1@x.test>\r\n\r\nbody\r\n"


async def shown(built: House, account: Account) -> MailboxShown:
    (reply,) = await built.tell(account, ShowMailbox(account.mailbox))
    assert isinstance(reply, MailboxShown)
    return reply


async def eventually(check: object, wanted: object) -> None:
    for _ in range(200):
        if await check() == wanted:  # type: ignore[operator]
            return
        await asyncio.sleep(0.05)
    assert await check() == wanted  # type: ignore[operator]


async def test_one_message_for_three_mailboxes(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b", "c", mailbox_actors_per_node=2) as (built, accounts):
        assert len({account.shard for account in accounts}) == 2
        await built.deliver(RAW, *accounts)
        for account in accounts:
            assert (await shown(built, account)).messages == 1
        assert len(built.mailboxes) == 2


async def test_many_deliveries_at_once_are_each_there_once(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as (built, accounts):
        await asyncio.gather(*(built.deliver(RAW + b"%d" % n, accounts[n % 2]) for n in range(300)))
        assert [(await shown(built, account)).messages for account in accounts] == [150, 150]


async def test_a_shard_that_is_away_defers_all_and_the_repeat_is_not_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "DELIVER_S_MAX", 0.2)
    async with house(tmp_path, "a", "b") as (built, accounts):
        await built.deliver(RAW, *accounts)
        await built.stop_shard(accounts[1].shard)
        second = RAW + b"second"
        with pytest.raises(Unavailable):
            await built.deliver(second, *accounts)
        assert (await shown(built, accounts[0])).messages == 2
        await built.start_shard(accounts[1].shard)
        monkeypatch.setattr(lane_module, "DELIVER_S_MAX", 20.0)
        await asyncio.gather(*built.router._tasks)
        await built.deliver(second, *accounts)  # The peer comes again.
        for account in accounts:
            assert (await shown(built, account)).messages == 2
        await built.deliver(second, *accounts)  # A new message that happens to be equal.
        for account in accounts:
            assert (await shown(built, account)).messages == 3


async def test_a_delivery_given_up_before_it_arrived_is_fenced(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as (built, (account,)):
        delivery = new_request_id()
        command = ExpectRepeat(account.mailbox, new_request_id(), delivery, b"f" * 32)
        assert await built.tell(account, command) == [Done()]
        late = letter(RAW)
        (reply,) = await built.tell(
            account,
            Deliver(account.mailbox, delivery, RAW, late.summary, late.search_text, 1),
        )
        assert isinstance(reply, Failed)
        assert (await shown(built, account)).messages == 0


async def test_a_restarted_shard_is_waited_for(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as (built, (account,)):
        await built.stop_shard(account.shard)
        sending = asyncio.create_task(built.deliver(RAW, account))
        await asyncio.sleep(0.2)
        assert not sending.done()
        await built.start_shard(account.shard)
        await sending
        assert (await shown(built, account)).messages == 1


async def test_a_damaged_shard_is_out_of_service_alone(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as (built, accounts):
        await built.deliver(RAW, *accounts)
        await built.stop_shard(accounts[0].shard)
        (tmp_path / f"{accounts[0].shard:06d}" / "hard_state").write_bytes(b"x" * 1024)
        await built.start_shard(accounts[0].shard)
        with pytest.raises(ShardDamaged):
            await built.deliver(RAW, accounts[0])
        with pytest.raises(ShardDamaged):
            await built.router.jmap(accounts[0], b"{}")
        await built.deliver(RAW, accounts[1])
        (reply,) = await built.tell(accounts[0], ShowShard())
        assert isinstance(reply, ShardShown)
        assert reply.state == "damaged"
        assert "hard state" in reply.trouble


async def test_resolve(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        await built.ask(AddAlias(new_request_id(), "Sales@example.test", bob.address), Done)

        async def found(text: str) -> str:
            address = parse_path(f"<{text}>")
            assert address is not None
            return (await built.router.resolve(address)).address

        assert await found("ALICE@Example.Test") == alice.address
        assert await found("alice+lists@example.test") == alice.address
        assert await found("sales@example.test") == bob.address
        assert await found("postmaster@example.test") == alice.address
        assert await found("Postmaster") == alice.address
        with pytest.raises(NoSuchMailbox):
            await found("nobody@example.test")
        with pytest.raises(RelayDenied):
            await found("alice@elsewhere.test")


async def test_sign_in_and_changed_passwords(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        for _ in range(3):
            assert (await built.router.sign_in("Alice@example.test", "secret")).account == alice
        for name, password in (
            ("alice@example.test", "wrong"),
            ("nobody@example.test", "secret"),
            ("alice", "secret"),
            ("", ""),
            ("alice@example.test", "\0"),
        ):
            with pytest.raises(SignInRefused):
                await built.router.sign_in(name, password)
        await built.ask(SetPassword(new_request_id(), alice.address, "another"), Done)

        async def old_password_works() -> bool:
            try:
                await built.router.sign_in(alice.address, "secret")
            except SignInRefused:
                return False
            return True

        await eventually(old_password_works, False)
        assert await built.router.sign_in(alice.address, "another")


async def test_a_removed_account(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        await built.deliver(RAW, alice)
        await built.ask(RemoveAccount(new_request_id(), alice.address), Account)
        await built.tell(alice, RemoveMailbox(alice.mailbox, new_request_id()))
        with pytest.raises(NoSuchMailbox):
            await built.deliver(RAW, alice)  # A gateway that does not know it yet.
        again = await built.add_account("alice@example.test")
        assert again.mailbox != alice.mailbox
        assert (await shown(built, again)).messages == 0


async def test_upload_and_download(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4 * 5000
    async with house(tmp_path, "alice", "bob", mailbox_actors_per_node=1) as (built, accounts):
        alice, bob = accounts
        assert alice.shard == bob.shard
        stored = await built.router.upload(alice, data)
        assert stored.size_bytes == len(data)
        got = b""
        while len(got) < len(data):
            piece = await built.router.download(alice, stored.blob_id, offset=len(got))
            assert piece.size_bytes == len(data)
            got += piece.data
        assert got == data
        for blob_id in (stored.blob_id, "Gxx", "", "G" + "0" * 64):
            with pytest.raises(NotFound):
                await built.router.download(bob, blob_id)


async def test_push_tells_present_states_and_every_change(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        heard: list[MailboxState] = []
        end = await built.router.subscribe(alice, heard.append)
        assert heard
        await built.deliver(RAW, alice)
        await eventually(lambda: _async(heard[-1].email > 0), True)
        count = len(heard)
        await built.deliver(RAW, bob)
        end()
        await asyncio.sleep(0.05)
        await built.deliver(RAW, alice)
        await asyncio.sleep(0.05)
        assert len(heard) == count


async def _async(value: object) -> object:
    return value


async def test_search_is_exact_at_once(tmp_path: Path) -> None:
    text = "Subject: =?utf-8?B?7ZqM7J2Y66W8?= Invoice\r\nMessage-ID: <9@x>\r\n\r\n내일 회의록\r\n"
    async with house(tmp_path, "alice") as (built, (alice,)):
        for number in range(3):
            await built.deliver(text.encode() + b"%d" % number, alice)
            for words in ("회의", "inv", "회의록"):
                request = {
                    "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
                    "methodCalls": [
                        [
                            "Email/query",
                            {"accountId": f"A{alice.mailbox:x}", "filter": {"text": words}},
                            "c",
                        ]
                    ],
                }
                answer = await built.router.jmap(alice, json.dumps(request).encode())
                response = json.loads(answer.body)["methodResponses"][0]
                assert response[0] == "Email/query", response
                assert len(response[1]["ids"]) == number + 1

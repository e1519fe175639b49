"""The directory over a real shard: names, accounts, aliases, profiles, versions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.account_commands import (
    AccountsAdded,
    AddAccounts,
    DomainShown,
    NewAccount,
    SetDomain,
    ShowDomain,
)
from actors.commands import (
    Account,
    Accounts,
    AddAccount,
    AddAlias,
    AddDomain,
    DirectoryVersion,
    Done,
    Failed,
    GetAccount,
    ListAccounts,
    ListDomains,
    ListShards,
    Names,
    RemoveAccount,
    RemoveAlias,
    RemoveDomain,
    Resolve,
    Resolved,
    SetPassword,
    SetProfile,
    Shards,
    WatchDirectory,
)
from actors.directory_state import DirectoryWriter
from actors.request_ids import new_request_id
from mail.address import Address, parse_address
from mail.errors import AlreadyExists, Invalid, InvalidAddress, NotFound, SignInRefused
from storage import keys
from storage.records import CredentialRecord
from tests.contract.house import House, house


async def addresses(built: House, *, page: int = 1000) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        answer = await built.ask(ListAccounts(after, page), Accounts)
        found += [account.address for account in answer.accounts]
        if not answer.more:
            return found
        after = found[-1]


async def test_domains(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        await built.ask(AddDomain(new_request_id(), "예시.한국"), Done)
        names = await built.ask(ListDomains(), Names)
        assert set(names.names) == {"example.test", "xn--vv4b11d.xn--3e0b707e"}
        with pytest.raises(AlreadyExists):
            await built.ask(AddDomain(new_request_id(), "EXAMPLE.test"), Done)
        for bad in ("", "a b", "[127.0.0.1]", "-x.test"):
            with pytest.raises(InvalidAddress):
                await built.ask(AddDomain(new_request_id(), bad), Done)
        with pytest.raises(Invalid):
            await built.ask(RemoveDomain(new_request_id(), "example.test"), Done)
        await built.ask(RemoveAccount(new_request_id(), alice.address), Account)
        await built.ask(RemoveDomain(new_request_id(), "example.test"), Done)
        with pytest.raises(NotFound):
            await built.ask(RemoveDomain(new_request_id(), "example.test"), Done)


async def test_an_address_belongs_to_one_account(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        await built.ask(AddAlias(new_request_id(), "sales@example.test", alice.address), Done)
        for taken in ("ALICE@example.test", "Sales@example.test"):
            with pytest.raises(AlreadyExists):
                await built.add_account(taken)
            with pytest.raises(AlreadyExists):
                await built.ask(AddAlias(new_request_id(), taken, bob.address), Done)
        with pytest.raises(NotFound):
            await built.add_account("carol@elsewhere.test")
        with pytest.raises(InvalidAddress):
            await built.add_account("carol+x@example.test")
        with pytest.raises(Invalid):
            await built.ask(RemoveAlias(new_request_id(), alice.address), Done)
        await built.ask(RemoveAlias(new_request_id(), "sales@example.test"), Done)
        assert (await built.add_account("sales@example.test")).mailbox not in (
            alice.mailbox,
            bob.mailbox,
        )


async def test_a_repeated_command_makes_one_account(tmp_path: Path) -> None:
    async with house(tmp_path) as (built, _):
        command = AddAccount(new_request_id(), "alice@example.test", "secret")
        first, second = await asyncio.gather(
            built.ask(command, Account), built.ask(command, Account)
        )
        assert first == second
        assert await addresses(built) == ["alice@example.test"]


async def test_accounts_are_listed_in_pages(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(7)]
    async with house(tmp_path, *names, mailbox_actors_per_node=1) as (built, _):
        assert await addresses(built, page=3) == [f"{name}@example.test" for name in names]
        (row,) = (await built.ask(ListShards(), Shards)).shards
        assert row.mailboxes == 7


async def test_profile(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        command = SetProfile(
            new_request_id(),
            alice.address,
            display_name="앨리스",
            language="ko-KR",
            time_zone="Asia/Seoul",
        )
        await built.ask(command, Account)
        found = await built.ask(GetAccount("ALICE@example.test"), Account)
        assert (found.display_name, found.language, found.time_zone) == (
            "앨리스",
            "ko-KR",
            "Asia/Seoul",
        )
        for bad in (
            SetProfile(new_request_id(), alice.address, language="k"),
            SetProfile(new_request_id(), alice.address, time_zone="Moon/Base"),
            SetProfile(new_request_id(), alice.address, time_zone="../../etc/passwd"),
            SetProfile(new_request_id(), alice.address, role="king"),
            SetProfile(new_request_id(), alice.address, quota_bytes=-1),
        ):
            with pytest.raises(Invalid):
                await built.ask(bad, Account)
        await built.ask(SetProfile(new_request_id(), alice.address, disabled=True), Account)
        with pytest.raises(SignInRefused):
            await built.router.sign_in(alice.address, "secret")


async def test_postmaster_is_read_by_an_administrator(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (_, bob)):
        await built.ask(SetProfile(new_request_id(), bob.address, role="admin"), Account)
        answer = await built.ask(
            Resolve(("postmaster@example.test", "POSTMASTER+x@example.test")), Resolved
        )
        found = answer.results[0]
        assert isinstance(found, Account)
        assert found.address == bob.address


async def test_every_change_raises_the_version_and_wakes_who_waits(tmp_path: Path) -> None:
    async with house(tmp_path) as (built, _):
        now = await built.ask(WatchDirectory(-1, 0), DirectoryVersion)
        same = await built.ask(WatchDirectory(now.version, 20), DirectoryVersion)
        assert same == now
        waiting = asyncio.create_task(
            built.ask(WatchDirectory(now.version, 10_000), DirectoryVersion)
        )
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await built.add_account("alice@example.test")
        assert (await waiting).version > now.version


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


async def resolved(built: House, text: str) -> Account | Failed:
    return (await built.ask(Resolve((text,)), Resolved)).results[0]


async def who(built: House, text: str) -> str:
    found = await resolved(built, text)
    return found.address if isinstance(found, Account) else found.error


async def test_a_catch_all_gets_what_is_nobody_elses(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        await built.ask(AddAlias(new_request_id(), "sales@example.test", alice.address), Done)
        assert await who(built, "anything@example.test") == "NoSuchMailbox"
        command = SetDomain(new_request_id(), "example.test", catch_all="BOB@example.test")
        shown = await built.ask(command, DomainShown)
        assert shown.catch_all == bob.address
        for text, address in (
            ("anything@example.test", bob.address),
            ("any+thing@example.test", bob.address),
            ("alice@example.test", alice.address),
            ("alice+x@example.test", alice.address),
            ("sales@example.test", alice.address),
            ("postmaster@example.test", alice.address),
            ("anything@elsewhere.test", "RelayDenied"),
        ):
            assert await who(built, text) == address
        with pytest.raises(Invalid):
            await built.ask(RemoveAccount(new_request_id(), bob.address), Account)
        command = SetDomain(new_request_id(), "example.test", catch_all="nobody@example.test")
        with pytest.raises(NotFound):
            await built.ask(command, DomainShown)
        command = SetDomain(new_request_id(), "example.test", catch_all="")
        assert (await built.ask(command, DomainShown)).catch_all == ""
        assert await who(built, "anything@example.test") == "NoSuchMailbox"
        await built.ask(RemoveAccount(new_request_id(), bob.address), Account)


async def test_gateways_hear_of_a_new_account_below_a_catch_all(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        command = SetDomain(new_request_id(), "example.test", catch_all=bob.address)
        await built.ask(command, DomainShown)
        carol, postmaster = (
            parse_address(f"{name}@example.test") for name in ("carol", "postmaster")
        )

        async def found(address: Address, wanted: str) -> None:
            async def resolves() -> bool:
                return (await built.router.resolve(address)).address == wanted

            await eventually(resolves)

        await found(carol, bob.address)
        await found(postmaster, alice.address)
        await built.add_account("carol@example.test")
        await found(carol, "carol@example.test")
        await built.ask(AddAlias(new_request_id(), "postmaster@example.test", bob.address), Done)
        await found(postmaster, bob.address)


async def test_domains_are_changed_and_shown(tmp_path: Path) -> None:
    async with house(tmp_path) as (built, _):
        shown = await built.ask(ShowDomain("EXAMPLE.test"), DomainShown)
        assert (shown.signup, shown.quota_bytes, shown.catch_all) == ("closed", 0, "")
        command = SetDomain(
            new_request_id(), "example.test", signup="open", quota_bytes=7, signups_per_day_max=3
        )
        shown = await built.ask(command, DomainShown)
        assert (shown.signup, shown.quota_bytes, shown.signups_per_day_max) == ("open", 7, 3)
        for bad in (
            SetDomain(new_request_id(), "example.test", signup="sometimes"),
            SetDomain(new_request_id(), "example.test", quota_bytes=-1),
            SetDomain(new_request_id(), "example.test", signups_per_day_max=-1),
        ):
            with pytest.raises(Invalid):
                await built.ask(bad, DomainShown)
        with pytest.raises(NotFound):
            await built.ask(ShowDomain("elsewhere.test"), DomainShown)
        made = AddAccount(new_request_id(), "a@example.test", "secret", quota_bytes=-1)
        assert (await built.ask(made, Account)).quota_bytes == 7
        made = AddAccount(new_request_id(), "b@example.test", "secret")
        assert (await built.ask(made, Account)).quota_bytes == 0


async def test_many_accounts_in_one_turn(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", mailbox_actors_per_node=4) as (built, _):
        new = [NewAccount(f"u{number}@example.test") for number in range(900)]
        odd = [
            NewAccount("alice@example.test", "x"),
            NewAccount("u5@example.test"),
            NewAccount("u@elsewhere.test"),
            NewAccount("no address"),
            NewAccount("dave@example.test", "a password", "Dave"),
        ]
        command = AddAccounts(new_request_id(), tuple(new + odd), quota_bytes=5_000_000)
        added = await built.ask(command, AccountsAdded)
        assert added == await built.ask(command, AccountsAdded), "a repeat has one effect"
        kinds = [one.error if isinstance(one, Failed) else "" for one in added.results]
        assert kinds[:900] == [""] * 900
        assert kinds[900:] == ["AlreadyExists", "AlreadyExists", "NotFound", "InvalidAddress", ""]
        await built.start_shards()
        rows = (await built.ask(ListShards(), Shards)).shards
        assert sorted(row.mailboxes for row in rows) == [225, 225, 226, 226]
        assert len(await addresses(built)) == 902
        access = await built.router.sign_in("dave@example.test", "a password")
        assert access.account.display_name == "Dave"
        assert access.account.quota_bytes == 5_000_000
        with pytest.raises(SignInRefused):
            await built.router.sign_in("u5@example.test", "")
        await built.deliver(b"Subject: x\r\n\r\n", added.results[0])  # type: ignore[arg-type]
        await built.ask(SetPassword(new_request_id(), "u5@example.test", "another"), Done)
        assert await built.router.sign_in("u5@example.test", "another")
        for too_many in (1001 * [NewAccount("x@example.test")], 33 * [NewAccount("x@y.z", "p")]):
            with pytest.raises(Invalid):
                await built.ask(AddAccounts(new_request_id(), tuple(too_many)), AccountsAdded)


async def test_postmaster_is_somebody_while_accounts_come_and_go(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b", "c") as (built, _):
        await built.ask(AddDomain(new_request_id(), "second.test"), Done)
        assert await who(built, "postmaster@second.test") == "a@example.test"
        await built.add_account("x@second.test")
        assert await who(built, "postmaster@second.test") == "x@second.test"
        await built.ask(RemoveAccount(new_request_id(), "a@example.test"), Account)
        assert await who(built, "postmaster@example.test") == "b@example.test"
        made = AddAccount(new_request_id(), "boss@example.test", "secret", role="admin")
        await built.ask(made, Account)
        assert await who(built, "postmaster@second.test") == "boss@example.test"
        await built.ask(SetProfile(new_request_id(), "c@example.test", role="admin"), Account)
        assert await who(built, "postmaster@second.test") == "c@example.test"
        await built.ask(RemoveAccount(new_request_id(), "c@example.test"), Account)
        assert await who(built, "postmaster@second.test") == "boss@example.test"
        await built.ask(SetProfile(new_request_id(), "boss@example.test", role="user"), Account)
        assert await who(built, "postmaster@second.test") == "x@second.test"
        for name in ("b@example.test", "boss@example.test", "x@second.test"):
            await built.ask(RemoveAccount(new_request_id(), name), Account)
        assert await who(built, "postmaster@second.test") == "NoSuchMailbox"


async def test_what_gateways_know_of_others_is_not_dropped(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        before = await built.ask(WatchDirectory(-1, 0), DirectoryVersion)
        await built.ask(SetPassword(new_request_id(), alice.address, "another"), Done)
        await built.ask(AddAlias(new_request_id(), "b2@example.test", bob.address), Done)
        both = await built.ask(WatchDirectory(before.version, 0), DirectoryVersion)
        assert both.touched == (alice.mailbox, bob.mailbox)
        assert both.version == before.version + 2
        last = await built.ask(WatchDirectory(before.version + 1, 0), DirectoryVersion)
        assert last.touched == (bob.mailbox,)
        await built.ask(SetProfile(new_request_id(), bob.address, role="admin"), Account)
        everything = await built.ask(WatchDirectory(both.version, 0), DirectoryVersion)
        assert everything.touched is None
        ahead = await built.ask(WatchDirectory(everything.version + 5, 0), DirectoryVersion)
        assert ahead.touched is None


async def test_a_new_password_may_end_app_passwords(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        router = built.router
        access = await router.sign_in(alice.address, "secret")
        _, text = await router.add_app_password(access, label="", scopes=["imap"])
        assert (await router.sign_in(alice.address, text)).scopes == ("imap",)
        await built.ask(SetPassword(new_request_id(), alice.address, "second"), Done)
        assert (await router.sign_in(alice.address, text)).scopes == ("imap",)
        command = SetPassword(new_request_id(), alice.address, "third", keeps_app_passwords=False)
        await built.ask(command, Done)

        async def refused() -> bool:
            try:
                await router.sign_in(alice.address, text)
            except SignInRefused:
                return True
            return False

        await eventually(refused)


async def test_uses_are_noted_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.directory.NOTE_USES_AFTER_S", 0.01)
    async with house(tmp_path, "alice") as (built, (alice,)):
        router = built.router
        access = await router.sign_in(alice.address, "secret")
        made, text = await router.add_app_password(access, label="x", scopes=["mail"])
        assert made.used_at_ms == 0
        version = (await built.ask(WatchDirectory(-1, 0), DirectoryVersion)).version
        await router.sign_in(alice.address, text)

        async def noted() -> bool:
            return (await router.app_passwords(access))[0].used_at_ms > 0

        await eventually(noted)
        after = (await built.ask(WatchDirectory(-1, 0), DirectoryVersion)).version
        assert after == version, "a note empties nobody's memory"


async def test_a_directory_of_an_older_release(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as (built, _):

        def forget(writer: DirectoryWriter, now_ms: int) -> Done:
            """Write the records as releases before this one did."""
            old = replace(writer.record, recent=(), first_admin=-1)
            writer.put(keys.directory(), old)
            writer.put_domain(replace(writer.domain("example.test"), first_account=-1))
            return Done()

        assert built.directory is not None
        await built.directory._commit(b"", forget)
        assert await who(built, "postmaster@example.test") == "a@example.test"
        await built.add_account("c@example.test")
        await built.ask(RemoveAccount(new_request_id(), "a@example.test"), Account)
        assert await who(built, "postmaster@example.test") == "b@example.test"


async def test_a_repeat_waits_for_the_password_that_is_hashed_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, "alice") as (built, _):
        hashed: list[str] = []
        make = built.directory._hasher.make

        async def counted(password: str, *, now_ms: int) -> CredentialRecord:
            hashed.append(password)
            return await make(password, now_ms=now_ms)

        monkeypatch.setattr(built.directory._hasher, "make", counted)
        command = AddAccount(new_request_id(), "bob@example.test", "a long password")
        first, second = await asyncio.gather(
            built.ask(command, Account), built.ask(command, Account)
        )
        assert first == second
        assert hashed == ["a long password"]

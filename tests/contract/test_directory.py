"""The directory over a real shard: names, accounts, aliases, profiles, versions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.commands import (
    Account,
    Accounts,
    AddAccount,
    AddAlias,
    AddDomain,
    DirectoryVersion,
    Done,
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
    SetProfile,
    Shards,
    WatchDirectory,
)
from actors.request_ids import new_request_id
from mail.errors import AlreadyExists, Invalid, InvalidAddress, NotFound, SignInRefused
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

"""The whole house in one process, without Ray: directory, shards, a router."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from actors import wire
from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    Account,
    AddAccount,
    AddDomain,
    Command,
    Done,
    ListShards,
    ShardId,
    Shards,
)
from actors.credentials import HashCost, Hasher
from actors.directory import Directory
from actors.local_ports import LocalTransport
from actors.mailbox import Mailbox
from actors.options import ShardOptions
from actors.ports import Destination, Letter
from actors.request_ids import new_request_id
from actors.router import Router
from mail.message import parse

ReplyT = TypeVar("ReplyT")
CHEAP = HashCost(passes=1, memory_kib=8, lanes=1)


class House:
    """One cluster of actors over a directory of files."""

    def __init__(self, path: Path, *, mailbox_actors_per_node: int = 8) -> None:
        self.path = path
        self.limit = mailbox_actors_per_node
        self.transport = LocalTransport()
        self.directory: Directory | None = None
        self.mailboxes: dict[ShardId, Mailbox] = {}
        self.router = Router(self.transport, "gateway/test")
        self.transport.gateways["gateway/test"] = self.router.notified

    def _options(self, shard: ShardId, kind: str) -> ShardOptions:
        return ShardOptions(
            shard=shard,
            kind=kind,
            path=str(self.path / f"{shard:06d}"),
            cluster_id="test",
            create=True,
            mailbox_actors_per_node=self.limit,
            node="node",
        )

    async def start(self) -> None:
        options = self._options(DIRECTORY_SHARD, "directory")
        self.directory = Directory(options, self.transport, hasher=Hasher(CHEAP))
        await self.directory.start()
        self.transport.shards[DIRECTORY_SHARD] = self.directory.handle
        await self.start_shards()
        await self.router.start()

    async def start_shards(self) -> None:
        """Start what the directory knows and does not run yet."""
        rows = await self.ask(ListShards(), Shards)
        for row in rows.shards:
            if row.shard not in self.mailboxes:
                await self.start_shard(row.shard)

    async def start_shard(self, shard: ShardId) -> Mailbox:
        mailbox = Mailbox(self._options(shard, "mailbox"), self.transport)
        await mailbox.start()
        self.mailboxes[shard] = mailbox
        self.transport.shards[shard] = mailbox.handle
        return mailbox

    async def stop_shard(self, shard: ShardId) -> None:
        del self.transport.shards[shard]
        await self.mailboxes.pop(shard).close()

    async def ask(self, command: Command, expected: type[ReplyT]) -> ReplyT:
        return await ask(self.transport, DIRECTORY_SHARD, command, expected)

    async def add_account(self, address: str, password: str = "secret") -> Account:
        command = AddAccount(new_request_id(), address, password)
        account = await self.ask(command, Account)
        await self.start_shards()
        return account

    async def close(self) -> None:
        await self.router.close()
        for mailbox in self.mailboxes.values():
            await mailbox.close()
        if self.directory is not None:
            await self.directory.close()

    async def deliver(self, raw: bytes, *accounts: Account, mail_from: str = "s@x.test") -> None:
        await self.router.deliver(letter(raw, mail_from), destinations(accounts))

    async def tell(self, account: Account, command: Command) -> list[object]:
        """Ask the account's shard directly."""
        frame = await self.transport.call(account.shard, wire.encode([command]), timeout_s=20)
        return list(wire.decode_replies(frame))


def letter(raw: bytes, mail_from: str = "s@x.test") -> Letter:
    message = parse(raw)
    now_ms = time.time_ns() // 1_000_000
    return Letter(mail_from, raw, message.summary, message.search_text, now_ms)


def destinations(accounts: Sequence[Account]) -> list[Destination]:
    return [
        Destination(account, account.address, f"Delivered-To: {account.address}\r\n".encode())
        for account in accounts
    ]


@asynccontextmanager
async def house(
    path: Path, *accounts: str, mailbox_actors_per_node: int = 8
) -> AsyncIterator[tuple[House, list[Account]]]:
    """A started house with the domain example.test and these accounts."""
    built = House(path, mailbox_actors_per_node=mailbox_actors_per_node)
    await built.start()
    try:
        await built.ask(AddDomain(new_request_id(), "example.test"), Done)
        yield built, [await built.add_account(f"{name}@example.test") for name in accounts]
    finally:
        await built.close()
        shutil.rmtree(path, ignore_errors=True)

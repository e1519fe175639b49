"""Directory: the actor that knows domains, accounts, aliases, credentials and shards.

It is a shard like any other, with one difference: its turns are the directory's
(`actors/directory_turns.py`). Its version rises with every change; gateways follow it and
drop what they remember.

State       hard: the shard.  soft: who waits for a change; which passwords were right.
On failure  a change may still have happened. Repeat it with the same request id.
Raises      (as Failed) NotFound, AlreadyExists, Invalid, SignInRefused; Unavailable, Overloaded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from actors import directory_turns, wire
from actors.commands import (
    Accounts,
    AddAccount,
    AddAlias,
    AddDomain,
    Command,
    DirectoryVersion,
    GetAccount,
    ListAccounts,
    ListDomains,
    ListShards,
    Names,
    RemoveAccount,
    RemoveAlias,
    RemoveDomain,
    Reply,
    RequestId,
    Resolve,
    Resolved,
    SetPassword,
    SetProfile,
    Shards,
    SignIn,
    WatchDirectory,
)
from actors.credentials import Hasher
from actors.directory_turns import DirectoryReader, WriterTurn, as_account, directory_plan
from actors.options import ShardOptions
from actors.ports import Notices
from actors.shard_host import ShardHost
from mail.address import parse_address
from mail.errors import Invalid, MailError, Overloaded, SignInRefused
from storage.keys import DIRECTORY
from storage.shard import Applying, Shard

WATCHERS_MAX = 1024
WATCH_MS_MAX = 60_000
ACCOUNTS_PAGE_MAX = 1000
RESOLVE_MAX = 1000


class Directory(ShardHost):
    """Owner of the directory's shard."""

    def __init__(
        self, options: ShardOptions, notices: Notices, *, hasher: Hasher | None = None
    ) -> None:
        super().__init__(options, notices)
        self._hasher = hasher or Hasher()
        self._changed = asyncio.Event()
        self._watchers = 0

    async def opened(self, shard: Shard) -> None:
        shard.has_index = False

    def applied(self, entries: Sequence[Applying]) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def _reader(self) -> DirectoryReader:
        return DirectoryReader(self.shard.state)

    async def answer(self, command: Command) -> Reply:
        reader = self._reader
        match command:
            case Resolve(addresses):
                if len(addresses) > RESOLVE_MAX:
                    raise Invalid(f"at most {RESOLVE_MAX} addresses at once")
                return Resolved(tuple(reader.resolve(address) for address in addresses))
            case SignIn():
                return await self._sign_in(command)
            case WatchDirectory():
                return await self._watch(command)
            case GetAccount(address):
                return as_account(reader.named(address))
            case ListAccounts():
                limit_max = max(1, min(command.limit_max, ACCOUNTS_PAGE_MAX))
                found, more = reader.addresses(command.after, limit_max)
                return Accounts(tuple(map(as_account, found)), more)
            case ListDomains():
                return Names(tuple(reader.domains()))
            case ListShards():
                return Shards(tuple(reader.shards()))
            case _:
                return await self._change(command)

    async def _change(self, command: Command) -> Reply:
        match command:
            case AddDomain():
                return await self._commit(command.request_id, directory_turns.add_domain(command))
            case RemoveDomain():
                turn = directory_turns.remove_domain(command)
                return await self._commit(command.request_id, turn)
            case AddAccount():
                turn = directory_turns.add_account(
                    command,
                    await self._hasher.make(command.password, now_ms=_now_ms()),
                    node=self.options.node,
                    actors_max=self.options.mailbox_actors_per_node,
                )
                return await self._commit(command.request_id, turn)
            case RemoveAccount():
                turn = directory_turns.remove_account(command)
                return await self._commit(command.request_id, turn)
            case SetPassword():
                credential = await self._hasher.make(command.password, now_ms=_now_ms())
                turn = directory_turns.set_password(command, credential)
                return await self._commit(command.request_id, turn)
            case SetProfile():
                return await self._commit(command.request_id, directory_turns.set_profile(command))
            case AddAlias():
                return await self._commit(command.request_id, directory_turns.add_alias(command))
            case RemoveAlias():
                turn = directory_turns.remove_alias(command)
                return await self._commit(command.request_id, turn)
            case _:
                raise Invalid(f"{type(command).__name__} is not for the directory")

    async def _commit(self, request_id: RequestId, turn: WriterTurn) -> Reply:
        octets = await self.shard.run(DIRECTORY, request_id, directory_plan(turn))
        return wire.decode_replies(octets)[0]

    async def _sign_in(self, command: SignIn) -> Reply:
        """Check a password. Who does not exist takes as long as who does (RFC 4954 §6)."""
        reader = self._reader
        try:
            record = reader.at(parse_address(command.address).key)
        except MailError:
            record = None
        credential = None
        if record is not None and not record.disabled:
            credential = reader.credential(record.account)
        if not await self._hasher.check(credential, command.password) or record is None:
            raise SignInRefused
        return as_account(record)

    async def _watch(self, command: WatchDirectory) -> Reply:
        if self._watchers >= WATCHERS_MAX:
            raise Overloaded
        self._watchers += 1
        try:
            async with asyncio.timeout(min(command.wait_ms, WATCH_MS_MAX) / 1000):
                while self._reader.record.version == command.since:
                    await self._changed.wait()
        except TimeoutError:
            return DirectoryVersion(command.since)
        finally:
            self._watchers -= 1
        return DirectoryVersion(self._reader.record.version)

    async def close(self) -> None:
        await super().close()
        self._changed.set()
        self._hasher.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

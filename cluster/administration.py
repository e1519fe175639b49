"""Administration: what the operator's commands do, in terms of the directory and the shards.

Everything is repeated by request id until it is answered, so a command that was told "done" is
durable, and one that was told nothing can be given again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    Account,
    Accounts,
    AddAccount,
    AddAlias,
    AddDomain,
    Command,
    Done,
    GetAccount,
    ListAccounts,
    ListDomains,
    MailboxShown,
    Names,
    RemoveAccount,
    RemoveAlias,
    RemoveDomain,
    RemoveMailbox,
    SetPassword,
    ShardId,
    ShardShown,
    ShowMailbox,
    ShowShard,
    SignIn,
)
from actors.jmap.ids import account_id_of
from actors.ray_ports import RayTransport, shard_name
from actors.request_ids import new_request_id
from cluster.placement import NodePlan
from cluster.status import replica_facts
from mail.errors import AlreadyExists, SignInRefused, Unavailable

SHARD_START_TIMEOUT_S = 60.0
SHARD_POLL_S = 0.05
ACCOUNTS_PAGE = 1000


class Administration:
    """Carries out the operator's commands."""

    def __init__(self, plan: NodePlan, transport: RayTransport) -> None:
        self._plan = plan
        self._transport = transport

    async def add_domain(self, domain: str) -> None:
        """Make a domain ours. Raises AlreadyExists, InvalidAddress."""
        await self._change(AddDomain(new_request_id(), domain))

    async def remove_domain(self, domain: str) -> None:
        """Give up a domain without addresses. Raises NotFound, Invalid."""
        await self._change(RemoveDomain(new_request_id(), domain))

    async def domains(self) -> list[str]:
        """Return our domains."""
        names = await ask(self._transport, DIRECTORY_SHARD, ListDomains(), Names)
        return list(names.names)

    async def add_account(
        self, address: str, password: str, *, quota_bytes: int = 0, admin: bool = False
    ) -> dict[str, Any]:
        """Make an account; return when its mailbox takes mail.

        Raises AlreadyExists, Invalid, NotFound; Unavailable when it was made but its shard is
        not up in time.
        """
        command = AddAccount(
            request_id=new_request_id(),
            address=address,
            password=password,
            role="admin" if admin else "user",
            quota_bytes=quota_bytes,
        )
        account = await ask(self._transport, DIRECTORY_SHARD, command, Account)
        await self.serve(account.shard)
        return account_facts(account)

    async def serve(self, shard: ShardId) -> ShardShown:
        """Start a shard's actor if need be; return when it serves. Raises Unavailable."""
        await asyncio.to_thread(self._plan.start, shard_name(shard))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SHARD_START_TIMEOUT_S
        while True:
            left_s = max(0.1, deadline - loop.time())
            shown = await ask(self._transport, shard, ShowShard(), ShardShown, timeout_s=left_s)
            if shown.state == "serving":
                return shown
            if shown.state == "damaged" or loop.time() >= deadline:
                raise Unavailable(f"shard {shard} is {shown.state}: {shown.trouble}")
            await asyncio.sleep(SHARD_POLL_S)

    async def accounts(self) -> list[dict[str, Any]]:
        """Return all accounts."""
        found: list[dict[str, Any]] = []
        after, more = "", True
        while more:
            command = ListAccounts(after, ACCOUNTS_PAGE)
            page = await ask(self._transport, DIRECTORY_SHARD, command, Accounts)
            found.extend(map(account_facts, page.accounts))
            more = page.more and bool(page.accounts)
            after = page.accounts[-1].address if page.accounts else ""
        return found

    async def remove_account(self, address: str) -> None:
        """Remove an account, then its mail. Raises NotFound."""
        command = RemoveAccount(new_request_id(), address)
        account = await ask(self._transport, DIRECTORY_SHARD, command, Account)
        remove = RemoveMailbox(account.mailbox, new_request_id())
        await ask(self._transport, account.shard, remove, Done)

    async def set_password(self, address: str, password: str) -> None:
        """Give an account a new password. Raises NotFound, Invalid."""
        await self._change(SetPassword(new_request_id(), address, password))

    async def add_alias(self, alias: str, address: str) -> None:
        """Let an account take mail for another address too. Raises AlreadyExists, NotFound."""
        await self._change(AddAlias(new_request_id(), alias, address))

    async def remove_alias(self, alias: str) -> None:
        """Take an alias away. Raises NotFound."""
        await self._change(RemoveAlias(new_request_id(), alias))

    async def mailbox(self, address: str) -> dict[str, Any]:
        """Return the facts of one mailbox as architecture §6 has them. Raises NotFound."""
        account = await ask(self._transport, DIRECTORY_SHARD, GetAccount(address), Account)
        shown, shard = await asyncio.gather(
            ask(self._transport, account.shard, ShowMailbox(account.mailbox), MailboxShown),
            ask(self._transport, account.shard, ShowShard(), ShardShown),
        )
        return {
            "address": account.address,
            "account": account_id_of(account.mailbox),
            "shard": account.shard,
            "epoch": shard.epoch,
            "primary": self._plan.node if shard.state == "serving" else None,
            "pid": shard.pid,
            "messages": shown.messages,
            "unread": shown.unread,
            "bytes": shown.size_bytes,
            "replicas": replica_facts(shard, self._plan.node),
        }

    async def add_demo(self, passwords: dict[str, str]) -> set[str]:
        """Make the demo accounts and their domains; what is there already stays as it is.

        Returns the addresses whose password has been changed to another one since.
        """
        for domain in dict.fromkeys(address.rpartition("@")[2] for address in passwords):
            with contextlib.suppress(AlreadyExists):
                await self.add_domain(domain)
        right = await asyncio.gather(*map(self._add_demo_account, passwords, passwords.values()))
        return {address for address, is_right in zip(passwords, right, strict=True) if not is_right}

    async def _add_demo_account(self, address: str, password: str) -> bool:
        """Make a demo account; say whether the password is its password."""
        try:
            await self.add_account(address, password)
        except AlreadyExists:
            account = await ask(self._transport, DIRECTORY_SHARD, GetAccount(address), Account)
            await self.serve(account.shard)
            try:
                await ask(self._transport, DIRECTORY_SHARD, SignIn(address, password), Account)
            except SignInRefused:
                return False
        return True

    async def _change(self, command: Command) -> None:
        await ask(self._transport, DIRECTORY_SHARD, command, Done)


def account_facts(account: Account) -> dict[str, Any]:
    """Return an account as `helio account list --json` has it."""
    return {
        "address": account.address,
        "account": account_id_of(account.mailbox),
        "role": account.role,
        "shard": account.shard,
        "aliases": list(account.aliases),
        "quota_bytes": account.quota_bytes,
        "disabled": account.disabled,
    }

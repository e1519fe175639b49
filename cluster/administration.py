"""Administration: what the operator's commands do, in terms of the directory and the shards.

Everything is repeated by request id until it is answered, so a command that was told "done" is
durable, and one that was told nothing can be given again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from actors.account_commands import (
    QUOTA_OF_DOMAIN,
    Access,
    AccountsAdded,
    AddAccounts,
    AddAppPassword,
    AddInvitation,
    AppPassword,
    AppPasswords,
    DomainShown,
    EndSessions,
    ListAppPasswords,
    ListSessions,
    NewAccount,
    RemoveAppPassword,
    SessionRow,
    Sessions,
    SetDomain,
    ShowDomain,
)
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
    Receipt,
    RemoveAccount,
    RemoveAlias,
    RemoveDomain,
    RemoveMailbox,
    SetPassword,
    SetProfile,
    ShardId,
    ShardShown,
    ShowMailbox,
    ShowReceipt,
    ShowShard,
    SignIn,
)
from actors.jmap.ids import account_id_of
from actors.ray_ports import RayTransport
from actors.request_ids import new_request_id
from actors.tokens import CODE_BYTES, code_digest, make_code
from cluster.receipts import receipt_facts
from cluster.status import ClusterStatus
from cluster.upkeep import ShardUpkeep
from mail.errors import AlreadyExists, SignInRefused, Unavailable

SHARD_START_TIMEOUT_S = 60.0
REPORTED_S_MAX = 2.0  # for a primary to be known by the supervisor of this node
SHARD_POLL_S = 0.05
BATCH_TIMEOUT_S = 60.0  # For some passwords to be hashed, slowly on purpose.
RECEIPT_TIMEOUT_S = 60.0  # For the messages of a large mailbox to be read through.
SHARDS_STARTED_AT_ONCE = 8  # Each start takes a third of a second of one core.
ACCOUNTS_PAGE = 1000
DAY_MS = 24 * 3_600_000


class Administration:
    """Carries out the operator's commands."""

    def __init__(self, transport: RayTransport, status: ClusterStatus) -> None:
        self._transport = transport
        self._status = status
        self.upkeep = ShardUpkeep(transport)

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

    async def domain(self, domain: str) -> dict[str, Any]:
        """Return the facts of one domain. Raises NotFound."""
        shown = await ask(self._transport, DIRECTORY_SHARD, ShowDomain(domain), DomainShown)
        return domain_facts(shown)

    async def set_domain(self, domain: str, **changes: Any) -> dict[str, Any]:
        """Change what is given of `SetDomain`; return the facts. Raises NotFound, Invalid."""
        command = SetDomain(new_request_id(), domain, **changes)
        return domain_facts(await ask(self._transport, DIRECTORY_SHARD, command, DomainShown))

    async def invite(self, domain: str, *, uses: int, days: int) -> dict[str, Any]:
        """Make an invitation; its code can be shown only now. Raises NotFound, Invalid."""
        code, digest = _new_code()
        expires_at_ms = time.time_ns() // 1_000_000 + days * DAY_MS
        await self._change(AddInvitation(new_request_id(), domain, digest, uses, expires_at_ms))
        return {"domain": domain, "code": code, "uses": uses, "expires_at_ms": expires_at_ms}

    async def add_accounts(
        self, accounts: Sequence[NewAccount], *, quota_bytes: int = QUOTA_OF_DOMAIN
    ) -> dict[str, Any]:
        """Make many accounts in one turn; return when their mailboxes take mail.

        Those that are refused are named and stop no other. Raises Invalid, Unavailable.
        """
        command = AddAccounts(new_request_id(), tuple(accounts), quota_bytes)
        added = await ask(
            self._transport, DIRECTORY_SHARD, command, AccountsAdded, timeout_s=BATCH_TIMEOUT_S
        )
        results = added.results
        made = [one for one in results if isinstance(one, Account)]
        await self._serve_all({account.shard for account in made})
        refused = [
            {"address": new.address, "error": result.text, "kind": result.error}
            for new, result in zip(accounts, results, strict=True)
            if not isinstance(result, Account)
        ]
        return {"made": len(made), "refused": refused}

    async def _serve_all(self, shards: Iterable[ShardId]) -> None:
        room = asyncio.Semaphore(SHARDS_STARTED_AT_ONCE)

        async def serve(shard: ShardId) -> None:
            async with room:
                await self.serve(shard)

        await asyncio.gather(*map(serve, sorted(shards)))

    async def add_account(
        self,
        address: str,
        password: str,
        *,
        quota_bytes: int = QUOTA_OF_DOMAIN,
        admin: bool = False,
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
        """Return when a shard serves; a new one is made first. Raises Unavailable."""
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

    async def set_account(self, address: str, **changes: Any) -> dict[str, Any]:
        """Change what is given of `SetProfile`; return the facts. Raises NotFound, Invalid."""
        command = SetProfile(new_request_id(), address, **changes)
        return account_facts(await ask(self._transport, DIRECTORY_SHARD, command, Account))

    async def set_password(
        self, address: str, password: str, *, keeps_app_passwords: bool = True
    ) -> None:
        """Give an account a new password; its sessions end. Raises NotFound, Invalid."""
        await self._change(SetPassword(new_request_id(), address, password, keeps_app_passwords))

    async def app_passwords(self, address: str) -> list[dict[str, Any]]:
        """Return the app passwords of an account. Raises NotFound."""
        command = ListAppPasswords((await self._account(address)).mailbox)
        found = await ask(self._transport, DIRECTORY_SHARD, command, AppPasswords)
        return [app_password_facts(one) for one in found.app_passwords]

    async def add_app_password(
        self, address: str, *, label: str, scopes: Sequence[str]
    ) -> dict[str, Any]:
        """Make an app password; its text can be shown only now. Raises NotFound, Invalid."""
        account = await self._account(address)
        code, digest = _new_code()
        command = AddAppPassword(new_request_id(), account.mailbox, digest, label, tuple(scopes))
        made = await ask(self._transport, DIRECTORY_SHARD, command, AppPassword)
        return {**app_password_facts(made), "password": code}

    async def remove_app_password(self, address: str, number: int) -> None:
        """Take an app password away. Raises NotFound."""
        account = await self._account(address)
        await self._change(RemoveAppPassword(new_request_id(), account.mailbox, number))

    async def sessions(self, address: str) -> list[dict[str, Any]]:
        """Return the sessions of an account. Raises NotFound."""
        command = ListSessions((await self._account(address)).mailbox)
        found = await ask(self._transport, DIRECTORY_SHARD, command, Sessions)
        return [session_facts(one) for one in found.sessions]

    async def end_sessions(self, address: str, session: int = 0) -> None:
        """End one session of an account, or with 0 all of them. Raises NotFound."""
        account = await self._account(address)
        await self._change(EndSessions(new_request_id(), account.mailbox, session))

    async def _account(self, address: str) -> Account:
        return await ask(self._transport, DIRECTORY_SHARD, GetAccount(address), Account)

    async def add_alias(self, alias: str, address: str) -> None:
        """Let an account take mail for another address too. Raises AlreadyExists, NotFound."""
        await self._change(AddAlias(new_request_id(), alias, address))

    async def remove_alias(self, alias: str) -> None:
        """Take an alias away. Raises NotFound."""
        await self._change(RemoveAlias(new_request_id(), alias))

    async def mailbox(self, address: str) -> dict[str, Any]:
        """Return the facts of one mailbox as architecture §6 has them. Raises NotFound."""
        account = await self._account(address)
        command = ShowMailbox(account.mailbox)
        shown = await ask(self._transport, account.shard, command, MailboxShown)
        shard = await self._led_shard(account.shard)
        return {
            "address": account.address,
            "account": account_id_of(account.mailbox),
            "shard": account.shard,
            "epoch": shard["epoch"],
            "primary": shard["primary"],
            "pid": shard["pid"],
            "messages": shown.messages,
            "unread": shown.unread,
            "bytes": shown.size_bytes,
            "replicas": shard["replicas"],
        }

    async def _led_shard(self, shard: ShardId) -> dict[str, Any]:
        """Return the facts of a shard that has just answered: its report is on its way."""
        deadline = asyncio.get_running_loop().time() + REPORTED_S_MAX
        while True:
            facts = await self._status.shard(shard)
            if facts["primary"] is not None or asyncio.get_running_loop().time() >= deadline:
                return facts
            await asyncio.sleep(SHARD_POLL_S)

    async def receipt(self, address: str, message: str) -> dict[str, Any]:
        """Return where a message of a mailbox is on disk. Raises NotFound, Invalid."""
        account = await self._account(address)
        command = ShowReceipt(account.mailbox, message)
        receipt = await ask(
            self._transport, account.shard, command, Receipt, timeout_s=RECEIPT_TIMEOUT_S
        )
        row, reports = await self._status.replicas(account.shard)
        return {"address": account.address, **receipt_facts(row, receipt, reports)}

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
            account = await self._account(address)
            await self.serve(account.shard)
            try:
                await ask(self._transport, DIRECTORY_SHARD, SignIn(address, password), Access)
            except SignInRefused:
                return False
        return True

    async def _change(self, command: Command) -> None:
        await ask(self._transport, DIRECTORY_SHARD, command, Done)


def _new_code() -> tuple[str, bytes]:
    """Return a fresh app password or invitation code, and what is kept of it."""
    code = make_code(os.urandom(CODE_BYTES))
    digest = code_digest(code)
    assert digest is not None
    return code, digest


def domain_facts(shown: DomainShown) -> dict[str, Any]:
    """Return a domain as `helio domain show --json` has it."""
    return {
        "domain": shown.domain,
        "signup": shown.signup,
        "signups_per_day_max": shown.signups_per_day_max,
        "quota_bytes": shown.quota_bytes,
        "catch_all": shown.catch_all or None,
    }


def app_password_facts(one: AppPassword) -> dict[str, Any]:
    """Return an app password as `helio account app-password list --json` has it."""
    return {
        "id": one.number,
        "label": one.label,
        "scopes": list(one.scopes),
        "created_at_ms": one.created_at_ms,
        "used_at_ms": one.used_at_ms or None,
    }


def session_facts(one: SessionRow) -> dict[str, Any]:
    """Return a session as `helio account session list --json` has it."""
    return {
        "id": f"{one.session:016x}",
        "label": one.label,
        "scopes": list(one.scopes),
        "created_at_ms": one.created_at_ms,
        "used_at_ms": one.used_at_ms,
        "expires_at_ms": one.expires_at_ms,
    }


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

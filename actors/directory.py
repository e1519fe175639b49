"""Directory: the actor that knows domains, accounts, aliases, credentials and shards.

It is a shard like any other, with one difference: its turns are the directory's
(`actors/directory_turns.py`, `actors/session_turns.py`, `actors/sign_up.py`). Its version rises
with every change that can make an earlier answer false (`actors/directory_state.py`); gateways
follow it and drop what they remember of the accounts that it is about.

State       hard: the shard.  soft: who waits for a change; which passwords were right; sign-ups
            by network; uses of credentials that are to be noted.
On failure  a change may still have happened. Repeat it with the same request id.
Raises      (as Failed) NotFound, AlreadyExists, Invalid, SignInRefused, SignUpRefused;
            Unavailable, Overloaded, TooManySignUps.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from actors import directory_turns, session_turns, sign_up, wire
from actors.account_commands import (
    PASSWORDS_IN_BATCH_MAX,
    Access,
    AddAccounts,
    AddAppPassword,
    AddInvitation,
    AppPasswords,
    Confirm,
    Confirmed,
    EndSessions,
    GetScramKeys,
    Held,
    IssueToken,
    ListAppPasswords,
    ListSessions,
    RefreshToken,
    RemoveAppPassword,
    RevokeToken,
    ScramKeys,
    Sessions,
    SetDomain,
    ShowDomain,
    SignUp,
)
from actors.commands import (
    Accounts,
    AddAccount,
    AddAlias,
    AddDomain,
    Command,
    DirectoryVersion,
    Failed,
    GetAccount,
    ListAccounts,
    ListDomains,
    ListShards,
    Names,
    PlaceShards,
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
from actors.directory_state import DirectoryReader, WriterTurn, as_account, directory_plan
from actors.options import ShardOptions
from actors.ports import Notices
from actors.shard_host import ShardHost
from actors.tokens import code_digest
from mail.address import parse_address, parse_domain
from mail.errors import Invalid, MailError, Overloaded, SignInRefused
from storage.keys import DIRECTORY
from storage.records import AccountRecord, CredentialRecord
from storage.replica_ports import Applying
from storage.shard import Shard

WATCHERS_MAX = 1024
WATCH_MS_MAX = 60_000
ACCOUNTS_PAGE_MAX = 1000
RESOLVE_MAX = 1000
CONFIRM_MAX = 1000
DECOY_SECRET_BYTES = 32
# Uses are noted some at a time: a turn for each would cost more than it is worth.
NOTE_USES_AFTER_S = 5.0
USES_MAX = 1000  # Those beyond are noted at their next use.

# Changes that need nothing but their turn.
PLAIN_TURNS: Mapping[type[Command], Callable[[Any], WriterTurn]] = {
    AddDomain: directory_turns.add_domain,
    RemoveDomain: directory_turns.remove_domain,
    SetDomain: directory_turns.set_domain,
    RemoveAccount: directory_turns.remove_account,
    SetProfile: directory_turns.set_profile,
    AddAlias: directory_turns.add_alias,
    RemoveAlias: directory_turns.remove_alias,
    RefreshToken: session_turns.refresh_token,
    RevokeToken: session_turns.revoke_token,
    EndSessions: session_turns.end_sessions,
    AddAppPassword: session_turns.add_app_password,
    RemoveAppPassword: session_turns.remove_app_password,
    AddInvitation: sign_up.add_invitation,
    PlaceShards: directory_turns.place_shards,
}


class Directory(ShardHost):
    """Owner of the directory's shard."""

    def __init__(
        self, options: ShardOptions, notices: Notices, *, hasher: Hasher | None = None
    ) -> None:
        super().__init__(options, notices)
        self._hasher = hasher or Hasher()
        self._nodes: tuple[str, ...] = ()
        self._silent: tuple[str, ...] = ()
        self._factor = 1
        self._changed = asyncio.Event()
        self._watchers = 0
        self._sign_ups = sign_up.SignUpLimits()
        self._uses: dict[Held, int] = {}
        self._noting: asyncio.Task[None] | None = None
        self._running: dict[bytes, asyncio.Task[Reply]] = {}

    async def opened(self, shard: Shard) -> None:
        shard.replica.has_index = False

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
            case GetScramKeys(name):
                return await self._scram_keys(name)
            case Confirm():
                return self._confirm(command)
            case WatchDirectory():
                return await self._watch(command)
            case GetAccount(address):
                return as_account(reader.named(address))
            case ListAccounts():
                limit_max = max(1, min(command.limit_max, ACCOUNTS_PAGE_MAX))
                found, more = reader.addresses(command.after, limit_max)
                return Accounts(tuple(map(as_account, found)), more)
            case ListDomains():
                return Names(tuple(record.name for record in reader.domains()))
            case ShowDomain(domain):
                return directory_turns.domain_shown(reader, reader.domain(parse_domain(domain)))
            case ListSessions(mailbox):
                return Sessions(session_turns.session_rows(reader, mailbox, _now_ms()))
            case ListAppPasswords(mailbox):
                found_passwords = reader.app_passwords(mailbox)
                return AppPasswords(tuple(map(session_turns.app_password_shown, found_passwords)))
            case ListShards():
                return Shards(tuple(reader.shards()))
            case _:
                return await self._once(command)

    async def _once(self, command: Command) -> Reply:
        """Carry out a change; who repeats it while it is worked on waits for the same.

        A password takes its time to hash, and hashing it again with every repeat would never end.
        """
        request_id: bytes = getattr(command, "request_id", b"")
        if not request_id:
            return await self._change(command)
        running = self._running.get(request_id)
        if running is None:
            running = asyncio.create_task(self._change(command), name=type(command).__name__)
            self._running[request_id] = running
            running.add_done_callback(lambda _: self._running.pop(request_id, None))
        return await asyncio.shield(running)

    async def _change(self, command: Command) -> Reply:
        plain = PLAIN_TURNS.get(type(command))
        if plain is not None:
            request_id: RequestId = command.request_id  # type: ignore[attr-defined]
            return await self._commit(request_id, plain(command))
        match command:
            case AddAccount():
                credential = await self._credential(command.password)
                turn = directory_turns.add_account(command, credential, self._placing)
                return await self._commit(command.request_id, turn)
            case AddAccounts():
                return await self._add_accounts(command)
            case SetPassword():
                credential = await self._hasher.make(command.password, now_ms=_now_ms())
                turn = directory_turns.set_password(command, credential)
                return await self._commit(command.request_id, turn)
            case IssueToken():
                _, credential = await self._checked(command.address, command.password)
                turn = session_turns.issue_token(command, credential)
                return await self._commit(command.request_id, turn)
            case SignUp():
                return await self._sign_up(command)
            case _:
                raise Invalid(f"{type(command).__name__} is not for the directory")

    @property
    def _placing(self) -> directory_turns.Placing:
        nodes = self._nodes or (self.options.node,)
        actors_max = self.options.mailbox_actors_per_node
        return directory_turns.Placing(nodes, self._silent, self._factor, actors_max)

    def know_nodes(self, nodes: tuple[str, ...], silent: tuple[str, ...], factor: int) -> None:
        """Take note of the nodes that new shards may be placed on, and how often each."""
        self._nodes, self._silent, self._factor = nodes, silent, factor

    async def _commit(self, request_id: RequestId | bytes, turn: WriterTurn) -> Reply:
        octets = await self.shard.run(DIRECTORY, request_id, directory_plan(turn))
        return wire.decode_replies(octets)[0]

    async def _credential(self, password: str) -> CredentialRecord | None:
        return await self._hasher.make(password, now_ms=_now_ms()) if password else None

    async def _add_accounts(self, command: AddAccounts) -> Reply:
        if sum(bool(one.password) for one in command.accounts) > PASSWORDS_IN_BATCH_MAX:
            raise Invalid(f"at most {PASSWORDS_IN_BATCH_MAX} passwords at once")
        credentials = await asyncio.gather(
            *(self._credential(a.password) for a in command.accounts)
        )
        turn = directory_turns.add_accounts(command, credentials, self._placing)
        return await self._commit(command.request_id, turn)

    async def _sign_up(self, command: SignUp) -> Reply:
        """Make an account for a stranger; the same work is done whatever comes of it."""
        address = sign_up.checked_address(command.address)
        sign_up.check_password(command.password, address)
        self._sign_ups.attempt(command.network, _now_ms())
        credential = await self._hasher.make(command.password, now_ms=_now_ms())
        turn = sign_up.sign_up(command, address, credential, self._placing)
        reply = await self._commit(command.request_id, turn)
        self._sign_ups.made(command.network, _now_ms())
        return reply

    # Sign-in

    async def _sign_in(self, command: SignIn) -> Reply:
        """Check a password or an app password."""
        digest = code_digest(command.password)
        record = self._account(command.address)
        if digest is not None and record is not None:
            access = session_turns.app_password_access(self._reader, record, digest)
            if access is not None:
                self._note_use(access.held)
                return access
        record, credential = await self._checked(command.address, command.password)
        return session_turns.password_access(record, credential)

    def _account(self, address: str) -> AccountRecord | None:
        """Return the account of a name that somebody gives, None when it may not sign in."""
        try:
            record = self._reader.at(parse_address(address).key)
        except MailError:
            return None
        return None if record is None or record.disabled else record

    async def _checked(self, address: str, password: str) -> tuple[AccountRecord, CredentialRecord]:
        """Check a password. Who does not exist takes as long as who does (RFC 4954 §6).

        Raises SignInRefused, Overloaded.
        """
        record = self._account(address)
        credential = None if record is None else self._reader.credential(record.account)
        right = await self._hasher.check(credential, password)
        if not right or record is None or credential is None:
            raise SignInRefused
        return record, credential

    async def _scram_keys(self, name: str) -> ScramKeys:
        secret = self._reader.record.decoy_secret
        if not secret:
            turn = session_turns.keep_decoy_secret(os.urandom(DECOY_SECRET_BYTES))
            await self._commit(b"", turn)
            secret = self._reader.record.decoy_secret
        record = self._account(name)
        credential = None if record is None else self._reader.credential(record.account)
        if record is None or credential is None:
            return session_turns.decoy_keys(secret, name)
        return session_turns.scram_keys(record, credential)

    def _confirm(self, command: Confirm) -> Reply:
        if len(command.held) > CONFIRM_MAX:
            raise Invalid(f"at most {CONFIRM_MAX} credentials at once")
        reader, now_ms = self._reader, _now_ms()
        results: list[Access | Failed] = []
        for held in command.held:
            try:
                results.append(session_turns.confirmed(reader, held, now_ms))
            except SignInRefused as error:
                results.append(wire.failed(error))
                continue
            self._note_use(held)
        return Confirmed(tuple(results))

    def _note_use(self, held: Held) -> None:
        """Have a use noted before long, unless there is a note of late."""
        now_ms = _now_ms()
        if len(self._uses) >= USES_MAX or not session_turns.wants_note(self._reader, held, now_ms):
            return
        self._uses[held] = now_ms
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note_uses(), name="note uses")

    async def _note_uses(self) -> None:
        await asyncio.sleep(NOTE_USES_AFTER_S)
        uses, self._uses = self._uses, {}
        try:
            await self._commit(b"", session_turns.note_uses(tuple(uses.items())))
        except MailError:
            return  # They are noted at their next use.

    # Changes

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
        reader = self._reader
        return DirectoryVersion(reader.record.version, reader.touched_since(command.since))

    async def close(self) -> None:
        await super().close()
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.gather(self._noting, return_exceptions=True)
        self._changed.set()
        self._hasher.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

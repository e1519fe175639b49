"""DirectoryClient: the directory as a gateway sees it, over a transport.

Follows the directory's version and remembers what it said meanwhile, so that a request of
somebody who has signed in costs no call. The secrets that are given out are made here: the
directory sees their digests alone.

State       soft: what the directory said; who waits for the end of a sign-in.
On failure  Unavailable and its kind: the operation may still have happened (R11).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from actors import wire
from actors.account_commands import (
    BY_TOKEN,
    Access,
    AddAppPassword,
    AppPassword,
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
    SessionRow,
    Sessions,
    SignUp,
    TokenIssued,
)
from actors.asking import REQUEST_S_MAX, ask
from actors.commands import (
    DIRECTORY_SHARD,
    Account,
    DirectoryVersion,
    Done,
    MailboxId,
    MailboxShown,
    Resolve,
    Resolved,
    ShowMailbox,
    SignIn,
    WatchDirectory,
)
from actors.directory_cache import DirectoryCache, Name
from actors.ports import Tokens, Transport
from actors.request_ids import new_request_id
from actors.tokens import (
    CODE_BYTES,
    FAMILY_BYTES,
    SECRET_BYTES,
    AccessSecret,
    RefreshSecret,
    code_digest,
    digest_of,
    make_code,
    parse_access_token,
    parse_refresh_token,
)
from mail.address import Address
from mail.errors import MailError, SignInRefused, Unavailable

log = structlog.get_logger()

# A watch that is lost without a sound is noticed after this and WATCH_SLACK_S: for so long at
# most a gateway that is cut off takes passwords and tokens that have ended elsewhere.
WATCH_S = 5.0
WATCH_SLACK_S = 2.0
WATCH_AGAIN_S = 1.0
# What is remembered of one answer; as exact as the notes of last use are.
REMEMBER_MS = 3_600_000
CONFIRM_AT_ONCE = 500
CONFIRM_AGAIN_S = 1.0
MAILBOX_START_S = 30.0  # for the shard of a new account: an actor starts within seconds


@dataclass(eq=False, slots=True)
class _Standing:
    """A sign-in whose end somebody waits for."""

    access: Access
    ended: asyncio.Event


class DirectoryClient:
    """Accounts and SignIns for one gateway (`actors.ports`)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._cache = DirectoryCache()
        self._standing: dict[MailboxId, set[_Standing]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._reviews: set[asyncio.Task[None]] = set()

    def counts(self) -> dict[str, float]:
        """Return what the cache of answers holds, and how often it was of use."""
        return self._cache.counts()

    async def start(self) -> None:
        """Begin to follow the directory."""
        self._watch = asyncio.create_task(self._watch_directory(), name="watch directory")

    async def _watch_directory(self) -> None:
        while True:
            command = WatchDirectory(self._cache.version, int(WATCH_S * 1000))
            try:
                octets = await self._transport.call(
                    DIRECTORY_SHARD, wire.encode([command]), timeout_s=WATCH_S + WATCH_SLACK_S
                )
                reply = wire.result(wire.decode_replies(octets)[0], DirectoryVersion)
                if reply.version != self._cache.version:
                    self._review(reply.touched)
                self._cache.changed(reply.version, reply.touched)
            except Exception as error:  # Whatever it is: what is remembered must not outlive it.
                self._cache.lost()
                if not isinstance(error, MailError):
                    log.error("directory not followed", error=repr(error))
                await asyncio.sleep(WATCH_AGAIN_S)

    async def close(self) -> None:
        """Stop following."""
        for task in (self._watch, *self._reviews):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def ready(self) -> None:
        """Return when the directory answers. Raises Unavailable."""
        command = WatchDirectory(-1, 0)
        await ask(self._transport, DIRECTORY_SHARD, command, DirectoryVersion, timeout_s=2.0)

    # Who is who

    async def resolve(self, address: Address) -> Account:
        """Return the account that takes mail for `address` (`actors.ports.Accounts`)."""
        name = Name(Account, address.key)
        account = self._cache.get(name, _now_ms())
        if account is None:
            version = self._cache.version
            reply = await ask(self._transport, DIRECTORY_SHARD, Resolve((str(address),)), Resolved)
            account = wire.result(reply.results[0], Account)
            until_ms = _now_ms() + REMEMBER_MS
            self._cache.put(name, account, version=version, until_ms=until_ms)
        return account

    async def sign_in(self, name: str, password: str) -> Access:
        """Return whose sign-in it is and what it may do (`actors.ports.Accounts`)."""
        secret = self._cache.secret_name(name, password)
        access = self._cache.get(secret, _now_ms())
        if access is None:
            version = self._cache.version
            access = await ask(self._transport, DIRECTORY_SHARD, SignIn(name, password), Access)
            self._remember(secret, access, version)
            self._remember(Name(Access, access.held), access, version)
        return access

    async def bear(self, token: str) -> Access:
        """Return what an access token opens (`actors.ports.SignIns`)."""
        parsed = parse_access_token(token)
        if parsed is None:
            raise SignInRefused
        held = Held(parsed.mailbox, BY_TOKEN, parsed.session, digest_of(parsed.secret))
        return await self._confirmed(held)

    async def confirm(self, access: Access) -> Access:
        """Return what a sign-in still opens (`actors.ports.SignIns`)."""
        return await self._confirmed(access.held)

    async def scram_keys(self, name: str) -> ScramKeys:
        """Return the keys of a name's password (`actors.ports.SignIns`)."""
        return await ask(self._transport, DIRECTORY_SHARD, GetScramKeys(name), ScramKeys)

    async def _confirmed(self, held: Held) -> Access:
        name = Name(Access, held)
        access = self._cache.get(name, _now_ms())
        if access is None:
            version = self._cache.version
            reply = await ask(self._transport, DIRECTORY_SHARD, Confirm((held,)), Confirmed)
            access = wire.result(reply.results[0], Access)
            self._remember(name, access, version)
        return access

    def _remember(self, name: Name[Access], access: Access, version: int) -> None:
        until_ms = _now_ms() + REMEMBER_MS
        if access.expires_at_ms:
            until_ms = min(until_ms, access.expires_at_ms)
        self._cache.put(name, access, version=version, until_ms=until_ms)

    # Until a sign-in ends

    async def until_ended(self, access: Access) -> None:
        """Return once a sign-in opens nothing any more (`actors.ports.SignIns`)."""
        standing = _Standing(access, asyncio.Event())
        mailbox = access.account.mailbox
        self._standing.setdefault(mailbox, set()).add(standing)
        left_s = None
        if access.expires_at_ms:
            left_s = max(0.0, (access.expires_at_ms - _now_ms()) / 1000)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    if self._cache.get(Name(Access, access.held), _now_ms()) is None:
                        # It may have ended between the sign-in and now.
                        await self._confirm_standing([standing])
                    await standing.ended.wait()
        finally:
            self._standing[mailbox].discard(standing)
            if not self._standing[mailbox]:
                del self._standing[mailbox]

    def _review(self, touched: Collection[MailboxId] | None) -> None:
        """Look again at the sign-ins that a change may have ended."""
        mailboxes = self._standing if touched is None else touched
        concerned = [one for mailbox in mailboxes for one in self._standing.get(mailbox, ())]
        if concerned:
            task = asyncio.create_task(self._confirm_standing(concerned), name="review sign-ins")
            self._reviews.add(task)
            task.add_done_callback(self._reviews.discard)

    async def _confirm_standing(self, standing: Sequence[_Standing]) -> None:
        """Learn of each sign-in whether it still stands; end those that do not."""
        for start in range(0, len(standing), CONFIRM_AT_ONCE):
            some = standing[start : start + CONFIRM_AT_ONCE]
            reply = await self._insist(Confirm(tuple(one.access.held for one in some)))
            for one, result in zip(some, reply.results, strict=True):
                if not isinstance(result, Access):
                    one.ended.set()

    async def _insist(self, command: Confirm) -> Confirmed:
        while True:
            try:
                return await ask(self._transport, DIRECTORY_SHARD, command, Confirmed)
            except Unavailable:
                await asyncio.sleep(CONFIRM_AGAIN_S)

    # Tokens

    async def issue_token(
        self, name: str, password: str, *, scopes: Sequence[str] = (), label: str = ""
    ) -> Tokens:
        """Begin a session (`actors.ports.SignIns`)."""
        session = int.from_bytes(os.urandom(8), "big") or 1
        family, refresh, access = _random(FAMILY_BYTES), _random(), _random()
        command = IssueToken(
            request_id=new_request_id(),
            address=name,
            password=password,
            scopes=tuple(scopes),
            label=label,
            session=session,
            family=digest_of(family),
            refresh=digest_of(refresh),
            access=digest_of(access),
        )
        issued = await ask(self._transport, DIRECTORY_SHARD, command, TokenIssued)
        return _tokens(issued, session, family, refresh, access)

    async def refresh_token(self, token: str, *, scopes: Sequence[str] = ()) -> Tokens:
        """Exchange a refresh token (`actors.ports.SignIns`)."""
        given = parse_refresh_token(token)
        if given is None:
            raise SignInRefused
        refresh, access = _random(), _random()
        command = RefreshToken(
            request_id=new_request_id(),
            mailbox=given.mailbox,
            session=given.session,
            family=digest_of(given.family),
            presented=digest_of(given.secret),
            refresh=digest_of(refresh),
            access=digest_of(access),
            scopes=tuple(scopes),
        )
        issued = await ask(self._transport, DIRECTORY_SHARD, command, TokenIssued)
        return _tokens(issued, given.session, given.family, refresh, access)

    async def revoke_token(self, token: str) -> None:
        """End the session of a token (`actors.ports.SignIns`)."""
        refresh, access = parse_refresh_token(token), parse_access_token(token)
        given = refresh or access
        if given is None:
            return
        command = RevokeToken(
            request_id=new_request_id(),
            mailbox=given.mailbox,
            session=given.session,
            family=digest_of(refresh.family) if refresh else b"",
            access=digest_of(access.secret) if access else b"",
        )
        await ask(self._transport, DIRECTORY_SHARD, command, Done)

    async def sessions(self, access: Access) -> tuple[SessionRow, ...]:
        """Return the sessions of an account (`actors.ports.SignIns`)."""
        command = ListSessions(access.account.mailbox)
        return (await ask(self._transport, DIRECTORY_SHARD, command, Sessions)).sessions

    async def end_session(self, access: Access, session: int) -> None:
        """End one session, or all others (`actors.ports.SignIns`)."""
        own = access.held.entry if access.held.by == BY_TOKEN else 0
        mailbox = access.account.mailbox
        command = EndSessions(new_request_id(), mailbox, session, 0 if session else own)
        await ask(self._transport, DIRECTORY_SHARD, command, Done)

    # App passwords

    async def app_passwords(self, access: Access) -> tuple[AppPassword, ...]:
        """Return the app passwords of an account (`actors.ports.SignIns`)."""
        command = ListAppPasswords(access.account.mailbox)
        return (await ask(self._transport, DIRECTORY_SHARD, command, AppPasswords)).app_passwords

    async def add_app_password(
        self, access: Access, *, label: str, scopes: Sequence[str]
    ) -> tuple[AppPassword, str]:
        """Make an app password (`actors.ports.SignIns`)."""
        code = make_code(_random(CODE_BYTES))
        digest = code_digest(code)
        assert digest is not None
        command = AddAppPassword(
            new_request_id(), access.account.mailbox, digest, label, tuple(scopes)
        )
        return await ask(self._transport, DIRECTORY_SHARD, command, AppPassword), code

    async def remove_app_password(self, access: Access, number: int) -> None:
        """Take an app password away (`actors.ports.SignIns`)."""
        command = RemoveAppPassword(new_request_id(), access.account.mailbox, number)
        await ask(self._transport, DIRECTORY_SHARD, command, Done)

    # Sign-up

    async def sign_up(
        self,
        address: str,
        password: str,
        *,
        network: str,
        invitation: str = "",
        display_name: str = "",
    ) -> tuple[Account, bool]:
        """Make an account and wait for its mailbox (`actors.ports.SignIns`)."""
        command = SignUp(
            request_id=new_request_id(),
            address=address,
            password=password,
            network=network,
            invitation=code_digest(invitation) or b"",
            display_name=display_name,
        )
        account = await ask(self._transport, DIRECTORY_SHARD, command, Account)
        deadline = asyncio.get_running_loop().time() + MAILBOX_START_S
        while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            show = ShowMailbox(account.mailbox)
            timeout_s = min(left_s, REQUEST_S_MAX)
            with contextlib.suppress(Unavailable):
                await ask(self._transport, account.shard, show, MailboxShown, timeout_s=timeout_s)
                return account, True
        return account, False


def _tokens(
    issued: TokenIssued, session: int, family: bytes, refresh: bytes, access: bytes
) -> Tokens:
    return Tokens(
        access=AccessSecret(issued.mailbox, session, access).text,
        refresh=RefreshSecret(issued.mailbox, session, family, refresh).text,
        session=session,
        scopes=issued.scopes,
        expires_in_s=max(0, issued.access_expires_at_ms - _now_ms()) // 1000,
    )


def _random(size_bytes: int = SECRET_BYTES) -> bytes:
    return os.urandom(size_bytes)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

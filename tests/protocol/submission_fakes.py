"""A submission gateway on loopback, people who may sign in, and a queue in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator
from typing import Any

from actors.account_commands import (
    BY_APP_PASSWORD,
    BY_PASSWORD,
    SCOPE_IMAP,
    USER_SCOPES,
    Access,
    Held,
    ScramKeys,
)
from actors.commands import Account, MailboxId, ShardId
from actors.credentials import SCRAM_ITERATIONS, scram_keys
from actors.ports import Envelope
from gateways.smtp.submission_server import SubmissionGateway, SubmissionSettings
from mail.errors import SignInRefused
from tests.protocol.smtp_fakes import HOSTNAME, NOW_S, Peer

SALT = b"sixteen octets.."


class FakeSignIns:
    """Alice, with an alias and an app password that reads mail only, and Bob."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.passwords = {"alice@example.test": "secret", "bob@example.test": "secret"}
        self.ended: set[str] = set()
        self._accounts = {
            "alice@example.test": Account(
                MailboxId(1), "alice@example.test", ShardId(2), aliases=("sales@example.test",)
            ),
            "bob@example.test": Account(MailboxId(2), "bob@example.test", ShardId(3)),
        }

    async def sign_in(self, name: str, password: str) -> Access:
        self._fail()
        account = self._accounts.get(name)
        if account is None:
            raise SignInRefused
        if password == "may-only-read":
            held = Held(account.mailbox, BY_APP_PASSWORD, 1, b"digest")
            return Access(account, (SCOPE_IMAP,), held)
        if password != self.passwords[name]:
            raise SignInRefused
        return Access(account, USER_SCOPES, Held(account.mailbox, BY_PASSWORD, key=b"key"))

    async def confirm(self, access: Access) -> Access:
        self._fail()
        if access.account.address in self.ended:
            raise SignInRefused
        return access

    async def scram_keys(self, name: str) -> ScramKeys:
        self._fail()
        access = None
        if name in self._accounts:
            access = await self.sign_in(name, self.passwords[name])
        stored_key, server_key = scram_keys(b"secret", SALT, SCRAM_ITERATIONS)
        return ScramKeys(SALT, SCRAM_ITERATIONS, stored_key, server_key, access)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class FakeSubmission:
    """A queue in memory; `failure` makes it refuse."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.taken: list[tuple[Access, Envelope, bytes]] = []

    async def submit(self, access: Access, envelope: Envelope, raw: bytes) -> str:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.taken.append((access, envelope, raw))
        return f"q{len(self.taken)}"


class Submissions:
    """A gateway and its fakes."""

    def __init__(self, tls: ssl.SSLContext, **settings: Any) -> None:
        self.sign_ins = FakeSignIns()
        self.queue = FakeSubmission()
        told: dict[str, Any] = {"hostname": HOSTNAME, "port": 0, "tls_port": 0}
        self.settings = SubmissionSettings(**(told | {"refusal_delay_s": 0.0} | settings))
        self.gateway = SubmissionGateway(
            self.sign_ins,  # type: ignore[arg-type]
            self.queue,
            self.settings,
            tls,
            clock=lambda: NOW_S,
        )
        self.ports: dict[str, int] = {}

    async def __aenter__(self) -> Submissions:
        self.ports = {name: port for name, _, port in await self.gateway.start()}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.drain(0.5)
        assert self.gateway.metrics()["bytes_in_flight"] == 0
        assert self.gateway.metrics()["connections_open"] == 0

    @contextlib.asynccontextmanager
    async def client(self, *, tls_at_once: bool = True, ehlo: bool = True) -> AsyncIterator[Peer]:
        """Connect; say EHLO."""
        port = self.ports["submissions" if tls_at_once else "submission"]
        context = client_tls() if tls_at_once else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, limit=1 << 20
        )
        try:
            peer = Peer(reader, writer)
            assert (await peer.reply()).startswith(f"220 {HOSTNAME} ESMTP")
            if ehlo:
                await peer.ask("EHLO laptop.home.test")
            yield peer
        finally:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def alice(self) -> AsyncIterator[Peer]:
        """Connect and sign in."""
        async with self.client() as peer:
            assert await peer.ask(plain("alice@example.test", "secret")) == SIGNED_IN
            yield peer


SIGNED_IN = "235 2.7.0 Authentication succeeded"


def client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(name: str, password: str, acts_for: str = "") -> str:
    return f"AUTH PLAIN {b64(f'{acts_for}{chr(0)}{name}{chr(0)}{password}')}"


async def scram(peer: Peer, name: str, password: str) -> str:
    """Sign in by SCRAM-SHA-256 as a client does; return the last reply."""
    first = f"n={name},r=clientnonce"
    reply = await peer.ask(f"AUTH SCRAM-SHA-256 {b64('n,,' + first)}")
    assert reply.startswith("334 "), reply
    server_first = base64.b64decode(reply[4:]).decode()
    fields = dict(field.split("=", 1) for field in server_first.split(","))
    salt, iterations = base64.b64decode(fields["s"]), int(fields["i"])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    said = f"c=biws,r={fields['r']}"
    message = f"{first},{server_first},{said}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    reply = await peer.ask(b64(f"{said},p={b64(proof)}"))
    if not reply.startswith("334 "):
        return reply
    verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
    assert base64.b64decode(reply[4:]) == b"v=" + base64.b64encode(verifier)
    return await peer.ask("")

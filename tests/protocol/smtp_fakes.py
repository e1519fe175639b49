"""A gateway on loopback with ports in memory, and a peer that speaks by script."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from actors.commands import Account, JmapAnswer, MailboxId, ShardId
from actors.ports import Destination, Letter
from gateways.smtp.server import SmtpGateway, SmtpSettings
from mail.address import Address
from mail.errors import NoSuchMailbox, RelayDenied

HOSTNAME = "mx.example.test"
NOW_S = 1_767_323_045.0  # Fri, 02 Jan 2026 03:04:05 UTC
PATIENCE_S = 10.0  # Nothing here takes long; a test that hangs fails after this.


class FakeAccounts:
    """A directory in memory, with what Resolve says of aliases, plus detail and postmaster."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.asked: list[Address] = []
        self._accounts: dict[str, Account] = {}
        for number, name in enumerate(("alice", "bob", "carol", "ålice"), 1):
            self.add(f"{name}@example.test", number)
        self._accounts["sales@example.test"] = self._accounts["alice@example.test"]
        for number in range(200):
            self.add(f"user{number}@example.test", 1000 + number)

    def add(self, address: str, number: int, quota_bytes: int = 0) -> None:
        self._accounts[address] = Account(
            mailbox=MailboxId(number),
            address=address,
            shard=ShardId(2 + number % 3),
            quota_bytes=quota_bytes,
        )

    async def resolve(self, address: Address) -> Account:
        self.asked.append(address)
        if self.failure is not None:
            raise self.failure
        local, _, domain = address.key.rpartition("@")
        if local == "postmaster" and domain in ("", "example.test", "other.test"):
            return self._accounts["alice@example.test"]
        if domain not in ("example.test", "other.test"):
            raise RelayDenied
        name = f"{local.partition('+')[0]}@{domain}"
        if name not in self._accounts:
            raise NoSuchMailbox
        return self._accounts[name]

    async def sign_in(self, name: str, password: str) -> Account:
        raise NotImplementedError


class FakeMail:
    """Mailboxes in memory; `gate` holds deliveries up, `failure` makes them fail."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.room: BaseException | None = None  # what `expect_room` raises
        self.asked: list[int] = []  # sizes that `expect_room` was asked for
        self.letters: list[tuple[Letter, Sequence[Destination]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()

    async def deliver(self, letter: Letter, destinations: Sequence[Destination]) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.letters.append((letter, destinations))

    async def expect_room(self, account: Account, size_bytes: int) -> None:
        self.asked.append(size_bytes)
        if self.room is not None:
            raise self.room

    @property
    def stored(self) -> list[bytes]:
        """Return the messages as they would be served, one a mailbox."""
        return [
            destination.trace + letter.received
            for letter, destinations in self.letters
            for destination in destinations
        ]

    async def jmap(self, account: Account, request: bytes) -> JmapAnswer:
        raise NotImplementedError

    async def upload(self, *_: Any) -> Any:
        raise NotImplementedError

    async def download(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Peer:
    """A client without manners of its own: it sends octets and reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()

    async def pour(self, octets: bytes, times: int = 4) -> None:
        """Send without reading: replies, and whatever ends them, wait in the kernel meanwhile."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(times):
            await self.send(octets)
            await asyncio.sleep(0.01)
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def reply(self) -> str:
        """Return one reply, its lines joined by LF; "" when the connection is closed."""
        lines = []
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.reader.readline():
                assert line.endswith(b"\r\n")
                assert len(line) <= 512  # RFC 5321 §4.5.3.1.5
                lines.append(line[:-2].decode("ascii"))
                if lines[-1][3:4] != "-":
                    break
        return "\n".join(lines)

    async def ask(self, command: str | bytes) -> str:
        """Send one command line and return its reply."""
        line = command.encode() if isinstance(command, str) else command
        await self.send(line + b"\r\n")
        return await self.reply()

    async def begin(self, *recipients: str, mail_from: str = "<peer@client.test>") -> None:
        """Say MAIL, RCPT and DATA, all of which must be taken."""
        assert (await self.ask(f"MAIL FROM:{mail_from}")).startswith("250 2.1.0 ")
        for recipient in recipients or ("alice@example.test",):
            assert (await self.ask(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5 ")
        assert (await self.ask("DATA")).startswith("354 ")

    async def start_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.start_tls(context)

    async def closed(self) -> bool:
        """Wait until the other side has closed; False if it says something first."""
        async with asyncio.timeout(PATIENCE_S):
            return not await self.reader.read(1)


class World:
    """A gateway and its fakes."""

    def __init__(self, tls_context: ssl.SSLContext | None = None, **settings: Any) -> None:
        self.accounts = FakeAccounts()
        self.mail = FakeMail()
        self.settings = SmtpSettings(hostname=HOSTNAME, port=0, **settings)
        self.gateway = SmtpGateway(
            self.accounts, self.mail, self.settings, tls_context, clock=lambda: NOW_S
        )
        self.host, self.port = "", 0

    async def __aenter__(self) -> World:
        self.host, self.port = await self.gateway.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.mail.gate.set()
        await self.gateway.drain(0.5)
        assert self.gateway.metrics()["bytes_in_flight"] == 0
        assert self.gateway.metrics()["connections_open"] == 0

    @contextlib.asynccontextmanager
    async def stranger(self) -> AsyncIterator[Peer]:
        """Connect; the greeting is not read yet."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield Peer(reader, writer)
        finally:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        """Connect and say EHLO."""
        async with self.stranger() as peer:
            assert (await peer.reply()).startswith(f"220 {HOSTNAME} ESMTP")
            assert (await peer.ask("EHLO client.test")).startswith(f"250-{HOSTNAME}\n")
            yield peer

    async def until_no_connection(self) -> None:
        """Return when every session has ended."""
        reception = self.gateway._reception
        if reception.sessions:
            reception.emptied.clear()
            async with asyncio.timeout(PATIENCE_S):
                await reception.emptied.wait()


def server_tls(directory: Path) -> ssl.SSLContext:
    """Return a TLS context with a certificate made now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOSTNAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context

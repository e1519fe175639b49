"""An HTTP gateway on loopback, with ports in memory and a clock that tests turn."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from actors.account_commands import BY_PASSWORD, USER_SCOPES, Access, Held
from actors.commands import (
    Account,
    BlobData,
    BlobStored,
    JmapAnswer,
    MailboxId,
    MailboxState,
    ShardId,
)
from actors.ports import Destination, Letter
from gateways.http.server import HttpGateway
from gateways.http.settings import HttpSettings
from mail.address import Address
from mail.errors import NoSuchMailbox, NotFound, SignInRefused

PATIENCE_S = 10.0  # nothing here takes long; a test that hangs fails after this
ALICE = Account(mailbox=MailboxId(0xA11CE), address="alice@example.test", shard=ShardId(2))
BOB = Account(mailbox=MailboxId(0xB0B), address="bob@example.test", shard=ShardId(3))
ALICE_ID, BOB_ID = "Aa11ce", "Ab0b"
ALICE_AUTH = ("alice@example.test", "correct horse ü")
BOB_AUTH = ("bob@example.test", "battery staple")
PIECE_BYTES = 1 << 22
JMAP = [Subprotocol("jmap")]
ALICE_ACCESS = Access(ALICE, USER_SCOPES, Held(ALICE.mailbox, BY_PASSWORD))


def basic(name: str, password: str) -> str:
    """Return an Authorization header (RFC 7617 §2), in UTF-8."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


class FakeAccounts:
    """A directory of two; a test ends sign-ins. What it cannot do is tested with the real one."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.scopes: tuple[str, ...] = USER_SCOPES
        self.tokens: dict[str, Access] = {}
        self._ended = asyncio.Event()

    async def resolve(self, address: Address) -> Account:
        raise NoSuchMailbox

    async def sign_in(self, name: str, password: str) -> Access:
        self.asked.append(name)
        if self.failure is not None:
            raise self.failure
        for account, auth in ((ALICE, ALICE_AUTH), (BOB, BOB_AUTH)):
            if (name, password) == auth:
                return Access(account, self.scopes, Held(account.mailbox, BY_PASSWORD))
        raise SignInRefused

    async def bear(self, token: str) -> Access:
        if token not in self.tokens:
            raise SignInRefused
        return self.tokens[token]

    async def confirm(self, access: Access) -> Access:
        if self._ended.is_set():
            raise SignInRefused
        return access

    async def until_ended(self, access: Access) -> None:
        await self._ended.wait()

    def end_all(self) -> None:
        """End every sign-in."""
        self._ended.set()

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)


class FakeMail:
    """Mailboxes in memory: an echo for JMAP, and blobs by owner."""

    def __init__(self) -> None:
        self.requests: list[tuple[Account, bytes]] = []
        self.rights: list[tuple[bool, bool]] = []  # read_only, may_submit
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None  # requests wait for it
        self.entered = asyncio.Semaphore(0)  # released once a request has arrived
        self.answer: JmapAnswer | None = None
        self.blobs: dict[tuple[MailboxId, str], bytes] = {}
        self.fail_from_offset: int | None = None
        self.offsets: list[int] = []

    async def deliver(self, letter: Letter, destinations: Sequence[Destination]) -> None:
        raise NotImplementedError

    async def jmap(
        self,
        account: Account,
        request: bytes,
        *,
        session_state: str = "",
        read_only: bool = False,
        may_submit: bool = True,
    ) -> JmapAnswer:
        self.requests.append((account, request))
        self.rights.append((read_only, may_submit))
        self.entered.release()
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        if self.answer is not None:
            return self.answer
        calls = msgspec.json.decode(request).get("methodCalls", [])
        body = {"methodResponses": calls, "sessionState": session_state}
        return JmapAnswer(200, msgspec.json.encode(body))

    async def upload(self, account: Account, data: bytes) -> BlobStored:
        if self.failure is not None:
            raise self.failure
        blob_id = "G" + hashlib.sha256(data).hexdigest()
        self.blobs[account.mailbox, blob_id] = data
        return BlobStored(blob_id, len(data))

    async def download(self, account: Account, blob_id: str, *, offset: int = 0) -> BlobData:
        self.offsets.append(offset)
        if self.fail_from_offset is not None and offset >= self.fail_from_offset:
            assert self.failure is not None
            raise self.failure
        try:
            octets = self.blobs[account.mailbox, blob_id]
        except KeyError:
            raise NotFound("no such blob") from None
        return BlobData(octets[offset : offset + PIECE_BYTES], len(octets))


class FakePush:
    """Listeners by mailbox; a test says when something changes and when the heart beats."""

    def __init__(self) -> None:
        self.states: dict[MailboxId, MailboxState] = {}
        self.listeners: dict[MailboxId, list[Callable[[MailboxState], None]]] = {}
        self.failures: list[Exception] = []
        self.changed = asyncio.Condition()

    async def subscribe(
        self, account: Account, listener: Callable[[MailboxState], None]
    ) -> Callable[[], None]:
        if self.failures:
            raise self.failures.pop(0)
        self.listeners.setdefault(account.mailbox, []).append(listener)
        listener(self.state(account))
        await self._tell()

        def end() -> None:
            self.listeners[account.mailbox].remove(listener)
            self._ending = asyncio.create_task(self._tell())

        return end

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until_listeners(self, account: Account, count: int) -> None:
        """Wait until so many listen to an account."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(
                lambda: len(self.listeners.get(account.mailbox, ())) == count
            )

    def state(self, account: Account) -> MailboxState:
        return self.states.get(account.mailbox, MailboxState(account.mailbox, 7, 5, 6))

    def change(self, account: Account, email: int, folder: int, thread: int) -> None:
        self.states[account.mailbox] = MailboxState(account.mailbox, email, folder, thread)
        self.beat(account)

    def beat(self, account: Account) -> None:
        for listener in list(self.listeners.get(account.mailbox, ())):
            listener(self.state(account))


class FakeClock:
    """A clock that stands until it is turned; who sleeps is let go by `turn`."""

    def __init__(self) -> None:
        self._now_s = 1_000.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self.asleep = asyncio.Semaphore(0)  # released for everyone who falls asleep

    def now_s(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        woken = asyncio.Event()
        self._sleepers.append((self._now_s + seconds, woken))
        self.asleep.release()
        await woken.wait()

    def turn(self, seconds: float) -> None:
        self._now_s += seconds
        for until_s, woken in self._sleepers:
            if until_s <= self._now_s:
                woken.set()


@dataclass(slots=True)
class Certificate:
    """A certificate for localhost that signed itself."""

    certificate: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


def make_certificate(directory: Path, name: str = "tls") -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"heliograph {name}")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
    paths.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@dataclass(slots=True)
class House:
    """A running gateway and what is around it."""

    gateway: HttpGateway
    accounts: FakeAccounts = field(default_factory=FakeAccounts)
    mail: FakeMail = field(default_factory=FakeMail)
    push: FakePush = field(default_factory=FakePush)
    clock: FakeClock = field(default_factory=FakeClock)
    parts: dict[str, bool] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    certificate: Certificate | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def https_url(self) -> str:
        return f"https://127.0.0.1:{self.ports['https']}"

    def client(self, auth: tuple[str, str] | None = ALICE_AUTH, **options: Any) -> Client:
        options.setdefault("verify", False)  # making a context costs more than a test
        return Client(base_url=self.url, auth=_utf8_auth(auth), timeout=PATIENCE_S, **options)

    def secure_client(self, auth: tuple[str, str] | None = ALICE_AUTH) -> Client:
        assert self.certificate is not None
        context = self.certificate.client_context()
        return Client(
            base_url=self.https_url, auth=_utf8_auth(auth), verify=context, timeout=PATIENCE_S
        )

    def websocket(self, **options: Any) -> connect:
        options.setdefault("additional_headers", {"Authorization": basic(*ALICE_AUTH)})
        options.setdefault("subprotocols", JMAP)
        url = f"ws://127.0.0.1:{self.ports['http']}/jmap/ws"
        return connect(url, proxy=None, open_timeout=PATIENCE_S, **options)


Client = httpx.AsyncClient


def _utf8_auth(auth: tuple[str, str] | None) -> httpx.BasicAuth | None:
    return httpx.BasicAuth(auth[0].encode(), auth[1].encode()) if auth else None


@contextlib.asynccontextmanager
async def running(
    *, certificate: Certificate | None = None, metrics_sources: Any = (), **settings: Any
) -> AsyncIterator[House]:
    """Run a gateway on free ports of loopback; drain it at the end."""
    accounts, mail, push, clock = FakeAccounts(), FakeMail(), FakePush(), FakeClock()
    parts = {"directory": True, "mail": True}

    async def probe() -> dict[str, bool]:
        return dict(parts)

    gateway = HttpGateway(
        accounts,
        mail,
        push,
        HttpSettings(http_port=0, https_port=0, **settings),
        probe=probe,
        tls=(certificate.certificate, certificate.key) if certificate else None,
        clock=clock,
        metrics_sources=metrics_sources,
    )
    listeners = await gateway.start()
    house = House(gateway, accounts, mail, push, clock, parts)
    house.ports = {name: port for name, _, port in listeners}
    house.certificate = certificate
    try:
        yield house
    finally:
        clock.turn(1_000.0)
        if mail.hold is not None:
            mail.hold.set()
        async with asyncio.timeout(PATIENCE_S):
            await gateway.drain()


async def receive(socket: ClientConnection) -> Any:
    """Return the next message of a WebSocket, decoded."""
    async with asyncio.timeout(PATIENCE_S):
        return msgspec.json.decode(await socket.recv())


async def send(socket: ClientConnection, message: dict[str, Any]) -> None:
    await socket.send(msgspec.json.encode(message).decode())


async def exchange(port: int, octets: bytes) -> bytes:
    """Send raw octets and return all that comes back until the server closes."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets)
        try:
            await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

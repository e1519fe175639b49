"""Router: the ports of the gateways, over a transport.

Finds the shard of an account through the directory, carries commands to it, and repeats them
by request id while their fate is unknown. Deliveries that wait for one shard travel together
in one call.

State       soft: what the directory said, dropped when its version changes; calls on the way.
On failure  Unavailable and its kind: the operation may still have happened (R11).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from actors import wire
from actors.commands import (
    DIRECTORY_SHARD,
    Account,
    BlobData,
    BlobStored,
    Command,
    Deliver,
    Delivered,
    DirectoryVersion,
    Done,
    ExpectRepeat,
    Failed,
    GatewayId,
    GetBlob,
    Jmap,
    JmapAnswer,
    MailboxId,
    MailboxState,
    Notify,
    PutBlob,
    Reply,
    Resolve,
    Resolved,
    ShardId,
    SignIn,
    States,
    Subscribe,
    Unsubscribe,
    WatchDirectory,
)
from actors.ports import Destination, Letter, Transport
from actors.push import SUBSCRIPTION_TTL_MS, PushHub
from actors.request_ids import new_request_id
from mail.address import Address
from mail.errors import (
    DiskFull,
    MailError,
    OutcomeUnknown,
    Overloaded,
    RequestExpired,
    ShardDamaged,
    Unavailable,
)

log = structlog.get_logger()

# How long a caller's protocol lets us try: SMTP clients wait 10 minutes after DATA
# (RFC 5321 §4.5.3.2.6), people at a browser do not.
DELIVER_S_MAX = 30.0
REQUEST_S_MAX = 20.0
CALL_S_MAX = 10.0
RETRY_FIRST_S, RETRY_S_MAX = 0.05, 1.0
# One call carries so much; more than two on the way to a shard would only wait there.
LANE_COMMANDS_MAX = 128
LANE_BYTES_MAX = 4 << 20
LANE_CALLS_MAX = 2
LANE_S_MAX = DELIVER_S_MAX + 2 * CALL_S_MAX  # a call may begin just before the time is over
WATCH_S = 20.0
CACHE_ENTRIES_MAX = 100_000
REPEATS_WAITING_MAX = 10_000
# A shard that is away or overloaded is told of a repeat so long: peers come again for days, but
# what waits here is lost with the gateway anyway.
EXPECT_S_MAX, EXPECT_PAUSE_S = 3600.0, 10.0
CLOSE_S_MAX = 2.0

ReplyT = TypeVar("ReplyT")


async def ask(
    transport: Transport,
    shard: ShardId,
    command: Command,
    expected: type[ReplyT],
    *,
    timeout_s: float = REQUEST_S_MAX,
) -> ReplyT:
    """Ask one command, repeating it by its id until it is answered or the time is over.

    Raises what the actor answered, or Unavailable.
    """
    asked = _Asked(command, timeout_s)
    await _insist(transport, shard, asked)
    return wire.result(asked.answer.result(), expected)


class _Asked:
    """One command on its way, and who waits for its reply."""

    def __init__(self, command: Command, timeout_s: float, *, size_bytes: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self.size_bytes = size_bytes
        self.answer: asyncio.Future[Reply] = loop.create_future()
        self.deadline = loop.time() + timeout_s
        self._unknown = False  # an earlier try may have happened

    def settle(self, reply: Reply, *, again_at: float) -> None:
        """Take the reply to a try, unless a try at `again_at` may bring a better one."""
        if self.answer.done():
            return
        error = wire.raised(reply) if isinstance(reply, Failed) else None
        self._unknown = self._unknown or isinstance(error, OutcomeUnknown)
        if _passes(error) and again_at < self.deadline:
            return
        if self._unknown and isinstance(error, Unavailable):
            # What the last try says of itself says nothing of the ones before it.
            reply = wire.failed(OutcomeUnknown(error.text))
        self.answer.set_result(reply)


async def _insist(transport: Transport, shard: ShardId, asked: _Asked) -> None:
    """Carry a command until it is answered; what failed or came too early goes again."""
    pause_s = RETRY_FIRST_S
    while not await _carry(transport, shard, [asked], pause_s):
        await asyncio.sleep(pause_s)
        pause_s = min(RETRY_S_MAX, pause_s * 2)


async def _carry(
    transport: Transport, shard: ShardId, asked: Sequence[_Asked], pause_s: float
) -> bool:
    """Make one call, settle what it settles, and say whether it was all."""
    loop = asyncio.get_running_loop()
    left_s = max(one.deadline for one in asked) - loop.time()
    replies = await _call(transport, shard, asked, max(0.1, min(CALL_S_MAX, left_s)))
    for one, reply in zip(asked, replies, strict=True):
        one.settle(reply, again_at=loop.time() + pause_s)
    return all(one.answer.done() for one in asked)


async def _call(
    transport: Transport, shard: ShardId, asked: Sequence[_Asked], timeout_s: float
) -> list[Reply]:
    """Return the replies of one call; whatever goes wrong with it is the reply to each command."""
    try:
        frame = wire.encode([one.command for one in asked])
        octets = await transport.call(shard, frame, timeout_s=timeout_s)
        replies = wire.decode_replies(octets)
        if len(replies) == len(asked):
            return replies
        error: Exception = OutcomeUnknown("an answer to something else")
    except Unavailable as unavailable:
        error = unavailable
    except Exception as unexpected:
        log.error("call failed", shard=shard, error=repr(unexpected))
        error = unexpected
    return [wire.failed(error)] * len(asked)


def _passes(error: MailError | None) -> bool:
    """Say whether a failure may be over in a moment: a restart, a change of primary."""
    return isinstance(error, Unavailable) and not isinstance(
        error, (ShardDamaged, DiskFull, Overloaded, RequestExpired)
    )


class Lane:
    """The deliveries that wait for one shard, and the calls that carry them."""

    def __init__(self, transport: Transport, shard: ShardId) -> None:
        self._transport = transport
        self._shard = shard
        self._waiting: deque[_Asked] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0  # calls whose worker will look at `_waiting` again

    async def deliver(self, command: Deliver) -> Reply:
        """Return the reply to one delivery: a Failed, of a temporary kind, when none came in time.

        A delivery whose caller is gone before it was sent is not sent.
        """
        asked = _Asked(command, DELIVER_S_MAX, size_bytes=len(command.raw))
        self._waiting.append(asked)
        if self._working < LANE_CALLS_MAX:
            self._working += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(LANE_S_MAX):
                return await asked.answer
        except TimeoutError:  # Our bug, but the peer is not to wait for its end.
            log.error("a delivery was forgotten", shard=self._shard)
            return wire.failed(OutcomeUnknown())

    async def _work(self) -> None:
        try:
            await self._carry_waiting()
        finally:
            # At once with the last look: a task counts as running for a while after its end,
            # and a delivery that came meanwhile would wait for nobody.
            self._working -= 1

    async def _carry_waiting(self) -> None:
        await asyncio.sleep(0)  # Lets others who are about to deliver come along.
        pause_s = RETRY_FIRST_S
        while batch := self._batch():
            if await _carry(self._transport, self._shard, batch, pause_s):
                pause_s = RETRY_FIRST_S
                continue
            left = [one for one in batch if not one.answer.done()]
            self._waiting.extendleft(reversed(left))
            if len(left) == len(batch):  # Else the shard works, and others do not wait.
                await asyncio.sleep(pause_s)
                pause_s = min(RETRY_S_MAX, pause_s * 2)

    def _batch(self) -> list[_Asked]:
        """Take what one call carries of those who still wait for an answer."""
        now = asyncio.get_running_loop().time()
        batch: list[_Asked] = []
        size = 0
        while self._waiting and len(batch) < LANE_COMMANDS_MAX and size < LANE_BYTES_MAX:
            one = self._waiting.popleft()
            if one.deadline <= now:
                one.settle(wire.failed(Unavailable("the shard is away")), again_at=now)
            if not one.answer.done():
                batch.append(one)
                size += one.size_bytes
        return batch


class DirectoryCache:
    """What the directory said and is still so: emptied at its every change.

    Serves only while the watch on the directory's version is alive. Refusals are never
    cached: 550 and 535 come from the directory itself.
    """

    def __init__(self) -> None:
        self.version = 0
        self.live = False
        self._accounts: OrderedDict[object, Account] = OrderedDict()
        self._key = os.urandom(32)

    def get(self, name: object) -> Account | None:
        return self._accounts.get(name) if self.live else None

    def put(self, name: object, account: Account, version: int) -> None:
        """Keep an answer that was asked for at `version`."""
        if version != self.version:
            return  # It may be older than the change.
        self._accounts[name] = account
        if len(self._accounts) > CACHE_ENTRIES_MAX:
            self._accounts.popitem(last=False)

    def changed(self, version: int) -> None:
        if version != self.version:
            self._accounts.clear()
        self.version = version
        self.live = True

    def lost(self) -> None:
        self.live = False

    def secret_name(self, name: str, password: str) -> bytes:
        """Return a name for a sign-in that does not hold the password."""
        text = name.encode() + b"\0" + password.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, hashlib.sha256)


class Router:
    """Accounts, Mail and Push for one gateway."""

    def __init__(self, transport: Transport, gateway: str) -> None:
        self._transport = transport
        self._gateway = GatewayId(gateway)
        self._lanes: dict[ShardId, Lane] = {}
        self._cache = DirectoryCache()
        self._hub = PushHub(self._renew, self._forget)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow the directory."""
        self._watch = asyncio.create_task(self._watch_directory(), name="watch directory")

    async def _watch_directory(self) -> None:
        while True:
            command = WatchDirectory(self._cache.version, int(WATCH_S * 1000))
            try:
                octets = await self._transport.call(
                    DIRECTORY_SHARD, wire.encode([command]), timeout_s=WATCH_S + 5
                )
                reply = wire.result(wire.decode_replies(octets)[0], DirectoryVersion)
                self._cache.changed(reply.version)
            except Exception as error:  # Whatever it is: what is remembered must not outlive it.
                self._cache.lost()
                if not isinstance(error, MailError):
                    log.error("directory not followed", error=repr(error))
                await asyncio.sleep(RETRY_S_MAX)

    async def close(self) -> None:
        """Stop following; what peers will repeat is told to shards that serve, no more."""
        await self._hub.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S_MAX)
        for task in self._tasks:
            task.cancel()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    async def ready(self) -> None:
        """Return when the directory answers. Raises Unavailable."""
        command = WatchDirectory(-1, 0)
        await ask(self._transport, DIRECTORY_SHARD, command, DirectoryVersion, timeout_s=2.0)

    # Accounts

    async def resolve(self, address: Address) -> Account:
        """Return the account that takes mail for `address` (`actors.ports.Accounts`)."""
        name = ("address", address.key)
        account = self._cache.get(name)
        if account is None:
            version = self._cache.version
            reply = await ask(self._transport, DIRECTORY_SHARD, Resolve((str(address),)), Resolved)
            account = wire.result(reply.results[0], Account)
            self._cache.put(name, account, version)
        return account

    async def sign_in(self, name: str, password: str) -> Account:
        """Return the account (`actors.ports.Accounts`)."""
        secret = self._cache.secret_name(name, password)
        account = self._cache.get(secret)
        if account is None:
            version = self._cache.version
            account = await ask(self._transport, DIRECTORY_SHARD, SignIn(name, password), Account)
            self._cache.put(secret, account, version)
        return account

    # Mail

    async def deliver(self, letter: Letter, destinations: Sequence[Destination]) -> None:
        """Store one message for all destinations (`actors.ports.Mail`)."""
        fingerprint = _fingerprint(letter)
        commands = [
            Deliver(
                mailbox=destination.account.mailbox,
                request_id=new_request_id(),
                raw=destination.trace + letter.received,
                summary=letter.summary,
                search_text=letter.search_text,
                received_at_ms=letter.received_at_ms,
                fingerprint=fingerprint,
            )
            for destination in destinations
        ]
        shards = [destination.account.shard for destination in destinations]
        try:
            results = await asyncio.gather(
                *(
                    self._lane(shard).deliver(command)
                    for shard, command in zip(shards, commands, strict=True)
                )
            )
        except asyncio.CancelledError:
            # The peer went away without an answer: it will come again.
            self._expect_repeats(list(zip(shards, commands, strict=True)))
            raise
        failures = [failure for result in results if (failure := _failure(result))]
        if not failures:
            return
        undecided = [
            (shard, command)
            for shard, command, result in zip(shards, commands, results, strict=True)
            if isinstance(result, Delivered) or isinstance(_failure(result), OutcomeUnknown)
        ]
        temporary = [failure for failure in failures if isinstance(failure, Unavailable)]
        if not temporary and not undecided:
            raise failures[0]
        self._expect_repeats(undecided)
        raise temporary[0] if temporary else Unavailable()

    def _lane(self, shard: ShardId) -> Lane:
        lane = self._lanes.get(shard)
        if lane is None:
            lane = self._lanes[shard] = Lane(self._transport, shard)
        return lane

    def _expect_repeats(self, deliveries: Sequence[tuple[ShardId, Deliver]]) -> None:
        """See to it that the peer's repeat does not double what had arrived (R18)."""
        for shard, delivery in deliveries:
            if len(self._tasks) >= REPEATS_WAITING_MAX:
                log.warning("a repeat may be doubled", shard=shard, error="too many wait")
                continue
            task = asyncio.create_task(self._expect_repeat(shard, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _expect_repeat(self, shard: ShardId, delivery: Deliver) -> None:
        command = ExpectRepeat(
            delivery.mailbox, new_request_id(), delivery.request_id, delivery.fingerprint
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + EXPECT_S_MAX
        while True:
            try:
                await ask(self._transport, shard, command, Done)
                return
            except Unavailable as error:
                if loop.time() + EXPECT_PAUSE_S >= deadline:
                    log.warning("a repeat may be doubled", shard=shard, error=type(error).__name__)
                    return
            except MailError:
                return  # The mailbox is gone, and with it what could be doubled.
            await asyncio.sleep(EXPECT_PAUSE_S)

    async def jmap(
        self, account: Account, request: bytes, *, session_state: str = ""
    ) -> JmapAnswer:
        """Evaluate a JMAP request next to the data (`actors.ports.Mail`)."""
        command = Jmap(account.mailbox, new_request_id(), request, session_state)
        return await ask(self._transport, account.shard, command, JmapAnswer)

    async def upload(self, account: Account, data: bytes) -> BlobStored:
        """Store an upload (`actors.ports.Mail`)."""
        command = PutBlob(account.mailbox, new_request_id(), data)
        return await ask(self._transport, account.shard, command, BlobStored)

    async def download(self, account: Account, blob_id: str, *, offset: int = 0) -> BlobData:
        """Return a piece of a blob (`actors.ports.Mail`)."""
        command = GetBlob(account.mailbox, blob_id, offset)
        return await ask(self._transport, account.shard, command, BlobData)

    # Push

    async def subscribe(
        self, account: Account, listener: Callable[[MailboxState], None]
    ) -> Callable[[], None]:
        """Follow a mailbox (`actors.ports.Push`)."""
        return await self._hub.subscribe(account.shard, account.mailbox, listener)

    def notified(self, frame: bytes) -> None:
        """Take a frame of notifications from a mailbox actor."""
        for command in wire.decode_commands(frame):
            if isinstance(command, Notify):
                for state in command.states:
                    self._hub.heard(state)

    async def _renew(self, shard: ShardId, mailboxes: tuple[MailboxId, ...]) -> States:
        command = Subscribe(self._gateway, mailboxes, SUBSCRIPTION_TTL_MS)
        return await ask(self._transport, shard, command, States, timeout_s=5.0)

    async def _forget(self, shard: ShardId, mailboxes: tuple[MailboxId, ...]) -> None:
        await ask(
            self._transport, shard, Unsubscribe(self._gateway, mailboxes), Done, timeout_s=5.0
        )


def _fingerprint(letter: Letter) -> bytes:
    """Return what a peer's repeat of the same transaction has in common with it."""
    received = hashlib.sha256(letter.received).digest()
    return hashlib.sha256(letter.mail_from.encode("utf-8", "replace") + b"\0" + received).digest()


def _failure(reply: Reply) -> MailError | None:
    """Return what went wrong with one delivery, or None."""
    if isinstance(reply, Delivered):
        return None
    return wire.raised(reply) if isinstance(reply, Failed) else OutcomeUnknown()
